//! One log: its segments on the disk, and what is known of them. Everything here may wait for the disk.

mod reading;
mod trimming;

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, TryLockError};
use std::time::SystemTime;

use bytes::Bytes;

use super::Limits;
use super::name;
use super::segment::{self, HEADER_BYTES, Next, Records};
use crate::pool::unix_ms;
use crate::store::{StoreError, io_error};

/// A place in a segment is remembered about every so many bytes.
const INDEX_BYTES: u64 = 64 << 10;

#[derive(Debug)]
pub(super) struct Segment {
    /// No record in it has a lower sequence; its file's name.
    first: u64,
    bytes: u64,
    /// Time of the first record; not known, or not there.
    first_ms: Option<u64>,
    /// Has what is not known to be on the disk.
    dirty: bool,
    /// Sequences and where their records are, growing.
    index: Vec<(u64, u64)>,
}

#[derive(Debug, Default)]
pub(super) struct State {
    /// Its end was looked at since the process started.
    loaded: bool,
    /// Was removed; whoever still has this looks the log up again.
    pub gone: bool,
    created_ms: u64,
    segments: VecDeque<Segment>,
    /// The next record's sequence.
    pub next: u64,
    last_ms: Option<u64>,
    /// The last segment, open for writing.
    pub file: Option<Arc<File>>,
    /// Has names that are not known to be on the disk.
    folder_dirty: bool,
}

/// What all logs share.
#[derive(Debug)]
pub(super) struct Shared {
    pub root: PathBuf,
    /// Bytes of all logs.
    pub total: AtomicU64,
}

/// There are as many as sandboxes were started lately, so what can be told from the name is not kept.
#[derive(Debug)]
pub(super) struct Log {
    pub name: Arc<str>,
    shared: Arc<Shared>,
    state: Mutex<State>,
    /// Held while a sync is under way: those that wait find it done for them. Made by the first that syncs.
    synced: OnceLock<Arc<tokio::sync::Mutex<Synced>>>,
    /// On the disk; a copy for those who only compare.
    pub bytes: AtomicU64,
    /// Orders logs by their last use.
    pub used: AtomicU64,
}

/// What is known to be on the disk: records before a sequence.
#[derive(Debug, Default)]
pub(super) struct Synced {
    done: u64,
    /// Records after the first and up to the second may not be, whatever a later sync says.
    doubtful: (u64, u64),
}

impl Synced {
    /// Whether records before `next` are on the disk; none if a sync has to tell.
    pub fn has(&self, next: u64) -> Option<bool> {
        if self.doubtful.0 < next && next <= self.doubtful.1 {
            return Some(false);
        }
        (next <= self.done).then_some(true)
    }

    /// The kernel forgets what it could not write: a later sync proves nothing about that.
    pub fn note(&mut self, upto: u64, done: bool) {
        if done {
            self.done = self.done.max(upto);
            return;
        }
        let from = if self.doubtful.1 > self.done { self.doubtful.0 } else { self.done };
        self.doubtful = (from, upto);
    }
}

fn file_name(first: u64) -> String {
    format!("{first:020}.log")
}

/// Microseconds since the epoch: a sequence that no record of before has, as long as a log gets less than a record a
/// microsecond on average.
fn first_sequence() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

impl Log {
    /// A log that is not on the disk yet; its sequences are above `floor`.
    pub fn new(name: Arc<str>, floor: u64, shared: Arc<Shared>) -> Self {
        let state = State {
            loaded: true,
            created_ms: unix_ms(SystemTime::now()),
            next: first_sequence().max(floor),
            ..State::default()
        };
        Self::with(name, state, shared)
    }

    fn with(name: Arc<str>, state: State, shared: Arc<Shared>) -> Self {
        let (bytes, used) = (AtomicU64::new(0), AtomicU64::new(0));
        let synced = OnceLock::new();
        let log = Self { name, shared, state: Mutex::default(), synced, bytes, used };
        log.note_bytes(&state);
        *log.lock() = state;
        log
    }

