//! Putting, getting and filtering events.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{CloudWatch, LogsError, Nothing, UPLOAD_TOKEN, decode_token, encode_token, now_ms};
use crate::logs::groups::Groups;
use crate::logs::pattern::Pattern;
use crate::logs::reader::{self, Budget, Direction, Place};
use crate::store::{Durability, Record};

/// Events of a page, at most and unless the caller says. Source: the service model.
pub const EVENTS: usize = 10_000;
/// Bytes of a page's messages, about. Source: AWS, GetLogEvents.
const PAGE_BYTES: usize = 1 << 20;
/// Bytes that one call looks at before it answers with what it has.
const SCAN_BYTES: usize = 64 << 20;
/// Bytes of one `PutLogEvents`, counting [`OVERHEAD`] for each event. Source: AWS.
const PUT_BYTES: usize = 1 << 20;
const OVERHEAD: usize = 26;
/// Events that are older than this have reached the store.
const SETTLED_MS: u64 = 300;
const TOO_OLD_MS: u64 = 14 * 86_400_000;
const TOO_NEW_MS: u64 = 2 * 3_600_000;

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PutLogEvents {
    pub log_group_name: String,
    pub log_stream_name: String,
    pub log_events: Vec<InputEvent>,
}

#[derive(Debug, Default, Deserialize)]
pub struct InputEvent {
    pub timestamp: u64,
    pub message: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Put {
    pub next_sequence_token: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rejected_log_events_info: Option<Rejected>,
}

#[derive(Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Rejected {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub too_new_log_event_start_index: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub too_old_log_event_end_index: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expired_log_event_end_index: Option<usize>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GetLogEvents {
    pub log_group_name: Option<String>,
    pub log_group_identifier: Option<String>,
    pub log_stream_name: String,
    pub start_time: Option<u64>,
    /// Exclusive.
    pub end_time: Option<u64>,
    pub next_token: Option<String>,
    pub limit: Option<usize>,
    pub start_from_head: Option<bool>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Events {
    pub events: Vec<OutputEvent>,
    pub next_forward_token: String,
    pub next_backward_token: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OutputEvent {
    pub timestamp: u64,
    pub message: String,
    pub ingestion_time: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FilterLogEvents {
    pub log_group_name: Option<String>,
    pub log_group_identifier: Option<String>,
    pub log_stream_names: Option<Vec<String>>,
    pub log_stream_name_prefix: Option<String>,
    pub start_time: Option<u64>,
    /// Inclusive.
    pub end_time: Option<u64>,
    pub filter_pattern: Option<String>,
    pub next_token: Option<String>,
    pub limit: Option<usize>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Filtered {
    pub events: Vec<FilteredEvent>,
    /// Always empty, as AWS has it since 2020.
    pub searched_log_streams: [(); 0],
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FilteredEvent {
    pub log_stream_name: String,
    pub timestamp: u64,
    pub message: String,
    pub ingestion_time: u64,
    pub event_id: String,
}

fn message(record: &Record) -> String {
    String::from_utf8_lossy(&record.body).into_owned()
}

/// 56 digits, as AWS's are: of time, stream and place in the stream.
fn event_id(log: &str, record: &Record) -> String {
    // FNV-1a: tells streams of a millisecond apart, nothing more.
    let stream = log.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{:016}{stream:020}{:020}", record.time_ms, record.sequence)
}

/// `f/N/s` or `b/N/s`.
fn position_token(direction: char, sequence: u64) -> String {
    format!("{direction}/{sequence:056}/s")
}

fn parse_position(token: &str) -> Result<Direction, LogsError> {
    let (direction, rest) = token.split_once('/').ok_or_else(LogsError::token)?;
    let digits = rest.strip_suffix("/s").unwrap_or(rest);
    let sequence = digits.parse().map_err(|_| LogsError::token())?;
    match direction {
        "f" => Ok(Direction::Forward(sequence)),
        "b" => Ok(Direction::Backward(sequence)),
        _ => Err(LogsError::token()),
    }
}

/// Where the next page begins, and the bound on time that the first one had.
fn place_token(place: &Place, settled_ms: u64) -> String {
    encode_token(&format!("{}|{}|{settled_ms}|{}", place.time_ms, place.sequence, place.log))
}

fn parse_place(token: &str) -> Result<(Place, u64), LogsError> {
    let text = decode_token(token)?;
    let mut parts = text.splitn(4, '|');
    let mut number = || parts.next().and_then(|n| n.parse().ok()).ok_or_else(LogsError::token);
    let (time_ms, sequence, settled_ms) = (number()?, number()?, number()?);
    let log = parts.next().ok_or_else(LogsError::token)?.to_owned();
    Ok((Place { time_ms, log, sequence }, settled_ms))
}

impl CloudWatch {
    /// # Errors
    /// No such group or stream; events out of order or over a limit. Events that are too old or too new are left out,
    /// and the answer says which.
    pub async fn put_log_events(&self, asked: PutLogEvents) -> Result<Put, LogsError> {
        let record = self.record(&asked.log_group_name).await?;
        let info = self.stream(&asked.log_group_name, &asked.log_stream_name).await?;
        let bytes: usize = asked.log_events.iter().map(|e| e.message.len() + OVERHEAD).sum();
        if bytes > PUT_BYTES {
            return Err(LogsError::invalid(format!(
                "Upload too large: {bytes} bytes exceeds limit of {PUT_BYTES}"
            )));
        }
        if !asked.log_events.is_sorted_by_key(|event| event.timestamp) {
            return Err(LogsError::invalid(
                "Log events in a single PutLogEvents request must be in chronological order.",
            ));
        }
        let now = now_ms();
        let kept_ms = record.retention_days.map(|days| u64::from(days) * 86_400_000);
        let expired = kept_ms.map_or(0, |kept| now.saturating_sub(kept));
        let too_old = now.saturating_sub(TOO_OLD_MS);
        let older = |limit: u64| asked.log_events.partition_point(|e| e.timestamp < limit);
        let (old, gone) = (older(too_old), older(expired));
        let new = asked.log_events.partition_point(|e| e.timestamp <= now + TOO_NEW_MS);
        let all = asked.log_events.len();
        let rejected = Rejected {
            too_new_log_event_start_index: (new < all).then_some(new),
            too_old_log_event_end_index: (old > 0).then_some(old),
            expired_log_event_end_index: (gone > old).then_some(gone),
        };
        let first = old.max(gone);
        let taken = asked.log_events.into_iter().take(new).skip(first);
        let records: Vec<_> =
            taken.map(|event| (event.timestamp, Bytes::from(event.message))).collect();
        if !records.is_empty() {
            let group = &asked.log_group_name;
            self.groups.append(group, &info.log, records, Durability::Durable).await?;
        }
        Ok(Put {
            next_sequence_token: UPLOAD_TOKEN,
            rejected_log_events_info: (rejected != Rejected::default()).then_some(rejected),
        })
    }

    /// # Errors
    /// No such group or stream; a bad token.
    pub async fn get_log_events(&self, asked: GetLogEvents) -> Result<Events, LogsError> {
        let group = self
            .group_of(asked.log_group_name.as_deref(), asked.log_group_identifier.as_deref())
            .await?;
        let info = self.stream(&group, &asked.log_stream_name).await?;
        let direction = match &asked.next_token {
            Some(token) => parse_position(token)?,
            None if asked.start_from_head == Some(true) => Direction::Forward(0),
            None => Direction::Backward(u64::MAX),
        };
        let window = (asked.start_time.unwrap_or(0), asked.end_time.unwrap_or(u64::MAX));
        let budget = Budget {
            events: asked.limit.unwrap_or(EVENTS),
            bytes: PAGE_BYTES,
            scanned: SCAN_BYTES,
        };
        let page =
            reader::page(&self.groups, &self.marks, &info, window, direction, budget).await?;
        let events = page.events.iter().map(|record| OutputEvent {
            timestamp: record.time_ms,
            message: message(record),
            ingestion_time: record.time_ms,
        });
        Ok(Events {
            events: events.collect(),
            next_forward_token: position_token('f', page.forward),
            next_backward_token: position_token('b', page.backward),
        })
    }

    /// # Errors
    /// No such group or stream; a pattern that is not built; a bad token.
    pub async fn filter_log_events(&self, asked: FilterLogEvents) -> Result<Filtered, LogsError> {
        let group = self
            .group_of(asked.log_group_name.as_deref(), asked.log_group_identifier.as_deref())
            .await?;
        let pattern = Pattern::parse(asked.filter_pattern.as_deref().unwrap_or_default())
            .map_err(|error| LogsError::invalid(format!("Invalid filter pattern: {error}")))?;
        let (after, settled_ms) = match asked.next_token.as_deref().map(parse_place).transpose()? {
            Some((place, settled_ms)) => (Some(place), settled_ms),
            None => (None, u64::MAX),
        };
        let end_ms = asked.end_time.unwrap_or(u64::MAX).min(settled_ms);
        // The past is settled; so is what an earlier page waited for.
        let settled_ms = if end_ms.saturating_add(SETTLED_MS) < now_ms() {
            settled_ms
        } else {
            self.groups.settle().await.unwrap_or(u64::MAX).min(settled_ms)
        };
        let streams = match (&asked.log_stream_names, &asked.log_stream_name_prefix) {
            (Some(_), Some(_)) => {
                return Err(LogsError::invalid(
                    "logStreamNames and logStreamNamePrefix are mutually exclusive parameters.",
                ));
            }
            (Some(names), None) => {
                let mut found = Vec::with_capacity(names.len());
                for name in names {
                    found.push(self.stream(&group, name).await?);
                }
                found.sort_by(|a, b| a.log.cmp(&b.log));
                found.dedup_by(|a, b| a.log == b.log);
                found
            }
            (None, prefix) => {
                self.groups.streams(&group, prefix.as_deref().unwrap_or_default()).await?
            }
        };
        let window = (asked.start_time.unwrap_or(0), end_ms.min(settled_ms));
        let budget = Budget {
            events: asked.limit.unwrap_or(EVENTS),
            bytes: PAGE_BYTES,
            scanned: SCAN_BYTES,
        };
        let wanted = |record: &Record| {
            let Some(pattern) = &pattern else { return true };
            pattern.matches(&String::from_utf8_lossy(&record.body))
        };
        let merged = reader::merged(
            &self.groups,
            &self.marks,
            streams,
            window,
            after.as_ref(),
            budget,
            wanted,
        );
        let merged = merged.await?;
        let events = merged.events.iter().map(|(log, record)| FilteredEvent {
            log_stream_name: Groups::split(log).map_or("", |(_, stream)| stream).to_owned(),
            timestamp: record.time_ms,
            message: message(record),
            ingestion_time: record.time_ms,
            event_id: event_id(log, record),
        });
        Ok(Filtered {
            events: events.collect(),
            searched_log_streams: [],
            next_token: merged.after.map(|place| place_token(&place, settled_ms)),
        })
    }

    /// # Errors
    /// Always: live tail is not built.
    pub fn start_live_tail(&self) -> Result<Nothing, LogsError> {
        let text = "StartLiveTail is not supported here. Use FilterLogEvents, as `aws logs tail --follow` does.";
        Err(LogsError::new("InvalidOperationException", text))
    }
}
