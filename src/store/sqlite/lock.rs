//! One server on one data directory: an advisory lock on `DATA/lock`, which holds the pid of whoever has it.

use std::fs::{self, File, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::store::{StoreError, io_error};

const FILE: &str = "lock";

/// Held until it is dropped, or the process ends in whatever way. The file stays: whoever removed it could remove
/// another's.
#[derive(Debug)]
pub(super) struct DataLock {
    _file: File,
}

impl DataLock {
    /// Takes the lock on `data`, which exists.
    ///
    /// # Errors
    /// [`StoreError::InUse`] at once where another has it.
    pub fn take(data: &Path) -> Result<Self, StoreError> {
        let path = data.join(FILE);
        let mut options = fs::OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let mut file = options.open(&path).map_err(io_error("open", &path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                let pid =
                    file.read_to_string(&mut text).ok().and_then(|_| text.trim().parse().ok());
                return Err(StoreError::InUse { path: data.display().to_string(), pid });
            }
            Err(TryLockError::Error(error)) => return Err(io_error("lock", &path)(error)),
        }
        let write = |file: &mut File| {
            file.set_len(0)?;
            file.rewind()?;
            writeln!(file, "{}", std::process::id())
        };
        // The lock holds without it; a full disk must not keep a server from starting to make room.
        if let Err(error) = write(&mut file) {
            tracing::warn!(path = %path.display(), %error, "the pid could not be written to the lock");
        }
        Ok(Self { _file: file })
    }
}
