//! A zip's records, read so that no two zip readers can disagree about what is in it.
//!
//! A zip names its entries twice: in the entry list at its end (the central directory) and in a header
//! before each entry's data. Readers trust one or the other, and what the two say apart is how a package
//! shows one tree to a scanner and another to whoever runs it. So both are read and must agree, the records
//! must lie end to end with neither gap nor overlap, and what some readers honour and others ignore
//! (a second name in an extra field, a link in one) is refused.
//!
//! Accepted although unusual: zip64 records that agree with the rest; bytes before the first entry (a
//! script that makes the zip executable) when all offsets count from the start of the file and no zip
//! record starts those bytes; entries in another order than their list; names in UTF-8 that no flag calls
//! so, as Linux tools write them.
//!
//! Source: PKWARE APPNOTE.TXT 6.3.10; names and offsets of fields are its sections 4.3.7 to 4.3.16.

use crc32fast::Hasher;
use flate2::{Decompress, FlushDecompress, Status};

use super::Limits;
use super::error::{PackageError, Rule};
use super::extract::{Content, Sink};
use super::layout::{Kind, Layout};
use super::name;

const LOCAL_SIGNATURE: u32 = 0x0403_4b50;
const CENTRAL_SIGNATURE: u32 = 0x0201_4b50;
const DESCRIPTOR_SIGNATURE: u32 = 0x0807_4b50;
const END_SIGNATURE: u32 = 0x0605_4b50;
const END64_SIGNATURE: u32 = 0x0606_4b50;
const LOCATOR_SIGNATURE: u32 = 0x0706_4b50;

const LOCAL_BYTES: usize = 30;
const CENTRAL_BYTES: usize = 46;
const END_BYTES: usize = 22;
const END64_BYTES: usize = 56;
const LOCATOR_BYTES: usize = 20;

const FLAG_ENCRYPTED: u16 = 1;
const FLAG_DESCRIPTOR: u16 = 1 << 3;
const FLAG_PATCHED: u16 = 1 << 5;
const FLAG_STRONG_ENCRYPTION: u16 = 1 << 6;
const FLAG_UTF8: u16 = 1 << 11;
const FLAG_MASKED: u16 = 1 << 13;
/// Flags that change how an entry is read. The others are hints, and writers set them in one header only.
const FLAGS_THAT_MATTER: u16 =
    FLAG_ENCRYPTED | FLAG_DESCRIPTOR | FLAG_PATCHED | FLAG_STRONG_ENCRYPTION | FLAG_MASKED;

const STORED: u16 = 0;
const DEFLATED: u16 = 8;

/// Extra fields: zip64 sizes, PKWARE's Unix field (its rest is a link's target or a device's number),
/// ASi's Unix field (mode and link), Info-ZIP's second name.
const EXTRA_ZIP64: u16 = 0x0001;
const EXTRA_PKWARE_UNIX: u16 = 0x000d;
const EXTRA_ASI_UNIX: u16 = 0x756e;
const EXTRA_UNICODE_PATH: u16 = 0x7075;

const MODE_TYPE: u32 = 0o170_000;
const MODE_FIFO: u32 = 0o010_000;
const MODE_CHARACTER: u32 = 0o020_000;
const MODE_DIRECTORY: u32 = 0o040_000;
const MODE_BLOCK: u32 = 0o060_000;
const MODE_REGULAR: u32 = 0o100_000;
const MODE_SYMLINK: u32 = 0o120_000;
const MODE_SOCKET: u32 = 0o140_000;
/// All ones: archives that Maven made for years have it on directories.
const MODE_UNKNOWN: u32 = 0o170_000;
const MODE_EXECUTE: u32 = 0o111;

/// Bytes inflated at a time.
const INFLATE_BYTES: usize = 128 * 1024;

/// A zip whose records agree. Its data has not been decompressed yet.
pub(super) struct Archive<'a> {
    entries: Vec<Entry<'a>>,
}

/// What a thread inflates with, one entry after the other.
pub(super) struct Inflater {
    state: Decompress,
    out: Vec<u8>,
}

impl Default for Inflater {
    fn default() -> Self {
        Self { state: Decompress::new(false), out: vec![0; INFLATE_BYTES] }
    }
}

