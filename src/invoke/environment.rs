//! The environment that a function finds, as AWS sets it.

use std::time::SystemTime;

use super::Function;
use crate::sandbox::{RUNTIME_PORT, RUNTIME_SOCKET};

/// Log group and stream of one sandbox.
#[derive(Debug, Clone)]
pub struct LogNames {
    pub group: String,
    pub stream: String,
}

impl LogNames {
    /// Stream names are `YYYY/MM/DD/[VERSION]` and 32 hex digits.
    pub fn new(function: &str, version: &str) -> Self {
        let day = jiff::Timestamp::try_from(SystemTime::now())
            .map_or_else(|_| "1970/01/01".into(), |now| now.strftime("%Y/%m/%d").to_string());
        Self {
            group: format!("/aws/lambda/{function}"),
            stream: format!("{day}/[{version}]{}", uuid::Uuid::new_v4().simple()),
        }
    }
}

/// An X-Ray trace header for an event that came with none.
pub fn trace_id() -> String {
    let seconds = crate::pool::unix_ms(SystemTime::now()) / 1000;
    let (random, parent) = (fastrand::u128(..) >> 32, fastrand::u64(..));
    format!("Root=1-{seconds:08x}-{random:024x};Parent={parent:016x};Sampled=0")
}

/// A name for a request: a UUID of version 4. Unique, and no secret, so that the kernel need not be asked.
pub fn request_id() -> String {
    let random = fastrand::u128(..).to_ne_bytes();
    uuid::Builder::from_random_bytes(random).into_uuid().to_string()
}

/// What every process has unless something says otherwise.
pub fn defaults() -> Vec<(String, String)> {
    [
        ("PATH", "/usr/local/bin:/usr/bin:/bin:/opt/bin"),
        ("LD_LIBRARY_PATH", "/var/task:/var/task/lib:/opt/lib"),
        ("LANG", "en_US.UTF-8"),
        ("TZ", ":UTC"),
        ("HOME", "/tmp"),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .into()
}

/// Everything that decides a function's variables.
#[derive(Debug)]
pub struct FunctionEnvironment<'a> {
    pub function: &'a Function,
    pub log: &'a LogNames,
    pub rpc_port: Option<u16>,
    /// `on-demand` or `provisioned-concurrency`.
    pub initialization_type: &'a str,
}

impl FunctionEnvironment<'_> {
    /// Later ones win: the host's defaults, the runtime's, the function's own, and what no function may change.
    pub fn variables(&self) -> Vec<(String, String)> {
        let function = self.function;
        let mut all: Vec<(String, String)> = Vec::new();
        let mut set = |key: &str, value: String| match all.iter_mut().find(|(k, _)| k == key) {
            Some(slot) => slot.1 = value,
            None => all.push((key.into(), value)),
        };
        for (key, value) in defaults() {
            set(&key, value);
        }
        for (key, value) in function.runtime.env(&function.handler, function.memory) {
            set(&key, value);
        }
        // A start ahead is Kennel's to ask for: a bootstrap that was not started so would wait for nobody.
        for (key, value) in function.environment.iter().filter(|(key, _)| key != "KENNEL_PREBOOT") {
            set(key, value.clone());
        }
        set("AWS_LAMBDA_RUNTIME_API", format!("127.0.0.1:{RUNTIME_PORT}"));
        set("KENNEL_RUNTIME_API_SOCKET", RUNTIME_SOCKET.into());
        if let Some(port) = self.rpc_port {
            set("_LAMBDA_SERVER_PORT", port.to_string());
        }
        set("_HANDLER", function.handler.clone());
        set("LAMBDA_TASK_ROOT", "/var/task".into());
        set("LAMBDA_RUNTIME_DIR", "/var/runtime".into());
        set("AWS_LAMBDA_FUNCTION_NAME", function.name.clone());
        set("AWS_LAMBDA_FUNCTION_VERSION", function.version.clone());
        set("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", function.memory.mib().to_string());
        set("AWS_LAMBDA_LOG_GROUP_NAME", self.log.group.clone());
        set("AWS_LAMBDA_LOG_STREAM_NAME", self.log.stream.clone());
        set("AWS_LAMBDA_INITIALIZATION_TYPE", self.initialization_type.into());
        set("AWS_REGION", function.region.clone());
        set("AWS_DEFAULT_REGION", function.region.clone());
        set("AWS_EXECUTION_ENV", format!("AWS_Lambda_{}", function.runtime.name));
        all
    }
}
