//! Reading events back: one stream by position, and many streams merged by time.
//!
//! A stream's events have the order in which they were appended. Across streams they are merged by time, and an event
//! that was put with a time before its stream's earlier ones counts as of theirs. So the order is total and stable, and
//! a page can go on where the last one ended.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use super::groups::Groups;
use crate::store::{LogInfo, Logs, Record, StoreError};

/// Records and bytes of one read of the store; the bytes shrink where many streams are read at once.
const CHUNK_RECORDS: usize = 1000;
const CHUNK_BYTES: usize = 256 << 10;
const LEAST_CHUNK_BYTES: usize = 8 << 10;
/// Bytes of events in memory while many streams are read, about.
const OPEN_BYTES: usize = 16 << 20;
/// What looking at a record costs, beside its bytes.
const RECORD_COST: usize = 64;
/// Streams whose positions are remembered, and positions of each.
const MARKED_STREAMS: usize = 1024;
const MARKS: usize = 64;

/// What one answer may hold, and what may be looked at for it.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    pub events: usize,
    pub bytes: usize,
    /// Bytes that are looked at in search of events; beyond, the answer says where to go on.
    pub scanned: usize,
}

/// Every record before `sequence` has a time before or at `latest_ms`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mark {
    sequence: u64,
    latest_ms: u64,
}

#[derive(Debug, Default)]
struct Marked {
    /// Tells a stream from a later one of the same name.
    created_ms: u64,
    marks: Vec<Mark>,
}

/// Positions in streams by time, from earlier reads: who follows a long stream does not read it from its beginning each
/// time.
#[derive(Debug, Default)]
pub struct Marks(Mutex<HashMap<String, Marked>>);

impl Marks {
    /// The furthest position before which everything is older than `time_ms`.
    fn before(&self, info: &LogInfo, time_ms: u64) -> Mark {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = all.get(&info.log).filter(|marked| marked.created_ms == info.created_ms);
        let found = found.and_then(|m| m.marks.iter().rev().find(|mark| mark.latest_ms < time_ms));
        found.copied().unwrap_or(Mark { sequence: 0, latest_ms: 0 })
    }

    fn add(&self, info: &LogInfo, mark: Mark) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= MARKED_STREAMS && !all.contains_key(&info.log) {
            all.clear();
        }
        let marked = all.entry(info.log.clone()).or_default();
        if marked.created_ms != info.created_ms {
            *marked = Marked { created_ms: info.created_ms, marks: Vec::new() };
        }
        if marked.marks.last().is_some_and(|last| last.sequence >= mark.sequence) {
            return;
        }
        if marked.marks.len() >= MARKS {
            let mut nth = 0_usize;
            marked.marks.retain(|_| {
                nth += 1;
                nth % 2 == 1
            });
        }
        marked.marks.push(mark);
    }
}

/// Reads one stream forward.
#[derive(Debug)]
struct Cursor<'a> {
    info: &'a LogInfo,
    next: u64,
    /// Latest time so far: an event's place among other streams'.
    latest_ms: u64,
    buffer: VecDeque<Record>,
    chunk: usize,
    ended: bool,
}

impl<'a> Cursor<'a> {
    fn new(info: &'a LogInfo, from: Mark, chunk: usize) -> Self {
        let Mark { sequence: next, latest_ms } = from;
        Self { info, next, latest_ms, buffer: VecDeque::new(), chunk, ended: false }
    }

    /// The next event's place in time, reading on where needed.
    async fn peek(&mut self, logs: &dyn Logs, marks: &Marks) -> Result<Option<u64>, StoreError> {
        if self.buffer.is_empty() && !self.ended {
            let read = logs.read(&self.info.log, self.next, CHUNK_RECORDS, self.chunk).await?;
            self.ended = read.is_empty();
            if let Some(last) = read.last() {
                self.next = last.sequence + 1;
                let latest_ms = read.iter().fold(self.latest_ms, |t, r| t.max(r.time_ms));
                marks.add(self.info, Mark { sequence: self.next, latest_ms });
            }
            self.buffer = read.into();
        }
        Ok(self.buffer.front().map(|record| record.time_ms.max(self.latest_ms)))
    }

    fn take(&mut self) -> Option<Record> {
        let record = self.buffer.pop_front()?;
        self.latest_ms = self.latest_ms.max(record.time_ms);
        Some(record)
    }
}

/// Where a merged reading goes on: after this event.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The event's place in time.
    pub time_ms: u64,
    pub log: String,
    pub sequence: u64,
}

/// Events of many streams, by time.
#[derive(Debug)]
pub struct Merged {
    /// Log and record.
    pub events: Vec<(String, Record)>,
    /// Where the next page begins; `None` at the end.
    pub after: Option<Place>,
}