struct Entry<'a> {
    path: &'a str,
    kind: Kind,
    method: u16,
    crc: u32,
    unzipped: u64,
    data: &'a [u8],
}

impl<'a> Archive<'a> {
    /// Reads and checks all records of `bytes`.
    pub(super) fn parse(bytes: &'a [u8], limits: &Limits) -> Result<Self, PackageError> {
        let end = EndRecord::find(bytes).map_err(PackageError::whole)?;
        if end.entries > limits.entries {
            return Err(PackageError::whole(Rule::TooManyEntries { limit: limits.entries }));
        }
        if end.entries == 0 {
            return Err(PackageError::whole(Rule::NoEntries));
        }
        let listed = list(bytes, &end)?;
        let mut declared: u64 = 0;
        for central in &listed {
            declared = declared.saturating_add(central.unzipped);
        }
        // Only to refuse early: what comes out is counted again while it does.
        if declared > limits.unzipped_bytes {
            return Err(PackageError::whole(Rule::UnzippedTooLarge {
                limit: limits.unzipped_bytes,
            }));
        }
        let ranges = locate(bytes, end.list_start, &listed)?;
        let mut entries = Vec::with_capacity(listed.len());
        for (central, data) in listed.iter().zip(ranges) {
            entries
                .push(central.entry(data).map_err(|rule| PackageError::entry(central.name, rule))?);
        }
        Ok(Self { entries })
    }

    /// Lays the entries out as one tree.
    pub(super) fn layout(&self, limits: &Limits) -> Result<Layout, PackageError> {
        let mut layout = Layout::new(limits);
        for (number, entry) in self.entries.iter().enumerate() {
            layout
                .add(entry.path, entry.kind, number)
                .map_err(|rule| PackageError::entry(entry.path.as_bytes(), rule))?;
        }
        // A directory has no content, but a deflated nothing is two bytes, and they must be that.
        let mut inflater = None;
        for entry in self.entries.iter().filter(|entry| entry.kind == Kind::Directory) {
            if entry.method == STORED {
                entry.pour_stored(&mut |_| Ok(()))?;
            } else {
                entry.inflate(inflater.get_or_insert_default(), &mut |_| Ok(()))?;
            }
        }
        Ok(layout)
    }
}

impl Entry<'_> {
    fn pour_stored(&self, sink: Sink<'_>) -> Result<(), PackageError> {
        if crc32fast::hash(self.data) != self.crc {
            return Err(PackageError::entry(self.path.as_bytes(), Rule::CrcMismatch));
        }
        if self.data.is_empty() { Ok(()) } else { sink(self.data) }
    }

    fn inflate(&self, inflater: &mut Inflater, sink: Sink<'_>) -> Result<(), PackageError> {
        let broken = |rule| PackageError::entry(self.path.as_bytes(), rule);
        let mut crc = Hasher::new();
        let Inflater { state, out } = inflater;
        state.reset(false);
        let mut rest = self.data;
        let mut total: u64 = 0;
        loop {
            let (read_before, written_before) = (state.total_in(), state.total_out());
            let status = state
                .decompress(rest, out, FlushDecompress::None)
                .map_err(|_| broken(Rule::DeflateCorrupt))?;
            let read = usize::try_from(state.total_in() - read_before).unwrap_or(usize::MAX);
            let written = usize::try_from(state.total_out() - written_before).unwrap_or(usize::MAX);
            rest = rest.get(read..).unwrap_or_default();
            let chunk = out.get(..written).unwrap_or_default();
            total += chunk.len() as u64;
            if total > self.unzipped {
                return Err(broken(Rule::SizeMismatch));
            }
            crc.update(chunk);
            if !chunk.is_empty() {
                sink(chunk)?;
            }
            match status {
                Status::StreamEnd => break,
                Status::Ok | Status::BufError if read == 0 && written == 0 => {
                    return Err(broken(Rule::DeflateCorrupt));
                }
                Status::Ok | Status::BufError => {}
            }
        }
        if !rest.is_empty() || total != self.unzipped {
            return Err(broken(Rule::SizeMismatch));
        }
        if crc.finalize() != self.crc {
            return Err(broken(Rule::CrcMismatch));
        }
        Ok(())
    }
}

