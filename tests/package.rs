//! Packages as an enemy writes them: every rule broken once, and many at random.
//!
//! The zips come from a writer of this file's own, which writes whatever lie it is told to.

#![expect(clippy::unwrap_used, reason = "a helper that fails is a test that fails")]

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Cursor, Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Barrier;

use flate2::write::DeflateEncoder;
use flate2::{Compression, Crc};
use kennel::package::{
    AWS_UNZIPPED_BYTES, CaseCollisions, Digest, IndexKind, Limits, PackageError, Progress, Tree,
    TreeStore, copy_directory, unpack, unpack_bytes,
};
use tempfile::TempDir;

const REGULAR: u32 = 0o100_644;
const EXECUTABLE: u32 = 0o100_755;
const SYMLINK: u32 = 0o120_777;
const STREAMED: u16 = 1 << 3;

// ---------------------------------------------------------------------------------------------------------
// A zip writer that lies.

/// The fields that a zip says twice.
#[derive(Clone, Debug, Default)]
struct Header {
    name: Vec<u8>,
    flags: u16,
    method: u16,
    crc: u32,
    zipped: u32,
    unzipped: u32,
    extra: Vec<u8>,
}

impl Header {
    fn write(&self, out: &mut Vec<u8>) {
        out.extend(self.flags.to_le_bytes());
        out.extend(self.method.to_le_bytes());
        out.extend([0, 0, 0x21, 0]);
        out.extend(self.crc.to_le_bytes());
        out.extend(self.zipped.to_le_bytes());
        out.extend(self.unzipped.to_le_bytes());
        out.extend(u16::try_from(self.name.len()).unwrap().to_le_bytes());
        out.extend(u16::try_from(self.extra.len()).unwrap().to_le_bytes());
    }
}

#[derive(Clone, Debug)]
struct Entry {
    local: Header,
    central: Header,
    data: Vec<u8>,
    /// Bytes after the data, as a descriptor is.
    after: Vec<u8>,
    mode: u32,
    disk: u16,
    /// Instead of where the local header really is.
    offset: Option<u32>,
}

fn crc(data: &[u8]) -> u32 {
    let mut crc = Crc::new();
    crc.update(data);
    crc.sum()
}

