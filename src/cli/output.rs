//! How failures and logs reach a person.

use std::io::Write;

use super::Failure;
use crate::logs::Sink;

/// An error in three parts: what failed, why, what to do.
pub fn print_failure(failure: &Failure) {
    let mut text = format!("Error: {}\n", failure.error);
    let causes: Vec<String> = failure.error.chain().skip(1).map(ToString::to_string).collect();
    if !causes.is_empty() {
        text.push_str("Caused by:\n");
        for (number, cause) in causes.iter().enumerate() {
            text.push_str(&format!("{}: {cause}\n", number + 1));
        }
    }
    if let Some(hint) = &failure.hint {
        text.push_str(&format!("Hint: {hint}\n"));
    }
    let _ = std::io::stderr().write_all(text.as_bytes());
}

/// An error whose causes are only texts: what the launcher said.
#[derive(Debug)]
pub struct Chain {
    text: String,
    cause: Option<Box<Chain>>,
}

impl Chain {
    pub fn new(texts: &[String]) -> Option<Self> {
        let (first, rest) = texts.split_first()?;
        Some(Self { text: first.clone(), cause: Self::new(rest).map(Box::new) })
    }
}

impl std::fmt::Display for Chain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Chain {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.cause.as_deref().map(|c| c as _)
    }
}

/// Chunks that wait for a slow reader of stderr, before the function waits too.
const QUEUE: usize = 4;

/// The function's log on stderr. A thread writes, so that a reader who stops reading holds the function back but not
/// its deadline.
#[derive(Debug)]
pub struct Stderr {
    chunks: Option<tokio::sync::mpsc::Sender<Vec<u8>>>,
    writer: Option<std::thread::JoinHandle<()>>,
}

impl Stderr {
    pub fn new() -> Self {
        Self { chunks: None, writer: None }
    }

    fn start(&mut self) -> &tokio::sync::mpsc::Sender<Vec<u8>> {
        self.chunks.get_or_insert_with(|| {
            let (sender, mut receiver) = tokio::sync::mpsc::channel::<Vec<u8>>(QUEUE);
            self.writer = Some(std::thread::spawn(move || {
                while let Some(chunk) = receiver.blocking_recv() {
                    let _ = std::io::stderr().write_all(&chunk);
                }
            }));
            sender
        })
    }

    /// Waits until everything is written.
    pub fn finish(mut self) {
        self.chunks = None;
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}

/// Where a function's log goes.
#[derive(Debug)]
pub enum LogSink {
    Stderr(Stderr),
    /// Kept for `--json`: the newest [`KEEP_BYTES`].
    Keep(Vec<u8>, bool),
}

/// Bytes of log in the object of `--json`.
pub const KEEP_BYTES: usize = 1 << 20;

impl Sink for LogSink {
    async fn write(&mut self, bytes: &[u8]) {
        match self {
            Self::Stderr(stderr) => {
                let _ = stderr.start().send(bytes.to_vec()).await;
            }
            Self::Keep(kept, truncated) => {
                kept.extend_from_slice(bytes);
                if kept.len() > 2 * KEEP_BYTES {
                    *truncated = true;
                    kept.drain(..kept.len() - KEEP_BYTES);
                }
            }
        }
    }
}
