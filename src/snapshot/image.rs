//! The image's file: an ELF program of two segments, then pages.
//!
//! The first segment is the restorer with its table ([`sys::snapshot::restorer`]), at a place of its own; the second is
//! the heap, since the kernel takes the end of the highest segment for the program's break. All else the restorer maps
//! from the file.

use std::fs::File;
use std::os::unix::fs::FileExt;

use super::SnapshotError;
use super::maps::{Area, Kind, PAGE, PAGE_BYTES};
use crate::sys::snapshot::{IMAGE_FD, Registers, Rseq, restorer};

/// Where the restorer is: below every program, and above what the kernel keeps free.
const BASE: u64 = 0x20_0000;
/// Of the file, for headers, restorer and table.
const HEAD: u64 = 128 << 10;
/// A new program's stack is above this where the layout is not random; an image's must be below.
const NEW_STACK: u64 = 0x7fff_ffd0_0000;
/// So many pages of zeroes in a row are not kept.
const ZERO_RUN: usize = 16;
/// Of all that an image keeps.
pub const MAX_BYTES: u64 = 64 << 20;

/// The statuses with which a restorer ends, by what failed.
mod status {
    pub const PID: u64 = 121;
    pub const KERNEL: u64 = 122;
    pub const MEMORY: u64 = 123;
    pub const STATE: u64 = 124;
}

/// What is to come back, beside memory.
#[derive(Debug)]
pub struct State {
    pub registers: Registers,
    pub rseq: Option<Rseq>,
    pub robust_list: (u64, u64),
    /// Where the C library has the thread's id cleared at its end, where that is known.
    pub clear_tid: Option<u64>,
    pub stack_limit: (u64, u64),
    /// Its pid, and only thread's, inside its namespace.
    pub pid: u64,
    /// At most 15 bytes.
    pub name: Vec<u8>,
}

/// One system call of the restorer.
#[derive(Debug, Clone, Copy)]
struct Call {
    number: libc::c_long,
    arguments: [u64; 6],
    result: u64,
    status: u64,
    on_vdso: bool,
}

impl Call {
    fn words(&self) -> [u64; 8] {
        let flags = u64::from(self.on_vdso) | 2 | self.status << 8;
        let [a, b, c, d, e, f] = self.arguments;
        [self.number.cast_unsigned() | flags << 32, a, b, c, d, e, f, self.result]
    }
}

/// Writes the image of a process into an empty `file`: `areas` in the order of addresses, whose bytes `memory` gives by
/// address. How long it became.
///
/// # Errors
/// What cannot be brought back; an image that would be too large; the file's.
pub fn write(
    file: &File,
    memory: &File,
    areas: &[Area],
    state: &State,
) -> Result<u64, SnapshotError> {
    let mut image = Writer { file, memory, calls: Vec::new(), end: HEAD };
    let refuse = |why: &'static str| SnapshotError::Layout { why };
    let heap = areas.iter().rfind(|area| area.kind == Kind::Heap);
    let heap = heap.ok_or(refuse("the program has no heap"))?;
    if heap.start < BASE + HEAD {
        return Err(refuse("the heap is too low"));
    }
    let overlaps = |area: &Area| area.start < BASE + HEAD && area.end > BASE;
    if areas.iter().any(overlaps) {
        return Err(refuse("the place of the restorer is taken"));
    }
    // By chance alone, one time in thousands.
    if areas.iter().any(|area| area.end > NEW_STACK) {
        return Err(refuse("the stack lies where a new program's does"));
    }
    image.call(libc::SYS_getpid, [0; 6], state.pid, status::PID);
    let vdso = areas.iter().find(|area| area.is_vdso).ok_or(refuse("there is no vdso"))?.start;
    for area in areas.iter().filter(|area| area.kind == Kind::Kernel) {
        let flags = (libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED) as u64;
        let from = area.start.wrapping_sub(vdso);
        let arguments = [from, area.length(), area.length(), flags, area.start, 0];
        let (number, result) = (libc::SYS_mremap, area.start);
        let (status, on_vdso) = (status::KERNEL, true);
        image.calls.push(Call { number, arguments, result, status, on_vdso });
    }
    let mut heap_at = 0;
    for area in areas {
        match area.kind {
            Kind::Kernel => {}
            Kind::Heap if std::ptr::eq(area, heap) => {
                heap_at = image.end;
                let bytes = image.read(area.start, area.length())?;
                image.append(&bytes)?;
            }
            Kind::Content | Kind::Heap => image.content(area)?,
            Kind::Guard => image.map_empty(area.start, area.length(), 0, 0),
            Kind::Wiped => {
                image.map_empty(area.start, area.length(), area.protection, 0);
                let arguments = [area.start, area.length(), libc::MADV_WIPEONFORK as u64, 0, 0, 0];
                image.call(libc::SYS_madvise, arguments, 0, status::MEMORY);
            }
            Kind::Stack => image.stack(area, state.registers.rsp)?,
        }
    }
    image.state(state);
    image.head(state, heap, heap_at)?;
    Ok(image.end)
}

