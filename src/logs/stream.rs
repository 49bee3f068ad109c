//! A sandbox's log stream: captured bytes become events, one a line, and go to the store in batches.
//!
//! Nothing waits but the function whose log it is. A store that refuses (a full disk) costs events, never an
//! invocation, unless the caller asked for a durable log.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;

use super::capture::Sink;
use super::groups::Groups;
use super::platform::LogFormat;
use crate::store::{Durability, Held, StoreError};

/// Bytes of an event; a longer line is split. Source: AWS, CloudWatch Logs quotas.
pub const EVENT_BYTES: usize = 256 << 10;
/// Bytes of events that are held back before they go to the store.
const BATCH_BYTES: usize = 64 << 10;
/// How long an event is held back while its invocation runs.
pub(super) const HOLD: Duration = Duration::from_millis(200);

type Append = Pin<Box<dyn Future<Output = Result<(), StoreError>> + Send>>;

/// See the module's words. Made by [`Groups::open`]. What was not flushed when it is dropped is lost.
pub struct StreamSink {
    groups: Arc<Groups>,
    group: Arc<str>,
    log: Arc<str>,
    /// Whether events keep the newline that ended them: AWS has it in the text format alone.
    newlines: bool,
    /// The beginning of a line.
    partial: Vec<u8>,
    events: Vec<(u64, Bytes)>,
    bytes: usize,
    /// When the oldest of `events` came.
    since: Option<Instant>,
    /// Time of the newest event: a clock that is set back does not reorder a stream.
    last_ms: u64,
    /// An append that is under way: it outlives a caller that is dropped while it waits.
    append: Option<Append>,
    /// Whether this one is counted among those with events that the store does not have.
    holds: bool,
    /// The first failure of this invocation.
    lost: Option<StoreError>,
    /// Its log is not one that goes for others to come.
    _held: Held,
}

impl fmt::Debug for StreamSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamSink")
            .field("log", &self.log)
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

impl StreamSink {
    pub(super) fn new(groups: Arc<Groups>, group: &str, stream: &str, format: LogFormat) -> Self {
        let log: Arc<str> = Groups::log_name(group, stream).into();
        Self {
            _held: groups.logs.hold(&log),
            groups,
            group: group.into(),
            log,
            newlines: format == LogFormat::Text,
            partial: Vec::new(),
            events: Vec::new(),
            bytes: 0,
            since: None,
            last_ms: 0,
            append: None,
            holds: false,
            lost: None,
        }
    }

    /// Passes on the events so far, and waits until the store has them. A failure is counted and logged there.
    pub async fn flush(&mut self, durability: Durability) {
        self.land().await;
        if self.events.is_empty() && durability == Durability::Written {
            return;
        }
        // From here to `self.append` nothing awaits: events are either here or on their way.
        let records = std::mem::take(&mut self.events);
        self.bytes = 0;
        self.since = None;
        let (groups, group, log) = (self.groups.clone(), self.group.clone(), self.log.clone());
        self.append =
            Some(Box::pin(async move { groups.append(&group, &log, records, durability).await }));
        self.land().await;
    }

    /// Ends an invocation as [`Sink::boundary`] does, and waits until its whole log is on the disk.
    ///
    /// # Errors
    /// Some of this invocation's log is not.
    pub async fn flush_durable(&mut self) -> Result<(), StoreError> {
        self.end_line();
        self.flush(Durability::Durable).await;
        self.lost.take().map_or(Ok(()), Err)
    }

    async fn land(&mut self) {
        if let Some(append) = &mut self.append {
            let result = append.await;
            self.append = None;
            if let Err(error) = result {
                self.lost.get_or_insert(error);
            }
        }
        if self.events.is_empty() {
            self.hold(false);
        }
    }

    fn hold(&mut self, holds: bool) {
        if self.holds != holds {
            self.holds = holds;
            self.groups.hold(holds);
        }
    }

    async fn make_room(&mut self) {
        let overdue = || self.since.is_some_and(|since| since.elapsed() >= HOLD);
        if self.append.is_some() || self.bytes >= BATCH_BYTES || overdue() {
            self.flush(Durability::Written).await;
        }
    }

