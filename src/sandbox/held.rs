//! A program that waits just before its exec: the sandbox around it is complete, and what runs in it is told later, once.
//!
//! The socket of init's reports serves both ways. The program's process says `Held` on it, reads [`Start`] from it and
//! says `Told`; the end-of-file after that means that exec happened. One that is killed while it waits may have taken the
//! message, and is told apart by its silence. With [`Start`] may come an image ([`crate::snapshot`]), which it becomes
//! in place of a program of the sandbox's files. No byte that anybody sent runs, or is looked at by
//! more than the decoder here, before that exec.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde::{Deserialize, Serialize};

use super::rootfs::Failed;
use super::stages::{MAX_REPORT, Report};
use super::{ExecFailed, LaunchError};
use crate::sys;

/// The longest [`Start`], in bytes on the wire.
const MAX_START: usize = 64 << 10;
/// How long an exec may take. One whose sandbox is frozen never comes, and the launcher has others to serve.
const EXEC_LIMIT: Duration = Duration::from_secs(10);

/// What a held program becomes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    /// Tried in order until one exists; as in [`super::SandboxSpec`].
    pub argv_any: Vec<Vec<String>>,
    /// All of its environment.
    pub env: Vec<(String, String)>,
}

/// The launcher's end of a held program.
#[derive(Debug)]
pub struct Held(OwnedFd);

impl Held {
    pub fn new(report: OwnedFd) -> Self {
        Self(report)
    }

    /// Tells the program what it is, and hands it the `image` that it becomes, where there is one.
    ///
    /// # Errors
    /// A message over [`MAX_START`]; a process that is gone.
    pub fn start(self, start: &Start, image: Option<BorrowedFd<'_>>) -> Result<Told, LaunchError> {
        let bytes = postcard::to_stdvec(start).map_err(|e| process(io::Error::other(e)))?;
        if bytes.len() > MAX_START {
            return Err(process(io::Error::from_raw_os_error(libc::E2BIG)));
        }
        sys::socket::send_with_fds(self.0.as_fd(), &bytes, image.as_slice()).map_err(process)?;
        let until = Instant::now() + EXEC_LIMIT;
        Ok(Told { socket: self.0, until, is_taken: false, failed: None })
    }
}

/// A program that was told what it is, on its way to exec.
#[derive(Debug)]
pub struct Told {
    socket: OwnedFd,
    /// Its exec is over by then, or never comes.
    pub until: Instant,
    /// It has read the message.
    is_taken: bool,
    failed: Option<ExecFailed>,
}

impl AsFd for Told {
    /// Readable when there is something to [`Self::advance`] by.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Told {
    /// Takes one report, and waits for it where there is none. `Some`: it has exec'd, or this is why it could not.
    ///
    /// # Errors
    /// A process that is gone, or says what it should not.
    pub fn advance(&mut self) -> Result<Option<Option<ExecFailed>>, LaunchError> {
        let mut buffer = vec![0; MAX_REPORT];
        let length =
            sys::socket::recv_with_fds(self.socket.as_fd(), &mut buffer).map_err(process)?.0;
        if length == 0 {
            let gone = || LaunchError::Died { status: "killed while it waited".into() };
            return if self.is_taken { Ok(Some(self.failed.take())) } else { Err(gone()) };
        }
        match Report::decode(&buffer[..length]) {
            Some(Report::Told) => self.is_taken = true,
            Some(Report::ExecFailed { program, errno }) => {
                self.failed = Some(ExecFailed { program, errno });
            }
            Some(Report::Failed { stage, what, errno }) => {
                let source = io::Error::from_raw_os_error(errno);
                return Err(LaunchError::Stage { stage, what, source });
            }
            Some(Report::Ready | Report::Held) | None => {
                return Err(process(io::Error::from_raw_os_error(libc::EPROTO)));
            }
        }
        Ok(None)
    }

    /// What a program that did not come to its exec in time is.
    pub fn too_late() -> LaunchError {
        process(io::Error::from_raw_os_error(libc::ETIMEDOUT))
    }
}

fn process(source: io::Error) -> LaunchError {
    LaunchError::Process { source }
}