struct Writer<'a> {
    file: &'a File,
    memory: &'a File,
    calls: Vec<Call>,
    end: u64,
}

impl Writer<'_> {
    fn call(&mut self, number: libc::c_long, arguments: [u64; 6], result: u64, status: u64) {
        self.calls.push(Call { number, arguments, result, status, on_vdso: false });
    }

    fn read(&self, start: u64, length: u64) -> Result<Vec<u8>, SnapshotError> {
        if length > MAX_BYTES {
            return Err(SnapshotError::TooLarge);
        }
        let mut bytes = vec![0; usize::try_from(length).map_err(|_| SnapshotError::TooLarge)?];
        let read = self.memory.read_exact_at(&mut bytes, start);
        read.map_err(|source| SnapshotError::Memory { start, source })?;
        Ok(bytes)
    }

    /// Puts bytes at the end of the file; where they are.
    fn append(&mut self, bytes: &[u8]) -> Result<u64, SnapshotError> {
        let at = self.end;
        self.end += bytes.len() as u64;
        if self.end > MAX_BYTES {
            return Err(SnapshotError::TooLarge);
        }
        self.file.write_all_at(bytes, at).map_err(|source| SnapshotError::Write { source })?;
        Ok(at)
    }

    fn map_empty(&mut self, start: u64, length: u64, protection: u64, more: libc::c_int) {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE | more;
        let arguments = [start, length, protection, flags.cast_unsigned().into(), u64::MAX, 0];
        self.call(libc::SYS_mmap, arguments, start, status::MEMORY);
    }

    fn map_bytes(
        &mut self,
        start: u64,
        bytes: &[u8],
        protection: u64,
    ) -> Result<(), SnapshotError> {
        let at = self.append(bytes)?;
        let flags = (libc::MAP_PRIVATE | libc::MAP_FIXED_NOREPLACE) as u64;
        let arguments = [start, bytes.len() as u64, protection, flags, IMAGE_FD as u64, at];
        self.call(libc::SYS_mmap, arguments, start, status::MEMORY);
        Ok(())
    }

    /// Bytes from the file, and long runs of zeroes from nowhere.
    fn content(&mut self, area: &Area) -> Result<(), SnapshotError> {
        let bytes = self.read(area.start, area.length())?;
        if area.is_executable() {
            return self.map_bytes(area.start, &bytes, area.protection);
        }
        let mut start = area.start;
        for run in runs(&bytes) {
            if run.iter().all(|b| *b == 0) && run.len() >= ZERO_RUN * PAGE_BYTES {
                self.map_empty(start, run.len() as u64, area.protection, 0);
            } else {
                self.map_bytes(start, run, area.protection)?;
            }
            start += run.len() as u64;
        }
        Ok(())
    }

    /// Memory that grows as the first one did; of its bytes those in use.
    fn stack(&mut self, area: &Area, pointer: u64) -> Result<(), SnapshotError> {
        const RED_ZONE: u64 = 128;
        if !(area.start + RED_ZONE..area.end).contains(&pointer) || area.is_executable() {
            return Err(SnapshotError::Layout { why: "the stack is not the main thread's" });
        }
        self.map_empty(area.start, area.length(), area.protection, libc::MAP_GROWSDOWN);
        let start = (pointer - RED_ZONE) / PAGE * PAGE;
        let bytes = self.read(start, area.end - start)?;
        let at = self.append(&bytes)?;
        let length = bytes.len() as u64;
        let arguments = [IMAGE_FD as u64, start, length, at, 0, 0];
        self.call(libc::SYS_pread64, arguments, length, status::MEMORY);
        Ok(())
    }

    /// What the kernel knows of the thread and the process.
    fn state(&mut self, state: &State) {
        let mut call = |number, a: u64, b: u64, c: u64, d: u64, result| {
            self.call(number, [a, b, c, d, 0, 0], result, status::STATE);
        };
        const ARCH_SET_FS: u64 = 0x1002;
        const RLIMIT_STACK: u64 = 3; // which C libraries have in types of their own
        call(libc::SYS_arch_prctl, ARCH_SET_FS, state.registers.fs_base, 0, 0, 0);
        if let Some(address) = state.clear_tid {
            call(libc::SYS_set_tid_address, address, 0, 0, 0, state.pid);
        }
        let (head, length) = state.robust_list;
        if head != 0 {
            call(libc::SYS_set_robust_list, head, length, 0, 0, 0);
        }
        if let Some(rseq) = state.rseq {
            let (size, signature) = (rseq.size.into(), rseq.signature.into());
            call(libc::SYS_rseq, rseq.address, size, rseq.flags.into(), signature, 0);
        }
        // The words that these read stand at the end of the head.
        call(libc::SYS_prlimit64, 0, RLIMIT_STACK, BASE + LIMIT_AT, 0, 0);
        call(libc::SYS_prctl, libc::PR_SET_NAME as u64, BASE + NAME_AT, 0, 0, 0);
        // What the function starts is laid out at random again.
        call(libc::SYS_personality, 0, 0, 0, 0, libc::ADDR_NO_RANDOMIZE as u64);
        call(libc::SYS_close, IMAGE_FD as u64, 0, 0, 0, 0);
    }

    fn head(&mut self, state: &State, heap: &Area, heap_at: u64) -> Result<(), SnapshotError> {
        const CODE_AT: usize = 0x1000;
        /// Of an instruction `syscall`.
        const LENGTH: u64 = 2;
        let code = restorer();
        let mut head = vec![0; CODE_AT];
        head.extend_from_slice(code);
        let of = &state.registers;
        let registers = [of.rbx, of.rbp, of.r12, of.r13, of.r14, of.r15, of.rsp];
        let words = std::iter::once(self.calls.len() as u64)
            .chain(registers)
            .chain([of.rip - LENGTH, BASE, HEAD])
            .chain(self.calls.iter().flat_map(Call::words));
        head.extend(words.flat_map(u64::to_le_bytes));
        if head.len() as u64 > LIMIT_AT {
            return Err(SnapshotError::TooLarge);
        }
        let put = |head: &mut Vec<u8>, at: u64, bytes: &[u8]| {
            let at = usize::try_from(at).unwrap_or(usize::MAX);
            head.resize(head.len().max(at + bytes.len()), 0);
            head[at..at + bytes.len()].copy_from_slice(bytes);
        };
        let (soft, hard) = state.stack_limit;
        put(&mut head, 0, &elf(BASE + CODE_AT as u64, heap, heap_at));
        put(&mut head, LIMIT_AT, &soft.to_le_bytes());
        put(&mut head, LIMIT_AT + 8, &hard.to_le_bytes());
        put(&mut head, NAME_AT, &state.name);
        head.resize(usize::try_from(HEAD).unwrap_or(head.len()), 0);
        self.file.write_all_at(&head, 0).map_err(|source| SnapshotError::Write { source })
    }
}