    /// Splits into events.
    fn take(&mut self, bytes: &[u8]) {
        let now = self.now();
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let whole = part.ends_with(b"\n");
            if whole && self.partial.is_empty() && part.len() <= EVENT_BYTES {
                self.push(now, part);
                continue;
            }
            self.partial.extend_from_slice(part);
            while self.partial.len() > EVENT_BYTES {
                let rest = self.partial.split_off(whole_characters(&self.partial, EVENT_BYTES));
                let event = std::mem::replace(&mut self.partial, rest);
                self.push(now, &event);
            }
            if whole {
                let line = std::mem::take(&mut self.partial);
                self.push(now, &line);
            }
        }
    }

    fn end_line(&mut self) {
        if !self.partial.is_empty() {
            let line = std::mem::take(&mut self.partial);
            let now = self.now();
            self.push(now, &line);
        }
    }

    fn push(&mut self, time_ms: u64, event: &[u8]) {
        let event = if self.newlines { event } else { event.strip_suffix(b"\n").unwrap_or(event) };
        if event.is_empty() {
            return; // an event has a character at least
        }
        self.events.push((time_ms, Bytes::copy_from_slice(event)));
        self.bytes += event.len();
        if self.since.is_none() {
            self.since = Some(Instant::now());
            self.hold(true);
        }
    }

    fn now(&mut self) -> u64 {
        self.last_ms = self.last_ms.max(crate::pool::unix_ms(SystemTime::now()));
        self.last_ms
    }
}

impl Drop for StreamSink {
    fn drop(&mut self) {
        self.hold(false);
    }
}

/// The largest length up to `limit` that does not cut a UTF-8 character in two.
fn whole_characters(bytes: &[u8], limit: usize) -> usize {
    let continues = |at: usize| bytes.get(at).is_some_and(|byte| byte & 0xC0 == 0x80);
    (limit.saturating_sub(3)..=limit).rev().find(|at| !continues(*at)).unwrap_or(limit)
}

impl Sink for StreamSink {
    async fn write(&mut self, bytes: &[u8]) {
        self.make_room().await;
        self.take(bytes);
    }

    async fn note(&mut self, text: &str) {
        self.make_room().await;
        self.end_line();
        let now = self.now();
        self.push(now, text.as_bytes());
    }

    fn due(&self) -> Option<Instant> {
        match self.append {
            Some(_) => Some(Instant::now()),
            None => self.since.map(|since| since + HOLD),
        }
    }

    async fn pass_on(&mut self) {
        self.flush(Durability::Written).await;
    }

    async fn boundary(&mut self) {
        self.end_line();
        self.flush(Durability::Written).await;
        self.lost = None;
    }

