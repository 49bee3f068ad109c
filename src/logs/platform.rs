//! The platform's own records of an invocation, as a function's `LoggingConfig` wants them: AWS's text lines, or AWS's
//! JSON objects above a level. What the function itself prints is not touched here: its runtime formats and filters it
//! (`AWS_LAMBDA_LOG_FORMAT`, `AWS_LAMBDA_LOG_LEVEL`).
//!
//! Sources: AWS Lambda, "Telemetry API event schema reference" and "System log level event mapping"; the order of the
//! keys is that of records seen in AWS's logs.

use std::time::{Duration, SystemTime};

use serde::Serialize;

use super::lines::{self, Report, Status};

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LogFormat {
    #[default]
    Text,
    Json,
}

/// `SystemLogLevel`: the least level that is written. Only the JSON format filters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum SystemLevel {
    Debug,
    #[default]
    Info,
    Warn,
}

/// What the records tell of the sandbox and its function.
#[derive(Debug, Clone, Default)]
pub struct Identity {
    pub function_name: String,
    /// `$LATEST` or a number.
    pub version: String,
    /// In `platform.start`.
    pub function_arn: Option<String>,
    /// The log stream's name, which tells sandboxes apart.
    pub instance_id: String,
    pub memory_mb: u32,
    /// `on-demand` or `provisioned-concurrency`.
    pub initialization_type: &'static str,
}

/// The beginning of the init phase.
#[derive(Debug, Clone, Copy, Default)]
pub struct InitStart<'a> {
    /// As AWS prints it, such as `python:3.12`. Without one there is no text line.
    pub runtime_version: Option<&'a str>,
    pub runtime_version_arn: Option<&'a str>,
}

/// Renders one sandbox's platform records; `None` where the format or the level leaves one out.
#[derive(Debug, Clone)]
pub struct PlatformLog {
    pub format: LogFormat,
    pub level: SystemLevel,
    pub identity: Identity,
}

#[derive(Serialize)]
struct Event<'a, R> {
    time: &'a str,
    r#type: &'a str,
    record: R,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct InitStartRecord<'a> {
    initialization_type: &'a str,
    phase: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    runtime_version: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    runtime_version_arn: Option<&'a str>,
    function_name: &'a str,
    function_version: &'a str,
    instance_id: &'a str,
    instance_max_memory: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct InitDoneRecord<'a> {
    initialization_type: &'a str,
    phase: &'a str,
    status: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_type: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metrics: Option<DurationMetrics>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DurationMetrics {
    duration_ms: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    produced_bytes: Option<u64>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct StartRecord<'a> {
    request_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    function_arn: Option<&'a str>,
    version: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RuntimeDoneRecord<'a> {
    request_id: &'a str,
    status: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_type: Option<&'a str>,
    metrics: DurationMetrics,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ReportRecord<'a> {
    request_id: &'a str,
    metrics: ReportMetrics,
    status: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_type: Option<&'a str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ReportMetrics {
    duration_ms: f64,
    billed_duration_ms: u64,
    #[serde(rename = "memorySizeMB")]
    memory_size_mb: u32,
    #[serde(rename = "maxMemoryUsedMB")]
    max_memory_used_mb: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    init_duration_ms: Option<f64>,
}

/// Milliseconds with three digits, as AWS prints them in JSON.
fn ms(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1_000_000.0).round() / 1000.0
}

fn status(status: Status<'_>) -> (&'static str, Option<&str>) {
    match status {
        Status::Answered => ("success", None),
        Status::Timeout => ("timeout", None),
        Status::Error(kind) => ("error", Some(kind)),
    }
}

fn level_of(status: Status<'_>, when_well: SystemLevel) -> SystemLevel {
    if status == Status::Answered { when_well } else { SystemLevel::Warn }
}

impl PlatformLog {
    /// From a `LoggingConfig`: `LogFormat` (`Text` or `JSON`) and `SystemLogLevel` (absent: `INFO`).
    pub fn new(format: &str, system_level: Option<&str>, identity: Identity) -> Self {
        let format =
            if format.eq_ignore_ascii_case("JSON") { LogFormat::Json } else { LogFormat::Text };
        let level = match system_level {
            Some("DEBUG") => SystemLevel::Debug,
            Some("WARN") => SystemLevel::Warn,
            _ => SystemLevel::Info,
        };
        Self { format, level, identity }
    }