    pub fn folder(&self) -> PathBuf {
        // Only names that have a folder become logs.
        self.shared.root.join(name::folder(&self.name).unwrap_or_default())
    }

    pub fn synced(&self) -> Arc<tokio::sync::Mutex<Synced>> {
        self.synced.get_or_init(Arc::default).clone()
    }

    /// The log of a folder, by its files' names and sizes alone; none where it has no segment.
    pub fn found(
        name: Arc<str>,
        folder: &Path,
        shared: Arc<Shared>,
    ) -> Result<Option<Self>, StoreError> {
        let read = |e| io_error("read", folder)(e);
        let mut segments = Vec::with_capacity(1);
        let mut modified = SystemTime::UNIX_EPOCH;
        for entry in fs::read_dir(folder).map_err(read)? {
            let entry = entry.map_err(read)?;
            let file = entry.file_name();
            let Some(file) = file.to_str() else { continue };
            if file.ends_with(".tmp") {
                let _ = fs::remove_file(entry.path()); // of a trim that did not come to its end
            }
            let Some(first) = file.strip_suffix(".log").and_then(|first| first.parse().ok()) else {
                continue;
            };
            let metadata = entry.metadata().map_err(read)?;
            modified = modified.max(metadata.modified().unwrap_or(modified));
            let bytes = metadata.len();
            segments.push(Segment {
                first,
                bytes,
                first_ms: None,
                dirty: false,
                index: Vec::new(),
            });
        }
        if segments.is_empty() {
            let _ = fs::remove_dir(folder); // was being made or removed
            return Ok(None);
        }
        segments.sort_by_key(|segment| segment.first);
        let state = State { segments: segments.into(), ..State::default() };
        let log = Self::with(name, state, shared);
        // Before all that are used from now on.
        log.used.store(unix_ms(modified), Ordering::Relaxed);
        Ok(Some(log))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes the file if nobody is at it.
    pub fn close(&self) -> bool {
        match self.state.try_lock() {
            Ok(mut state) => state.file.take().is_some(),
            Err(TryLockError::Poisoned(_) | TryLockError::WouldBlock) => false,
        }
    }

    fn path(&self, first: u64) -> PathBuf {
        self.folder().join(file_name(first))
    }

    fn note_bytes(&self, state: &State) {
        let now = state.segments.iter().map(|s| s.bytes).sum::<u64>();
        let before = self.bytes.swap(now, Ordering::Relaxed);
        // Wraps around where it became less, and so does the sum.
        self.shared.total.fetch_add(now.wrapping_sub(before), Ordering::Relaxed);
    }

    /// The state, with torn ends cut off; none if the log is gone.
    pub fn loaded(&self) -> Result<Option<MutexGuard<'_, State>>, StoreError> {
        let mut state = self.lock();
        if state.gone {
            return Ok(None);
        }
        if !state.loaded {
            self.load(&mut state)?;
            self.note_bytes(&state);
        }
        Ok(Some(state))
    }