    async fn boundary_durable(&mut self) -> Result<(), StoreError> {
        self.flush_durable().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logs::Capture;
    use crate::logs::Limits;
    use crate::store::Logs;
    use crate::store::memory::MemoryStore;
    use crate::store::memory_logs::MemoryLogs;

    fn stream(format: LogFormat) -> (Arc<MemoryLogs>, StreamSink) {
        let logs = Arc::new(MemoryLogs::new());
        let groups = Groups::new(Arc::new(MemoryStore::new()), logs.clone(), Limits::default());
        (logs, Arc::new(groups).open("g", "s", format))
    }

    async fn events(logs: &MemoryLogs) -> Vec<String> {
        let all = logs.read("g|s", 0, usize::MAX, usize::MAX).await.unwrap();
        all.into_iter().map(|r| String::from_utf8(r.body.to_vec()).unwrap()).collect()
    }

    #[tokio::test(flavor = "current_thread")]
    async fn lines_become_events() {
        let (logs, mut sink) = stream(LogFormat::Text);
        sink.note("START\n").await;
        sink.write(b"one\ntw").await;
        sink.write(b"o\n\nno newline").await;
        assert_eq!(events(&logs).await.len(), 0, "held back");
        assert!(sink.due().is_some());
        sink.note("Error: exit\nRuntime.ExitError\n").await;
        sink.boundary().await;
        let all =
            ["START\n", "one\n", "two\n", "\n", "no newline", "Error: exit\nRuntime.ExitError\n"];
        assert_eq!(events(&logs).await, all);
        assert_eq!(sink.due(), None);

        let (logs, mut sink) = stream(LogFormat::Json);
        sink.write(b"{\"a\":1}\n\nplain\n").await;
        sink.boundary().await;
        assert_eq!(events(&logs).await, ["{\"a\":1}", "plain"]);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_long_line_is_split_between_characters() {
        let (logs, mut sink) = stream(LogFormat::Text);
        let line = format!("x{}\n", "é".repeat(EVENT_BYTES / 2 + 10));
        for part in line.as_bytes().chunks(16 << 10) {
            sink.write(part).await;
        }
        sink.boundary().await;
        let all = events(&logs).await;
        assert_eq!(all.concat(), line);
        assert_eq!(all[0].len(), EVENT_BYTES - 1);
        assert_eq!(all.len(), 2);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn much_output_does_not_wait_for_the_end() {
        let (logs, mut sink) = stream(LogFormat::Text);
        let line = [b'x'; 1023].iter().chain(b"\n").copied().collect::<Vec<u8>>();
        for _ in 0..65 {
            sink.write(&line).await;
        }
        assert_eq!(events(&logs).await.len(), 64);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_full_disk_fails_only_a_durable_log() {
        let (logs, mut sink) = stream(LogFormat::Text);
        logs.set_full(true);
        sink.write(b"lost\n").await;
        sink.boundary().await;
        assert_eq!(sink.groups.failures(), 1);
        sink.write(b"lost too\n").await;
        sink.pass_on().await;
        logs.set_full(false);
        sink.write(b"kept\n").await;
        let failed = sink.flush_durable().await;
        assert!(matches!(failed, Err(StoreError::Full { .. })), "a part of its log is lost");
        sink.write(b"next\n").await;
        sink.flush_durable().await.unwrap();
        assert_eq!(events(&logs).await, ["kept\n", "next\n"]);
    }

    /// Logs whose appends wait until they are let through.
    #[derive(Debug)]
    struct Slow(MemoryLogs, tokio::sync::Semaphore);

    impl Logs for Slow {
        fn append<'a>(
            &'a self,
            log: &'a str,
            records: Vec<(u64, Bytes)>,
            durability: Durability,
        ) -> crate::store::StoreFuture<'a, ()> {
            Box::pin(async move {
                self.1.acquire().await.unwrap().forget();
                self.0.append(log, records, durability).await
            })
        }
        fn read<'a>(
            &'a self,
            log: &'a str,
            from: u64,
            limit: usize,
            most_bytes: usize,
        ) -> crate::store::StoreFuture<'a, Vec<crate::store::Record>> {
            self.0.read(log, from, limit, most_bytes)
        }
        fn trim<'a>(&'a self, log: &'a str, before_ms: u64) -> crate::store::StoreFuture<'a, ()> {
            self.0.trim(log, before_ms)
        }
        fn remove<'a>(&'a self, log: &'a str) -> crate::store::StoreFuture<'a, ()> {
            self.0.remove(log)
        }
        fn list<'a>(
            &'a self,
            prefix: &'a str,
            after: Option<&'a str>,
            limit: usize,
        ) -> crate::store::StoreFuture<'a, Vec<crate::store::LogInfo>> {
            self.0.list(prefix, after, limit)
        }
    }

    #[tokio::test(flavor = "current_thread")]
    async fn what_is_dropped_while_it_waits_is_neither_lost_nor_doubled() {
        let logs = Arc::new(Slow(MemoryLogs::new(), tokio::sync::Semaphore::new(0)));
        let groups = Groups::new(Arc::new(MemoryStore::new()), logs.clone(), Limits::default());
        let sink = Arc::new(groups).open("g", "s", LogFormat::Text);
        let (read, write) = nix::unistd::pipe().unwrap();
        let mut capture = Capture::new(read, sink).unwrap();
        let long = format!("{}\n", "x".repeat(30_000));
        for _ in 0..3 {
            nix::unistd::write(&write, long.as_bytes()).unwrap();
            capture.drain();
            // The append waits for the store; whoever pumps has better things to do.
            let _ = tokio::time::timeout(Duration::from_millis(5), capture.pump()).await;
        }
        let _ = tokio::time::timeout(Duration::from_millis(5), capture.end()).await;
        logs.1.add_permits(10);
        capture.note("END\n");
        capture.end_durably().await.unwrap();
        let expected = [long.as_str(), &long, &long, "END\n"];
        assert_eq!(events(&logs.0).await, expected);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_reader_can_wait_for_what_is_held_back() {
        let (_logs, mut sink) = stream(LogFormat::Text);
        let groups = sink.groups.clone();
        assert_eq!(groups.settle().await, None);
        sink.write(b"held\n").await;
        assert!(groups.settle().await.is_some());
        sink.boundary().await;
        assert_eq!(groups.settle().await, None);
        sink.write(b"held again\n").await;
        drop(sink);
        assert_eq!(groups.settle().await, None);
    }

    /// An instance's tasks move between threads.
    fn _can_be_spawned(mut capture: Capture<StreamSink>) {
        fn spawned<T: Send>(_: T) {}
        spawned(async move {
            capture.pump().await;
            capture.end().await;
            capture.end_durably().await
        });
    }

    /// Held-back output reaches the store while the invocation still runs.
    #[tokio::test(flavor = "current_thread")]
    async fn a_quiet_function_is_seen_before_it_ends() {
        let (logs, sink) = stream(LogFormat::Text);
        let (read, write) = nix::unistd::pipe().unwrap();
        let mut capture = Capture::new(read, sink).unwrap();
        nix::unistd::write(&write, b"working\n").unwrap();
        let seen = async {
            while events(&logs).await.is_empty() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::select! {
            () = capture.pump() => {}
            () = seen => {}
        }
        assert_eq!(events(&logs).await, ["working\n"]);
    }
}
