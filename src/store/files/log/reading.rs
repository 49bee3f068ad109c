//! Reading a log: its records, and what is told of it. The disk is read without the log's lock.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::path::Path;

use super::{HEADER_BYTES, Log, Next, Records, Segment, file_name};
use crate::store::{LogInfo, Record, StoreError, io_error};

/// Where a segment was read, without the lock.
struct Part {
    first: u64,
    bytes: u64,
    start: u64,
    /// Sequences from here on are the next segment's.
    until: u64,
}

impl Log {
    pub fn read(
        &self,
        from: u64,
        limit: usize,
        most_bytes: usize,
    ) -> Result<Vec<Record>, StoreError> {
        let mut found = Vec::new();
        let mut bytes = 0;
        let mut parts = VecDeque::from(self.parts(from)?);
        let mut again = 3;
        while let Some(part) = parts.pop_front() {
            let path = self.path(part.first);
            let file = match File::open(&path) {
                // Dropped, or shortened and so under another name.
                Err(error) if error.kind() == io::ErrorKind::NotFound && again > 0 => {
                    again -= 1;
                    let next = found.last().map_or(from, |last: &Record| last.sequence + 1);
                    parts = self.parts(next)?.into();
                    continue;
                }
                other => other.map_err(io_error("open", &path))?,
            };
            let mut places = Vec::new();
            let mut records = Records::new(&file, part.start, part.bytes);
            while found.len() < limit && (bytes < most_bytes || found.is_empty()) {
                let at = records.at;
                match records.next().map_err(io_error("read", &path))? {
                    Next::Record(record) if record.sequence >= part.until => break,
                    Next::Record(record) => {
                        places.push((record.sequence, at));
                        if record.sequence >= from {
                            bytes += record.body.len();
                            found.push(record);
                        }
                    }
                    Next::End => break,
                    Next::Broken if !found.is_empty() => return Ok(found),
                    Next::Broken => return Err(broken(&path, at, part.until)),
                }
            }
            self.note_places(part.first, &places);
            if found.len() >= limit || bytes >= most_bytes && !found.is_empty() {
                break;
            }
        }
        Ok(found)
    }

    /// Segments that may have records from `from` on, each with the last known place before it.
    fn parts(&self, from: u64) -> Result<Vec<Part>, StoreError> {
        let Some(state) = self.loaded()? else { return Ok(Vec::new()) };
        if from >= state.next {
            return Ok(Vec::new());
        }
        let ends = state.segments.iter().skip(1).map(|s| s.first).chain([u64::MAX]);
        let parts = state.segments.iter().zip(ends).filter(|(_, until)| *until > from);
        let part = |(segment, until): (&Segment, u64)| {
            let known = segment.index.partition_point(|(sequence, _)| *sequence <= from);
            let place = known.checked_sub(1).and_then(|i| segment.index.get(i));
            let start = place.map_or(HEADER_BYTES, |(_, at)| *at);
            Part { first: segment.first, bytes: segment.bytes, start, until }
        };
        Ok(parts.map(part).collect())
    }

    fn note_places(&self, first: u64, places: &[(u64, u64)]) {
        let mut state = self.lock();
        if let Some(segment) = state.segments.iter_mut().find(|s| s.first == first) {
            places.iter().for_each(|(sequence, at)| segment.note(*sequence, *at));
        }
    }

    pub fn info(&self) -> Result<Option<LogInfo>, StoreError> {
        let Some(mut state) = self.loaded()? else { return Ok(None) };
        let mut first_record_ms = None;
        for segment in &mut state.segments {
            if segment.first_ms.is_none() && segment.bytes > HEADER_BYTES {
                let path = self.folder().join(file_name(segment.first));
                let file = File::open(&path).map_err(io_error("open", &path))?;
                let mut records = Records::new(&file, HEADER_BYTES, segment.bytes);
                if let Next::Record(record) = records.next().map_err(io_error("read", &path))? {
                    segment.first_ms = Some(record.time_ms);
                }
            }
            if segment.first_ms.is_some() {
                first_record_ms = segment.first_ms;
                break;
            }
        }
        Ok(Some(LogInfo {
            log: self.name.as_ref().to_owned(),
            created_ms: state.created_ms,
            first_record_ms,
            last_record_ms: state.last_ms,
            bytes: state.segments.iter().map(|s| s.bytes).sum(),
        }))
    }
}

fn broken(path: &Path, at: u64, until: u64) -> StoreError {
    let next = match until {
        u64::MAX => String::new(),
        until => format!("; records from sequence {until} on can be read"),
    };
    StoreError::Damaged {
        path: path.display().to_string(),
        what: format!("no record at byte {at}{next}"),
    }
}
