//! Images on root's side of the door: memory files that nobody changes once they are whole, by the server's numbers.
//!
//! One is taken in a process of its own, since the launcher has others to serve. It is of a sandbox that never had
//! code, and the server says nothing of what is in it.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use super::protocol::{Imaged, MAX_IMAGED};
use crate::sandbox::{LaunchError, Sandbox};
use crate::{snapshot, sys};

/// Most images of one launcher at a time. The server keeps fewer.
const MAX_IMAGES: usize = 32;
/// How long a program may take from its start until it stops for its image.
const LIMIT: Duration = Duration::from_secs(10);

#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    #[error("no image `{image}`, or it is not whole")]
    NoImage { image: u32 },
    #[error("image `{image}` exists already")]
    InUse { image: u32 },
    #[error("{MAX_IMAGES} images are there, the most there may be")]
    TooMany,
    /// As the operator said when the launcher was started.
    #[error("images take {bytes} bytes, of the {most} that they may")]
    NoRoom { bytes: u64, most: u64 },
    /// memfd_create(2), pipe(2), fork(2).
    #[error("cannot begin an image")]
    Begin { source: io::Error },
    #[error(transparent)]
    Sandbox(#[from] LaunchError),
}

/// See the module's words.
#[derive(Debug)]
pub struct Images {
    files: HashMap<u32, OwnedFd>,
    /// Beyond so many bytes none is begun.
    most: u64,
}

impl Images {
    pub fn new(most: u64) -> Self {
        Self { files: HashMap::new(), most }
    }

    /// Begins the image of a sandbox's program: a pipe on which [`Imaged`] comes, and the process that does it, to be
    /// reaped. The calling process must be single-threaded.
    ///
    /// # Errors
    /// [`ImageError`]; the sandbox may be of no use then.
    pub fn begin(
        &mut self,
        image: u32,
        sandbox: &mut Sandbox,
    ) -> Result<(OwnedFd, libc::pid_t), ImageError> {
        if self.files.contains_key(&image) {
            return Err(ImageError::InUse { image });
        }
        if self.files.len() >= MAX_IMAGES {
            return Err(ImageError::TooMany);
        }
        let begin = |source| ImageError::Begin { source };
        let sizes = self.files.values().map(nix::sys::stat::fstat);
        let sizes = sizes.map(|stat| Ok(u64::try_from(stat?.st_size).unwrap_or(u64::MAX)));
        let bytes: u64 = sizes.sum::<io::Result<u64>>().map_err(begin)?;
        if bytes >= self.most {
            return Err(ImageError::NoRoom { bytes, most: self.most });
        }
        let file = sys::snapshot::executable_memory_file(c"kennel-image").map_err(begin)?;
        let pipe = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC);
        let (told, telling) = pipe.map_err(|errno| begin(errno.into()))?;
        let init = sandbox.give_up_for_image()?;
        let launcher = nix::unistd::getpid();
        match sys::process::fork_single_threaded().map_err(begin)? {
            None => {
                let _ = sys::process::set_name(c"kennel-imager");
                let imaged = image_of(init, launcher, file, &telling);
                let mut bytes = postcard::to_stdvec(&imaged).unwrap_or_default();
                bytes.truncate(MAX_IMAGED);
                let _ = File::from(telling).write_all(&bytes);
                sys::process::exit_now(0)
            }
            Some(pid) => {
                self.files.insert(image, file);
                Ok((told, pid))
            }
        }
    }

    /// # Errors
    /// [`ImageError::NoImage`].
    pub fn get(&self, image: u32) -> Result<BorrowedFd<'_>, ImageError> {
        let file = self.files.get(&image).map(AsFd::as_fd);
        file.filter(|file| sys::snapshot::is_sealed(*file)).ok_or(ImageError::NoImage { image })
    }

    pub fn forget(&mut self, image: u32) {
        self.files.remove(&image);
    }
}

/// In the process that takes it: ends with the launcher, and has nothing open that is another's.
fn image_of(
    init: libc::pid_t,
    launcher: nix::unistd::Pid,
    file: OwnedFd,
    telling: &OwnedFd,
) -> Imaged {
    let words = |error: &dyn std::error::Error| {
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            text = format!("{text}: {cause}");
            source = cause.source();
        }
        text
    };
    let prepare = || {
        sys::process::set_parent_death_signal(libc::SIGKILL)?;
        if nix::unistd::getppid() != launcher {
            return Err(io::Error::from_raw_os_error(libc::ESRCH));
        }
        sys::process::close_all_from_3_but_these(&[file.as_fd(), telling.as_fd()])
    };
    prepare().map_err(|error| words(&error))?;
    let file = File::from(file);
    let length = snapshot::take(init, &file, LIMIT).map_err(|error| words(&error))?;
    // The sandbox's user reads and runs it. Whole only now: no claim takes one that is not sealed.
    file.set_permissions(std::fs::Permissions::from_mode(0o555))
        .and_then(|()| sys::snapshot::seal(file.as_fd()))
        .map_err(|error| words(&error))?;
    Ok(length)
}
