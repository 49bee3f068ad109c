//! What taking and restoring a program's image needs: ptrace(2), personality(2), sealed memory files, and the machine
//! code that restores.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use super::check;

/// Whether this build has the machine code that restores an image.
pub const IS_SUPPORTED: bool = cfg!(target_arch = "x86_64");
/// The descriptor at which an image's program finds the image. Below `RLIMIT_NOFILE`, above all that is in use.
pub const IMAGE_FD: RawFd = 1000;

/// The machine code that an image begins with. It needs no stack, and knows only what follows it:
///
/// | at | |
/// | --- | --- |
/// | 0 | how many system calls |
/// | 8 | rbx, rbp, r12, r13, r14, r15, rsp of the program |
/// | 64 | where it goes on: at a `syscall` instruction of the program, which then is munmap(2) … |
/// | 72 | … of this memory: address and length |
/// | 88 | the system calls, eight words each |
///
/// The words of a call: number in the low half; above it bit 0, "the first argument is relative to the vdso", bit 1,
/// "ends the process unless the result is the one wanted", and from bit 8 on the status with which; six arguments; the
/// result.
#[cfg(target_arch = "x86_64")]
pub fn restorer() -> &'static [u8] {
    unsafe extern "C" {
        static kennel_restorer: u8;
        static kennel_restorer_end: u8;
    }
    let (first, end) = (&raw const kennel_restorer, &raw const kennel_restorer_end);
    // SAFETY: both symbols are of the block below, in this order, whose bytes nobody writes.
    unsafe { std::slice::from_raw_parts(first, end.addr() - first.addr()) }
}

#[cfg(not(target_arch = "x86_64"))]
pub fn restorer() -> &'static [u8] {
    &[]
}

#[cfg(target_arch = "x86_64")]
std::arch::global_asm!(
    ".pushsection .rodata.kennel_restorer, \"a\"",
    ".balign 8",
    ".globl kennel_restorer",
    ".globl kennel_restorer_end",
    "kennel_restorer:",
    // The stack as execve left it: argc, argv, 0, envp, 0, auxv. There AT_SYSINFO_EHDR (33) is the vdso's address.
    "mov rcx, [rsp]",
    "lea rsi, [rsp + rcx*8 + 16]",
    "2: mov rax, [rsi]",
    "add rsi, 8",
    "test rax, rax",
    "jnz 2b",
    "xor r12d, r12d",
    "3: mov rax, [rsi]",
    "test rax, rax",
    "jz 5f",
    "cmp rax, 33",
    "je 4f",
    "add rsi, 16",
    "jmp 3b",
    "4: mov r12, [rsi + 8]",
    "5: lea rbx, [rip + kennel_restorer_end + 88]",
    "mov rbp, [rip + kennel_restorer_end]",
    // Each system call in turn.
    "6: test rbp, rbp",
    "jz 9f",
    "mov rax, [rbx]",
    "mov r13, rax",
    "shr r13, 32",
    "mov eax, eax",
    "mov rdi, [rbx + 8]",
    "mov rsi, [rbx + 16]",
    "mov rdx, [rbx + 24]",
    "mov r10, [rbx + 32]",
    "mov r8, [rbx + 40]",
    "mov r9, [rbx + 48]",
    "test r13d, 1",
    "jz 7f",
    "add rdi, r12",
    "7: syscall",
    "test r13d, 2",
    "jz 8f",
    "cmp rax, [rbx + 56]",
    "jne 10f",
    "8: add rbx, 64",
    "dec rbp",
    "jmp 6b",
    // exit_group
    "10: mov rdi, r13",
    "shr rdi, 8",
    "mov eax, 231",
    "syscall",
    "ud2",
    // The program's registers; its own `syscall` instruction takes this memory away.
    "9: mov rbx, [rip + kennel_restorer_end + 8]",
    "mov rbp, [rip + kennel_restorer_end + 16]",
    "mov r12, [rip + kennel_restorer_end + 24]",
    "mov r13, [rip + kennel_restorer_end + 32]",
    "mov r14, [rip + kennel_restorer_end + 40]",
    "mov r15, [rip + kennel_restorer_end + 48]",
    "mov rsp, [rip + kennel_restorer_end + 56]",
    "mov rdi, [rip + kennel_restorer_end + 72]",
    "mov rsi, [rip + kennel_restorer_end + 80]",
    "mov eax, 11",
    "jmp qword ptr [rip + kennel_restorer_end + 64]",
    ".balign 8",
    "kennel_restorer_end:",
    ".popsection",
);

