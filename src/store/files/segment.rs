//! A segment's bytes: a header, then records one after the other.
//!
//! ```text
//! header  magic (8), the log's creation in ms (8), first sequence (8), zero (4), CRC-32 of the 28 bytes before (4)
//! record  CRC-32 of all up to the body's end (4), body length (4), sequence (8), time in ms (8), body, body length (4)
//! ```
//!
//! Numbers are little-endian. The length behind the body lets the last record be found from the end, so that a log is
//! taken up again without reading it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use bytes::{Buf, BytesMut};

use crate::store::Record;

pub(super) const HEADER_BYTES: u64 = 32;
const MAGIC: &[u8; 8] = b"KNLLOG\x00\x01";
const HEAD: usize = 24;
const TAIL: usize = 4;

/// What is read at once.
const CHUNK: usize = 64 << 10;

/// Lengths and offsets in memory: this is a 64-bit program, or a segment is small enough.
fn size(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

fn offset(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_le_bytes)
}

pub(super) fn header(created_ms: u64, first: u64) -> [u8; 32] {
    let mut header = [0; 32];
    header[..8].copy_from_slice(MAGIC);
    header[8..16].copy_from_slice(&created_ms.to_le_bytes());
    header[16..24].copy_from_slice(&first.to_le_bytes());
    let crc = crc32fast::hash(&header[..28]);
    header[28..].copy_from_slice(&crc.to_le_bytes());
    header
}

/// The log's creation in milliseconds, if this is the segment that begins with `first`.
pub(super) fn read_header(file: &File, first: u64) -> io::Result<Option<u64>> {
    let mut bytes = [0; 32];
    match file.read_exact_at(&mut bytes, 0) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    }
    let created_ms = u64_at(&bytes, 8);
    Ok((bytes == header(created_ms, first)).then_some(created_ms))
}

/// Adds a record; false, and nothing added, where the body is longer than 4 GiB.
pub(super) fn push(out: &mut Vec<u8>, sequence: u64, time_ms: u64, body: &[u8]) -> bool {
    let Ok(length) = u32::try_from(body.len()) else { return false };
    let mut head = [0; HEAD];
    head[4..8].copy_from_slice(&length.to_le_bytes());
    head[8..16].copy_from_slice(&sequence.to_le_bytes());
    head[16..24].copy_from_slice(&time_ms.to_le_bytes());
    let mut crc = crc32fast::Hasher::new();
    crc.update(&head[4..]);
    crc.update(body);
    head[..4].copy_from_slice(&crc.finalize().to_le_bytes());
    out.extend(head);
    out.extend(body);
    out.extend(length.to_le_bytes());
    true
}

/// Bytes that `push` adds for a body.
pub(super) fn record_bytes(body: usize) -> usize {
    HEAD + body + TAIL
}

/// What comes next in a segment.
#[derive(Debug)]
pub(super) enum Next {
    Record(Record),
    End,
    /// Not a record: torn, or damaged. Nothing after it can be found.
    Broken,
}

/// Reads records of a segment, from the offset of one up to `end`.
#[derive(Debug)]
pub(super) struct Records<'a> {
    file: &'a File,
    /// Offset of the next record.
    pub at: u64,
    end: u64,
    ahead: BytesMut,
}

impl<'a> Records<'a> {
    pub fn new(file: &'a File, at: u64, end: u64) -> Self {
        Self { file, at, end, ahead: BytesMut::new() }
    }

    /// Has `wanted` bytes ahead, if there are so many.
    fn fill(&mut self, wanted: usize) -> io::Result<bool> {
        let have = self.ahead.len();
        if have >= wanted {
            return Ok(true);
        }
        let left = size(self.end.saturating_sub(self.at));
        if left < wanted {
            return Ok(false);
        }
        self.ahead.resize(left.min(wanted.max(CHUNK)), 0);
        self.file.read_exact_at(&mut self.ahead[have..], self.at + offset(have))?;
        Ok(true)
    }

