//! START, END and REPORT, worded as AWS does.

use std::fmt::{self, Write as _};
use std::time::Duration;

/// What the REPORT line tells of an invocation.
#[derive(Debug, Clone)]
pub struct Report<'a> {
    pub request_id: &'a str,
    pub duration: Duration,
    pub billed: Duration,
    pub memory_mb: u32,
    pub max_memory_mb: u64,
    /// On a cold start.
    pub init: Option<Duration>,
    pub status: Status<'a>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status<'a> {
    /// The handler answered, be it with an error of its own.
    Answered,
    Timeout,
    /// The runtime ended; its error type.
    Error(&'a str),
}

pub fn start(request_id: &str, version: &str) -> String {
    format!("START RequestId: {request_id} Version: {version}\n")
}

pub fn end(request_id: &str) -> String {
    format!("END RequestId: {request_id}\n")
}

/// Milliseconds with two digits, as AWS prints durations.
struct Ms(Duration);

impl fmt::Display for Ms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.as_nanos();
        // Whole hundredths, as nearly all are, need no arithmetic of fractions.
        if nanos.is_multiple_of(10_000) {
            let hundredths = self.0.as_micros() / 10;
            write!(f, "{}.{:02}", hundredths / 100, hundredths % 100)
        } else {
            write!(f, "{:.2}", self.0.as_secs_f64() * 1000.0)
        }
    }
}

impl Report<'_> {
    pub fn line(&self) -> String {
        let mut line = String::with_capacity(256);
        let _infallible = write!(
            line,
            "REPORT RequestId: {}\tDuration: {} ms\tBilled Duration: {} ms\tMemory Size: {} MB\tMax Memory Used: {} MB\t",
            self.request_id,
            Ms(self.duration),
            self.billed.as_millis(),
            self.memory_mb,
            self.max_memory_mb
        );
        if let Some(init) = self.init {
            let _infallible = write!(line, "Init Duration: {} ms\t", Ms(init));
        }
        let _infallible = match self.status {
            Status::Answered => Ok(()),
            Status::Timeout => line.write_str("Status: timeout"),
            Status::Error(kind) => write!(line, "Status: error\tError Type: {kind}"),
        };
        line.push('\n');
        line
    }
}

/// `elapsed` in whole hundredths of a millisecond, as the REPORT line tells it, rounded up. Billing starts
/// from it, so a REPORT of 349.00 ms never bills 350 because of a microsecond that nobody is shown.
pub fn measured(elapsed: Duration) -> Duration {
    let hundredths = elapsed.as_nanos().div_ceil(10_000);
    Duration::from_micros(u64::try_from(hundredths.saturating_mul(10)).unwrap_or(u64::MAX))
}

/// Duration rounded up to the next millisecond.
pub fn billed(duration: Duration) -> Duration {
    let nanos = duration.as_nanos();
    Duration::from_millis(u64::try_from(nanos.div_ceil(1_000_000)).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn report_reads_as_aws_prints_it() {
        let mut report = Report {
            request_id: "r",
            duration: Duration::from_micros(1230),
            billed: billed(Duration::from_micros(1230)),
            memory_mb: 128,
            max_memory_mb: 35,
            init: Some(Duration::from_micros(80_100)),
            status: Status::Answered,
        };
        assert_eq!(
            report.line(),
            "REPORT RequestId: r\tDuration: 1.23 ms\tBilled Duration: 2 ms\tMemory Size: 128 MB\tMax Memory Used: 35 MB\tInit Duration: 80.10 ms\t\n"
        );
        report.init = None;
        report.status = Status::Timeout;
        assert!(report.line().ends_with("35 MB\tStatus: timeout\n"));
        report.status = Status::Error("Runtime.ExitError");
        assert!(report.line().ends_with("\tStatus: error\tError Type: Runtime.ExitError\n"));
    }

    #[test]
    fn billing_rounds_up() {
        for (micros, millis) in [(0, 0), (1, 1), (1000, 1), (1001, 2)] {
            assert_eq!(billed(Duration::from_micros(micros)), Duration::from_millis(millis));
        }
    }

    #[test]
    fn what_is_billed_is_what_is_shown_rounded_up() {
        for (nanos, shown, millis) in [
            (349_000_000, "349.00", 349),
            (349_000_001, "349.01", 350),
            (348_999_999, "349.00", 349),
            (1, "0.01", 1),
        ] {
            let duration = measured(Duration::from_nanos(nanos));
            assert_eq!(
                (Ms(duration).to_string(), billed(duration)),
                (shown.to_owned(), Duration::from_millis(millis)),
                "{nanos}"
            );
        }
    }
}
