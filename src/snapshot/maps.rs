//! A process's mappings, as `/proc/PID/smaps` tells them, and which of them an image can hold.

use super::SnapshotError;

pub const PAGE_BYTES: usize = 4096;
pub const PAGE: u64 = PAGE_BYTES as u64;

/// What becomes of a mapping in an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Its bytes are kept.
    Content,
    /// The program's heap, which brk(2) goes on to move.
    Heap,
    /// The main thread's stack, which grows by itself.
    Stack,
    /// Nobody can read it: a guard.
    Guard,
    /// Memory that no copy of the process may have: it comes back empty.
    Wiped,
    /// The kernel's own: the vdso and its variables. Each process has them; they are moved.
    Kernel,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Area {
    pub start: u64,
    pub end: u64,
    /// As mmap(2) takes it.
    pub protection: u64,
    pub kind: Kind,
    pub is_vdso: bool,
}

impl Area {
    pub fn length(&self) -> u64 {
        self.end - self.start
    }

    pub fn is_executable(&self) -> bool {
        self.protection & libc::PROT_EXEC as u64 != 0
    }
}

/// Reads all of `/proc/PID/smaps`, in the order of addresses.
///
/// # Errors
/// A mapping that cannot be brought back as it is, by name.
pub fn parse(smaps: &str) -> Result<Vec<Area>, SnapshotError> {
    let mut areas = Vec::new();
    let mut head = "";
    for line in smaps.lines() {
        if line.as_bytes().first().is_some_and(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(b))
        {
            head = line;
        } else if let Some(flags) = line.strip_prefix("VmFlags:") {
            areas.extend(area(head, flags)?);
        }
    }
    Ok(areas)
}

fn area(head: &str, flags: &str) -> Result<Option<Area>, SnapshotError> {
    let refuse = |why| SnapshotError::Mapping { line: head.to_owned(), why };
    let malformed = || refuse("it cannot be read");
    let mut words = head.split_whitespace();
    let (range, permissions) = words.next().zip(words.next()).ok_or_else(malformed)?;
    let name = words.nth(3).unwrap_or_default();
    let (start, end) = range.split_once('-').ok_or_else(malformed)?;
    let number = |text| u64::from_str_radix(text, 16).map_err(|_| malformed());
    let (start, end) = (number(start)?, number(end)?);
    if name == "[vsyscall]" {
        return Ok(None); // at the same place in every process
    }
    let allows = |letter: char| permissions.contains(letter);
    let has = |flag: &str| flags.split_whitespace().any(|f| f == flag);
    let (read, write, execute) = (allows('r'), allows('w'), allows('x'));
    let protection =
        [(read, libc::PROT_READ), (write, libc::PROT_WRITE), (execute, libc::PROT_EXEC)]
            .into_iter()
            .filter(|(is, _)| *is)
            .fold(0, |all, (_, bit)| all | u64::from(bit.cast_unsigned()));
    let is_vdso = name == "[vdso]";
    let kind = if is_vdso || name.starts_with("[vvar") {
        Kind::Kernel
    } else if allows('s') && write {
        return Err(refuse("it is shared and can be written"));
    } else if has("wf") || has("dp") {
        Kind::Wiped
    } else if name == "[stack]" {
        Kind::Stack
    } else if name == "[heap]" {
        Kind::Heap
    } else if protection == 0 {
        Kind::Guard
    } else if !read {
        return Err(refuse("it cannot be read, but written or run"));
    } else {
        Kind::Content
    };
    for (flag, why) in [
        ("sl", "it is sealed"),
        ("ss", "it is a shadow stack"),
        ("ht", "it is of huge pages"),
        ("um", "its faults are another's"),
        ("uw", "its faults are another's"),
    ] {
        if has(flag) {
            return Err(refuse(why));
        }
    }
    if kind != Kind::Kernel && (has("io") || has("pf")) {
        return Err(refuse("it is a device's"));
    }
    if has("gd") != (kind == Kind::Stack) {
        return Err(refuse("only the main thread's stack grows downwards"));
    }
    Ok(Some(Area { start, end, protection, kind, is_vdso }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(head: &str, flags: &str) -> Result<Option<Kind>, String> {
        let text = format!("{head}\nSize: 4 kB\nVmFlags: {flags}\n");
        let areas = parse(&text).map_err(|error| error.to_string())?;
        Ok(areas.first().map(|area| area.kind))
    }

    #[test]
    fn each_mapping_has_its_kind_or_is_refused() {
        let line = |permissions: &str, name: &str| {
            format!("7f0000001000-7f0000003000 {permissions} 00000000 00:00 0    {name}")
        };
        for (permissions, name, flags, wanted) in [
            ("r-xp", "/usr/lib/libc.so.6", "rd ex mr mw me sd", Ok(Some(Kind::Content))),
            ("rw-p", "", "rd wr mr mw me ac sd", Ok(Some(Kind::Content))),
            ("r--s", "/usr/lib/gconv-modules.cache", "rd mr me sd", Ok(Some(Kind::Content))),
            ("rw-p", "[heap]", "rd wr mr mw me ac", Ok(Some(Kind::Heap))),
            ("rw-p", "[stack]", "rd wr mr mw me gd ac", Ok(Some(Kind::Stack))),
            ("---p", "/usr/lib/libc.so.6", "mr mw me", Ok(Some(Kind::Guard))),
            ("rw-p", "", "rd wr mr mw me wf dd dp", Ok(Some(Kind::Wiped))),
            ("r--p", "[vvar]", "rd mr pf io de dd", Ok(Some(Kind::Kernel))),
            ("r--p", "[vvar_vclock]", "rd mr pf io de dd", Ok(Some(Kind::Kernel))),
            ("r-xp", "[vdso]", "rd ex mr mw me de", Ok(Some(Kind::Kernel))),
            ("--xp", "[vsyscall]", "ex", Ok(None)),
            ("rw-s", "/dev/shm/x", "rd wr sh mr mw me ms", Err("it is shared and can be written")),
            ("--xp", "/usr/bin/x", "ex mr mw me", Err("it cannot be read, but written or run")),
            ("r-xp", "[vdso]", "rd ex mr mw me de sl", Err("it is sealed")),
            ("rw-p", "", "rd wr mr mw me ss", Err("it is a shadow stack")),
            ("rw-p", "", "rd wr mr mw me gd", Err("only the main thread's stack grows downwards")),
            ("r--p", "/dev/mem", "rd mr pf io", Err("it is a device's")),
        ] {
            let got = one(&line(permissions, name), flags);
            match wanted {
                Ok(kind) => assert_eq!(got, Ok(kind), "{permissions} {name}"),
                Err(why) => assert!(got.unwrap_err().ends_with(why), "{permissions} {name}: {why}"),
            }
        }
    }
}
