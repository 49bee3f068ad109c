//! What an invocation cost.

use serde::Serialize;

/// Every invocation ends in one. Times are milliseconds.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Receipt {
    pub request_id: String,
    /// `success`, `error` (the handler's), `exit`, `timeout`.
    pub status: String,
    pub duration_ms: f64,
    pub billed_duration_ms: u64,
    pub init_duration_ms: Option<f64>,
    /// Of every process in the sandbox, its construction included.
    pub cpu_time_ms: f64,
    pub memory_size_mb: u32,
    pub max_memory_used_mb: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub log_bytes: u64,
    /// Most processes and threads at one time; 0 where the kernel does not count.
    pub peak_processes: u64,
    pub out_of_memory_kills: u64,
    /// `cold` or `warm`.
    pub start: String,
    pub start_reason: String,
    pub runtime: String,
    pub interpreter_version: String,
    /// Protections weaker than designed, as the operator allowed.
    pub degraded: Vec<String>,
}