/// In the head: two words for prlimit64, and the name.
const LIMIT_AT: u64 = HEAD - 64;
const NAME_AT: u64 = HEAD - 32;

/// Splits at the borders of long runs of zero pages.
fn runs(bytes: &[u8]) -> Vec<&[u8]> {
    let page = PAGE_BYTES;
    let is_zero: Vec<bool> = bytes.chunks(page).map(|p| p.iter().all(|b| *b == 0)).collect();
    let mut borders = Vec::new();
    let mut at = 0;
    for run in is_zero.chunk_by(|a, b| a == b) {
        if run[0] && run.len() >= ZERO_RUN {
            borders.extend([at, at + run.len()]);
        }
        at += run.len();
    }
    let mut parts = Vec::new();
    let mut from = 0;
    for to in borders.into_iter().map(|b| (b * page).min(bytes.len())).chain([bytes.len()]) {
        if to > from {
            parts.push(&bytes[from..to]);
        }
        from = to;
    }
    parts
}

/// The file's header and program headers. Source: elf(5).
fn elf(entry: u64, heap: &Area, heap_at: u64) -> Vec<u8> {
    const ET_EXEC: u64 = 2;
    const EM_X86_64: u64 = 62;
    const PT_LOAD: u64 = 1;
    const PT_GNU_STACK: u64 = 0x6474_e551;
    const R_X: u64 = 5;
    const RW_: u64 = 6;
    let mut out = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    let mut put = |size: usize, value: u64| out.extend_from_slice(&value.to_le_bytes()[..size]);
    for (size, value) in [(2, ET_EXEC), (2, EM_X86_64), (4, 1), (8, entry), (8, 64), (8, 0), (4, 0)]
    {
        put(size, value);
    }
    for value in [64, 56, 3, 64, 0, 0] {
        put(2, value);
    }
    for (kind, flags, at, address, length) in [
        (PT_LOAD, R_X, 0, BASE, HEAD),
        (PT_LOAD, RW_, heap_at, heap.start, heap.length()),
        (PT_GNU_STACK, RW_, 0, 0, 0),
    ] {
        put(4, kind);
        put(4, flags);
        for value in [at, address, address, length, length, PAGE] {
            put(8, value);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_long_runs_of_zeroes_are_left_out() {
        let page = PAGE_BYTES;
        let pages = |map: &str| -> Vec<u8> {
            map.bytes().flat_map(|b| vec![if b == b'0' { 0 } else { b }; page]).collect()
        };
        let long = "0".repeat(ZERO_RUN);
        for (map, wanted) in [
            ("a", vec![1]),
            ("a00a", vec![4]),
            (&long, vec![ZERO_RUN]),
            (&format!("a{long}b0"), vec![1, ZERO_RUN, 2]),
            (&format!("{long}0a"), vec![ZERO_RUN + 1, 1]),
        ] {
            let bytes = pages(map);
            let got: Vec<usize> = runs(&bytes).iter().map(|r| r.len() / page).collect();
            assert_eq!(got, wanted, "{map}");
            assert_eq!(runs(&bytes).concat(), bytes);
        }
    }

    #[test]
    fn a_program_that_cannot_come_back_is_refused() {
        let empty = tempfile::tempfile().unwrap();
        let area = |start: u64, kind| Area {
            start,
            end: start + PAGE,
            protection: 3,
            kind,
            is_vdso: false,
        };
        let state = State {
            registers: Registers::default(),
            rseq: None,
            robust_list: (0, 0),
            clear_tid: None,
            stack_limit: (0, 0),
            pid: 2,
            name: b"x".to_vec(),
        };
        for (areas, why) in [
            (vec![area(1 << 40, Kind::Guard)], "the program has no heap"),
            (vec![area(BASE, Kind::Heap)], "the heap is too low"),
            (
                vec![area(BASE + PAGE, Kind::Guard), area(1 << 40, Kind::Heap)],
                "the place of the restorer is taken",
            ),
            (
                vec![area(1 << 40, Kind::Heap), area(0x7fff_ffff_0000, Kind::Guard)],
                "the stack lies where a new program's does",
            ),
            (vec![area(1 << 40, Kind::Heap)], "there is no vdso"),
        ] {
            let error = write(&empty, &empty, &areas, &state).unwrap_err().to_string();
            assert!(error.ends_with(why), "{error}");
        }
    }
}
