//! What a function prints, the lines that AWS puts around it, and where they are kept: one stream for each sandbox, in
//! groups, with the rules of CloudWatch Logs. The wire of that API is `api::logs_api`.

#![forbid(unsafe_code)]

pub mod capture;
pub mod cloudwatch;
mod groups;
pub mod lines;
mod pattern;
mod platform;
mod reader;
mod stream;

pub use capture::{Capture, Sink};
pub use groups::{GroupRecord, Groups, Limits};
pub use platform::{Identity, InitStart, LogFormat, PlatformLog, SystemLevel};
pub use stream::StreamSink;
