//! The server's configuration: file, environment and flags become one checked [`Config`]. A flag wins over its
//! `KENNEL_…` variable, and that over the file. Unknown keys are refused.

#![forbid(unsafe_code)]

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use serde::Deserialize;

use crate::client::Endpoint;

pub const DEFAULT_LISTEN: &str = "127.0.0.1:9330";
pub const DEFAULT_REGION: &str = "us-east-1";
pub const DEFAULT_ACCOUNT: &str = "000000000000";
/// Concurrent executions. Source: AWS Lambda quotas.
pub const DEFAULT_CONCURRENCY: u32 = 1000;
/// Bytes of all code. Source: AWS Lambda quotas, 75 GB.
pub const DEFAULT_CODE_STORAGE_MB: u64 = 76_800;
pub const DEFAULT_IDLE_S: u64 = 600;
/// Long enough for a client's next call, short against what a thread of the function could do meanwhile.
pub const DEFAULT_FREEZE_MS: u64 = 10;
/// Of each runtime in use.
pub const DEFAULT_PREBOOT: usize = 3;
pub const DEFAULT_PREBOOT_MB: u64 = 512;
const DEFAULT_IMAGES_MB: u64 = 256;
pub const DEFAULT_LOG_MB: u64 = 2048;
pub const DEFAULT_LOG_STREAM_MB: u64 = 64;
/// One a sandbox.
pub const DEFAULT_LOG_STREAMS: usize = 20_000;
/// Seconds before the first and the second retry of an asynchronous event whose function failed. Source: AWS Lambda
/// developer guide, "Asynchronous invocation".
pub const DEFAULT_RETRY_DELAYS_S: [u64; 2] = [60, 120];
/// Share of the host's memory that instances may take together, in percent, where nothing else is said.
pub const DEFAULT_MEMORY_PERCENT: u64 = 80;

#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read the configuration `{path}`")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("`{path}` is not a configuration of kennel serve")]
    Parse { path: PathBuf, source: Box<toml::de::Error> },
    #[error(
        "`{text}` is no address to listen on; want HOST:PORT with a numeric host, or unix:PATH"
    )]
    Listen { text: String },
    #[error(
        "`{address}` can be reached from other machines, and requests would go there unencrypted; give `tls_cert` and `tls_key`, or say `allow_plaintext`"
    )]
    Plaintext { address: SocketAddr },
    #[error("`tls_cert` and `tls_key` go together, and only one was given")]
    HalfTls,
    #[error("the {what} `{value}` is not {want}")]
    Value { what: &'static str, value: String, want: &'static str },
}

/// Where to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl FromStr for Listen {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        if let Some(path) = text.strip_prefix("unix:")
            && !path.is_empty()
        {
            return Ok(Self::Unix(path.into()));
        }
        let text = text.replace("localhost:", "127.0.0.1:");
        text.parse().map(Self::Tcp).map_err(|_| ConfigError::Listen { text })
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Another key than the operator's.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Principal {
    pub access_key_id: String,
    pub secret_access_key: String,
    /// Of a role or user of any account; what it may do is what resource policies allow it.
    pub arn: String,
}

/// The file: every key may be left out.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    pub listen: Option<Vec<String>>,
    pub data: Option<PathBuf>,
    pub tls_cert: Option<PathBuf>,
    pub tls_key: Option<PathBuf>,
    pub allow_plaintext: Option<bool>,
    pub region: Option<String>,
    pub account: Option<String>,
    pub concurrency: Option<u32>,
    pub code_storage_mb: Option<u64>,
    pub memory_mb: Option<u64>,
    pub idle_seconds: Option<u64>,
    pub freeze_ms: Option<u64>,
    pub threads: Option<usize>,
    pub preboot: Option<usize>,
    pub preboot_mb: Option<u64>,
    pub images_mb: Option<u64>,
    pub log_mb: Option<u64>,
    pub log_stream_mb: Option<u64>,
    pub log_streams: Option<usize>,
    pub retry_delays: Option<[u64; 2]>,
    pub strict_runtimes: Option<bool>,
    pub allow_degraded: Option<Vec<String>>,
    pub s3: Option<Endpoint>,
    pub sqs: Option<Endpoint>,
    pub sns: Option<Endpoint>,
    #[serde(default)]
    pub principal: Vec<Principal>,
}

