//! The real server, over HTTP, as AWS's clients use it: `kennel serve` on a free port and a data directory of its own.
//!
//! Most tests share one server; those about its start and its end have one each. What makes a sandbox needs root, and
//! is skipped without.

#[path = "../common/mod.rs"]
mod common;
mod concurrency;
mod confinement;
mod front_door;
mod harness;
mod invoke;
mod lifecycle;
mod logs;
mod pool;
mod s3;
mod urls;
