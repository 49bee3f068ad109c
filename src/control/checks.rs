//! What AWS's model cannot say about a function's settings, each with AWS's text.

use std::collections::BTreeMap;

use super::names::MAX_NAME;
use super::{Control, ControlError, ErrorKind, Settings, reserved_variables};

/// AWS's limit on a function's environment, in bytes of its JSON.
const ENVIRONMENT_BYTES: usize = 4096;

/// A number of the function's configuration, with the limits that AWS enforces beside the model's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Number {
    /// Seconds.
    Timeout,
    /// Megabytes.
    Memory,
    /// Megabytes of `/tmp`.
    Tmp,
}

impl Number {
    /// # Errors
    /// AWS's, for one that is out of range.
    pub fn check(self, value: i64) -> Result<u32, ControlError> {
        let (member, least, most) = match self {
            Self::Timeout => ("timeout", 1, 900),
            Self::Memory => ("memorySize", 128, 10_240),
            Self::Tmp => ("ephemeralStorage.size", 512, 10_240),
        };
        let broken = match u32::try_from(value) {
            Ok(number) if (least..=most).contains(&number) => return Ok(number),
            Ok(number) if number > most => {
                format!("Member must have value less than or equal to {most}")
            }
            Err(_) if value > 0 => format!("Member must have value less than or equal to {most}"),
            _ => format!("Member must have value greater than or equal to {least}"),
        };
        Err(constraint(ErrorKind::Validation, &value.to_string(), member, &broken))
    }
}

fn constraint(kind: ErrorKind, value: &str, member: &str, broken: &str) -> ControlError {
    let text = format!(
        "1 validation error detected: Value '{value}' at '{member}' failed to satisfy constraint: {broken}"
    );
    ControlError::new(kind, text)
}

/// The model allows 140 characters, since a name may be an ARN.
///
/// # Errors
/// AWS's, for a bare name that is too long.
pub(super) fn new_name(name: &str) -> Result<(), ControlError> {
    if name.len() <= MAX_NAME {
        return Ok(());
    }
    let broken = format!("Member must have length less than or equal to {MAX_NAME}");
    Err(constraint(ErrorKind::InvalidParameterValue, name, "functionName", &broken))
}

/// # Errors
/// AWS's, for names that are malformed or reserved, and for more than 4 KB.
pub(super) fn environment(variables: &BTreeMap<String, String>) -> Result<(), ControlError> {
    let well_formed = |name: &String| {
        name.len() >= 2
            && name.starts_with(|c: char| c.is_ascii_alphabetic())
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
    };
    let reserved = reserved_variables();
    // First, since `_HANDLER` is also malformed, and this says more.
    let used: Vec<&str> =
        variables.keys().map(String::as_str).filter(|name| reserved.contains(name)).collect();
    if !used.is_empty() {
        return Err(ControlError::invalid(format!(
            "Lambda was unable to configure your environment variables because the environment variables you have provided contains reserved keys that are currently not supported for modification. Reserved keys used in this request: {}",
            used.join(", ")
        )));
    }
    if !variables.keys().all(well_formed) {
        let text = "1 validation error detected: Value at 'environment.variables' failed to satisfy constraint: Map keys must satisfy constraint: [Member must satisfy regular expression pattern: [a-zA-Z]([a-zA-Z0-9_])+]";
        return Err(ControlError::new(ErrorKind::Validation, text));
    }
    if let Some((name, _)) = variables.iter().find(|(_, value)| value.contains('\0')) {
        return Err(ControlError::invalid(format!(
            "Lambda was unable to configure your environment variables because the value of {name} holds a NUL character."
        )));
    }
    let measured =
        serde_json::to_string(variables).map_err(|e| ControlError::internal(e.to_string()))?;
    if measured.len() > ENVIRONMENT_BYTES {
        return Err(ControlError::invalid(format!(
            "Lambda was unable to configure your environment variables because the environment variables you have provided exceeded the 4KB limit. String measured: {measured}"
        )));
    }
    Ok(())
}

/// # Errors
/// AWS's, for a target that is neither an SQS queue nor an SNS topic.
pub(super) fn dead_letter(arn: &str) -> Result<(), ControlError> {
    match arn.split(':').nth(2) {
        Some("sqs" | "sns") if arn.split(':').count() >= 6 => Ok(()),
        _ => Err(ControlError::invalid(format!(
            "The dead letter target {arn} is neither the ARN of an SQS queue nor that of an SNS topic."
        ))),
    }
}

/// # Errors
/// An architecture that is not this host's.
pub(super) fn architectures(wanted: &[String]) -> Result<(), ControlError> {
    let here = host_architecture();
    match wanted.iter().find(|name| *name != here) {
        Some(other) => Err(ControlError::invalid(format!(
            "Functions of architecture {other} cannot run here: this host is {here}."
        ))),
        None => Ok(()),
    }
}

/// AWS's name for the host's architecture.
pub(super) fn host_architecture() -> &'static str {
    match std::env::consts::ARCH {
        "aarch64" => "arm64",
        other => other,
    }
}