    /// `INIT_START Runtime Version: …`, or `platform.initStart`: INFO where the runtime's version is known, DEBUG where
    /// it is not.
    pub fn init_start(&self, init: InitStart<'_>) -> Option<String> {
        if self.format == LogFormat::Text {
            let version = init.runtime_version?;
            let arn = init.runtime_version_arn.unwrap_or_default();
            return Some(format!(
                "INIT_START Runtime Version: {version}\tRuntime Version ARN: {arn}\n"
            ));
        }
        let known = init.runtime_version.is_some();
        let level = if known { SystemLevel::Info } else { SystemLevel::Debug };
        let of = &self.identity;
        self.json(level, "platform.initStart", || InitStartRecord {
            initialization_type: self.initialization_type(),
            phase: "init",
            runtime_version: init.runtime_version,
            runtime_version_arn: init.runtime_version_arn,
            function_name: &of.function_name,
            function_version: &of.version,
            instance_id: &of.instance_id,
            instance_max_memory: u64::from(of.memory_mb) << 20,
        })
    }

    /// `platform.initRuntimeDone`: DEBUG, or WARN after a failure. No text line.
    pub fn init_runtime_done(&self, how: Status<'_>) -> Option<String> {
        if self.format == LogFormat::Text {
            return None;
        }
        let (status, error_type) = status(how);
        let level = level_of(how, SystemLevel::Debug);
        self.json(level, "platform.initRuntimeDone", || InitDoneRecord {
            initialization_type: self.initialization_type(),
            phase: "init",
            status,
            error_type,
            metrics: None,
        })
    }

    /// The end of an init phase: a text line only where it failed; `platform.initReport` is DEBUG, INFO for provisioned
    /// concurrency, WARN after a failure. `phase` is `init`, or `invoke` where the phase was run again for an event.
    pub fn init_report(&self, duration: Duration, phase: &str, how: Status<'_>) -> Option<String> {
        let (status, error_type) = status(how);
        if self.format == LogFormat::Text {
            if how == Status::Answered {
                return None;
            }
            let kind = error_type.map(|kind| format!("\tError Type: {kind}")).unwrap_or_default();
            let ms = duration.as_secs_f64() * 1000.0;
            return Some(format!(
                "INIT_REPORT Init Duration: {ms:.2} ms\tPhase: {phase}\tStatus: {status}{kind}\n"
            ));
        }
        let on_demand = self.initialization_type() == "on-demand";
        let well = if on_demand { SystemLevel::Debug } else { SystemLevel::Info };
        self.json(level_of(how, well), "platform.initReport", || InitDoneRecord {
            initialization_type: self.initialization_type(),
            phase,
            status,
            error_type,
            metrics: Some(DurationMetrics { duration_ms: ms(duration), produced_bytes: None }),
        })
    }

    /// START, or `platform.start` (INFO).
    pub fn start(&self, request_id: &str, version: &str) -> Option<String> {
        if self.format == LogFormat::Text {
            return Some(lines::start(request_id, version));
        }
        self.json(SystemLevel::Info, "platform.start", || StartRecord {
            request_id,
            function_arn: self.identity.function_arn.as_deref(),
            version,
        })
    }

    /// `platform.runtimeDone`: DEBUG, or WARN after a failure. No text line.
    pub fn runtime_done(&self, report: &Report<'_>, produced_bytes: u64) -> Option<String> {
        if self.format == LogFormat::Text {
            return None;
        }
        let (status, error_type) = status(report.status);
        let level = level_of(report.status, SystemLevel::Debug);
        self.json(level, "platform.runtimeDone", || RuntimeDoneRecord {
            request_id: report.request_id,
            status,
            error_type,
            metrics: DurationMetrics {
                duration_ms: ms(report.duration),
                produced_bytes: Some(produced_bytes),
            },
        })
    }