/// What a stopped program's registers hold, as far as an image needs them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Registers {
    pub rbx: u64,
    pub rbp: u64,
    pub r12: u64,
    pub r13: u64,
    pub r14: u64,
    pub r15: u64,
    pub rsp: u64,
    pub rip: u64,
    pub rax: u64,
    pub rdi: u64,
    pub rsi: u64,
    /// The number of the system call that it is in, or was in last.
    pub orig_rax: u64,
    pub fs_base: u64,
    pub gs_base: u64,
    /// Control word of the x87 unit, and MXCSR.
    pub float_control: (u16, u32),
}

/// Restartable sequences, as registered. Source: `linux/ptrace.h`, `struct ptrace_rseq_configuration`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rseq {
    pub address: u64,
    pub size: u32,
    pub signature: u32,
    pub flags: u32,
    pad: u32,
}

/// A process that this one traces. It dies when this value's process does.
#[derive(Debug)]
pub struct Traced(libc::pid_t);

impl Traced {
    /// Attaches to a process that is stopped by SIGSTOP, and waits until the kernel says so.
    ///
    /// # Errors
    /// ptrace(2)'s; `EBUSY` where it stopped for something else.
    pub fn seize_stopped(pid: libc::pid_t) -> io::Result<Self> {
        const PTRACE_EVENT_STOP: libc::c_int = 128;
        let options = libc::PTRACE_O_EXITKILL as libc::c_long;
        // SAFETY: PTRACE_SEIZE takes numbers only.
        let ret = unsafe { libc::ptrace(libc::PTRACE_SEIZE, pid, 0_usize, options) };
        check(ret)?;
        let traced = Self(pid);
        let mut status = 0;
        loop {
            // SAFETY: `status` is live and of the type wanted.
            let ret = unsafe { libc::waitpid(pid, &raw mut status, libc::__WALL) };
            match check(ret.into()) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other.map(drop),
            }
        }?;
        let is_stop = libc::WIFSTOPPED(status)
            && libc::WSTOPSIG(status) == libc::SIGSTOP
            && status >> 16 == PTRACE_EVENT_STOP;
        if is_stop { Ok(traced) } else { Err(io::Error::from_raw_os_error(libc::EBUSY)) }
    }

    /// # Errors
    /// ptrace(2)'s.
    #[cfg(target_arch = "x86_64")]
    pub fn registers(&self) -> io::Result<Registers> {
        let mut all = std::mem::MaybeUninit::<libc::user_regs_struct>::zeroed();
        let mut float = std::mem::MaybeUninit::<libc::user_fpregs_struct>::zeroed();
        // SAFETY: PTRACE_GETREGS writes one user_regs_struct, which `all` has room for.
        check(unsafe { libc::ptrace(libc::PTRACE_GETREGS, self.0, 0_usize, all.as_mut_ptr()) })?;
        // SAFETY: PTRACE_GETFPREGS writes one user_fpregs_struct, which `float` has room for.
        check(unsafe {
            libc::ptrace(libc::PTRACE_GETFPREGS, self.0, 0_usize, float.as_mut_ptr())
        })?;
        // SAFETY: zeroed at first, which is a valid value of integers, and filled in by the kernel.
        let all = unsafe { all.assume_init() };
        // SAFETY: as above.
        let float = unsafe { float.assume_init() };
        Ok(Registers {
            rbx: all.rbx,
            rbp: all.rbp,
            r12: all.r12,
            r13: all.r13,
            r14: all.r14,
            r15: all.r15,
            rsp: all.rsp,
            rip: all.rip,
            rax: all.rax,
            rdi: all.rdi,
            rsi: all.rsi,
            orig_rax: all.orig_rax,
            fs_base: all.fs_base,
            gs_base: all.gs_base,
            float_control: (float.cwd, float.mxcsr),
        })
    }

    #[cfg(not(target_arch = "x86_64"))]
    pub fn registers(&self) -> io::Result<Registers> {
        Err(io::Error::from_raw_os_error(libc::ENOSYS))
    }

    /// `None` where none are registered.
    ///
    /// # Errors
    /// ptrace(2)'s; `EIO` before Linux 5.13.
    pub fn rseq(&self) -> io::Result<Option<Rseq>> {
        const PTRACE_GET_RSEQ_CONFIGURATION: libc::c_long = 0x420f;
        let mut found = Rseq::default();
        let size = size_of::<Rseq>();
        // SAFETY: the kernel writes at most `size` bytes, which is that of `found`.
        let ret = unsafe {
            libc::syscall(
                libc::SYS_ptrace,
                PTRACE_GET_RSEQ_CONFIGURATION,
                self.0,
                size,
                &raw mut found,
            )
        };
        check(ret)?;
        Ok((found.address != 0).then_some(found))
    }

    /// Address and length of the list of robust futexes.
    ///
    /// # Errors
    /// get_robust_list(2)'s.
    pub fn robust_list(&self) -> io::Result<(u64, u64)> {
        let (mut head, mut length) = (0_usize, 0_usize);
        // SAFETY: both pointers are to live words.
        let ret = unsafe {
            libc::syscall(libc::SYS_get_robust_list, self.0, &raw mut head, &raw mut length)
        };
        check(ret)?;
        Ok((head as u64, length as u64))
    }
}