fn deflate(data: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

fn entry(name: impl AsRef<[u8]>, mode: u32, method: u16, unzipped: &[u8]) -> Entry {
    let data = if method == 8 { deflate(unzipped) } else { unzipped.to_vec() };
    let header = Header {
        name: name.as_ref().to_vec(),
        flags: 0,
        method,
        crc: crc(unzipped),
        zipped: u32::try_from(data.len()).unwrap(),
        unzipped: u32::try_from(unzipped.len()).unwrap(),
        extra: Vec::new(),
    };
    Entry {
        local: header.clone(),
        central: header,
        data,
        after: Vec::new(),
        mode,
        disk: 0,
        offset: None,
    }
}

fn file(name: impl AsRef<[u8]>) -> Entry {
    entry(name, REGULAR, 8, b"print('hello')\n")
}

fn link(name: &str, target: &str) -> Entry {
    entry(name, SYMLINK, 0, target.as_bytes())
}

impl Entry {
    /// Changes both headers.
    fn both(mut self, change: impl Fn(&mut Header)) -> Self {
        change(&mut self.local);
        change(&mut self.central);
        self
    }

    fn local(mut self, change: impl Fn(&mut Header)) -> Self {
        change(&mut self.local);
        self
    }

    fn central(mut self, change: impl Fn(&mut Header)) -> Self {
        change(&mut self.central);
        self
    }

    /// Writes sizes and CRC-32 after the data only, as a writer into a pipe does.
    fn streamed(mut self, signature: bool, wide: bool) -> Self {
        let Header { crc, zipped, unzipped, .. } = self.central;
        if signature {
            self.after.extend(b"PK\x07\x08");
        }
        self.after.extend(crc.to_le_bytes());
        for size in [zipped, unzipped] {
            match wide {
                true => self.after.extend(u64::from(size).to_le_bytes()),
                false => self.after.extend(size.to_le_bytes()),
            }
        }
        self.both(|header| header.flags |= STREAMED).local(|header| {
            (header.crc, header.zipped, header.unzipped) = (0, 0, 0);
        })
    }
}

/// An extra field.
fn extra(id: u16, data: &[u8]) -> Vec<u8> {
    let size = u16::try_from(data.len()).unwrap();
    [&id.to_le_bytes()[..], &size.to_le_bytes(), data].concat()
}

#[derive(Clone, Debug, Default)]
struct Zip {
    prefix: Vec<u8>,
    entries: Vec<Entry>,
    /// Bytes between the last entry and the list.
    gap: Vec<u8>,
    zip64: Option<fn(&mut End64)>,
    end: Option<fn(&mut End)>,
    comment: Vec<u8>,
    suffix: Vec<u8>,
}

#[derive(Debug)]
struct End {
    disk: u16,
    list_disk: u16,
    entries_here: u16,
    entries: u16,
    size: u32,
    offset: u32,
    comment: u16,
}

#[derive(Debug)]
struct End64 {
    record_size: u64,
    disk: u32,
    entries: u64,
    size: u64,
    offset: u64,
    own_offset: u64,
    disks: u32,
}

fn zip(entries: impl IntoIterator<Item = Entry>) -> Zip {
    Zip { entries: entries.into_iter().collect(), ..Zip::default() }
}

impl Zip {
    fn build(&self) -> Vec<u8> {
        let mut out = self.prefix.clone();
        let mut list = Vec::new();
        for entry in &self.entries {
            let offset = u32::try_from(out.len()).unwrap();
            out.extend(b"PK\x03\x04\x14\x00");
            entry.local.write(&mut out);
            out.extend(&entry.local.name);
            out.extend(&entry.local.extra);
            out.extend(&entry.data);
            out.extend(&entry.after);
            list.extend(b"PK\x01\x02\x14\x03\x14\x00");
            entry.central.write(&mut list);
            list.extend([0; 2]);
            list.extend(entry.disk.to_le_bytes());
            list.extend([0; 2]);
            list.extend((entry.mode << 16).to_le_bytes());
            list.extend(entry.offset.unwrap_or(offset).to_le_bytes());
            list.extend(&entry.central.name);
            list.extend(&entry.central.extra);
        }
        out.extend(&self.gap);
        let offset = out.len();
        out.extend(&list);
        let entries = u16::try_from(self.entries.len()).unwrap_or(u16::MAX);
        if let Some(change) = self.zip64 {
            let mut end = End64 {
                record_size: 44,
                disk: 0,
                entries: self.entries.len() as u64,
                size: list.len() as u64,
                offset: offset as u64,
                own_offset: out.len() as u64,
                disks: 1,
            };
            change(&mut end);
            out.extend(b"PK\x06\x06");
            out.extend(end.record_size.to_le_bytes());
            out.extend([45, 3, 45, 0]);
            out.extend(end.disk.to_le_bytes());
            out.extend(end.disk.to_le_bytes());
            for value in [end.entries, end.entries, end.size, end.offset] {
                out.extend(value.to_le_bytes());
            }
            out.extend(b"PK\x06\x07");
            out.extend(end.disk.to_le_bytes());
            out.extend(end.own_offset.to_le_bytes());
            out.extend(end.disks.to_le_bytes());
        }
        let mut end = End {
            disk: 0,
            list_disk: 0,
            entries_here: entries,
            entries,
            size: u32::try_from(list.len()).unwrap(),
            offset: u32::try_from(offset).unwrap(),
            comment: u16::try_from(self.comment.len()).unwrap(),
        };
        if let Some(change) = self.end {
            change(&mut end);
        }
        out.extend(b"PK\x05\x06");
        for value in [end.disk, end.list_disk, end.entries_here, end.entries] {
            out.extend(value.to_le_bytes());
        }
        out.extend(end.size.to_le_bytes());
        out.extend(end.offset.to_le_bytes());
        out.extend(end.comment.to_le_bytes());
        out.extend(&self.comment);
        out.extend(&self.suffix);
        out
    }
}

// ---------------------------------------------------------------------------------------------------------
// What is expected.

/// A store in a folder of its own, with neighbours that nobody may touch.
struct Bench {
    outside: TempDir,
    store: TreeStore,
}

impl Bench {
    fn new() -> Self {
        let outside = tempfile::tempdir().unwrap();
        fs::create_dir(outside.path().join("victim")).unwrap();
        fs::write(outside.path().join("victim/file"), "untouched").unwrap();
        let store = TreeStore::open_scratch(outside.path().join("code")).unwrap();
        Self { outside, store }
    }

    fn unpack(&self, zip: &[u8]) -> Result<Tree, PackageError> {
        self.unpack_within(zip, &Limits::default())
    }

    fn unpack_within(&self, zip: &[u8], limits: &Limits) -> Result<Tree, PackageError> {
        let result = unpack_bytes(zip, &Digest::of(zip), limits, &self.store, &mut |_| {});
        self.assert_clean();
        result
    }

    /// Nothing half-made, nothing outside.
    fn assert_clean(&self) {
        assert_eq!(names(&self.store.dir().join("tmp")), [""; 0], "left behind");
        assert_eq!(names(self.outside.path()), ["code", "victim"], "written outside the store");
        assert_eq!(names(self.store.dir()), ["meta", "sha256", "tmp"], "written outside a tree");
        assert_eq!(names(&self.outside.path().join("victim")), ["file"]);
        assert_eq!(
            fs::read_to_string(self.outside.path().join("victim/file")).unwrap(),
            "untouched"
        );
    }

    #[track_caller]
    fn refuses(&self, zip: &[u8], rule: &str, entry: Option<&str>) {
        self.refuses_within(zip, &Limits::default(), rule, entry);
    }

    #[track_caller]
    fn refuses_within(&self, zip: &[u8], limits: &Limits, rule: &str, entry: Option<&str>) {
        let before = self.store.digests().unwrap().len();
        let error = self.unpack_within(zip, limits).expect_err("accepted");
        assert_eq!(error.rule_id(), Some(rule), "{error}");
        assert_eq!(error.entry_name().map(|name| name.as_str()), entry, "{error}");
        assert!(error.to_string().ends_with(&format!("({rule})")), "{error}");
        assert_eq!(self.store.digests().unwrap().len(), before, "a refused package left a tree");
    }
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// All that is in a tree: path → mode and content.
fn listing(tree: &Tree) -> BTreeMap<String, (u32, Vec<u8>)> {
    let mut found = BTreeMap::new();
    for entry in tree.index().unwrap().matching(usize::MAX, |_| true).unwrap() {
        let path = tree.path.join(&entry.path);
        let status = fs::symlink_metadata(&path).unwrap();
        assert_eq!(status.mtime(), 315_619_200, "{}: time", entry.path);
        let content = match entry.kind {
            IndexKind::Directory => Vec::new(),
            IndexKind::File { .. } => fs::read(&path).unwrap(),
            IndexKind::Symlink => {
                fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes()
            }
        };
        found.insert(entry.path, (status.mode(), content));
    }
    found
}

#[track_caller]
fn refuses(zip: Zip, rule: &str, entry: Option<&str>) {
    Bench::new().refuses(&zip.build(), rule, entry);
}

#[track_caller]
fn refuses_entry(bad: Entry, rule: &str) {
    let name = String::from_utf8(bad.central.name.clone()).unwrap();
    // Alone, before and after an honest entry.
    refuses(zip([bad.clone()]), rule, Some(&name));
    refuses(zip([bad.clone(), file("ok.py")]), rule, Some(&name));
    refuses(zip([file("ok.py"), bad]), rule, Some(&name));
}

// ---------------------------------------------------------------------------------------------------------
// What is accepted.

#[test]
fn an_honest_package_is_unpacked() {
    let bench = Bench::new();
    let bytes = zip([
        file("app.py"),
        entry("bin/", 0o040_700, 0, b""),
        entry("bin/tool", EXECUTABLE, 8, &[7; 300_000]),
        entry("bin/empty", REGULAR, 8, b""),
        link("bin/alias", "tool"),
        link("lib/up", "../bin/tool"),
        link("lib/dangling", "../nowhere"),
        entry("lib/deep/er/file", 0, 0, b"stored"),
        entry("private", 0o100_600, 0, b"p"),
        entry("owner-only", 0o100_700, 0, b"o"),
        entry("dangerous", 0o107_777, 0, b"s"),
        entry("deflated-dir/", 0o040_755, 8, b""),
        file("ünï/日本.py"),
    ])
    .build();
    let mut reports = Vec::new();
    let tree = unpack(&bytes[..], 0, &Limits::default(), &bench.store, &mut |progress| {
        reports.push(progress)
    })
    .unwrap();
    assert_eq!(tree.digest, Digest::of(&bytes));
    assert_eq!(tree.path, bench.store.path(&tree.digest));
    let hello = b"print('hello')\n".to_vec();
    let expected: BTreeMap<String, (u32, Vec<u8>)> = [
        ("app.py", 0o100_644, hello.clone()),
        ("bin", 0o040_755, vec![]),
        ("bin/alias", 0o120_777, b"tool".to_vec()),
        ("bin/empty", 0o100_644, vec![]),
        ("bin/tool", 0o100_755, vec![7; 300_000]),
        ("dangerous", 0o100_755, b"s".to_vec()),
        ("deflated-dir", 0o040_755, vec![]),
        ("lib", 0o040_755, vec![]),
        ("lib/dangling", 0o120_777, b"../nowhere".to_vec()),
        ("lib/deep", 0o040_755, vec![]),
        ("lib/deep/er", 0o040_755, vec![]),
        ("lib/deep/er/file", 0o100_644, b"stored".to_vec()),
        ("lib/up", 0o120_777, b"../bin/tool".to_vec()),
        ("owner-only", 0o100_755, b"o".to_vec()),
        ("private", 0o100_644, b"p".to_vec()),
        ("ünï", 0o040_755, vec![]),
        ("ünï/日本.py", 0o100_644, hello),
    ]
    .map(|(path, mode, content)| (path.to_owned(), (mode, content)))
    .into();
    assert_eq!(listing(&tree), expected);
    assert_eq!(tree.entries, expected.len() as u64);
    let bytes_out: usize = expected.values().map(|(_, content)| content.len()).sum();
    assert_eq!(tree.unzipped_bytes, bytes_out as u64);
    assert_eq!(fs::metadata(&tree.path).unwrap().mode(), 0o040_755);
    let leaves = 11;
    assert_eq!(reports.first(), Some(&Progress { entries: 0, total_entries: leaves, bytes: 0 }));
    assert_eq!(reports.len() as u64, leaves + 1);
    assert_eq!(
        reports.last(),
        Some(&Progress { entries: leaves, total_entries: leaves, bytes: bytes_out as u64 })
    );
    bench.assert_clean();
}

#[test]
fn a_tree_that_is_there_is_reused() {
    let bench = Bench::new();
    let bytes = zip([file("a"), file("d/b")]).build();
    let first = bench.unpack(&bytes).unwrap();
    let made = fs::metadata(first.path.join("a")).unwrap().ino();
    assert_eq!(bench.unpack(&bytes).unwrap(), first);
    assert_eq!(fs::metadata(first.path.join("a")).unwrap().ino(), made);
    assert_eq!(bench.store.get(&first.digest).unwrap(), Some(first.clone()));
    assert_eq!(bench.store.digests().unwrap(), [first.digest]);
    // The record of its size is a convenience: without it, the tree is counted.
    fs::remove_file(bench.store.dir().join("meta").join(first.digest.hex())).unwrap();
    assert_eq!(bench.store.get(&first.digest).unwrap(), Some(first.clone()));
    // Stricter limits hold for it as well.
    let strict = Limits { unzipped_bytes: 10, ..Limits::default() };
    bench.refuses_within(&bytes, &strict, "unzipped-too-large", None);
    let strict = Limits { entries: 2, ..Limits::default() };
    bench.refuses_within(&bytes, &strict, "too-many-entries", None);

    assert!(bench.store.remove(&first.digest).unwrap());
    assert!(!bench.store.remove(&first.digest).unwrap());
    assert_eq!(bench.store.get(&first.digest).unwrap(), None);
    assert_eq!(names(&bench.store.dir().join("meta")), [""; 0]);
    bench.assert_clean();
}

#[test]
fn what_writers_do_is_accepted() {
    let all_ones = |header: &mut Header| {
        let sizes =
            [u64::from(header.unzipped).to_le_bytes(), u64::from(header.zipped).to_le_bytes()]
                .concat();
        header.extra = extra(1, &sizes);
        (header.zipped, header.unzipped) = (u32::MAX, u32::MAX);
    };
    let script = b"#!/usr/bin/env python3\n".to_vec();
    let mut swapped = zip([file("a"), file("b")]);
    swapped.entries.reverse();
    for (what, zip) in [
        (
            "streamed, signature",
            zip([file("a").streamed(true, false), file("b").streamed(true, false)]),
        ),
        ("streamed, bare", zip([file("a").streamed(false, false), file("b")])),
        (
            "streamed, 64 bits",
            zip([file("a").streamed(true, true), file("b").streamed(false, true)]),
        ),
        ("streamed, stored", zip([entry("a", REGULAR, 0, b"PK\x07\x08").streamed(true, false)])),
        ("sizes known before a descriptor", {
            let mut streamed = file("a").streamed(true, false);
            streamed.local = streamed.central.clone();
            zip([streamed])
        }),
        ("zip64 end", Zip { zip64: Some(|_| {}), ..zip([file("a")]) }),
        (
            "zip64 end, all ones",
            Zip {
                zip64: Some(|_| {}),
                end: Some(|end| {
                    (end.entries_here, end.entries) = (u16::MAX, u16::MAX);
                    (end.size, end.offset) = (u32::MAX, u32::MAX);
                }),
                ..zip([file("a")])
            },
        ),
        ("zip64 entry", zip([file("a").both(all_ones), file("b")])),
        ("zip64 entry, in the list only", zip([file("a").central(all_ones)])),
        ("comment", Zip { comment: b"made by hand".to_vec(), ..zip([file("a")]) }),
        ("longest comment", Zip { comment: vec![b'c'; 65535], ..zip([file("a")]) }),
        ("executable zip", Zip { prefix: script, ..zip([file("a")]) }),
        ("order of its own", swapped),
        ("alignment", zip([file("a").both(|header| header.extra = vec![0; 3])])),
        (
            "times and owners",
            zip([file("a").both(|header| {
                header.extra = [extra(0x5455, &[0; 5]), extra(0x000d, &[0; 12])].concat()
            })]),
        ),
        ("hints in one header", zip([file("a").local(|header| header.flags |= 2)])),
        (
            "UTF-8 flag on ASCII in one header",
            zip([file("a").central(|header| header.flags |= 1 << 11)]),
        ),
        ("directory with a file's mode", zip([entry("d/", REGULAR, 0, b""), file("d/a")])),
        ("directory with a mode of all ones", zip([entry("d/", 0xffff, 0, b"")])),
        ("directory after its file", zip([file("d/a"), entry("d/", 0, 0, b"")])),
        ("same name elsewhere", zip([file("d/a"), file("e/a"), file("A")])),
    ] {
        let bytes = zip.build();
        let tree = Bench::new().unpack(&bytes).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert!(tree.entries > 0, "{what}");
    }
}

#[test]
fn an_independent_writer_and_reader_agree() {
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default();
    writer.add_directory("pkg", options).unwrap();
    writer.start_file("pkg/app.py", options.unix_permissions(0o755)).unwrap();
    writer.write_all(b"def handler(event, context): pass\n").unwrap();
    writer.start_file("big", options.large_file(true)).unwrap();
    writer.write_all(&[b'x'; 100_000]).unwrap();
    writer.add_symlink("link", "pkg/app.py", options).unwrap();
    let bytes = writer.finish().unwrap().into_inner();
    let bench = Bench::new();
    let tree = bench.unpack(&bytes).unwrap();
    assert_eq!(fs::read(tree.path.join("link")).unwrap(), b"def handler(event, context): pass\n");
    assert_same_as_independent_reader(&bytes, &tree, "its own zip");
}

/// The `zip` crate has to see in the bytes what lies on the disk.
fn assert_same_as_independent_reader(bytes: &[u8], tree: &Tree, what: &str) {
    let other = zip::ZipArchive::new(Cursor::new(bytes));
    let mut archive = other.unwrap_or_else(|error| {
        panic!("{what}: the other reader refuses it: {error}: {}", bytes.escape_ascii())
    });
    let on_disk = listing(tree);
    let mut seen = 0;
    for number in 0..archive.len() {
        let mut entry = archive
            .by_index(number)
            .unwrap_or_else(|error| panic!("{what}: the other reader refuses an entry: {error}"));
        let name = std::str::from_utf8(entry.name_raw()).unwrap().to_owned();
        let mut content = Vec::new();
        entry
            .read_to_end(&mut content)
            .unwrap_or_else(|error| panic!("{what}: the other reader refuses data: {error}"));
        let path = name.strip_suffix('/').unwrap_or(&name);
        let (_, found) =
            on_disk.get(path).unwrap_or_else(|| panic!("{what}: `{name}` is not on the disk"));
        assert_eq!(found, &content, "{what}: `{name}`");
        seen += 1;
    }
    let implied = on_disk.values().filter(|(mode, _)| mode & 0o170_000 == 0o040_000).count();
    assert!(seen <= on_disk.len() && seen + implied >= on_disk.len());
}

// ---------------------------------------------------------------------------------------------------------
// Names.

#[test]
fn bad_names_are_refused() {
    let long = "x".repeat(256);
    let deep = vec!["d"; 129].join("/");
    for (name, rule) in [
        ("../evil", "path-traversal"),
        ("a/../../evil", "path-traversal"),
        ("..", "path-traversal"),
        ("a/..", "path-traversal"),
        ("/etc/evil", "absolute-path"),
        ("//evil", "absolute-path"),
        ("C:/evil", "drive-path"),
        ("c:evil", "drive-path"),
        ("a//b", "empty-component"),
        ("./a", "dot-component"),
        ("a/./b", "dot-component"),
    ] {
        refuses_entry(file(name), rule);
    }
    for (name, shown, rule) in [
        (&b"..\\evil"[..], "..\\\\evil", "backslash"),
        (b"C:\\evil", "C:\\\\evil", "backslash"),
        (b"a\0.py", "a\\0.py", "name-nul"),
        (b"a\nb", "a\\nb", "name-control"),
        (b"a\x1b[2Jb", "a\\u{1b}[2Jb", "name-control"),
        (b"a\x7f", "a\\u{7f}", "name-control"),
        (b"caf\xe9.py", "caf\\xe9.py", "name-not-utf8"),
        (b"a\xc0\xae", "a\\xc0\\xae", "name-not-utf8"),
        (b"", "", "name-empty"),
        (deep.as_bytes(), &format!("{}…", &deep[..200]), "path-too-deep"),
        (long.as_bytes(), &format!("{}…", &long[..200]), "component-too-long"),
        (&[b'a'; 4097], &format!("{}…", "a".repeat(200)), "path-too-long"),
    ] {
        refuses(zip([file("ok"), file(name)]), rule, Some(shown));
    }
}

#[test]
fn the_longest_names_are_written() {
    let component = "n".repeat(255);
    let long = vec![component.as_str(); 16].join("/");
    let deep = vec!["d"; 128].join("/");
    let bench = Bench::new();
    let tree = bench.unpack(&zip([file(&long), file(&deep)]).build()).unwrap();
    assert_eq!(tree.entries, 16 + 128);
    assert!(bench.store.remove(&tree.digest).unwrap());
    bench.assert_clean();
}

/// The rows with a link are GHSA-94vh-gphv-8pm8 and its kin: one entry makes a link, the next writes through it.
#[test]
fn paths_that_cannot_both_be_are_refused() {
    for (entries, rule, at) in [
        (vec![file("a"), file("a")], "duplicate", "a"),
        (vec![file("a"), link("a", "b")], "duplicate", "a"),
        (vec![entry("d/", 0, 0, b""), entry("d/", 0, 0, b"")], "duplicate", "d"),
        (vec![file("a"), file("A")], "case-collision", "A"),
        (vec![file("Lib/a"), file("lib/b")], "case-collision", "lib/b"),
        (
            vec![file("META-INF/LICENSE"), file("META-INF/license/x")],
            "case-collision",
            "META-INF/license/x",
        ),
        (vec![file("a"), file("a/b")], "file-directory-conflict", "a/b"),
        (vec![file("a/b"), file("a")], "file-directory-conflict", "a"),
        (vec![file("a"), entry("a/", 0, 0, b"")], "file-directory-conflict", "a"),
        (vec![link("a", "d"), file("d/x"), file("a/b")], "through-symlink", "a/b"),
        (vec![file("a/b"), link("a", "d")], "through-symlink", "a"),
        (vec![link("a", ".."), file("a/evil")], "through-symlink", "a/evil"),
        (vec![link("a", "/tmp"), entry("a/", 0, 0, b"")], "through-symlink", "a"),
    ] {
        refuses(zip(entries), rule, Some(at));
    }
    let relaxed = Limits { case_collisions: CaseCollisions::Allow, ..Limits::default() };
    let both = zip([file("META-INF/LICENSE"), file("META-INF/license/x")]).build();
    assert_eq!(Bench::new().unpack_within(&both, &relaxed).unwrap().entries, 4);
}

// ---------------------------------------------------------------------------------------------------------
// Kinds.

#[test]
fn links_that_leave_are_refused() {
    for (name, target, rule) in [
        ("l", "/etc/passwd", "symlink-absolute"),
        ("l", "/", "symlink-absolute"),
        ("l", "..", "symlink-leaves-tree"),
        ("l", "../victim", "symlink-leaves-tree"),
        ("d/l", "../../victim", "symlink-leaves-tree"),
        ("d/l", ".././../x", "symlink-leaves-tree"),
        ("d/l", "x/../../..", "symlink-target"),
        ("l", "", "symlink-target"),
    ] {
        refuses_entry(link(name, target), rule);
    }
    refuses_entry(entry("l", SYMLINK, 0, b"a\0b"), "symlink-target");
    refuses_entry(entry("l", SYMLINK, 0, b"a\xff"), "symlink-target");
    refuses_entry(entry("l", SYMLINK, 8, &[b'a'; 5000]), "symlink-target");
    // A chain whose second link looks tame: `d/e/up/../..` is `d` by its text and the root's parent by its meaning.
    refuses(
        zip([link("d/e/up", "../.."), link("d/e/x", "up/../..")]),
        "symlink-target",
        Some("d/e/x"),
    );
}

#[test]
fn special_files_are_refused() {
    for mode in [0o010_644, 0o020_644, 0o060_644, 0o140_644, 0o070_644, 0o160_644] {
        refuses_entry(entry("dev/x", mode, 0, b""), "special-file");
    }
    let device = [&[0; 4][..], &0o020_644_u16.to_le_bytes(), &[0; 8]].concat();
    refuses_entry(file("x").both(|header| header.extra = extra(0x756e, &device)), "special-file");
}

#[test]
fn hard_links_are_refused() {
    let pkware = extra(0x000d, b"\0\0\0\0\0\0\0\0\0\0\0\0/etc/passwd");
    let asi = [&[0; 4][..], &0o120_777_u16.to_le_bytes(), &[0; 8], b"/etc/passwd"].concat();
    for field in [pkware, extra(0x756e, &asi)] {
        refuses_entry(file("x").central(|header| header.extra = field.clone()), "hard-link");
        refuses_entry(file("x").local(|header| header.extra = field.clone()), "hard-link");
    }
}

#[test]
fn contradictions_of_kind_are_refused() {
    refuses_entry(entry("d", 0o040_755, 0, b""), "type-mismatch");
    refuses(zip([entry("d/", 0o040_755, 0, b"data")]), "type-mismatch", Some("d/"));
    refuses(zip([entry("d/", REGULAR, 8, b"data")]), "type-mismatch", Some("d/"));
    refuses(zip([entry("l/", SYMLINK, 0, b"")]), "type-mismatch", Some("l/"));
}

// ---------------------------------------------------------------------------------------------------------
// The file as a whole.

#[test]
fn what_is_no_zip_is_refused() {
    let bench = Bench::new();
    bench.refuses(b"", "empty-file", None);
    bench.refuses(b"def handler(event, context): pass\n", "not-a-zip", None);
    bench.refuses(&[0; 100_000], "not-a-zip", None);
    bench.refuses(&zip([]).build(), "no-entries", None);
}

#[test]
fn every_truncation_is_refused() {
    let whole = zip([file("a"), file("b").streamed(true, false)]).build();
    let bench = Bench::new();
    for length in 0..whole.len() {
        let error = bench.unpack(&whole[..length]).expect_err("a part was accepted");
        assert!(error.is_refusal(), "{length}: {error}");
    }
    bench.refuses(&whole[..100], "truncated", None);
    bench.refuses(&whole[..whole.len() - 1], "truncated", None);
    // The middle is missing, both ends are there.
    let holed = [&whole[..20], &whole[60..]].concat();
    bench.refuses(&holed, "truncated", None);
}

#[test]
fn data_before_between_and_after_is_refused() {
    let bench = Bench::new();
    let honest = zip([file("a"), file("b")]).build();
    bench.refuses(&[&honest[..], b"x"].concat(), "trailing-data", None);
    bench.refuses(&[&honest[..], &honest].concat(), "directory-misplaced", None);
    bench.refuses(&[b"#!/bin/sh\n", &honest[..]].concat(), "directory-misplaced", None);
    bench.refuses(
        &Zip { gap: b"hidden".to_vec(), ..zip([file("a")]) }.build(),
        "unlisted-data",
        None,
    );
    let mut between = zip([file("a"), file("b")]);
    between.entries[0].after = b"hidden".to_vec();
    bench.refuses(&between.build(), "unlisted-data", None);
    // An entry that readers of local headers see, and readers of the list do not.
    let hidden = Zip { prefix: zip([file("hidden")]).build()[..60].to_vec(), ..zip([file("a")]) };
    bench.refuses(&hidden.build(), "unlisted-data", None);
    // Two end records: the second in the comment of the first.
    let inner = zip([file("inner")]).build();
    let outer = Zip { comment: inner, ..zip([file("outer")]) };
    bench.refuses(&outer.build(), "directory-misplaced", None);
}

#[test]
fn split_zips_are_refused() {
    for end in [
        (|end| end.disk = 1) as fn(&mut End),
        |end| end.list_disk = 1,
        |end| (end.disk, end.list_disk) = (u16::MAX, u16::MAX),
        |end| end.entries_here = 0,
        |end| end.entries = 2,
    ] {
        refuses(Zip { end: Some(end), ..zip([file("a")]) }, "multi-disk", None);
    }
    for end in [(|end| end.disk = 1) as fn(&mut End64), |end| end.disks = 2] {
        refuses(Zip { zip64: Some(end), ..zip([file("a")]) }, "multi-disk", None);
    }
    let mut spread = zip([file("a")]);
    spread.entries[0].disk = 1;
    refuses(spread, "multi-disk", Some("a"));
}

#[test]
fn a_list_that_is_not_as_its_end_says_is_refused() {
    for (end, rule) in [
        ((|end| (end.entries, end.entries_here) = (1, 1)) as fn(&mut End), "directory-corrupt"),
        (|end| (end.entries, end.entries_here) = (3, 3), "directory-corrupt"),
        (|end| (end.entries, end.entries_here) = (60_000, 60_000), "directory-corrupt"),
        (|end| (end.entries, end.entries_here) = (0, 0), "no-entries"),
        (|end| end.size -= 1, "directory-misplaced"),
        (|end| end.size += 1, "truncated"),
        (|end| end.offset -= 1, "directory-misplaced"),
        (|end| (end.offset, end.size) = (end.offset - 1, end.size + 1), "directory-corrupt"),
        (|end| end.offset = u32::MAX, "truncated"),
        (|end| end.comment = 5, "truncated"),
    ] {
        refuses(Zip { end: Some(end), ..zip([file("a"), file("b")]) }, rule, None);
    }
    let mut cut = zip([file("a"), file("b")]);
    cut.entries[1].central.name = b"longer than the list is".to_vec();
    let mut bytes = cut.build();
    let at = bytes.len() - 22 - 23 - 46;
    bytes[at + 28] = 200;
    Bench::new().refuses(&bytes, "directory-corrupt", None);
}

#[test]
fn zip64_that_contradicts_is_refused() {
    for end in [
        (|end| end.entries = 2) as fn(&mut End64),
        |end| end.size += 1,
        |end| end.offset = u64::MAX,
        |end| end.own_offset += 1,
        |end| end.own_offset = u64::MAX,
        |end| end.record_size = 45,
        |end| end.record_size = u64::MAX,
    ] {
        refuses(Zip { zip64: Some(end), ..zip([file("a")]) }, "zip64-mismatch", None);
    }
    let ones = |header: &mut Header| header.unzipped = u32::MAX;
    refuses_entry(file("a").central(ones), "zip64-mismatch");
    refuses_entry(file("a").local(ones), "zip64-mismatch");
    let short = extra(1, &[0; 7]);
    refuses_entry(
        file("a").both(ones).both(|header| header.extra = short.clone()),
        "zip64-mismatch",
    );
    let twice = [extra(1, &15_u64.to_le_bytes()), extra(1, &9_u64.to_le_bytes())].concat();
    refuses_entry(
        file("a").both(ones).both(|header| header.extra = twice.clone()),
        "zip64-mismatch",
    );
    // All ones everywhere: sizes that no 64 bits can add.
    let huge = extra(1, &[0xff; 24]);
    let bad = file("a").both(|header| {
        (header.zipped, header.unzipped, header.extra) = (u32::MAX, u32::MAX, huge.clone());
    });
    refuses(zip([bad]), "unzipped-too-large", None);
}

// ---------------------------------------------------------------------------------------------------------
// One entry's records and bytes.

#[test]
fn headers_that_differ_are_refused() {
    for lie in [
        (|header| header.name = b"b".to_vec()) as fn(&mut Header),
        |header| header.name = b"../../evil".to_vec(),
        |header| header.method = 0,
        |header| header.crc ^= 1,
        |header| header.zipped -= 1,
        |header| header.unzipped += 1,
        |header| header.flags = STREAMED,
        |header| header.flags = 1,
    ] {
        refuses_entry(file("a").local(lie), "header-mismatch");
    }
    let utf8 = file("ü").local(|header| header.flags = 1 << 11);
    refuses_entry(utf8, "header-mismatch");
    let second_name = extra(0x7075, b"\x01\0\0\0\0evil");
    refuses_entry(
        file("a").central(|header| header.extra = second_name.clone()),
        "header-mismatch",
    );
    refuses_entry(file("a").local(|header| header.extra = second_name.clone()), "header-mismatch");
    let same_name = extra(0x7075, b"\x01\0\0\0\0a");
    let honest = zip([file("a").both(|header| header.extra = same_name.clone())]).build();
    assert!(Bench::new().unpack(&honest).is_ok());
}

#[test]
fn descriptors_that_lie_are_refused() {
    for at in [4, 8, 12] {
        let mut bad = file("a").streamed(true, false);
        bad.after[at] ^= 1;
        refuses_entry(bad, "header-mismatch");
    }
    let mut none = file("a").streamed(true, false);
    none.after.clear();
    refuses_entry(none, "header-mismatch");
    let mut longer = file("a").streamed(true, false);
    longer.after.extend(b"hidden bytes");
    refuses(zip([longer]), "unlisted-data", None);
    let early = file("a").streamed(true, false).local(|header| header.crc = 1);
    refuses_entry(early, "header-mismatch");
}

#[test]
fn overlapping_entries_are_refused() {
    // Two names for one piece of data.
    let mut shared = zip([file("a"), file("a")]);
    shared.entries[1].offset = Some(0);
    refuses(shared, "overlapping-entries", Some("a"));
    // An entry whose data is the rest of the file.
    let mut swallowing = zip([file("a"), file("b"), file("c")]);
    let rest = 2 * u32::try_from(30 + 1 + file("a").data.len()).unwrap();
    swallowing.entries[0] = swallowing.entries[0].clone().both(|header| {
        header.method = 0;
        header.zipped += rest;
        header.unzipped = header.zipped;
    });
    refuses(swallowing, "overlapping-entries", Some("a"));
    // Data that runs into the list.
    let mut last = zip([file("a")]);
    last.entries[0] = last.entries[0].clone().both(|header| header.zipped += 1);
    refuses(last, "overlapping-entries", Some("a"));
    // A header inside the list, and one nowhere.
    let list = 2 + u32::try_from(30 + 1 + file("a").data.len()).unwrap();
    for (offset, rule) in [(list, "overlapping-entries"), (u32::MAX - 1, "truncated")] {
        let mut astray = Zip { prefix: b"#!".to_vec(), ..zip([file("a")]) };
        astray.entries[0].offset = Some(offset);
        refuses(astray, rule, Some("a"));
    }
    let mut off_by_one = zip([file("a")]);
    off_by_one.entries[0].offset = Some(1);
    Bench::new().refuses(&off_by_one.build(), "unlisted-data", None);
    let mut not_a_header = Zip { prefix: b"....".to_vec(), ..zip([file("a")]) };
    not_a_header.entries[0].offset = Some(2);
    refuses(not_a_header, "header-corrupt", Some("a"));
    refuses_entry(file("a").both(|header| header.extra = vec![1, 0, 9, 0, 0]), "header-corrupt");
}

#[test]
fn what_cannot_be_read_is_refused() {
    for flag in [1, 1 << 6, 1 << 13, 1 | 1 << 6] {
        refuses_entry(file("a").both(|header| header.flags = flag), "encrypted");
    }
    refuses_entry(file("a").both(|header| header.flags = 1 << 5), "patched-data");
    for method in [1, 6, 9, 12, 14, 93, 95, 98, 99] {
        refuses_entry(file("a").both(|header| header.method = method), "unsupported-method");
    }
}

#[test]
fn bytes_that_are_not_as_told_are_refused() {
    refuses_entry(file("a").both(|header| header.crc ^= 1), "crc-mismatch");
    refuses_entry(entry("a", REGULAR, 0, b"x").both(|header| header.crc ^= 1), "crc-mismatch");
    refuses_entry(link("a", "b").both(|header| header.crc ^= 1), "crc-mismatch");
    refuses_entry(file("a").both(|header| header.unzipped += 1), "size-mismatch");
    refuses_entry(file("a").both(|header| header.unzipped -= 1), "size-mismatch");
    refuses_entry(
        entry("a", REGULAR, 0, b"xy").both(|header| header.unzipped = 1),
        "size-mismatch",
    );
    // Bytes after the end of the deflate stream.
    let mut padded = file("a").both(|header| header.zipped += 1);
    padded.data.push(0);
    refuses_entry(padded, "size-mismatch");
    let mut cut = file("a").both(|header| header.zipped -= 1);
    cut.data.pop();
    refuses_entry(cut, "deflate-corrupt");
    let mut garbage = file("a");
    garbage.data.fill(0xff);
    refuses_entry(garbage, "deflate-corrupt");
    let mut full_directory = entry("d/", 0, 8, b"x").both(|header| header.unzipped = 0);
    full_directory.mode = 0o040_755;
    refuses(zip([full_directory]), "size-mismatch", Some("d"));
}

// ---------------------------------------------------------------------------------------------------------
// Costs.

#[test]
fn limits_hold() {
    let bench = Bench::new();
    let bytes = zip([file("a"), file("b"), file("c/d")]).build();
    let size = bytes.len() as u64;
    let exact = Limits { zipped_bytes: size, unzipped_bytes: 45, entries: 4, ..Limits::default() };
    for (limits, rule) in [
        (Limits { zipped_bytes: size - 1, ..exact.clone() }, "zipped-too-large"),
        (Limits { unzipped_bytes: 44, ..exact.clone() }, "unzipped-too-large"),
        (Limits { entries: 3, ..exact.clone() }, "too-many-entries"),
        (Limits { entries: 2, ..exact.clone() }, "too-many-entries"),
    ] {
        let error = bench.unpack_within(&bytes, &limits).unwrap_err();
        assert_eq!(error.rule_id(), Some(rule));
        let error = unpack(&bytes[..], size, &limits, &bench.store, &mut |_| {}).unwrap_err();
        assert_eq!(error.rule_id(), Some(rule));
    }
    assert_eq!(bench.unpack_within(&bytes, &exact).unwrap().unzipped_bytes, 45);
    assert_eq!(Limits::default().unzipped_bytes, AWS_UNZIPPED_BYTES);
}

#[test]
fn a_bomb_is_refused_by_what_comes_out() {
    let bench = Bench::new();
    let zeros = vec![0; 10_000_000];
    let limits = Limits { unzipped_bytes: 1_000_000, ..Limits::default() };
    // An honest bomb is refused by its header, before anything is written.
    bench.refuses_within(
        &zip([entry("bomb", REGULAR, 8, &zeros)]).build(),
        &limits,
        "unzipped-too-large",
        None,
    );
    // One that claims to be small is refused as soon as it is larger than claimed.
    let liar = entry("bomb", REGULAR, 8, &zeros).both(|header| header.unzipped = 1000);
    let mut written = 0;
    let liar = zip([liar]).build();
    let digest = Digest::of(&liar);
    let result = unpack_bytes(&liar, &digest, &limits, &bench.store, &mut |progress| {
        written = progress.bytes
    });
    assert_eq!(result.unwrap_err().rule_id(), Some("size-mismatch"));
    assert!(written <= 1000);
    bench.assert_clean();
    // Many small ones add up.
    let many = zip((0..11).map(|n| entry(format!("{n}"), REGULAR, 8, &zeros[..100_000]))).build();
    bench.refuses_within(&many, &limits, "unzipped-too-large", None);
}

#[test]
fn directories_that_only_paths_name_are_counted() {
    let bench = Bench::new();
    let deep = vec!["d"; 100].join("/");
    let bomb = zip((0..100).map(|n| file(format!("{n}/{deep}")))).build();
    let limits = Limits { entries: 1000, ..Limits::default() };
    let error = bench.unpack_within(&bomb, &limits).unwrap_err();
    assert_eq!(error.rule_id(), Some("too-many-entries"));
}

// ---------------------------------------------------------------------------------------------------------
// Many files, which several threads write.

/// 34,000 files in 3,003 directories, of 0 to 216 bytes and every hundredth of 40,000; a link to each hundredth.
fn many() -> Vec<Entry> {
    let mut entries = Vec::new();
    for n in 0..34_000_usize {
        let path = format!("lib{}/pkg{}/m{n}.py", n % 3, n % 1000);
        let size = if n % 100 == 0 { 40_000 } else { n % 217 };
        let body =
            format!("# {n}\n").into_bytes().into_iter().cycle().take(size).collect::<Vec<_>>();
        let mode = if n % 7 == 0 { EXECUTABLE } else { REGULAR };
        entries.push(entry(&path, mode, if n % 50 == 0 { 8 } else { 0 }, &body));
        if n % 100 == 0 {
            entries.push(link(&format!("{path}.l"), &format!("m{n}.py")));
        }
    }
    entries
}

#[test]
fn a_package_of_34_000_files_is_written_in_full() {
    let bench = Bench::new();
    let entries = many();
    let bytes = zip(entries).build();
    let mut reports = Vec::new();
    let digest = Digest::of(&bytes);
    let limits = Limits::default();
    let tree =
        unpack_bytes(&bytes, &digest, &limits, &bench.store, &mut |p| reports.push(p)).unwrap();
    let directories = 3 + 3000;
    assert_eq!(tree.entries, 34_000 + 340 + directories);
    let first = reports.first().unwrap();
    assert_eq!((first.entries, first.total_entries), (0, 34_340));
    let last = reports.last().unwrap();
    assert_eq!((last.entries, last.bytes), (34_340, tree.unzipped_bytes));
    assert!(reports.is_sorted_by_key(|report| report.entries));
    let found = listing(&tree);
    assert_eq!(found.len() as u64, tree.entries);
    for n in 0..34_000_usize {
        let path = format!("lib{}/pkg{}/m{n}.py", n % 3, n % 1000);
        let (mode, content) = &found[&path];
        assert_eq!(mode & 0o777, if n % 7 == 0 { 0o755 } else { 0o644 }, "{path}");
        assert_eq!(content.len(), if n % 100 == 0 { 40_000 } else { n % 217 }, "{path}");
        let line = format!("# {n}\n");
        assert!(content.iter().eq(line.as_bytes().iter().cycle().take(content.len())), "{path}");
    }
    let total: u64 = found
        .values()
        .filter(|(mode, _)| mode & 0o170_000 != 0o040_000)
        .map(|(_, c)| c.len() as u64)
        .sum();
    assert_eq!(total, tree.unzipped_bytes);
    bench.assert_clean();
    // The same bytes again are found.
    assert_eq!(bench.unpack(&bytes).unwrap(), tree);
}

#[test]
fn a_large_directory_is_copied_to_the_last_byte() {
    let bench = Bench::new();
    let body = |n: usize| vec![u8::try_from(n % 251).unwrap(); n * 1100];
    let files = (0..200).map(|n| entry(format!("d{}/{n}", n % 3), REGULAR, 0, &body(n)));
    let tree = bench.unpack(&zip(files.chain([link("l", "d0/3")])).build()).unwrap();
    let limits = Limits::default();
    let copy = copy_directory(&tree.path, &limits, &bench.store, &mut |_| {}).unwrap();
    assert!(listing(&copy) == listing(&tree));
    assert_eq!((copy.entries, copy.unzipped_bytes), (tree.entries, tree.unzipped_bytes));
    bench.assert_clean();
    // One file of many that is replaced after the walk.
    let source = tempfile::tempdir().unwrap();
    for n in 0..200 {
        fs::write(source.path().join(n.to_string()), body(n)).unwrap();
    }
    let mut change = |progress: Progress| {
        if progress.entries == 0 {
            fs::write(source.path().join("150"), vec![0; 3_000_000]).unwrap();
        }
    };
    let error = copy_directory(source.path(), &limits, &bench.store, &mut change).unwrap_err();
    assert_eq!(error.rule_id(), Some("changed-while-read"));
    assert_eq!(error.entry_name().map(|name| name.as_str()), Some("150"));
    bench.assert_clean();
}

#[test]
fn of_many_faults_the_first_in_order_is_told() {
    for faults in [&[700, 20, 1999][..], &[1999, 1998], &[33, 31, 64], &[0, 1500]] {
        let mut entries: Vec<Entry> = (0..2000).map(|n| file(format!("d/{n:04}"))).collect();
        for &at in faults {
            entries[at] = entries[at].clone().both(|header| header.crc ^= 1);
        }
        let first = format!("d/{:04}", faults.iter().min().unwrap());
        let bytes = zip(entries).build();
        for _ in 0..5 {
            Bench::new().refuses(&bytes, "crc-mismatch", Some(&first));
        }
    }
}

#[test]
fn a_store_for_single_use_gives_names_by_chance() {
    let outside = tempfile::tempdir().unwrap();
    let store = TreeStore::open_single_use(outside.path().join("code")).unwrap();
    let bytes = zip([file("a"), file("b/c")]).build();
    let limits = Limits::default();
    let size = bytes.len() as u64;
    let first = unpack(&bytes[..], size, &limits, &store, &mut |_| {}).unwrap();
    let second = unpack(&bytes[..], size, &limits, &store, &mut |_| {}).unwrap();
    let third = copy_directory(&first.path, &limits, &store, &mut |_| {}).unwrap();
    for (tree, other) in [(&first, &second), (&second, &third), (&third, &first)] {
        assert_ne!(tree.digest, other.digest);
        assert_eq!(listing(tree), listing(other));
    }
    assert_eq!(store.digests().unwrap().len(), 3);
}

// ---------------------------------------------------------------------------------------------------------
// The index.

#[test]
fn the_index_finds_and_reads() {
    let bench = Bench::new();
    let tree = bench
        .unpack(
            &zip([
                file("app.py"),
                entry("run", EXECUTABLE, 0, b"\x7fELF..."),
                file("lib/x.py"),
                file("lib/deep/y.py"),
                link("alias", "lib/x.py"),
                link("lib/up", "../app.py"),
                link("loop", "loop"),
            ])
            .build(),
        )
        .unwrap();
    let index = tree.index().unwrap();
    let paths = |depth, suffix: &str| -> Vec<String> {
        let found = index.matching(depth, |entry| entry.path.ends_with(suffix)).unwrap();
        found.into_iter().map(|entry| entry.path).collect()
    };
    assert_eq!(paths(1, ".py"), ["app.py"]);
    assert_eq!(paths(2, ".py"), ["app.py", "lib/x.py"]);
    assert_eq!(paths(usize::MAX, ".py"), ["app.py", "lib/deep/y.py", "lib/x.py"]);
    assert_eq!(paths(0, ""), [""; 0]);
    let run = index.matching(1, |entry| entry.name() == "run").unwrap();
    assert_eq!(run[0].kind, IndexKind::File { executable: true });
    assert_eq!(run[0].bytes, 7);
    assert_eq!(index.read_start("run", 4).unwrap().as_deref(), Some(&b"\x7fELF"[..]));
    assert_eq!(index.read_start("alias", 5).unwrap().as_deref(), Some(&b"print"[..]));
    assert_eq!(index.read_start("lib/up", 5).unwrap().as_deref(), Some(&b"print"[..]));
    for absent in [
        "nothing",
        "lib",
        "loop",
        "app.py/x",
        "../../../victim/file",
        "/etc/passwd",
        "lib/../../x",
        "",
        "a\0",
    ] {
        assert_eq!(index.read_start(absent, 10).unwrap(), None, "{absent:?}");
    }
}

// ---------------------------------------------------------------------------------------------------------
// Directories as packages.

fn source() -> TempDir {
    let source = tempfile::tempdir().unwrap();
    let root = source.path();
    fs::create_dir_all(root.join("lib/empty")).unwrap();
    fs::write(root.join("app.py"), "hello").unwrap();
    fs::write(root.join("lib/tool"), vec![9; 200_000]).unwrap();
    fs::set_permissions(root.join("lib/tool"), fs::Permissions::from_mode(0o700)).unwrap();
    std::os::unix::fs::symlink("../app.py", root.join("lib/up")).unwrap();
    source
}

#[test]
fn a_directory_is_copied() {
    let bench = Bench::new();
    let copy = |path: &Path| copy_directory(path, &Limits::default(), &bench.store, &mut |_| {});
    let source = source();
    let tree = copy(source.path()).unwrap();
    let expected: BTreeMap<String, (u32, Vec<u8>)> = [
        ("app.py", 0o100_644, b"hello".to_vec()),
        ("lib", 0o040_755, vec![]),
        ("lib/empty", 0o040_755, vec![]),
        ("lib/tool", 0o100_755, vec![9; 200_000]),
        ("lib/up", 0o120_777, b"../app.py".to_vec()),
    ]
    .map(|(path, mode, content)| (path.to_owned(), (mode, content)))
    .into();
    assert_eq!(listing(&tree), expected);
    assert_eq!((tree.entries, tree.unzipped_bytes), (5, 200_014));
    bench.assert_clean();

    // The same content has the same digest, whatever its times and its owner's bits are.
    fs::set_permissions(source.path().join("app.py"), fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(copy(source.path()).unwrap(), tree);
    // Any difference in what is copied has another.
    let mut digests = vec![tree.digest];
    fs::set_permissions(source.path().join("app.py"), fs::Permissions::from_mode(0o755)).unwrap();
    digests.push(copy(source.path()).unwrap().digest);
    fs::write(source.path().join("app.py"), "hullo").unwrap();
    digests.push(copy(source.path()).unwrap().digest);
    fs::rename(source.path().join("app.py"), source.path().join("app.pz")).unwrap();
    digests.push(copy(source.path()).unwrap().digest);
    fs::remove_dir(source.path().join("lib/empty")).unwrap();
    digests.push(copy(source.path()).unwrap().digest);
    digests.sort();
    digests.dedup();
    assert_eq!(digests.len(), 5);
    bench.assert_clean();
}

#[test]
fn the_digest_of_a_directory_is_as_documented() {
    let bench = Bench::new();
    let source = tempfile::tempdir().unwrap();
    fs::create_dir(source.path().join("d")).unwrap();
    fs::write(source.path().join("d/f"), "x").unwrap();
    let tree =
        copy_directory(source.path(), &Limits::default(), &bench.store, &mut |_| {}).unwrap();
    let list =
        format!("kennel directory 1\nd 0 {} d\nf 1 {} d/f\n", Digest::of(b""), Digest::of(b"x"));
    assert_eq!(tree.digest, Digest::of(list.as_bytes()));
}

#[test]
fn bad_directories_are_refused() {
    let bench = Bench::new();
    let rule = |source: &Path, limits: &Limits| {
        copy_directory(source, limits, &bench.store, &mut |_| {}).unwrap_err().rule_id()
    };
    let refuses = |source: &TempDir, limits: &Limits, rule: &str, entry: Option<&str>| {
        let error =
            copy_directory(source.path(), limits, &bench.store, &mut |_| {}).expect_err(rule);
        assert_eq!(error.rule_id(), Some(rule), "{error}");
        assert_eq!(error.entry_name().map(|name| name.as_str()), entry, "{error}");
        assert_eq!(bench.store.digests().unwrap(), []);
        bench.assert_clean();
    };
    let limits = Limits::default();
    let symlink = |target: &str| {
        let source = source();
        std::os::unix::fs::symlink(target, source.path().join("lib/l")).unwrap();
        source
    };
    refuses(&symlink("/etc/passwd"), &limits, "symlink-absolute", Some("lib/l"));
    refuses(&symlink("../../x"), &limits, "symlink-leaves-tree", Some("lib/l"));
    refuses(&symlink("a/../b"), &limits, "symlink-target", Some("lib/l"));
    let with = |name: &str| {
        let source = source();
        fs::write(source.path().join(name), "x").unwrap();
        source
    };
    refuses(&with("a\nb"), &limits, "name-control", Some("a\\nb"));
    refuses(&with("a\\b"), &limits, "backslash", Some("a\\\\b"));
    // Whichever of the two the disk lists second is at fault.
    assert_eq!(rule(with("APP.py").path(), &limits), Some("case-collision"));
    let socket = source();
    let _listener = std::os::unix::net::UnixListener::bind(socket.path().join("s")).unwrap();
    refuses(&socket, &limits, "special-file", Some("s"));
    let pipe = source();
    nix::unistd::mkfifo(&pipe.path().join("p"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    refuses(&pipe, &limits, "special-file", Some("p"));
    refuses(&tempfile::tempdir().unwrap(), &limits, "no-entries", None);
    assert_eq!(
        rule(source().path(), &Limits { entries: 4, ..limits.clone() }),
        Some("too-many-entries")
    );
    refuses(
        &source(),
        &Limits { unzipped_bytes: 200_013, ..limits.clone() },
        "unzipped-too-large",
        None,
    );
    assert_eq!(rule(bench.outside.path(), &limits), Some("holds-store"));
    assert_eq!(rule(bench.store.dir(), &limits), Some("holds-store"));
    let error =
        copy_directory(Path::new("/nonexistent"), &limits, &bench.store, &mut |_| {}).unwrap_err();
    assert!(!error.is_refusal());
}

#[test]
fn a_directory_that_changes_meanwhile_is_refused() {
    let bench = Bench::new();
    for change in [
        (|path| fs::write(path, "longer than before").unwrap()) as fn(&Path),
        |path| fs::remove_file(path).unwrap(),
        |path| {
            fs::remove_file(path).unwrap();
            std::os::unix::fs::symlink("/etc/passwd", path).unwrap();
        },
        |path| {
            fs::remove_file(path).unwrap();
            nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        },
    ] {
        let source = source();
        // The first report comes after the walk and before anything is read.
        let mut report = |progress: Progress| {
            if progress.entries == 0 {
                change(&source.path().join("app.py"));
            }
        };
        let error = copy_directory(source.path(), &Limits::default(), &bench.store, &mut report)
            .unwrap_err();
        assert_eq!(error.rule_id(), Some("changed-while-read"), "{error}");
        bench.assert_clean();
    }
}

// ---------------------------------------------------------------------------------------------------------
// Crashes and neighbours.

const CHILD: &str = "KENNEL_TEST_PACKAGE_CHILD";

/// Not a test: what the tests below start as a process of its own.
#[test]
fn child() {
    let Ok(dir) = std::env::var(CHILD) else { return };
    let store = TreeStore::open_scratch(dir).unwrap();
    let bytes = zip((0..10).map(|n| file(format!("d/{n}")))).build();
    let digest = Digest::of(&bytes);
    let result = unpack_bytes(&bytes, &digest, &Limits::default(), &store, &mut |progress| {
        if progress.entries == 5 {
            println!("half-way");
            std::io::stdout().flush().unwrap();
            let mut word = String::new();
            std::io::stdin().read_line(&mut word).unwrap();
            if word != "go on\n" {
                std::process::abort();
            }
        }
    });
    println!("done {}", result.unwrap().digest);
}

fn start_child(dir: &Path) -> (std::process::Child, BufReader<std::process::ChildStdout>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["child", "--exact", "--nocapture", "--test-threads=1"])
        .env(CHILD, dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    while !line.contains("half-way") {
        line.clear();
        assert_ne!(out.read_line(&mut line).unwrap(), 0, "the child ended early");
    }
    (child, out)
}

#[test]
fn a_crash_leaves_nothing_half_made() {
    let bench = Bench::new();
    let (mut child, _out) = start_child(bench.store.dir());
    let tmp = bench.store.dir().join("tmp");
    assert_eq!(names(&tmp).len(), 1);
    child.stdin.take().unwrap().write_all(b"crash\n").unwrap();
    assert!(!child.wait().unwrap().success());
    // Its work is still there, but not as a tree, and the next to come clears it away.
    assert_eq!(names(&tmp).len(), 1);
    assert_eq!(bench.store.digests().unwrap(), []);
    let store = TreeStore::open(bench.store.dir()).unwrap();
    bench.assert_clean();
    let bytes = zip((0..10).map(|n| file(format!("d/{n}")))).build();
    let tree =
        unpack_bytes(&bytes, &Digest::of(&bytes), &Limits::default(), &store, &mut |_| {}).unwrap();
    assert_eq!(tree.entries, 11);
}

#[test]
fn a_living_neighbour_is_left_alone() {
    let bench = Bench::new();
    let (mut child, mut out) = start_child(bench.store.dir());
    let tmp = bench.store.dir().join("tmp");
    let working = names(&tmp);
    assert_eq!(working.len(), 1);
    TreeStore::open(bench.store.dir()).unwrap();
    assert_eq!(names(&tmp), working, "swept under its writer's hands");
    child.stdin.take().unwrap().write_all(b"go on\n").unwrap();
    let mut rest = String::new();
    out.read_to_string(&mut rest).unwrap();
    assert!(child.wait().unwrap().success());
    let digest: Digest = rest.split("done ").nth(1).unwrap()[..64].parse().unwrap();
    assert_eq!(bench.store.get(&digest).unwrap().unwrap().entries, 11);
    bench.assert_clean();
}

#[test]
fn many_at_once_share_one_tree() {
    let bench = Bench::new();
    let bytes = zip((0..50).map(|n| file(format!("d{}/{n}", n % 5)))).build();
    let start = Barrier::new(6);
    let trees: Vec<Tree> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..6)
            .map(|_| {
                scope.spawn(|| {
                    start.wait();
                    let store = TreeStore::open_scratch(bench.store.dir()).unwrap();
                    unpack_bytes(
                        &bytes,
                        &Digest::of(&bytes),
                        &Limits::default(),
                        &store,
                        &mut |_| {},
                    )
                    .unwrap()
                })
            })
            .collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).collect()
    });
    assert!(trees.iter().all(|tree| *tree == trees[0]));
    assert_eq!(listing(&trees[0]).len(), 55);
    bench.assert_clean();
}

#[test]
fn folders_are_closed_to_strangers() {
    let bench = Bench::new();
    for (folder, mode) in [("", 0o711), ("sha256", 0o711), ("meta", 0o700), ("tmp", 0o700)] {
        let found = fs::metadata(bench.store.dir().join(folder)).unwrap().mode() & 0o777;
        assert_eq!(found, mode, "{folder}");
    }
}

// ---------------------------------------------------------------------------------------------------------
// At random, with seeds, so that a failure comes again.

struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % end as u64).unwrap()
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}