/// What holds.
#[derive(Debug, Clone)]
pub struct Config {
    pub listen: Vec<Listen>,
    pub data: PathBuf,
    /// Certificate chain and key, PEM.
    pub tls: Option<(PathBuf, PathBuf)>,
    pub region: String,
    pub account: String,
    pub concurrency: u32,
    pub code_storage_bytes: u64,
    pub memory_bytes: u64,
    pub idle: Duration,
    pub freeze_after: Duration,
    /// Of the server itself, beside those for files and packages.
    pub threads: usize,
    pub preboot: usize,
    pub preboot_bytes: u64,
    /// 0: none are made.
    pub images_bytes: u64,
    pub log_bytes: u64,
    pub log_stream_bytes: u64,
    pub log_streams: usize,
    pub retry_delays: [Duration; 2],
    pub strict_runtimes: bool,
    pub allow_degraded: Vec<String>,
    pub s3: Option<Endpoint>,
    pub sqs: Option<Endpoint>,
    pub sns: Option<Endpoint>,
    pub principals: Vec<Principal>,
}

impl File {
    /// # Errors
    /// No such file; a key that is unknown or of the wrong type, with its line.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Read { path: path.into(), source })?;
        toml::from_str(&text)
            .map_err(|source| ConfigError::Parse { path: path.into(), source: Box::new(source) })
    }

    /// Fills what `above` says over what is here.
    pub fn overlaid(self, above: Self) -> Self {
        Self {
            listen: above.listen.or(self.listen),
            data: above.data.or(self.data),
            tls_cert: above.tls_cert.or(self.tls_cert),
            tls_key: above.tls_key.or(self.tls_key),
            allow_plaintext: above.allow_plaintext.or(self.allow_plaintext),
            region: above.region.or(self.region),
            account: above.account.or(self.account),
            concurrency: above.concurrency.or(self.concurrency),
            code_storage_mb: above.code_storage_mb.or(self.code_storage_mb),
            memory_mb: above.memory_mb.or(self.memory_mb),
            idle_seconds: above.idle_seconds.or(self.idle_seconds),
            freeze_ms: above.freeze_ms.or(self.freeze_ms),
            threads: above.threads.or(self.threads),
            preboot: above.preboot.or(self.preboot),
            preboot_mb: above.preboot_mb.or(self.preboot_mb),
            images_mb: above.images_mb.or(self.images_mb),
            log_mb: above.log_mb.or(self.log_mb),
            log_stream_mb: above.log_stream_mb.or(self.log_stream_mb),
            log_streams: above.log_streams.or(self.log_streams),
            retry_delays: above.retry_delays.or(self.retry_delays),
            strict_runtimes: above.strict_runtimes.or(self.strict_runtimes),
            allow_degraded: above.allow_degraded.or(self.allow_degraded),
            s3: above.s3.or(self.s3),
            sqs: above.sqs.or(self.sqs),
            sns: above.sns.or(self.sns),
            principal: if above.principal.is_empty() { self.principal } else { above.principal },
        }
    }

    /// Checks everything, and fills in the defaults. `host_memory`: bytes that the host has.
    ///
    /// # Errors
    /// The first value that breaks a rule.
    pub fn check(self, default_data: PathBuf, host_memory: u64) -> Result<Config, ConfigError> {
        let listen = self.listen.unwrap_or_else(|| vec![DEFAULT_LISTEN.into()]);
        let listen = listen.iter().map(|l| l.parse()).collect::<Result<Vec<Listen>, _>>()?;
        let tls = match (self.tls_cert, self.tls_key) {
            (Some(cert), Some(key)) => Some((cert, key)),
            (None, None) => None,
            _ => return Err(ConfigError::HalfTls),
        };
        for address in &listen {
            if let Listen::Tcp(address) = address
                && !address.ip().is_loopback()
                && tls.is_none()
                && !self.allow_plaintext.unwrap_or(false)
            {
                return Err(ConfigError::Plaintext { address: *address });
            }
        }
        let account = self.account.unwrap_or_else(|| DEFAULT_ACCOUNT.into());
        if account.len() != 12 || !account.bytes().all(|b| b.is_ascii_digit()) {
            let want = "twelve digits";
            return Err(ConfigError::Value { what: "account", value: account, want });
        }
        let region = self.region.unwrap_or_else(|| DEFAULT_REGION.into());
        if !region.split('-').all(|p| !p.is_empty() && p.bytes().all(|b| b.is_ascii_alphanumeric()))
            || region.split('-').count() < 3
        {
            let want = "an AWS region's name, such as us-east-1";
            return Err(ConfigError::Value { what: "region", value: region, want });
        }
        let share = host_memory / 100 * DEFAULT_MEMORY_PERCENT;
        let megabytes = |mb: u64| mb.saturating_mul(1 << 20);
        Ok(Config {
            listen,
            data: self.data.unwrap_or(default_data),
            tls,
            region,
            account,
            concurrency: self.concurrency.unwrap_or(DEFAULT_CONCURRENCY),
            code_storage_bytes: megabytes(self.code_storage_mb.unwrap_or(DEFAULT_CODE_STORAGE_MB)),
            memory_bytes: self.memory_mb.map_or(share, megabytes),
            idle: Duration::from_secs(self.idle_seconds.unwrap_or(DEFAULT_IDLE_S)),
            freeze_after: Duration::from_millis(self.freeze_ms.unwrap_or(DEFAULT_FREEZE_MS)),
            threads: self.threads.unwrap_or_else(default_threads),
            preboot: self.preboot.unwrap_or(DEFAULT_PREBOOT),
            preboot_bytes: megabytes(self.preboot_mb.unwrap_or(DEFAULT_PREBOOT_MB)),
            images_bytes: megabytes(self.images_mb.unwrap_or(DEFAULT_IMAGES_MB)),
            log_bytes: megabytes(self.log_mb.unwrap_or(DEFAULT_LOG_MB)),
            log_stream_bytes: megabytes(self.log_stream_mb.unwrap_or(DEFAULT_LOG_STREAM_MB)),
            log_streams: self.log_streams.unwrap_or(DEFAULT_LOG_STREAMS),
            retry_delays: self
                .retry_delays
                .unwrap_or(DEFAULT_RETRY_DELAYS_S)
                .map(Duration::from_secs),
            strict_runtimes: self.strict_runtimes.unwrap_or(false),
            allow_degraded: self.allow_degraded.unwrap_or_default(),
            s3: self.s3,
            sqs: self.sqs,
            sns: self.sns,
            principals: self.principal,
        })
    }
}

