//! What a function prints, and the lines that AWS puts around it.

#![forbid(unsafe_code)]

pub mod capture;
pub mod lines;

pub use capture::{Capture, Sink};