    /// # Errors
    /// That of reading; a file that ends before `end` is one.
    pub fn next(&mut self) -> io::Result<Next> {
        if self.at >= self.end {
            return Ok(Next::End);
        }
        if !self.fill(HEAD + TAIL)? {
            return Ok(Next::Broken);
        }
        let length = u32_at(&self.ahead, 4);
        let whole = record_bytes(size(length.into()));
        if !self.fill(whole)? {
            return Ok(Next::Broken);
        }
        let body_end = whole - TAIL;
        let crc = crc32fast::hash(&self.ahead[4..body_end]);
        if crc != u32_at(&self.ahead, 0) || u32_at(&self.ahead, body_end) != length {
            return Ok(Next::Broken);
        }
        let (sequence, time_ms) = (u64_at(&self.ahead, 8), u64_at(&self.ahead, 16));
        let mut bytes = self.ahead.split_to(whole);
        bytes.truncate(body_end);
        bytes.advance(HEAD);
        self.at += offset(whole);
        Ok(Next::Record(Record { sequence, time_ms, body: bytes.freeze() }))
    }
}

/// Sequence and time of the last record of a segment of `bytes`, if it ends with a whole one.
pub(super) fn last(file: &File, bytes: u64) -> io::Result<Option<(u64, u64)>> {
    let mut tail = [0; TAIL];
    let Some(at) = bytes.checked_sub(offset(TAIL)).filter(|at| *at >= HEADER_BYTES) else {
        return Ok(None);
    };
    file.read_exact_at(&mut tail, at)?;
    let whole = offset(record_bytes(size(u32::from_le_bytes(tail).into())));
    let Some(start) = bytes.checked_sub(whole).filter(|start| *start >= HEADER_BYTES) else {
        return Ok(None);
    };
    let mut records = Records::new(file, start, bytes);
    match records.next()? {
        Next::Record(record) if records.at == bytes => Ok(Some((record.sequence, record.time_ms))),
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(bytes: &[u8]) -> File {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(bytes, 0).unwrap();
        file
    }

    fn all(file: &File, end: u64) -> (Vec<Record>, bool, u64) {
        let mut records = Records::new(file, HEADER_BYTES, end);
        let mut found = Vec::new();
        loop {
            let at = records.at;
            match records.next().unwrap() {
                Next::Record(record) => found.push(record),
                Next::End => return (found, true, at),
                Next::Broken => return (found, false, at),
            }
        }
    }

    #[test]
    fn what_is_written_is_read_and_a_torn_end_found() {
        let bodies = [vec![], b"one".to_vec(), vec![7; 3 * CHUNK], b"last".to_vec()];
        let mut bytes = header(5, 100).to_vec();
        let mut ends = vec![bytes.len()];
        for (sequence, body) in (100..).zip(&bodies) {
            assert!(push(&mut bytes, sequence, sequence * 10, body));
            ends.push(bytes.len());
        }
        let whole = file(&bytes);
        assert_eq!(read_header(&whole, 100).unwrap(), Some(5));
        assert_eq!(read_header(&whole, 101).unwrap(), None);
        let (records, sound, _) = all(&whole, offset(bytes.len()));
        assert!(sound);
        let found: Vec<_> =
            records.iter().map(|r| (r.sequence, r.time_ms, r.body.to_vec())).collect();
        let expected: Vec<_> =
            (100..).zip(bodies).map(|(sequence, body)| (sequence, sequence * 10, body)).collect();
        assert!(found == expected);
        assert_eq!(last(&whole, offset(bytes.len())).unwrap(), Some((103, 1030)));
        assert_eq!(last(&whole, HEADER_BYTES).unwrap(), None);

        // Cut anywhere in the last record, or with a byte of it changed, the three before it are left.
        for cut in ends[3] + 1..ends[4] {
            let torn = file(&bytes[..cut]);
            let (records, sound, at) = all(&torn, offset(cut));
            assert_eq!((records.len(), sound, at), (3, false, offset(ends[3])), "cut at {cut}");
            assert_eq!(last(&torn, offset(cut)).unwrap(), None, "cut at {cut}");
        }
        for changed in ends[3]..ends[4] {
            let mut bytes = bytes.clone();
            bytes[changed] ^= 1;
            let torn = file(&bytes);
            let (records, sound, at) = all(&torn, offset(bytes.len()));
            assert_eq!((records.len(), sound, at), (3, false, offset(ends[3])), "byte {changed}");
        }
        for changed in 0..32 {
            let mut bytes = bytes.clone();
            bytes[changed] ^= 1;
            assert_eq!(read_header(&file(&bytes), 100).unwrap(), None, "byte {changed}");
        }
        let mut zeros = bytes.clone();
        zeros.resize(bytes.len() + 4096, 0);
        let grown = file(&zeros);
        assert_eq!(
            all(&grown, offset(zeros.len())).2,
            offset(bytes.len()),
            "a file that only grew"
        );
        assert_eq!(last(&grown, offset(zeros.len())).unwrap(), None);
    }
}