    fn load(&self, state: &mut State) -> Result<(), StoreError> {
        let mut created_ms = None;
        let mut sound = VecDeque::new();
        // From the files' names where nothing is left of the files.
        let oldest = state.segments.front().map_or(0, |segment| segment.first);
        let newest = state.segments.back().map_or(0, |segment| segment.first);
        (state.next, state.last_ms) = (newest, None);
        for mut segment in std::mem::take(&mut state.segments) {
            let path = self.path(segment.first);
            let file = File::options().read(true).write(true).open(&path);
            let file = file.map_err(io_error("open", &path))?;
            let read = |e| io_error("read", &path)(e);
            match segment::read_header(&file, segment.first).map_err(read)? {
                Some(created) => created_ms = created_ms.or(Some(created)),
                None => {
                    let aside = path.with_extension("damaged");
                    tracing::warn!(log = %self.name, file = %path.display(), "put aside: it has no header");
                    fs::rename(&path, &aside).map_err(io_error("rename", &path))?;
                    continue;
                }
            }
            let mut last = segment::last(&file, segment.bytes).map_err(read)?;
            if last.is_none() && segment.bytes > HEADER_BYTES {
                let end;
                (end, last) = whole_records(&file, segment.bytes).map_err(read)?;
                let cut = segment.bytes - end;
                tracing::warn!(log = %self.name, file = %path.display(), cut, "a torn end was cut off");
                file.set_len(end).map_err(io_error("cut", &path))?;
                segment.bytes = end;
                segment.dirty = true;
            }
            if let Some((sequence, time_ms)) = last {
                state.next = state.next.max(sequence.saturating_add(1));
                state.last_ms = Some(time_ms);
            }
            sound.push_back(segment);
        }
        state.segments = sound;
        state.created_ms = created_ms.unwrap_or(oldest / 1000);
        // What a crash of the machine took away may have been read before.
        state.next = state.next.max(first_sequence());
        state.loaded = true;
        Ok(())
    }

    /// Appends, and drops the oldest segments beyond the log's limit. The sequence after the last record.
    ///
    /// `opened` is called when a file was opened. None if the log is gone.
    pub fn append(
        &self,
        records: &[(u64, Bytes)],
        limits: &Limits,
        opened: impl FnOnce(),
    ) -> Result<Option<u64>, StoreError> {
        let Some(mut state) = self.loaded()? else { return Ok(None) };
        let result = self.append_to(&mut state, records, limits, opened);
        self.note_bytes(&state);
        result.map(Some)
    }

    fn append_to(
        &self,
        state: &mut State,
        records: &[(u64, Bytes)],
        limits: &Limits,
        opened: impl FnOnce(),
    ) -> Result<u64, StoreError> {
        let size = records.iter().map(|(_, body)| segment::record_bytes(body.len())).sum();
        let mut bytes = Vec::with_capacity(size);
        for (sequence, (time_ms, body)) in (state.next..).zip(records) {
            if !segment::push(&mut bytes, sequence, *time_ms, body) {
                let error = io::Error::from(io::ErrorKind::FileTooLarge);
                return Err(io_error("write", &self.folder())(error));
            }
        }
        let added = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let fits = |segment: &Segment| {
            segment.bytes <= HEADER_BYTES || segment.bytes + added <= limits.segment_bytes
        };
        let had_file = state.file.is_some();
        if !state.segments.back().is_some_and(fits) {
            self.begin_segment(state)?;
        }
        let Some(segment) = state.segments.back_mut() else { return Err(StoreError::Closed) };
        let file = match &state.file {
            Some(file) => file.clone(),
            None => {
                let path = self.path(segment.first);
                let file = File::options().write(true).open(&path);
                state.file.insert(Arc::new(file.map_err(io_error("open", &path))?)).clone()
            }
        };
        if !had_file {
            opened();
        }
        if let Err(error) = file.write_all_at(&bytes, segment.bytes) {
            // What was half written is no record. If even this fails, the next append or start writes or cuts there.
            let _ = file.set_len(segment.bytes);
            return Err(io_error("write", &self.path(segment.first))(error));
        }
        let count = u64::try_from(records.len()).unwrap_or(u64::MAX);
        if let (Some(first), Some(last)) = (records.first(), records.last()) {
            if segment.bytes <= HEADER_BYTES {
                segment.first_ms = Some(first.0);
            }
            segment.note(state.next, segment.bytes);
            state.last_ms = Some(last.0);
            segment.dirty = true;
        }
        segment.bytes += added;
        state.next += count;
        let next = state.next;
        let mut total: u64 = state.segments.iter().map(|s| s.bytes).sum();
        while total > limits.log_bytes && state.segments.len() > 1 {
            total -= self.drop_oldest(state)?;
        }
        Ok(next)
    }

