//! A sandbox on its way: its first process makes it, and reports. Whoever has several of them waits for all reports at
//! once.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use super::held::Held;
use super::stages::{MAX_REPORT, Report};
use super::{Doors, ExecFailed, LaunchError, MilliCpu, Sandbox};
use crate::sys;

/// See the module's words. Made by [`super::begin`].
#[derive(Debug)]
pub struct Starting {
    pub(super) sandbox: Box<Sandbox>,
    pub(super) report: OwnedFd,
    /// It is up by then, or never.
    pub until: Instant,
    pub(super) is_ready: bool,
    pub(super) tmp_on_disk: bool,
    pub(super) doors: Doors,
    pub(super) cpu: MilliCpu,
    /// Whether its program is to wait before exec.
    pub(super) held: bool,
}

#[derive(Debug)]
pub enum Step {
    Pending(Starting),
    Done(Box<Sandbox>),
}

/// What came of a report.
enum Said {
    More,
    /// The program is held, or has exec'd.
    Up(bool),
}

impl AsFd for Starting {
    /// Readable when there is something to [`Self::advance`] by.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.report.as_fd()
    }
}

impl Starting {
    /// Takes one report, and waits for it where there is none.
    ///
    /// # Errors
    /// As [`super::launch`]; nothing of the sandbox is left then.
    pub fn advance(mut self) -> Result<Step, LaunchError> {
        match self.read() {
            Ok(Said::More) => Ok(Step::Pending(self)),
            Ok(Said::Up(is_held)) if is_held == self.held => self.finish(is_held),
            Ok(Said::Up(_)) => {
                self.sandbox.destroy();
                let source = io::Error::from_raw_os_error(libc::EPROTO);
                Err(LaunchError::Process { source })
            }
            Err(error) => {
                let ended = self.sandbox.destroy().1;
                let status = ended.map_or_else(|| "unknown".into(), |e| format!("{:?}", e.status));
                Err(error.unwrap_or(LaunchError::Died { status }))
            }
        }
    }

    fn finish(self, is_held: bool) -> Result<Step, LaunchError> {
        let Self { mut sandbox, report, cpu, .. } = self;
        sandbox.held = is_held.then(|| Held::new(report));
        if let Err(source) = sandbox.files.set_cpu(cpu) {
            sandbox.destroy();
            return Err(LaunchError::Process { source });
        }
        Ok(Step::Done(sandbox))
    }

    /// `Err(None)`: it died in silence.
    fn read(&mut self) -> Result<Said, Option<LaunchError>> {
        let mut buffer = vec![0; MAX_REPORT];
        let (length, fds) = sys::socket::recv_with_fds(self.report.as_fd(), &mut buffer)
            .map_err(|source| Some(LaunchError::Process { source }))?;
        if length == 0 {
            return if self.is_ready { Ok(Said::Up(false)) } else { Err(None) };
        }
        match Report::decode(&buffer[..length]) {
            Some(Report::Ready) => {
                self.is_ready = true;
                let mut fds = fds.into_iter();
                if self.tmp_on_disk {
                    self.sandbox.tmp = fds.next();
                }
                if self.doors != Doors::None {
                    let listeners = &mut self.sandbox.listeners;
                    (listeners.unix, listeners.tcp) = (fds.next(), fds.next());
                    listeners.rpc = fds.next();
                }
                Ok(Said::More)
            }
            Some(Report::Held) if self.is_ready => Ok(Said::Up(true)),
            Some(Report::Failed { stage, what, errno }) => {
                let source = io::Error::from_raw_os_error(errno);
                Err(Some(LaunchError::Stage { stage, what, source }))
            }
            Some(Report::ExecFailed { program, errno }) => {
                self.sandbox.exec_failed = Some(ExecFailed { program, errno });
                Ok(Said::More)
            }
            Some(Report::Held | Report::Told) | None => Err(None),
        }
    }

    /// Kills and removes one that did not come up in time.
    pub fn give_up(self) -> LaunchError {
        self.destroy();
        LaunchError::Process { source: io::Error::from_raw_os_error(libc::ETIMEDOUT) }
    }

    /// Kills and removes what there is of it.
    pub fn destroy(self) {
        self.sandbox.destroy();
    }
}