impl Content for Archive<'_> {
    type Reader = Inflater;

    fn path(&self, number: usize) -> &str {
        self.entries.get(number).map_or("", |entry| entry.path)
    }

    fn bytes(&self, number: usize) -> u64 {
        self.entries.get(number).map_or(0, |entry| entry.unzipped)
    }

    fn read(
        &self,
        number: usize,
        reader: &mut Inflater,
        sink: Sink<'_>,
    ) -> Result<(), PackageError> {
        match self.entries.get(number) {
            Some(entry) if entry.method == STORED => entry.pour_stored(sink),
            Some(entry) => entry.inflate(reader, sink),
            None => Ok(()),
        }
    }
}

/// Reads little-endian fields one after the other; `None` past the end.
struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    fn at(bytes: &'a [u8], offset: usize) -> Option<Self> {
        bytes.get(offset..).map(|rest| Self { rest })
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(count)?;
        self.rest = rest;
        Some(taken)
    }

    fn u16(&mut self) -> Option<u16> {
        let (taken, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(u16::from_le_bytes(*taken))
    }

    fn u32(&mut self) -> Option<u32> {
        let (taken, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(u32::from_le_bytes(*taken))
    }

    fn u64(&mut self) -> Option<u64> {
        let (taken, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(u64::from_le_bytes(*taken))
    }
}

/// Where the entry list is, and how many entries it has to have.
struct EndRecord {
    entries: u64,
    list_start: usize,
    list_end: usize,
}

impl EndRecord {
    fn find(bytes: &[u8]) -> Result<Self, Rule> {
        if bytes.is_empty() {
            return Err(Rule::EmptyFile);
        }
        // The last end record is the one, and its comment has to reach the end of the file: readers that
        // search from the end, or from the front of the search window, then find the same.
        let window = bytes.len().saturating_sub(END_BYTES + usize::from(u16::MAX));
        let signature = END_SIGNATURE.to_le_bytes();
        let tail = bytes.get(window..).unwrap_or_default();
        let Some(found) = tail.windows(4).rposition(|four| four == signature) else {
            return Err(if bytes.starts_with(&LOCAL_SIGNATURE.to_le_bytes()) {
                Rule::Truncated { missing: "the end record" }
            } else {
                Rule::NotAZip
            });
        };
        let start = window + found;
        let cut = Rule::Truncated { missing: "part of the end record" };
        let Some(raw) = RawEnd::read(bytes, start) else { return Err(cut) };
        let comment_end = start + END_BYTES + usize::from(raw.comment);
        if comment_end > bytes.len() {
            return Err(cut);
        }
        if comment_end < bytes.len() {
            return Err(Rule::TrailingData { bytes: (bytes.len() - comment_end) as u64 });
        }
        if raw.is_split() {
            return Err(Rule::MultiDisk);
        }
        let locator = start.checked_sub(LOCATOR_BYTES).filter(|&at| {
            Fields::at(bytes, at).and_then(|mut fields| fields.u32()) == Some(LOCATOR_SIGNATURE)
        });
        let (entries, size, offset, records_start) = match locator {
            Some(locator) => {
                let end64 = End64::read(bytes, locator)?;
                raw.agrees_with(&end64)?;
                (end64.entries, end64.size, end64.offset, locator - END64_BYTES)
            }
            None => (u64::from(raw.entries), u64::from(raw.size), u64::from(raw.offset), start),
        };
        let list_end = offset.checked_add(size).ok_or(Rule::DirectoryMisplaced)?;
        if list_end > records_start as u64 {
            return Err(Rule::Truncated { missing: "part of its data" });
        }
        if list_end < records_start as u64 {
            return Err(Rule::DirectoryMisplaced);
        }
        let list_start = usize::try_from(offset).map_err(|_| Rule::DirectoryMisplaced)?;
        Ok(Self { entries, list_start, list_end: records_start })
    }
}

/// The end record as it is in the file.
struct RawEnd {
    disk: u16,
    list_disk: u16,
    entries_here: u16,
    entries: u16,
    size: u32,
    offset: u32,
    comment: u16,
}

impl RawEnd {
    fn read(bytes: &[u8], at: usize) -> Option<Self> {
        let mut fields = Fields::at(bytes, at)?;
        fields.u32()?;
        Some(Self {
            disk: fields.u16()?,
            list_disk: fields.u16()?,
            entries_here: fields.u16()?,
            entries: fields.u16()?,
            size: fields.u32()?,
            offset: fields.u32()?,
            comment: fields.u16()?,
        })
    }

    fn is_split(&self) -> bool {
        self.disk != 0 || self.list_disk != 0 || self.entries_here != self.entries
    }

    /// A field is its zip64 counterpart or all ones; all ones may also be the value itself.
    fn agrees_with(&self, end64: &End64) -> Result<(), Rule> {
        let same16 = |short: u16, long: u64| short == u16::MAX || u64::from(short) == long;
        let same32 = |short: u32, long: u64| short == u32::MAX || u64::from(short) == long;
        if same16(self.entries, end64.entries)
            && same32(self.size, end64.size)
            && same32(self.offset, end64.offset)
        {
            Ok(())
        } else {
            Err(Rule::Zip64Mismatch)
        }
    }
}

/// The zip64 end record.
struct End64 {
    entries: u64,
    size: u64,
    offset: u64,
}

impl End64 {
    /// Reads the record that the locator at `locator` points to; it has to lie just before the locator.
    fn read(bytes: &[u8], locator: usize) -> Result<Self, Rule> {
        let wrong = Rule::Zip64Mismatch;
        let start = locator.checked_sub(END64_BYTES).ok_or(wrong.clone())?;
        let mut fields = Fields::at(bytes, locator + 4).ok_or(wrong.clone())?;
        let (disk, offset, disks) = (fields.u32(), fields.u64(), fields.u32());
        if disk != Some(0) || !matches!(disks, Some(0 | 1)) {
            return Err(Rule::MultiDisk);
        }
        if offset != Some(start as u64) {
            return Err(wrong);
        }
        let mut fields = Fields::at(bytes, start).ok_or(wrong.clone())?;
        let head = (fields.u32(), fields.u64());
        if head != (Some(END64_SIGNATURE), Some(END64_BYTES as u64 - 12)) {
            return Err(wrong);
        }
        fields.u32(); // Versions that made it and that are needed.
        let disks = (fields.u32(), fields.u32());
        let (here, entries, size, offset) =
            (fields.u64(), fields.u64(), fields.u64(), fields.u64());
        if disks != (Some(0), Some(0)) || here != entries {
            return Err(Rule::MultiDisk);
        }
        match (entries, size, offset) {
            (Some(entries), Some(size), Some(offset)) => Ok(Self { entries, size, offset }),
            _ => Err(wrong),
        }
    }
}

/// One record of the entry list.
struct Central<'a> {
    name: &'a [u8],
    extra: &'a [u8],
    flags: u16,
    method: u16,
    crc: u32,
    zipped: u64,
    unzipped: u64,
    disk: u32,
    mode: u32,
    offset: u64,
}

/// Reads the entry list.
fn list<'a>(bytes: &'a [u8], end: &EndRecord) -> Result<Vec<Central<'a>>, PackageError> {
    let corrupt = || PackageError::whole(Rule::DirectoryCorrupt { expected: end.entries });
    let list = bytes.get(end.list_start..end.list_end).ok_or_else(corrupt)?;
    // Each record has 46 bytes at least, so that a lie about their number reserves no memory.
    if end.entries > (list.len() / CENTRAL_BYTES) as u64 {
        return Err(corrupt());
    }
    let mut fields = Fields { rest: list };
    let mut entries = Vec::with_capacity(list.len() / CENTRAL_BYTES);
    for _ in 0..end.entries {
        let central = Central::read(&mut fields).ok_or_else(corrupt)?;
        entries.push(central.widened().map_err(|rule| PackageError::entry(central.name, rule))?);
    }
    if fields.rest.is_empty() { Ok(entries) } else { Err(corrupt()) }
}

