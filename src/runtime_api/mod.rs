//! Lambda's Runtime API 2018-06-01, on each sandbox's own listeners, and Go's old net/rpc door.
//!
//! The listeners are made inside the sandbox's namespaces, so *which* sandbox speaks is known by the listener and
//! cannot be forged.

#![forbid(unsafe_code)]

pub mod go_rpc;
mod gob;
pub mod http;
mod quick;
pub mod rpc_door;
pub mod session;
mod stream;

pub use session::{Answer, Event, Invocation, Session};