/// Reads events with `from_ms` <= time <= `to_ms` that `wanted` takes, after `after` where given.
///
/// # Errors
/// The store's.
pub async fn merged(
    groups: &Groups,
    marks: &Marks,
    mut streams: Vec<LogInfo>,
    (from_ms, to_ms): (u64, u64),
    after: Option<&Place>,
    budget: Budget,
    wanted: impl Fn(&Record) -> bool,
) -> Result<Merged, StoreError> {
    let begins = from_ms.max(after.map_or(0, |place| place.time_ms));
    streams.retain(|info| match (info.first_record_ms, info.last_record_ms) {
        // What is put late may lie before the first record: only the end of a stream is certain.
        (Some(_), Some(last)) => last >= begins || late(info),
        _ => false,
    });
    streams.sort_by(|a, b| a.log.cmp(&b.log));
    let mut cursors: Vec<Option<Cursor<'_>>> = streams.iter().map(|_| None).collect();
    // The next event's place in time, and its stream; one that was not opened yet stands at its first record.
    let mut heads: BinaryHeap<Reverse<(u64, usize)>> = BinaryHeap::new();
    for (at, info) in streams.iter().enumerate() {
        heads.push(Reverse((info.first_record_ms.unwrap_or_default(), at)));
    }
    let chunk = (OPEN_BYTES / streams.len().max(1)).clamp(LEAST_CHUNK_BYTES, CHUNK_BYTES);
    let mut events = Vec::new();
    let (mut bytes, mut scanned) = (0, 0);
    let mut last: Option<Place> = after.cloned();
    while let Some(Reverse((head_ms, at))) = heads.pop() {
        let info = &streams[at];
        let cursor =
            cursors[at].get_or_insert_with(|| Cursor::new(info, marks.before(info, begins), chunk));
        let Some(time_ms) = cursor.peek(&*groups.logs, marks).await? else {
            cursors[at] = None;
            continue;
        };
        if time_ms > head_ms {
            heads.push(Reverse((time_ms, at))); // it moved on, or was just opened: others may be first
            continue;
        }
        let Some(record) = cursor.take() else { continue };
        if events.len() >= budget.events || bytes >= budget.bytes || scanned > budget.scanned {
            return Ok(Merged { events, after: last });
        }
        scanned += RECORD_COST + record.body.len();
        heads.push(Reverse((time_ms, at)));
        let place = Place { time_ms, log: info.log.clone(), sequence: record.sequence };
        if after.is_some_and(|after| place <= *after) {
            scanned = 0; // was there before: a page always gets further
            continue;
        }
        if (from_ms..=to_ms).contains(&record.time_ms) && wanted(&record) {
            bytes += record.body.len();
            events.push((info.log.clone(), record));
        }
        last = Some(place);
    }
    Ok(Merged { events, after: None })
}

/// Whether a stream's last record is older than an earlier one, as far as can be seen.
fn late(info: &LogInfo) -> bool {
    info.first_record_ms > info.last_record_ms
}

/// One page of one stream.
#[derive(Debug)]
pub struct Page {
    pub events: Vec<Record>,
    /// A forward page goes on from this sequence.
    pub forward: u64,
    /// A backward page goes on before this sequence.
    pub backward: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From this sequence on.
    Forward(u64),
    /// The last ones before this sequence.
    Backward(u64),
}

