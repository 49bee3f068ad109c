//! Pid 1 of a sandbox: reaps, and says how the program ended. Holds no secret; the kernel's out-of-memory killer takes
//! the program first.

use std::os::fd::OwnedFd;

use crate::sys::process::{self, ExitStatus};

/// Reaps until `program` ends, writes its status, and exits: the kernel then kills the rest of the namespace.
pub fn reap(program: libc::pid_t, status: &OwnedFd) -> ! {
    loop {
        match process::wait_any() {
            Ok((pid, ended)) if pid == program => {
                let _ = nix::unistd::write(status, &encode_status(ended));
                process::exit_now(0);
            }
            Ok(_) => {}
            Err(_) => process::exit_now(1),
        }
    }
}

fn encode_status(status: ExitStatus) -> [u8; 8] {
    let (kind, value): (i32, i32) = match status {
        ExitStatus::Exited(code) => (0, code),
        ExitStatus::Signaled(signal) => (1, signal),
    };
    let mut bytes = [0; 8];
    bytes[..4].copy_from_slice(&kind.to_ne_bytes());
    bytes[4..].copy_from_slice(&value.to_ne_bytes());
    bytes
}

pub fn decode_status(bytes: [u8; 8]) -> ExitStatus {
    let [a, b, c, d, e, f, g, h] = bytes;
    let value = i32::from_ne_bytes([e, f, g, h]);
    match i32::from_ne_bytes([a, b, c, d]) {
        0 => ExitStatus::Exited(value),
        _ => ExitStatus::Signaled(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_survives_the_pipe() {
        for status in [ExitStatus::Exited(0), ExitStatus::Exited(255), ExitStatus::Signaled(9)] {
            assert_eq!(decode_status(encode_status(status)), status);
        }
    }
}