impl<'a> Central<'a> {
    /// Reads one record; `None` where there is none. All ones in a size are still all ones after this.
    fn read(fields: &mut Fields<'a>) -> Option<Self> {
        if fields.u32()? != CENTRAL_SIGNATURE {
            return None;
        }
        fields.u32()?; // Versions that made it and that are needed.
        let (flags, method) = (fields.u16()?, fields.u16()?);
        fields.u32()?; // Time and date: files of a tree all have one time.
        let crc = fields.u32()?;
        let (zipped, unzipped) = (fields.u32()?, fields.u32()?);
        let lengths = (fields.u16()?, fields.u16()?, fields.u16()?);
        let disk = fields.u16()?.into();
        fields.u16()?; // Internal attributes: text or binary.
        let external = fields.u32()?;
        let offset = fields.u32()?;
        let name = fields.take(lengths.0.into())?;
        let extra = fields.take(lengths.1.into())?;
        fields.take(lengths.2.into())?;
        Some(Self {
            name,
            extra,
            flags,
            method,
            crc,
            zipped: zipped.into(),
            unzipped: unzipped.into(),
            disk,
            // The upper half is st_mode where the writer knew one, and 0 where not.
            mode: external >> 16,
            offset: offset.into(),
        })
    }

    /// Takes sizes and offset from the zip64 field where the record says all ones.
    fn widened(&self) -> Result<Self, Rule> {
        let mut wide = Self { ..*self };
        let needed = [wide.unzipped, wide.zipped, wide.offset].contains(&u64::from(u32::MAX))
            || wide.disk == u32::from(u16::MAX);
        let mut zip64 = None;
        for field in Extra(self.extra) {
            let (id, data) = field?;
            if id == EXTRA_ZIP64 && zip64.replace(data).is_some() {
                return Err(Rule::Zip64Mismatch);
            }
        }
        if needed {
            let mut fields = Fields { rest: zip64.ok_or(Rule::Zip64Mismatch)? };
            for value in [&mut wide.unzipped, &mut wide.zipped, &mut wide.offset] {
                if *value == u64::from(u32::MAX) {
                    *value = fields.u64().ok_or(Rule::Zip64Mismatch)?;
                }
            }
            if wide.disk == u32::from(u16::MAX) {
                wide.disk = fields.u32().ok_or(Rule::Zip64Mismatch)?;
            }
        }
        if wide.disk != 0 {
            return Err(Rule::MultiDisk);
        }
        Ok(wide)
    }