/// Eight bytes that nobody can guess.
///
/// Source: getrandom(2).
pub fn random_word() -> io::Result<u64> {
    let mut bytes = [0_u8; 8];
    // SAFETY: the kernel writes at most the 8 bytes that `bytes` has; so few it gives all or none.
    check(unsafe { libc::syscall(libc::SYS_getrandom, bytes.as_mut_ptr(), bytes.len(), 0) })?;
    Ok(u64::from_ne_bytes(bytes))
}

/// Sets how the next exec lays memory out: at random (`PER_LINUX`), or the same each time.
///
/// Source: personality(2), `ADDR_NO_RANDOMIZE`.
pub fn set_random_layout(random: bool) -> io::Result<()> {
    let persona = if random { 0 } else { libc::ADDR_NO_RANDOMIZE };
    // SAFETY: takes a number only.
    check(unsafe { libc::personality(persona.cast_unsigned().into()) }.into()).map(drop)
}

/// Makes an unnamed file in memory that can be sealed and executed. Closed by exec.
///
/// # Errors
/// memfd_create(2)'s; `EACCES` where the host forbids that any is executed (`vm.memfd_noexec`).
pub fn executable_memory_file(name: &std::ffi::CStr) -> io::Result<OwnedFd> {
    const MFD_EXEC: libc::c_uint = 0x10; // Linux 6.3; before, every one could be executed
    let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
    let create = |flags| {
        // SAFETY: a NUL-terminated name, read during the call.
        check(unsafe { libc::memfd_create(name.as_ptr(), flags) }.into())
    };
    let fd = match create(flags | MFD_EXEC) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => create(flags),
        other => other,
    }?;
    let fd = RawFd::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: a system call has just returned this new descriptor; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

const ALL_SEALS: libc::c_int =
    libc::F_SEAL_WRITE | libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL;

/// From here on nobody changes a memory file, whoever has it.
///
/// Source: fcntl(2), "File Sealing".
pub fn seal(file: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: takes numbers only.
    check(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, ALL_SEALS) }.into()).map(drop)
}

/// Whether [`seal`] was done.
pub fn is_sealed(file: BorrowedFd<'_>) -> bool {
    // SAFETY: takes numbers only.
    let seals = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GET_SEALS) };
    seals >= 0 && seals & ALL_SEALS == ALL_SEALS
}

/// Replaces the process image by the program in `file`, which finds it open as [`IMAGE_FD`]; returns only when that
/// failed.
///
/// Source: execveat(2), `AT_EMPTY_PATH`.
pub fn execute_image(
    file: BorrowedFd<'_>,
    argv: &[std::ffi::CString],
    envp: &[std::ffi::CString],
) -> io::Error {
    let null_terminated = |list: &[std::ffi::CString]| -> Vec<*const libc::c_char> {
        list.iter().map(|s| s.as_ptr()).chain([std::ptr::null()]).collect()
    };
    let (argv, envp) = (null_terminated(argv), null_terminated(envp));
    // SAFETY: takes numbers only; the number is nobody's, see its words.
    if let Err(error) = check(unsafe { libc::dup2(file.as_raw_fd(), IMAGE_FD) }.into()) {
        return error;
    }
    // SAFETY: NUL-terminated strings and null-terminated arrays of them, alive over the call.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            IMAGE_FD,
            c"".as_ptr(),
            argv.as_ptr(),
            envp.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    io::Error::last_os_error()
}