/// The program's side: says that it waits, and waits. With it are 0, 1, 2 and `report` alone: what the launcher had open
/// for other sandboxes must not live on here.
///
/// Comes back in `folder`, which may have been mounted over meanwhile.
///
/// # Errors
/// A launcher that is gone, or says what cannot be read; a folder that is not there.
pub fn wait(report: &OwnedFd, folder: &Path) -> Result<(Start, Option<OwnedFd>), Failed> {
    let failed = |what: &str, source| Failed { what: what.into(), source };
    let _ = sys::process::set_name(c"kennel-held");
    sys::process::close_all_from_3_but(report.as_fd()).map_err(|e| failed("close_range", e))?;
    Report::Held.send(report, &[]).map_err(|e| failed("report", e))?;
    let mut buffer = vec![0; MAX_START];
    let received = sys::socket::recv_with_fds(report.as_fd(), &mut buffer);
    let (length, images) = received.map_err(|e| failed("what to run", e))?;
    let start = postcard::from_bytes(&buffer[..length])
        .map_err(|e| failed("what to run", io::Error::other(e)))?;
    std::env::set_current_dir(folder).map_err(|e| failed(&folder.display().to_string(), e))?;
    Report::Told.send(report, &[]).map_err(|e| failed("report", e))?;
    Ok((start, images.into_iter().next()))
}

/// Makes the layout of the next exec what an image needs: the program's own break, and new mappings at a place that
/// nobody can tell ahead ([`crate::snapshot::LAYOUT`]). The restorer puts the limit of the stack back.
///
/// # Errors
/// getrandom(2)'s, setrlimit(2)'s.
pub fn lay_out_for_image() -> io::Result<()> {
    let (least, more) = crate::snapshot::LAYOUT;
    let (_, hard) = getrlimit(Resource::RLIMIT_STACK)?;
    let size = least + sys::snapshot::random_word()? % more;
    Ok(setrlimit(Resource::RLIMIT_STACK, size, hard)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start() -> Start {
        Start { argv_any: vec![vec!["true".into()]], env: vec![("A".into(), "b".into())] }
    }

    fn outcome(held: Held) -> Result<Option<ExecFailed>, LaunchError> {
        let mut told = held.start(&start(), None)?;
        loop {
            if let Some(outcome) = told.advance()? {
                return Ok(outcome);
            }
        }
    }

    /// The launcher's end, and the program's.
    fn pair() -> (Held, OwnedFd) {
        let (ours, theirs) = sys::socket::seqpacket_pair().unwrap();
        (Held::new(ours), theirs)
    }

    #[test]
    fn what_came_of_it_is_told() {
        let failed = |errno| Report::ExecFailed { program: "p".into(), errno };
        let stage = Report::Failed { stage: "held".into(), what: "w".into(), errno: libc::EIO };
        for (said, wanted) in [
            (
                vec![],
                "Err(the sandbox's first process ended before it was ready (killed while it waited))",
            ),
            (vec![Report::Told], "Ok(None)"),
            (vec![Report::Told, failed(2)], "Ok(Some(ExecFailed { program: \"p\", errno: 2 }))"),
            (vec![stage], "Err(cannot set up the sandbox: stage `held` failed on `w`)"),
            // It is not its turn to say so.
            (vec![Report::Held], "Err(cannot make the sandbox's first process)"),
        ] {
            let (held, program) = pair();
            for report in &said {
                report.send(&program, &[]).unwrap();
            }
            let reader = std::thread::spawn(move || {
                let mut buffer = vec![0; MAX_START];
                let length = sys::socket::recv_with_fds(program.as_fd(), &mut buffer).unwrap().0;
                postcard::from_bytes::<Start>(&buffer[..length]).unwrap()
            });
            let got = match outcome(held) {
                Ok(failed) => format!("Ok({failed:?})"),
                Err(error) => format!("Err({error})"),
            };
            assert_eq!(got, wanted, "{said:?}");
            assert_eq!(reader.join().unwrap(), start());
        }
    }

    #[test]
    fn one_that_is_gone_did_not_exec() {
        let (held, program) = pair();
        drop(program);
        assert!(outcome(held).is_err(), "before it was told");
        // It ends with the message unread: end-of-file, and no exec.
        let (held, program) = pair();
        let mut told = held.start(&start(), None).unwrap();
        drop(program);
        assert!(told.advance().is_err(), "as it was told");
    }

    #[test]
    fn a_message_that_does_not_fit_is_refused_here() {
        let (held, _program) = pair();
        let long = Start { env: vec![("A".into(), "x".repeat(MAX_START))], ..start() };
        assert!(held.start(&long, None).is_err());
    }
}