    /// Judges what the entry is. `data` are its bytes, still compressed.
    fn entry(&self, data: &'a [u8]) -> Result<Entry<'a>, Rule> {
        if self.flags & (FLAG_ENCRYPTED | FLAG_STRONG_ENCRYPTION | FLAG_MASKED) != 0 {
            return Err(Rule::Encrypted);
        }
        if self.flags & FLAG_PATCHED != 0 {
            return Err(Rule::PatchedData);
        }
        if self.method != STORED && self.method != DEFLATED {
            return Err(Rule::UnsupportedMethod { method: self.method });
        }
        if self.method == STORED && self.zipped != self.unzipped {
            return Err(Rule::SizeMismatch);
        }
        let path = name::check(self.name)?;
        check_extra(self.extra, self.name)?;
        let kind = self.kind()?;
        if kind == Kind::Symlink && self.unzipped > name::TARGET_BYTES as u64 {
            return Err(Rule::SymlinkTarget { fault: "is longer than 4095 bytes" });
        }
        Ok(Entry { path, kind, method: self.method, crc: self.crc, unzipped: self.unzipped, data })
    }

    /// The mode is honoured whatever system the record says it was made on: a link or a device that only
    /// some readers see is a trap all the same.
    fn kind(&self) -> Result<Kind, Rule> {
        let contradiction = |contradiction| Err(Rule::TypeMismatch { contradiction });
        let slash = self.name.ends_with(b"/");
        match self.mode & MODE_TYPE {
            0 | MODE_REGULAR | MODE_DIRECTORY | MODE_UNKNOWN if slash => {
                if self.unzipped == 0 {
                    Ok(Kind::Directory)
                } else {
                    contradiction("a directory that has data")
                }
            }
            0 | MODE_REGULAR => Ok(Kind::File { executable: self.mode & MODE_EXECUTE != 0 }),
            MODE_DIRECTORY => contradiction("a directory whose name has no `/` at its end"),
            MODE_SYMLINK if slash => contradiction("a symbolic link whose name ends with `/`"),
            MODE_SYMLINK => Ok(Kind::Symlink),
            MODE_FIFO => Err(Rule::SpecialFile { kind: "named pipe" }),
            MODE_SOCKET => Err(Rule::SpecialFile { kind: "socket" }),
            MODE_CHARACTER => Err(Rule::SpecialFile { kind: "character device" }),
            MODE_BLOCK => Err(Rule::SpecialFile { kind: "block device" }),
            _ => Err(Rule::SpecialFile { kind: "file of an unknown type" }),
        }
    }
}

/// The extra fields of a record. Up to three zero bytes may follow them, as alignment tools leave.
struct Extra<'a>(&'a [u8]);

