//! Kennel runs AWS-Lambda-style functions that nobody trusts, on plain Linux.
//!
//! The way of an event, and the modules in that order:
//!
//! ```text
//! cli → api → control → invoke → pool → runtime_api ══unix socket══▶ bootstrap → handler   (in the sandbox)
//!               │         │        │
//!             store     store   launcher ⇢ sandbox (root, one thread) ──▶ namespaces, cgroup, seccomp, Landlock
//! ```
//!
//! Each knows the one to its right and never the one to its left. `package` makes code trees of zips, `runtimes`
//! reads the languages' manifests, `logs` captures what functions print, and `sys` is the only folder with `unsafe`.

pub mod api;
pub mod cli;
pub mod client;
pub mod config;
pub mod control;
pub mod invoke;
pub mod launcher;
pub mod logs;
pub mod metrics;
pub mod package;
pub mod pool;
pub mod runtime_api;
pub mod runtimes;
pub mod sandbox;
pub mod server;
pub mod sigv4;
pub mod snapshot;
pub mod store;
pub mod sys;
