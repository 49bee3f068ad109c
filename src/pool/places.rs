//! How many sandboxes there can be at a time, by the descriptors of the server and of the launcher.

use nix::sys::resource::{Resource, getrlimit};

/// What a sandbox takes of either process: pidfd, status, log, listeners, connection, control files.
const OF_A_SANDBOX: u64 = 16;
/// For what is no sandbox: 1,024 connections, 256 open logs, the store, and sandboxes on their way out.
const RESERVE: u64 = 1536;
/// The launcher's own bound.
const MOST: u64 = 4096;

/// See the module's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Places {
    /// For functions.
    pub instances: usize,
    /// For those that wait for a function.
    pub waiting: usize,
}

impl Places {
    /// With the limit that this process may raise itself to, and hands on to the launcher.
    pub fn of_this_process() -> Self {
        // Where it cannot be read: the least that a kernel gives.
        Self::of(getrlimit(Resource::RLIMIT_NOFILE).map_or(4096, |(_, hard)| hard))
    }

    fn of(descriptors: u64) -> Self {
        let reserve = RESERVE.min(descriptors / 2);
        let all = ((descriptors - reserve) / OF_A_SANDBOX).min(MOST);
        let waiting = all / 8;
        let number = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
        // With no place at all there would be no server.
        Self { instances: number(all - waiting).max(1), waiting: number(waiting) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_are_enough_for_all_of_them() {
        for (descriptors, instances, waiting) in [
            (0, 1, 0),
            (256, 7, 1),
            (1024, 28, 4),
            (4096, 140, 20),
            (65_536, 3500, 500),
            (1 << 20, 3584, 512),
            (u64::MAX, 3584, 512),
        ] {
            assert_eq!(Places::of(descriptors), Places { instances, waiting }, "{descriptors}");
        }
    }
}