impl<'a> Iterator for Extra<'a> {
    type Item = Result<(u16, &'a [u8]), Rule>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.len() < 4 && self.0.iter().all(|&byte| byte == 0) {
            return None;
        }
        let mut fields = Fields { rest: std::mem::take(&mut self.0) };
        let field = (|| {
            let (id, size) = (fields.u16()?, fields.u16()?);
            Some((id, fields.take(size.into())?))
        })();
        self.0 = fields.rest;
        match field {
            Some(field) => Some(Ok(field)),
            None => {
                self.0 = &[];
                Some(Err(Rule::HeaderCorrupt { record: "extra field" }))
            }
        }
    }
}

/// Refuses what an extra field may say beside, or against, the entry's own fields.
fn check_extra(extra: &[u8], name: &[u8]) -> Result<(), Rule> {
    for field in Extra(extra) {
        match field? {
            // Access time, modification time, uid, gid; then what only a link or a device has.
            (EXTRA_PKWARE_UNIX, data) if data.len() > 12 => return Err(Rule::HardLink),
            // CRC-32 (4), mode (2), size of the link or device number (4), uid, gid; then the link.
            (EXTRA_ASI_UNIX, data) => {
                let mut fields = Fields { rest: data };
                fields.u32();
                match fields.u16().map(|mode| u32::from(mode) & MODE_TYPE) {
                    Some(0 | MODE_REGULAR | MODE_DIRECTORY) if data.len() <= 14 => {}
                    Some(MODE_CHARACTER | MODE_BLOCK) => {
                        return Err(Rule::SpecialFile { kind: "device, by an extra field" });
                    }
                    _ => return Err(Rule::HardLink),
                }
            }
            // Version (1), CRC-32 of the header's name (4), name.
            (EXTRA_UNICODE_PATH, data) if data.get(5..) != Some(name) => {
                return Err(Rule::HeaderMismatch { field: "name" });
            }
            _ => {}
        }
    }
    Ok(())
}

/// Checks every header before data against its record in the list, and that all lie end to end. Returns
/// each entry's data, in the list's order.
fn locate<'a>(
    bytes: &'a [u8],
    list_start: usize,
    listed: &[Central<'a>],
) -> Result<Vec<&'a [u8]>, PackageError> {
    let mut order: Vec<usize> = (0..listed.len()).collect();
    order.sort_by_key(|&number| listed[number].offset);
    let mut ranges: Vec<&[u8]> = vec![&[]; listed.len()];

    let first = order.first().map_or(0, |&number| listed[number].offset);
    if first > 0 && bytes.starts_with(b"PK") {
        return Err(PackageError::whole(Rule::UnlistedData { offset: 0, bytes: first }));
    }
    for (position, &number) in order.iter().enumerate() {
        let central = &listed[number];
        let next = match order.get(position + 1) {
            Some(&next) => {
                usize::try_from(listed[next].offset).unwrap_or(usize::MAX).min(list_start)
            }
            None => list_start,
        };
        let refused = |rule| PackageError::entry(central.name, rule);
        let (data, end) = central.data(bytes, next).map_err(refused)?;
        if end < next {
            return Err(PackageError::whole(Rule::UnlistedData {
                offset: end as u64,
                bytes: (next - end) as u64,
            }));
        }
        ranges[number] = data;
    }
    Ok(ranges)
}