impl Settings {
    /// # Errors
    /// AWS's, for a runtime that nobody knows; why, for one that this host lacks.
    pub(super) fn check_runtime(&self, name: &str) -> Result<(), ControlError> {
        if self.runtimes.here.contains_key(name) {
            return Ok(());
        }
        if let Some(why) = self.runtimes.missing.get(name) {
            let text = format!("The runtime {name} cannot run here: {why}");
            return Err(ControlError::invalid(text));
        }
        let known: Vec<&str> = self.runtimes.here.keys().map(String::as_str).collect();
        Err(ControlError::invalid(format!(
            "Value {name} at 'runtime' failed to satisfy constraint: Member must satisfy enum value set: [{}] or be a valid ARN",
            known.join(", ")
        )))
    }

    /// # Errors
    /// AWS's, where one is needed and missing.
    pub(super) fn check_handler(
        &self,
        runtime: Option<&str>,
        handler: Option<&str>,
    ) -> Result<(), ControlError> {
        let wants = runtime.map(|name| self.runtimes.here.get(name).copied().unwrap_or(true));
        match (wants, handler.filter(|h| !h.is_empty())) {
            (Some(_), Some(_)) | (Some(false), None) => Ok(()),
            _ => Err(ControlError::invalid(
                "Runtime and Handler are mandatory parameters for functions created with deployment packages.",
            )),
        }
    }
}

impl Control {
    /// # Errors
    /// AWS's, for a revision id that is not the latest.
    pub(super) fn check_revision(wanted: Option<&str>, latest: &str) -> Result<(), ControlError> {
        match wanted.filter(|id| !id.is_empty()) {
            Some(id) if id != latest => Err(ControlError::stale_revision()),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_awss_limits() {
        for (number, value, broken) in [
            (Number::Timeout, 900, None),
            (
                Number::Timeout,
                901,
                Some("'901' at 'timeout': Member must have value less than or equal to 900"),
            ),
            (
                Number::Timeout,
                0,
                Some("'0' at 'timeout': Member must have value greater than or equal to 1"),
            ),
            (Number::Memory, 10_240, None),
            (
                Number::Memory,
                10_241,
                Some("'10241' at 'memorySize': Member must have value less than or equal to 10240"),
            ),
            (
                Number::Memory,
                -1,
                Some("'-1' at 'memorySize': Member must have value greater than or equal to 128"),
            ),
            (Number::Tmp, 512, None),
            (
                Number::Tmp,
                i64::MAX,
                Some(
                    "'9223372036854775807' at 'ephemeralStorage.size': Member must have value less than or equal to 10240",
                ),
            ),
        ] {
            let checked = number.check(value).map_err(|e| e.message);
            let text = broken.map(|b| {
                let b = b.replacen(": ", " failed to satisfy constraint: ", 1);
                format!("1 validation error detected: Value {b}")
            });
            assert_eq!(checked.err(), text, "{number:?} {value}");
        }
    }

    #[test]
    fn variables_are_refused_with_awss_words() {
        let of = |name: &str, value: &str| BTreeMap::from([(name.to_owned(), value.to_owned())]);
        let unable = "Lambda was unable to configure your environment variables because the";
        // Nine bytes of name, seven of JSON.
        let fits = "x".repeat(4096 - 16);
        for (variables, said) in [
            (of("AB", ""), None),
            (of("LARGE_VAR", &fits), None),
            (of("LARGE_VAR", &(fits.clone() + "x")), Some("exceeded the 4KB limit")),
            // Quotes are measured as they are written.
            (of("LARGE_VAR", &(fits[1..].to_owned() + "\"")), Some("exceeded the 4KB limit")),
            (of("AWS_REGION", "eu"), Some("Reserved keys used in this request: AWS_REGION")),
            (of("_HANDLER", "x"), Some("Reserved keys used in this request: _HANDLER")),
            (of("NUL", "a\0b"), Some("the value of NUL holds a NUL character")),
        ] {
            match (environment(&variables), said) {
                (Ok(()), None) => {}
                (Err(error), Some(said)) => {
                    assert!(error.message.starts_with(unable), "{}", error.message);
                    assert!(error.message.contains(said), "{}", error.message);
                }
                (got, want) => panic!("{got:?} {want:?}"),
            }
        }
        for name in ["A", "1A", "A-B", "", "Ä1"] {
            assert_eq!(environment(&of(name, "")).unwrap_err().kind, ErrorKind::Validation);
        }
    }

    #[test]
    fn dead_letters_go_to_queues_and_topics() {
        for (arn, taken) in [
            ("arn:aws:sqs:us-east-1:000000000000:q", true),
            ("arn:aws:sns:us-east-1:000000000000:t", true),
            ("arn:aws:lambda:us-east-1:000000000000:function:f", false),
            ("arn:aws:sqs", false),
        ] {
            assert_eq!(dead_letter(arn).is_ok(), taken, "{arn}");
        }
    }
}