    /// AWS's text about a function that timed out or ended. In JSON the records say it by their status.
    pub fn failure<'a>(&self, text: &'a str) -> Option<&'a str> {
        (self.format == LogFormat::Text).then_some(text)
    }

    /// END. In JSON there is none.
    pub fn end(&self, request_id: &str) -> Option<String> {
        (self.format == LogFormat::Text).then(|| lines::end(request_id))
    }

    /// REPORT, or `platform.report`: INFO, or WARN after a failure.
    pub fn report(&self, report: &Report<'_>) -> Option<String> {
        if self.format == LogFormat::Text {
            return Some(report.line());
        }
        let (status, error_type) = status(report.status);
        let level = level_of(report.status, SystemLevel::Info);
        self.json(level, "platform.report", || ReportRecord {
            request_id: report.request_id,
            metrics: ReportMetrics {
                duration_ms: ms(report.duration),
                billed_duration_ms: u64::try_from(report.billed.as_millis()).unwrap_or(u64::MAX),
                memory_size_mb: report.memory_mb,
                max_memory_used_mb: report.max_memory_mb,
                init_duration_ms: report.init.map(ms),
            },
            status,
            error_type,
        })
    }

    fn initialization_type(&self) -> &'static str {
        match self.identity.initialization_type {
            "" => "on-demand",
            given => given,
        }
    }

    fn json<R: Serialize>(
        &self,
        level: SystemLevel,
        kind: &str,
        record: impl FnOnce() -> R,
    ) -> Option<String> {
        if level < self.level {
            return None;
        }
        let now = jiff::Timestamp::try_from(SystemTime::now()).unwrap_or_default();
        let time = format!("{now:.3}");
        let event = Event { time: &time, r#type: kind, record: record() };
        let mut line = serde_json::to_string(&event).ok()?;
        line.push('\n');
        Some(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(format: &str, level: Option<&str>) -> PlatformLog {
        let identity = Identity {
            function_name: "f".into(),
            version: "$LATEST".into(),
            instance_id: "2026/01/31/[$LATEST]00".into(),
            memory_mb: 256,
            ..Identity::default()
        };
        PlatformLog::new(format, level, identity)
    }

    fn report(status: Status<'_>) -> Report<'_> {
        Report {
            request_id: "r",
            duration: Duration::from_nanos(1_233_960_000),
            billed: Duration::from_millis(1698),
            memory_mb: 256,
            max_memory_mb: 123,
            init: Some(Duration::from_nanos(463_512_000)),
            status,
        }
    }

    /// Without the time, whose form is checked.
    fn rest(line: Option<String>) -> String {
        let line = line.unwrap();
        let (head, rest) = line.split_at(r#"{"time":"2026-10-08T07:30:29.470Z""#.len());
        assert!(head.starts_with(r#"{"time":"2"#) && head.ends_with("Z\""), "{line}");
        rest.into()
    }

    #[test]
    fn json_records_are_those_that_aws_writes() {
        let mut log = log("JSON", Some("DEBUG"));
        assert_eq!(
            rest(log.start("r", "$LATEST")),
            ",\"type\":\"platform.start\",\"record\":{\"requestId\":\"r\",\"version\":\"$LATEST\"}}\n"
        );
        log.identity.function_arn = Some("arn:f".into());
        assert_eq!(
            rest(log.start("r", "7")),
            ",\"type\":\"platform.start\",\"record\":{\"requestId\":\"r\",\"functionArn\":\"arn:f\",\"version\":\"7\"}}\n"
        );
        assert_eq!(
            rest(log.report(&report(Status::Answered))),
            ",\"type\":\"platform.report\",\"record\":{\"requestId\":\"r\",\"metrics\":{\"durationMs\":1233.96,\
             \"billedDurationMs\":1698,\"memorySizeMB\":256,\"maxMemoryUsedMB\":123,\"initDurationMs\":463.512},\
             \"status\":\"success\"}}\n"
        );
        assert!(
            rest(log.report(&report(Status::Timeout))).ends_with(",\"status\":\"timeout\"}}\n")
        );
        assert!(
            rest(log.report(&report(Status::Error("Runtime.ExitError"))))
                .ends_with(",\"status\":\"error\",\"errorType\":\"Runtime.ExitError\"}}\n")
        );
        assert_eq!(
            rest(log.init_report(Duration::from_nanos(10_000_487_000), "init", Status::Timeout)),
            ",\"type\":\"platform.initReport\",\"record\":{\"initializationType\":\"on-demand\",\"phase\":\"init\",\
             \"status\":\"timeout\",\"metrics\":{\"durationMs\":10000.487}}}\n"
        );
        assert_eq!(
            rest(log.init_start(InitStart {
                runtime_version: Some("python:3.12"),
                ..InitStart::default()
            })),
            ",\"type\":\"platform.initStart\",\"record\":{\"initializationType\":\"on-demand\",\"phase\":\"init\",\
             \"runtimeVersion\":\"python:3.12\",\"functionName\":\"f\",\"functionVersion\":\"$LATEST\",\
             \"instanceId\":\"2026/01/31/[$LATEST]00\",\"instanceMaxMemory\":268435456}}\n"
        );
        assert_eq!(
            rest(log.runtime_done(&report(Status::Answered), 50)),
            ",\"type\":\"platform.runtimeDone\",\"record\":{\"requestId\":\"r\",\"status\":\"success\",\
             \"metrics\":{\"durationMs\":1233.96,\"producedBytes\":50}}}\n"
        );
        assert_eq!(log.end("r"), None);
        assert_eq!(log.failure("x"), None);
    }

    #[test]
    fn each_record_has_its_level() {
        let known = InitStart { runtime_version: Some("v"), ..InitStart::default() };
        // Written at DEBUG, INFO, WARN.
        type Case = (&'static str, fn(&PlatformLog, InitStart<'_>) -> Option<String>, [bool; 3]);
        let cases: [Case; 9] = [
            ("initStart", |l, known| l.init_start(known), [true, true, false]),
            (
                "initStart of an unknown version",
                |l, _| l.init_start(InitStart::default()),
                [true, false, false],
            ),
            ("initRuntimeDone", |l, _| l.init_runtime_done(Status::Answered), [true, false, false]),
            (
                "failed initRuntimeDone",
                |l, _| l.init_runtime_done(Status::Error("e")),
                [true, true, true],
            ),
            (
                "initReport",
                |l, _| l.init_report(Duration::ZERO, "init", Status::Answered),
                [true, false, false],
            ),
            ("start", |l, _| l.start("r", "1"), [true, true, false]),
            (
                "runtimeDone",
                |l, _| l.runtime_done(&report(Status::Answered), 0),
                [true, false, false],
            ),
            ("report", |l, _| l.report(&report(Status::Answered)), [true, true, false]),
            ("failed report", |l, _| l.report(&report(Status::Timeout)), [true, true, true]),
        ];
        for (what, write, at) in cases {
            for (level, written) in ["DEBUG", "INFO", "WARN"].into_iter().zip(at) {
                let line = write(&log("JSON", Some(level)), known);
                assert_eq!(line.is_some(), written, "{what} at {level}");
            }
        }
        assert_eq!(log("JSON", None).level, SystemLevel::Info);
    }

    #[test]
    fn text_lines_are_as_they_were() {
        let log = log("Text", Some("WARN"));
        assert_eq!(log.start("r", "1").unwrap(), lines::start("r", "1"));
        assert_eq!(log.end("r").unwrap(), lines::end("r"));
        assert_eq!(log.report(&report(Status::Answered)).unwrap(), report(Status::Answered).line());
        assert_eq!(log.failure("Task timed out\n\n"), Some("Task timed out\n\n"));
        assert_eq!(log.init_start(InitStart::default()), None);
        assert_eq!(log.init_report(Duration::ZERO, "init", Status::Answered), None);
        assert_eq!(
            log.init_report(Duration::from_secs(10), "init", Status::Timeout).unwrap(),
            "INIT_REPORT Init Duration: 10000.00 ms\tPhase: init\tStatus: timeout\n"
        );
    }
}
