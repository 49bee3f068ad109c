//! Installing a compiled seccomp filter.

use std::io;

use super::check;

/// One BPF instruction of a seccomp program: `struct sock_filter`, 8 bytes.
pub const INSTRUCTION_BYTES: usize = 8;

/// Installs `program` (packed `sock_filter`s) on the calling thread.
///
/// `no_new_privs` must be set. Filters stack: every one runs, the strictest verdict wins, and of equal
/// verdicts that of the filter installed last.
///
/// # Errors
/// `EINVAL` for a program the kernel does not take, `EACCES` without `no_new_privs`.
///
/// Source: seccomp(2).
pub fn install(program: &[u8]) -> io::Result<()> {
    let instructions: Vec<libc::sock_filter> = program
        .chunks_exact(INSTRUCTION_BYTES)
        .map(|c| libc::sock_filter {
            code: u16::from_ne_bytes([c[0], c[1]]),
            jt: c[2],
            jf: c[3],
            k: u32::from_ne_bytes([c[4], c[5], c[6], c[7]]),
        })
        .collect();
    let len = u16::try_from(instructions.len()).map_err(io::Error::other)?;
    let fprog = libc::sock_fprog { len, filter: instructions.as_ptr().cast_mut() };
    // SAFETY: `fprog` names `len` instructions that live over the call; the kernel copies and checks them.
    check(unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const fprog)
    })
    .map(drop)
}