    fn begin_segment(&self, state: &mut State) -> Result<(), StoreError> {
        let folder = self.folder();
        let path = folder.join(file_name(state.next));
        let create = || File::options().write(true).create_new(true).mode(0o600).open(&path);
        let file = match create() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder);
                made.map_err(io_error("create", &folder))?;
                create()
            }
            other => other,
        };
        let file = file.map_err(io_error("create", &path))?;
        if let Err(error) = file.write_all_at(&segment::header(state.created_ms, state.next), 0) {
            let _ = fs::remove_file(&path);
            return Err(io_error("write", &path)(error));
        }
        let (first, bytes) = (state.next, HEADER_BYTES);
        let segment = Segment { first, bytes, first_ms: None, dirty: true, index: Vec::new() };
        if state.segments.is_empty() {
            state.segments.reserve_exact(1); // most logs never have another
        }
        state.segments.push_back(segment);
        state.file = Some(Arc::new(file));
        state.folder_dirty = true;
        Ok(())
    }

    /// The bytes that are free then.
    fn drop_oldest(&self, state: &mut State) -> Result<u64, StoreError> {
        let Some(segment) = state.segments.front() else { return Ok(0) };
        let path = self.path(segment.first);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(io_error("remove", &path)(error));
            }
            _ => {}
        }
        let bytes = segment.bytes;
        state.segments.pop_front();
        if state.segments.is_empty() {
            state.file = None;
        }
        Ok(bytes)
    }

    /// Drops the oldest segment if it is not the last; false if it is.
    pub fn shrink(&self) -> Result<bool, StoreError> {
        let mut state = self.lock();
        if state.gone || state.segments.len() < 2 {
            return Ok(false);
        }
        self.drop_oldest(&mut state)?;
        self.note_bytes(&state);
        Ok(true)
    }

    /// Makes the disk have what was appended, and up to which sequence. A log that is gone has nothing to lose.
    pub fn sync(&self) -> (u64, Result<(), StoreError>) {
        let mut state = self.lock();
        let upto = state.next;
        if state.gone {
            return (upto, Ok(()));
        }
        let mut dirty = Vec::new();
        for segment in state.segments.iter_mut().filter(|segment| segment.dirty) {
            segment.dirty = false;
            dirty.push(segment.first);
        }
        let folder = std::mem::take(&mut state.folder_dirty);
        drop(state);
        let result = self.sync_files(&dirty, folder);
        if result.is_err() {
            let mut state = self.lock();
            state.folder_dirty |= folder;
            state.segments.iter_mut().for_each(|s| s.dirty |= dirty.contains(&s.first));
        }
        (upto, result)
    }

    fn sync_files(&self, segments: &[u64], folder: bool) -> Result<(), StoreError> {
        for first in segments {
            let path = self.path(*first);
            match File::open(&path) {
                Ok(file) => file.sync_data().map_err(io_error("sync", &path))?,
                // Dropped meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(io_error("open", &path)(error)),
            }
        }
        if !folder {
            return Ok(());
        }
        let folder = self.folder();
        for path in folder.ancestors().take_while(|path| path.starts_with(&self.shared.root)) {
            match File::open(path) {
                Ok(file) => file.sync_all().map_err(io_error("sync", path))?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(io_error("open", path)(error)),
            }
        }
        Ok(())
    }
}

impl Segment {
    /// Remembers a place, if it is far enough from the last one.
    fn note(&mut self, sequence: u64, at: u64) {
        let last = self.index.last().map_or(HEADER_BYTES, |(_, at)| *at);
        if at >= last + INDEX_BYTES {
            self.index.push((sequence, at));
        }
    }
}

/// Where the last whole record ends, and its sequence and time.
fn whole_records(file: &File, bytes: u64) -> io::Result<(u64, Option<(u64, u64)>)> {
    let mut records = Records::new(file, HEADER_BYTES, bytes);
    let mut last = None;
    loop {
        let at = records.at;
        match records.next()? {
            Next::Record(record) => last = Some((record.sequence, record.time_ms)),
            Next::End | Next::Broken => return Ok((at, last)),
        }
    }
}
