//! Dropping records: the old ones, or all.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};

use super::{HEADER_BYTES, Log, Next, Records, State, file_name, segment};
use crate::store::{StoreError, io_error};

impl Log {
    /// Drops what is older than `before_ms`, from the first record on, and the log where nothing keeps it then.
    pub fn trim(&self, before_ms: u64, forget: impl FnOnce(u64)) -> Result<(), StoreError> {
        let Some(mut state) = self.loaded()? else { return Ok(()) };
        let result = match self.trim_in(&mut state, before_ms) {
            Ok(true) => self.remove_in(&mut state, forget),
            other => other.map(drop),
        };
        self.note_bytes(&state);
        result
    }

    /// Whether the log has to go.
    fn trim_in(&self, state: &mut State, before_ms: u64) -> Result<bool, StoreError> {
        while let Some(segment) = state.segments.front() {
            let until = state.segments.get(1).map_or(u64::MAX, |next| next.first);
            if segment.first_ms.is_some_and(|first_ms| first_ms >= before_ms) {
                break;
            }
            let path = self.path(segment.first);
            let file = File::open(&path).map_err(io_error("open", &path))?;
            let mut records = Records::new(&file, HEADER_BYTES, segment.bytes);
            let kept = loop {
                let at = records.at;
                match records.next().map_err(io_error("read", &path))? {
                    Next::Record(record) if record.sequence >= until => break None,
                    Next::Record(record) if record.time_ms < before_ms => {}
                    Next::Record(record) => break Some((at, record)),
                    Next::End => break None,
                    // It goes with what is before it; its time cannot be known.
                    Next::Broken => break None,
                }
            };
            match kept {
                Some((at, record)) => {
                    if at > HEADER_BYTES {
                        self.shorten(state, &file, at, record.sequence)?;
                    }
                    if let Some(segment) = state.segments.front_mut() {
                        segment.first_ms = Some(record.time_ms);
                    }
                    break;
                }
                // The last one stays for its name: a log without records is one all the same.
                None if state.segments.len() == 1 => {
                    if state.created_ms < before_ms {
                        return Ok(true);
                    }
                    if segment.bytes > HEADER_BYTES {
                        self.begin_segment(state)?;
                        state.last_ms = None;
                        self.drop_oldest(state)?;
                    }
                    break;
                }
                None => drop(self.drop_oldest(state)?),
            }
        }
        Ok(false)
    }

    /// Puts a segment with the records from `at` on, the first of which is `first`, in the place of the oldest.
    fn shorten(
        &self,
        state: &mut State,
        file: &File,
        at: u64,
        first: u64,
    ) -> Result<(), StoreError> {
        let Some(segment) = state.segments.front_mut() else { return Ok(()) };
        let length = usize::try_from(segment.bytes - at).unwrap_or(usize::MAX);
        let mut bytes = vec![0; length];
        let folder = self.folder();
        let old = folder.join(file_name(segment.first));
        file.read_exact_at(&mut bytes, at).map_err(io_error("read", &old))?;
        let new = folder.join(file_name(first));
        let temporary = new.with_extension("tmp");
        let write = || {
            let mut options = File::options();
            options.write(true).create(true).truncate(true).mode(0o600);
            let file = options.open(&temporary)?;
            file.write_all_at(&segment::header(state.created_ms, first), 0)?;
            file.write_all_at(&bytes, HEADER_BYTES)?;
            // The old one may be on the disk, so this must be before the other goes.
            file.sync_data()?;
            fs::rename(&temporary, &new)?;
            File::open(&folder)?.sync_all()
        };
        if let Err(error) = write() {
            let _ = fs::remove_file(&temporary);
            return Err(io_error("write", &temporary)(error));
        }
        fs::remove_file(&old).map_err(io_error("remove", &old))?;
        let moved =
            |place: &(u64, u64)| (place.1 >= at).then(|| (place.0, place.1 - at + HEADER_BYTES));
        segment.index = segment.index.iter().filter_map(moved).collect();
        segment.bytes = segment.bytes - at + HEADER_BYTES;
        segment.first = first;
        if state.segments.len() == 1 {
            state.file = None;
        }
        Ok(())
    }

    /// Drops everything. `forget` takes the log off the list, before anyone can make it again, and is told the sequence
    /// that was next.
    pub fn remove(&self, forget: impl FnOnce(u64)) -> Result<(), StoreError> {
        let mut state = self.lock();
        let result = if state.gone { Ok(()) } else { self.remove_in(&mut state, forget) };
        self.note_bytes(&state);
        result
    }

    /// The same if there is nothing on the disk: its making failed.
    pub fn remove_nothing(&self, forget: impl FnOnce(u64)) -> Result<(), StoreError> {
        let mut state = self.lock();
        let nothing = !state.gone && state.segments.is_empty();
        if nothing { self.remove_in(&mut state, forget) } else { Ok(()) }
    }

    fn remove_in(&self, state: &mut State, forget: impl FnOnce(u64)) -> Result<(), StoreError> {
        while !state.segments.is_empty() {
            self.drop_oldest(state)?;
        }
        let folder = self.folder();
        // Segments that were put aside may be left in it: seldom, so that is the second thing to try.
        match fs::remove_dir(&folder).or_else(|_| fs::remove_dir_all(&folder)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(io_error("remove", &folder)(error));
            }
            _ => {}
        }
        let above = folder.ancestors().skip(1).take_while(|path| *path != self.shared.root);
        for path in above {
            if fs::remove_dir(path).is_err() {
                break; // others are in it
            }
        }
        state.gone = true;
        state.file = None;
        // One that was not looked at since the start has lower sequences than any from now on.
        forget(state.next);
        Ok(())
    }
}
