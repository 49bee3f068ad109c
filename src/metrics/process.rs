//! What this process uses itself.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;

/// This process's records, opened while `/proc` may be.
#[derive(Debug, Default)]
pub(super) struct Process {
    statm: Option<File>,
    descriptors: Option<nix::dir::Dir>,
}

impl Process {
    pub(super) fn open() -> Self {
        let descriptors = File::open("/proc/self/fd").ok();
        Self {
            statm: File::open("/proc/self/statm").ok(),
            descriptors: descriptors
                .and_then(|file| nix::dir::Dir::from_fd(OwnedFd::from(file)).ok()),
        }
    }

    /// Resident bytes, open descriptors.
    pub(super) fn read(&mut self) -> (Option<u64>, Option<u64>) {
        let pages = self.statm.as_mut().and_then(|file| {
            let mut text = String::new();
            std::io::Seek::rewind(file).ok()?;
            file.take(256).read_to_string(&mut text).ok()?;
            text.split(' ').nth(1)?.parse::<u64>().ok()
        });
        let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok().flatten();
        let page = page.and_then(|bytes| u64::try_from(bytes).ok());
        let resident = pages.zip(page).map(|(pages, page)| pages * page);
        let open = self.descriptors.as_mut().map(|folder| {
            let numbered = |entry: &nix::dir::Entry| entry.file_name().to_bytes()[0] != b'.';
            folder.iter().flatten().filter(numbered).count() as u64
        });
        (resident, open)
    }
}
