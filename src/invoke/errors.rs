//! The ends of an invocation, as AWS words them.

use std::time::{Duration, SystemTime};

use bytes::Bytes;

use crate::logs::lines;
use crate::pool::{Answered, Exit, Outcome};
use crate::sys::process::ExitStatus;

/// A function's failure: a result like any other, marked `Unhandled`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FunctionError {
    pub error_type: String,
    /// The JSON object that the caller gets.
    pub body: Bytes,
    /// A line that AWS adds to the log.
    pub log_line: Option<String>,
}

/// For the REPORT line and the receipt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status {
    Success,
    Error,
    Exit(String),
    Timeout,
}

impl Status {
    pub fn name(&self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Error => "error",
            Self::Exit(_) => "exit",
            Self::Timeout => "timeout",
        }
    }

    pub fn as_line(&self) -> lines::Status<'_> {
        match self {
            Self::Success | Self::Error => lines::Status::Answered,
            Self::Exit(kind) => lines::Status::Error(kind),
            Self::Timeout => lines::Status::Timeout,
        }
    }
}

/// Turns an outcome into what the caller and the log get.
pub fn result_of(
    outcome: Outcome,
    request_id: &str,
    timeout: Duration,
) -> (Result<Bytes, FunctionError>, Status) {
    let failed = |error_type: &str, body: Bytes| FunctionError {
        error_type: error_type.into(),
        body,
        log_line: None,
    };
    match outcome {
        Outcome::Answered(Answered::Response(body)) => (Ok(body), Status::Success),
        Outcome::Answered(Answered::Streamed { body, error: None }) => (Ok(body), Status::Success),
        Outcome::Answered(Answered::Streamed { error: Some((kind, body)), .. }) => {
            (Err(failed(&kind, body)), Status::Error)
        }
        Outcome::Answered(Answered::Error { error_type, body }) => {
            (Err(failed(&error_type, body)), Status::Error)
        }
        Outcome::Exited(exit) => {
            let kind = "Runtime.ExitError";
            let text = format!("RequestId: {request_id} Error: {}", exit_text(exit));
            let log_line = Some(format!("{text}\n{kind}\n"));
            let error = FunctionError { log_line, ..failed(kind, object(kind, &text)) };
            (Err(error), Status::Exit(kind.into()))
        }
        Outcome::TimedOut => {
            let kind = "Sandbox.Timedout";
            let task = format!("Task timed out after {:.2} seconds", timeout.as_secs_f64());
            let text = format!("RequestId: {request_id} Error: {task}");
            let log_line = Some(format!("{} {request_id} {task}\n\n", iso_now()));
            (Err(FunctionError { log_line, ..failed(kind, object(kind, &text)) }), Status::Timeout)
        }
    }
}

fn object(kind: &str, text: &str) -> Bytes {
    // Keys in AWS's order; serde_json sorts a map's, so the object is written by hand from two encoded strings.
    let encode = |s: &str| serde_json::Value::from(s).to_string();
    format!("{{\"errorType\":{},\"errorMessage\":{}}}", encode(kind), encode(text)).into()
}

fn exit_text(exit: Exit) -> String {
    match exit {
        Exit::Status(ExitStatus::Exited(0)) => "Runtime exited without providing a reason".into(),
        Exit::Status(ExitStatus::Exited(code)) => {
            format!("Runtime exited with error: exit status {code}")
        }
        Exit::Status(ExitStatus::Signaled(signal)) => {
            format!("Runtime exited with error: signal: {}", signal_text(signal))
        }
        Exit::Killed => "Runtime exited with error: signal: killed".into(),
    }
}

/// A signal in the words of Go's `syscall`, which AWS's texts come from.
fn signal_text(signal: i32) -> String {
    let text = match signal {
        libc::SIGHUP => "hangup",
        libc::SIGINT => "interrupt",
        libc::SIGQUIT => "quit",
        libc::SIGILL => "illegal instruction",
        libc::SIGTRAP => "trace/breakpoint trap",
        libc::SIGABRT => "aborted",
        libc::SIGBUS => "bus error",
        libc::SIGFPE => "floating point exception",
        libc::SIGKILL => "killed",
        libc::SIGUSR1 => "user defined signal 1",
        libc::SIGSEGV => "segmentation fault",
        libc::SIGUSR2 => "user defined signal 2",
        libc::SIGPIPE => "broken pipe",
        libc::SIGALRM => "alarm clock",
        libc::SIGTERM => "terminated",
        libc::SIGSYS => "bad system call",
        other => return format!("signal {other}"),
    };
    text.into()
}

/// The time as AWS logs it: UTC with milliseconds.
fn iso_now() -> String {
    jiff::Timestamp::try_from(SystemTime::now())
        .map_or_else(|_| String::new(), |now| now.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(outcome: Outcome) -> String {
        let error = result_of(outcome, "ID", Duration::from_secs(1)).0.unwrap_err();
        String::from_utf8(error.body.to_vec()).unwrap()
    }

    #[test]
    fn ends_are_worded_as_aws_does() {
        let exit = |status| text(Outcome::Exited(Exit::Status(status)));
        let object = |kind: &str, rest: &str| {
            format!("{{\"errorType\":\"{kind}\",\"errorMessage\":\"RequestId: ID Error: {rest}\"}}")
        };
        let runtime = |rest| object("Runtime.ExitError", rest);
        assert_eq!(
            exit(ExitStatus::Exited(0)),
            runtime("Runtime exited without providing a reason")
        );
        assert_eq!(
            exit(ExitStatus::Exited(7)),
            runtime("Runtime exited with error: exit status 7")
        );
        assert_eq!(
            exit(ExitStatus::Signaled(9)),
            runtime("Runtime exited with error: signal: killed")
        );
        assert_eq!(
            exit(ExitStatus::Signaled(6)),
            runtime("Runtime exited with error: signal: aborted")
        );
        assert_eq!(
            text(Outcome::TimedOut),
            object("Sandbox.Timedout", "Task timed out after 1.00 seconds")
        );
    }

    #[test]
    fn a_timeout_is_in_the_log() {
        let error = result_of(Outcome::TimedOut, "ID", Duration::from_millis(2500)).0.unwrap_err();
        let line = error.log_line.unwrap();
        assert!(line.ends_with("Z ID Task timed out after 2.50 seconds\n\n"), "{line}");
        assert_eq!(
            line.len(),
            "2026-01-01T00:00:00.000Z ID Task timed out after 2.50 seconds\n\n".len(),
            "{line}"
        );
    }
}