/// Packages for each test at random; a longer run sets the variable.
fn seeds() -> u64 {
    std::env::var("KENNEL_FUZZ_SEEDS").map_or(4000, |seeds| seeds.parse().unwrap())
}

/// Whatever a package was, an accepted one is a tree that nothing leads out of.
fn assert_tame(tree: &Tree) {
    let root = tree.path.canonicalize().unwrap();
    for (path, (mode, _)) in listing(tree) {
        assert_eq!(
            mode & 0o7022 & !(if mode & 0o170_000 == 0o120_000 { 0o777 } else { 0 }),
            0,
            "{path}: {mode:o}"
        );
        if let Ok(real) = tree.path.join(&path).canonicalize() {
            assert!(real.starts_with(&root), "{path} leads to {}", real.display());
        }
    }
}

fn small() -> Limits {
    Limits { zipped_bytes: 100_000, unzipped_bytes: 200_000, entries: 50, ..Limits::default() }
}

#[test]
fn mutated_packages_do_no_harm() {
    let bases = [
        zip([
            file("a.py"),
            entry("d/", 0o040_755, 0, b""),
            entry("d/b", EXECUTABLE, 0, b"stored"),
            link("d/l", "b"),
        ]),
        zip([
            file("a").streamed(true, false),
            link("b", "a").streamed(false, false),
            file("c/d").streamed(true, true),
        ]),
        Zip {
            zip64: Some(|_| {}),
            comment: b"comment".to_vec(),
            ..zip([file("a"), file("bb/cc"), entry("e", 0, 8, &[1; 5000])])
        },
    ]
    .map(|zip| zip.build());
    let bench = Bench::new();
    let (mut accepted, mut refused) = (0, 0);
    for seed in 0..seeds() {
        let mut random = Random(seed);
        let mut bytes = random.pick(&bases).clone();
        for _ in 0..1 + random.below(3) {
            let at = random.below(bytes.len());
            match random.below(7) {
                0 => bytes[at] ^= 1 << random.below(8),
                1 => bytes[at] = *random.pick(&[0, 1, 0xff, b'.', b'/', b'P', 0x7f, 0x80]),
                2 => {
                    let end = bytes.len().min(at + *random.pick(&[2, 4, 8]));
                    let value = *random.pick(&[0, 0xff]);
                    bytes[at..end].fill(value);
                }
                3 => bytes.truncate(at.max(1)),
                4 => {
                    let end = at + random.below((bytes.len() - at).min(80));
                    let piece = bytes[at..end].to_vec();
                    let to = random.below(bytes.len());
                    bytes.splice(to..to, piece);
                }
                5 => {
                    let end = at + random.below((bytes.len() - at).min(80));
                    bytes.drain(at..end);
                }
                _ => {
                    let other = random.below(bytes.len());
                    bytes.swap(at, other);
                }
            }
            if bytes.is_empty() {
                break;
            }
        }
        match bench.unpack_within(&bytes, &small()) {
            Ok(tree) => {
                accepted += 1;
                assert_tame(&tree);
                assert_same_as_independent_reader(&bytes, &tree, &format!("seed {seed}"));
                bench.store.remove(&tree.digest).unwrap();
            }
            Err(error) => {
                refused += 1;
                assert!(error.is_refusal(), "seed {seed}: {error:?}");
            }
        }
    }
    assert!(
        accepted > 100 && refused > 3000,
        "{accepted} accepted, {refused} refused: not a fair sample"
    );
}