/// Reads events with `from_ms` <= time < `until_ms` of one stream.
///
/// # Errors
/// The store's.
pub async fn page(
    groups: &Groups,
    marks: &Marks,
    info: &LogInfo,
    (from_ms, until_ms): (u64, u64),
    direction: Direction,
    budget: Budget,
) -> Result<Page, StoreError> {
    let mut start = marks.before(info, from_ms);
    let (end, forward) = match direction {
        Direction::Forward(sequence) => {
            start.sequence = start.sequence.max(sequence);
            (u64::MAX, true)
        }
        Direction::Backward(before) => (before, false),
    };
    let mut cursor = Cursor::new(info, start, CHUNK_BYTES);
    let mut kept: VecDeque<Record> = VecDeque::new();
    let (mut bytes, mut scanned) = (0, 0);
    let mut reached = match direction {
        Direction::Forward(sequence) => sequence,
        Direction::Backward(_) => 0,
    };
    while cursor.peek(&*groups.logs, marks).await?.is_some() {
        let Some(record) = cursor.take().filter(|record| record.sequence < end) else { break };
        let sequence = record.sequence;
        scanned += RECORD_COST + record.body.len();
        if (from_ms..until_ms).contains(&record.time_ms) {
            if forward && (kept.len() >= budget.events || bytes >= budget.bytes) {
                break;
            }
            bytes += record.body.len();
            kept.push_back(record);
            while !forward
                && (kept.len() > budget.events || (bytes > budget.bytes && kept.len() > 1))
            {
                bytes -= kept.pop_front().map_or(0, |first| first.body.len());
            }
        }
        reached = sequence + 1;
        if forward && scanned > budget.scanned {
            break;
        }
    }
    let (forward, backward) = match (kept.front(), kept.back(), direction) {
        (Some(first), Some(last), Direction::Backward(_)) => (last.sequence + 1, first.sequence),
        (Some(first), _, Direction::Forward(_)) => (reached, first.sequence),
        (_, _, Direction::Forward(_)) => (reached, reached),
        (_, _, Direction::Backward(u64::MAX)) => (reached, 0),
        (_, _, Direction::Backward(before)) => (before, before),
    };
    Ok(Page { events: kept.into(), forward, backward })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;

    use super::*;
    use crate::logs::Limits;
    use crate::store::Durability;
    use crate::store::memory::MemoryStore;
    use crate::store::memory_logs::MemoryLogs;

    const ALL: Budget = Budget { events: 10_000, bytes: 1 << 20, scanned: usize::MAX };

    async fn groups(streams: &[(&str, &[u64])]) -> Groups {
        let (store, logs) = (Arc::new(MemoryStore::new()), Arc::new(MemoryLogs::new()));
        for (name, times) in streams {
            let records = times.iter().enumerate();
            let records = records.map(|(n, ms)| (*ms, Bytes::from(format!("{name}{n}")))).collect();
            logs.append(&format!("g|{name}"), records, Durability::Written).await.unwrap();
        }
        Groups::new(store, logs, Limits::default())
    }

    fn texts<'a>(events: impl Iterator<Item = &'a Record>) -> Vec<String> {
        events.map(|r| String::from_utf8(r.body.to_vec()).unwrap()).collect()
    }

    async fn merge(
        groups: &Groups,
        marks: &Marks,
        window: (u64, u64),
        budget: Budget,
    ) -> Vec<String> {
        let mut all = Vec::new();
        let mut after = None;
        loop {
            let streams = groups.streams("g", "").await.unwrap();
            let page = merged(groups, marks, streams, window, after.as_ref(), budget, |_| true);
            let page = page.await.unwrap();
            all.extend(texts(page.events.iter().map(|e| &e.1)));
            match page.after {
                Some(place) => after = Some(place),
                None => return all,
            }
        }
    }

    #[tokio::test(flavor = "current_thread")]
    async fn streams_are_merged_by_time_whatever_the_page() {
        let groups =
            groups(&[("a", &[1, 5, 5, 9]), ("b", &[2, 5, 10]), ("c", &[20]), ("d", &[7, 3, 8])])
                .await;
        let marks = Marks::default();
        let order = ["a0", "b0", "a1", "a2", "b1", "d0", "d1", "d2", "a3", "b2", "c0"];
        for events in [1, 2, 3, 100] {
            let budget = Budget { events, ..ALL };
            assert_eq!(merge(&groups, &marks, (0, 100), budget).await, order, "pages of {events}");
        }
        let budget = Budget { scanned: 1, ..ALL };
        assert_eq!(merge(&groups, &marks, (0, 100), budget).await, order, "little is looked at");
        assert_eq!(merge(&groups, &marks, (5, 9), ALL).await, ["a1", "a2", "b1", "d0", "d2", "a3"]);
        assert_eq!(merge(&groups, &marks, (3, 3), ALL).await, ["d1"]);
        assert_eq!(merge(&groups, &marks, (21, 30), ALL).await, [""; 0]);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_followed_stream_is_not_read_from_its_beginning() {
        let times: Vec<u64> = (0..5000).collect();
        let groups = groups(&[("a", &times)]).await;
        let marks = Marks::default();
        assert_eq!(merge(&groups, &marks, (0, 9999), ALL).await.len(), 5000);
        let info = groups.stream("g", "a").await.unwrap().unwrap();
        assert_eq!(marks.before(&info, 4000), Mark { sequence: 4000, latest_ms: 3999 });
        assert_eq!(merge(&groups, &marks, (4990, 9999), ALL).await.len(), 10);
        let other = LogInfo { created_ms: 1, ..info };
        assert_eq!(marks.before(&other, 4000).sequence, 0, "another stream of the name");
    }

    #[tokio::test(flavor = "current_thread")]
    async fn pages_of_one_stream_go_both_ways() {
        let groups = groups(&[("a", &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9])]).await;
        let (marks, info) = (Marks::default(), groups.stream("g", "a").await.unwrap().unwrap());
        let budget = Budget { events: 4, ..ALL };
        let window = (1, 9);
        for (direction, expected, forward, backward) in [
            (Direction::Forward(0), &["a1", "a2", "a3", "a4"][..], 5, 1),
            (Direction::Forward(5), &["a5", "a6", "a7", "a8"], 10, 5),
            (Direction::Forward(10), &[], 10, 10),
            (Direction::Backward(u64::MAX), &["a5", "a6", "a7", "a8"], 9, 5),
            (Direction::Backward(5), &["a1", "a2", "a3", "a4"], 5, 1),
            (Direction::Backward(1), &[], 1, 1),
        ] {
            let page = page(&groups, &marks, &info, window, direction, budget).await.unwrap();
            assert_eq!(texts(page.events.iter()), expected, "{direction:?}");
            assert_eq!((page.forward, page.backward), (forward, backward), "{direction:?}");
        }
    }
}