impl<'a> Central<'a> {
    /// Returns the entry's data and where its last record ends, which is at `next` or before.
    fn data(&self, bytes: &'a [u8], next: usize) -> Result<(&'a [u8], usize), Rule> {
        let missing = Rule::Truncated { missing: "the header before its data" };
        let start = usize::try_from(self.offset).map_err(|_| missing.clone())?;
        if start >= bytes.len() {
            return Err(missing);
        }
        let head = bytes.get(..next).unwrap_or(bytes);
        let Some(mut fields) =
            Fields::at(head, start).filter(|fields| fields.rest.len() >= LOCAL_BYTES)
        else {
            return Err(Rule::OverlappingEntries);
        };
        let local = Local::read(&mut fields)
            .ok_or(Rule::HeaderCorrupt { record: "header before its data" })?;
        let (Some(name), Some(extra)) =
            (fields.take(local.name.into()), fields.take(local.extra.into()))
        else {
            return Err(Rule::OverlappingEntries);
        };
        self.agrees_with(&local, name, extra)?;
        let zipped = usize::try_from(self.zipped).map_err(|_| Rule::OverlappingEntries)?;
        let data = fields.take(zipped).ok_or(Rule::OverlappingEntries)?;
        let after = fields.rest;
        if self.flags & FLAG_DESCRIPTOR == 0 {
            return Ok((data, next - after.len()));
        }
        // Nothing says how long the record after the data is, but the next record's place does.
        match after.len() {
            12 | 16 | 20 | 24 if self.is_descriptor(after) => Ok((data, next)),
            0..=24 => Err(Rule::HeaderMismatch { field: "CRC-32 or size" }),
            _ => Ok((data, next - after.len())),
        }
    }

    fn agrees_with(&self, local: &Local, name: &[u8], extra: &[u8]) -> Result<(), Rule> {
        let differs = |field| Err(Rule::HeaderMismatch { field });
        if name != self.name {
            return differs("name");
        }
        // How the name's bytes are to be read matters only where they are not ASCII.
        let matter =
            if name.is_ascii() { FLAGS_THAT_MATTER } else { FLAGS_THAT_MATTER | FLAG_UTF8 };
        if (local.flags ^ self.flags) & matter != 0 {
            return differs("set of flags");
        }
        if local.method != self.method {
            return differs("compression method");
        }
        check_extra(extra, name)?;
        let (zipped, unzipped) = local.sizes(extra)?;
        // A writer that could not seek back left zeros here and put the values after the data.
        let streamed = self.flags & FLAG_DESCRIPTOR != 0;
        let same = |local: u64, central: u64| local == central || streamed && local == 0;
        if !same(local.crc.into(), self.crc.into()) {
            return differs("CRC-32");
        }
        if !same(zipped, self.zipped) || !same(unzipped, self.unzipped) {
            return differs("size");
        }
        Ok(())
    }

    /// Tells whether `record` is this entry's descriptor: CRC-32 and two sizes of 4 or 8 bytes, with a
    /// signature before them or none.
    fn is_descriptor(&self, record: &[u8]) -> bool {
        let mut fields = Fields { rest: record };
        if matches!(record.len(), 16 | 24) && fields.u32() != Some(DESCRIPTOR_SIGNATURE) {
            return false;
        }
        let crc = fields.u32();
        let sizes = if record.len() < 20 {
            (fields.u32().map(u64::from), fields.u32().map(u64::from))
        } else {
            (fields.u64(), fields.u64())
        };
        crc == Some(self.crc) && sizes == (Some(self.zipped), Some(self.unzipped))
    }
}

/// The header before an entry's data.
struct Local {
    flags: u16,
    method: u16,
    crc: u32,
    zipped: u32,
    unzipped: u32,
    name: u16,
    extra: u16,
}

impl Local {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        if fields.u32()? != LOCAL_SIGNATURE {
            return None;
        }
        fields.u16()?; // Version needed.
        let (flags, method) = (fields.u16()?, fields.u16()?);
        fields.u32()?; // Time and date.
        Some(Self {
            flags,
            method,
            crc: fields.u32()?,
            zipped: fields.u32()?,
            unzipped: fields.u32()?,
            name: fields.u16()?,
            extra: fields.u16()?,
        })
    }

    /// Returns both sizes, from the zip64 field where the header says all ones.
    fn sizes(&self, extra: &[u8]) -> Result<(u64, u64), Rule> {
        let mut zip64 = None;
        for field in Extra(extra) {
            let (id, data) = field?;
            if id == EXTRA_ZIP64 && zip64.replace(data).is_some() {
                return Err(Rule::Zip64Mismatch);
            }
        }
        let mut fields = Fields { rest: zip64.unwrap_or_default() };
        let mut wide = |size: u32| match size {
            u32::MAX => fields.u64().ok_or(Rule::Zip64Mismatch),
            _ => Ok(size.into()),
        };
        let unzipped = wide(self.unzipped)?;
        let zipped = wide(self.zipped)?;
        Ok((zipped, unzipped))
    }
}