#[test]
fn invented_packages_do_no_harm() {
    let names = [
        "a", "b", "A", "a/", "a/b", "a/c", "a/b/c", "b/a", "b/", "../x", "/x", "x/../y", "l",
        "l/x", "l/y/z", "d/l",
    ];
    let targets = [
        "a",
        "b",
        "..",
        "../..",
        "a/b",
        "l",
        "../a",
        "../l",
        "./b",
        "/a",
        "a/..",
        "l/..",
        "../../victim",
    ];
    let bench = Bench::new();
    let (mut accepted, mut refused) = (0, 0);
    for seed in 0..seeds() {
        let mut random = Random(seed ^ 0xabcd_0000);
        let mut entries = Vec::new();
        for _ in 0..1 + random.below(4) {
            let name = *random.pick(&names);
            let mut made = match random.below(5) {
                0 | 1 => link(name, targets[random.below(targets.len())]),
                _ if name.ends_with('/') => entry(name, 0o040_755, 0, b""),
                _ => file(name),
            };
            match random.below(20) {
                0 => made.local.name = random.pick(&names).as_bytes().to_vec(),
                1 => made.mode = u32::try_from(random.below(0x1_0000)).unwrap(),
                2 => made.offset = Some(u32::try_from(random.below(200)).unwrap()),
                3 => made = made.streamed(random.below(2) == 0, random.below(2) == 0),
                4 => made.central.zipped = u32::try_from(random.below(100)).unwrap(),
                _ => {}
            }
            entries.push(made);
        }
        let bytes = zip(entries).build();
        match bench.unpack_within(&bytes, &small()) {
            Ok(tree) => {
                accepted += 1;
                assert_tame(&tree);
                assert_same_as_independent_reader(&bytes, &tree, &format!("seed {seed}"));
                bench.store.remove(&tree.digest).unwrap();
            }
            Err(error) => {
                refused += 1;
                assert!(error.is_refusal(), "seed {seed}: {error:?}");
            }
        }
    }
    assert!(
        accepted > 500 && refused > 1000,
        "{accepted} accepted, {refused} refused: not a fair sample"
    );
}

// ---------------------------------------------------------------------------------------------------------
// The documentation.

#[test]
fn every_rule_is_tested_and_documented() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: &str| fs::read_to_string(root.join(path)).unwrap();
    let (source, tests, page) =
        (read("src/package/error.rs"), read("tests/package.rs"), read("docs/package.md"));
    let rules: Vec<&str> = source
        .lines()
        .filter_map(|line| {
            line.trim().strip_prefix("Self::")?.split_once("=> \"")?.1.strip_suffix("\",")
        })
        .collect();
    assert!(rules.len() > 40);
    for rule in rules {
        assert!(tests.contains(&format!("\"{rule}\"")), "`{rule}` has no test");
        assert!(page.contains(&format!("`{rule}`")), "`{rule}` is not in docs/package.md");
    }
}