/// Half of the cores: the others are for the functions.
fn default_threads() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| cores.get() / 2).max(1)
}

/// Bytes of memory of this host.
pub fn host_memory() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kb = text.lines().find_map(|line| {
        line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()
    });
    kb.unwrap_or(4 << 20).saturating_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Result<Config, String> {
        let file: File = toml::from_str(text).map_err(|e| e.message().to_owned())?;
        file.check("/data".into(), 10 << 30).map_err(|e| e.to_string())
    }

    #[test]
    fn nothing_given_is_safe() {
        let config = check("").unwrap();
        assert_eq!(config.listen, [Listen::Tcp("127.0.0.1:9330".parse().unwrap())]);
        assert_eq!(
            (config.region.as_str(), config.account.as_str()),
            ("us-east-1", "000000000000")
        );
        assert_eq!(config.memory_bytes, (10_u64 << 30) / 100 * 80);
        assert_eq!(config.retry_delays.map(|d| d.as_secs()), [60, 120]);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, want) in [
            ("colour = 1", "unknown field `colour`"),
            ("listen = ['nowhere']", "`nowhere` is no address to listen on"),
            ("listen = ['0.0.0.0:1']", "can be reached from other machines"),
            ("listen = ['[::]:1']", "can be reached from other machines"),
            ("tls_cert = 'c'", "go together"),
            ("account = '12'", "the account `12` is not twelve digits"),
            ("region = 'mars'", "the region `mars`"),
        ] {
            let error = check(text).unwrap_err();
            assert!(error.contains(want), "{text}: {error}");
        }
        assert!(check("listen = ['0.0.0.0:1']\nallow_plaintext = true").is_ok());
        assert!(check("listen = ['0.0.0.0:1']\ntls_cert = 'c'\ntls_key = 'k'").is_ok());
        assert!(check("listen = ['[::1]:1', 'unix:/run/k.sock']").is_ok());
    }

    #[test]
    fn flags_win_over_the_file() {
        let file: File = toml::from_str("region = 'eu-west-1'\nidle_seconds = 5").unwrap();
        let flags = File { region: Some("eu-west-3".into()), ..File::default() };
        let config = file.overlaid(flags).check("/d".into(), 1 << 30).unwrap();
        assert_eq!((config.region.as_str(), config.idle.as_secs()), ("eu-west-3", 5));
    }
}
