//! Finding what a request names, listing in pages, and writing by compare-and-set: what the resources of the control
//! plane share.

use std::error::Error as _;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::names::{FunctionName, LATEST};
use super::records::{self, AliasRecord, FunctionRecord, VersionRecord};
use super::{Control, ControlError, answer, encode};
use crate::store::{Batch, Revision, StoreError};

/// Rounds of compare-and-set before a writer that always loses gives up.
pub(crate) const ROUNDS: usize = 32;
/// Records read at a time by a walk over all of a kind.
const WALK: usize = 500;
/// Entries in a page where the caller names no number; AWS's number for every list.
pub(crate) const PAGE: usize = 50;

/// A record, and the revision that a change of it must expect.
#[derive(Debug, Clone)]
pub(crate) struct Found<T> {
    pub record: T,
    pub revision: Revision,
}

/// Which page of a list is asked for; goes flat into a request.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Page {
    pub marker: Option<String>,
    pub max_items: Option<usize>,
}

/// What a qualifier of a function leads to.
#[derive(Debug, Clone)]
pub(crate) enum Qualified {
    Latest,
    Version(Box<Found<VersionRecord>>),
    Alias(Found<AliasRecord>),
}

/// What a qualifier looks like, whether or not there is such a thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum QualifierForm {
    Latest,
    Number(u64),
    Alias,
    /// Holds a `$` and is not `$LATEST`: never the name of an alias.
    Other,
}

impl QualifierForm {
    pub fn of(qualifier: &str) -> Self {
        if qualifier == LATEST {
            return Self::Latest;
        }
        match qualifier.parse() {
            Ok(number) if qualifier.bytes().all(|b| b.is_ascii_digit()) => Self::Number(number),
            // Digits beyond any version's number.
            _ if qualifier.bytes().all(|b| b.is_ascii_digit()) => Self::Other,
            _ if qualifier.contains('$') => Self::Other,
            _ => Self::Alias,
        }
    }
}

/// Runs a block of read, decide and commit until it is not disturbed by another writer, or has lost too often. In the
/// block, `return` and `?` end the round, not the caller.
///
/// A macro, since an `async` closure's future is not known to be `Send`.
macro_rules! attempt {
    ($round:block) => {{
        let mut left = $crate::control::lookup::ROUNDS;
        loop {
            left -= 1;
            match $crate::control::lookup::round(async { $round }).await {
                Err(error) if left > 0 && $crate::control::lookup::lost_race(&error) => {
                    tokio::task::yield_now().await;
                }
                done => break done,
            }
        }
    }};
}
pub(crate) use attempt;

/// Tells the compiler what a round gives.
pub(crate) fn round<T, F>(round: F) -> F
where
    F: Future<Output = Result<T, ControlError>>,
{
    round
}

pub(crate) fn lost_race(error: &ControlError) -> bool {
    let cause = error.source().and_then(|cause| cause.downcast_ref::<StoreError>());
    matches!(cause, Some(StoreError::Conflict { .. }))
}

/// Adds a record and the revision that it must still be at (`None`: it must be absent) to a batch.
pub(crate) fn replace(
    batch: &mut Batch,
    key: String,
    revision: Option<Revision>,
    record: &impl serde::Serialize,
) -> Result<(), ControlError> {
    batch.put.push((key.clone(), encode(record)?));
    batch.expect.push((key, revision));
    Ok(())
}

/// Writes the function's record, changed or not, so that a deletion at the same time either comes first or sees
/// everything that the batch adds under the function's name.
pub(crate) fn fence(
    batch: &mut Batch,
    function: &Found<FunctionRecord>,
) -> Result<(), ControlError> {
    let key = records::function_key(&function.record.name);
    replace(batch, key, Some(function.revision), &function.record)
}

/// A random UUID's text, for revision ids.
pub(crate) fn uuid() -> String {
    uuid::Uuid::new_v4().to_string()
}

/// `length` random characters of `a` to `z` and `0` to `9`: names that nobody else has, not secrets.
pub(crate) fn random_name(length: usize) -> String {
    const ALPHABET: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";
    let mut name = String::with_capacity(length);
    while name.len() < length {
        // What comes before holds the UUID's version and variant.
        for byte in &uuid::Uuid::new_v4().as_bytes()[9..] {
            if name.len() < length && *byte < 252 {
                name.push(char::from(ALPHABET[usize::from(byte % 36)]));
            }
        }
    }
    name
}

/// Now, as Lambda prints it for functions and layers.
pub(crate) fn now_text() -> String {
    super::timestamp(std::time::SystemTime::now())
}

/// Now, in seconds since the epoch with three decimals.
pub(crate) fn now_seconds() -> f64 {
    let elapsed = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs_f64();
    (elapsed * 1000.0).round() / 1000.0
}

/// The key after which a page begins.
///
/// # Errors
/// A marker that no list gave.
pub(crate) fn after_marker(
    prefix: &str,
    marker: Option<&str>,
) -> Result<Option<String>, ControlError> {
    let Some(marker) = marker.filter(|m| !m.is_empty()) else { return Ok(None) };
    let rest = URL_SAFE_NO_PAD
        .decode(marker)
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .ok_or_else(|| ControlError::invalid("The provided marker is invalid."))?;
    Ok(Some(format!("{prefix}{rest}")))
}

/// The marker of the page after `last`.
pub(crate) fn marker(prefix: &str, last: &str) -> String {
    URL_SAFE_NO_PAD.encode(last.strip_prefix(prefix).unwrap_or(last))
}

impl Control {
    /// A function's record.
    pub(crate) async fn find_function(
        &self,
        name: &str,
    ) -> Result<Option<Found<FunctionRecord>>, ControlError> {
        self.find(&records::function_key(name)).await
    }

    pub(crate) async fn find<T: DeserializeOwned>(
        &self,
        key: &str,
    ) -> Result<Option<Found<T>>, ControlError> {
        Ok(self.read(key).await?.map(|(record, revision)| Found { record, revision }))
    }

    /// As [`Self::find_function`], with AWS's usual text where there is none.
    pub(crate) async fn need_function(
        &self,
        name: &str,
    ) -> Result<Found<FunctionRecord>, ControlError> {
        self.find_function(name).await?.ok_or_else(|| self.function_missing(name, None))
    }

    /// What the qualifier of an existing function leads to.
    pub(crate) async fn find_qualified(
        &self,
        name: &str,
        qualifier: &str,
    ) -> Result<Option<Qualified>, ControlError> {
        Ok(match QualifierForm::of(qualifier) {
            QualifierForm::Latest => Some(Qualified::Latest),
            QualifierForm::Number(number) => {
                let found = self.find(&records::version_key(name, number)).await?;
                found.map(|found| Qualified::Version(Box::new(found)))
            }
            QualifierForm::Alias => {
                self.find(&records::alias_key(name, qualifier)).await?.map(Qualified::Alias)
            }
            QualifierForm::Other => None,
        })
    }

    pub(crate) fn function_missing(&self, name: &str, qualifier: Option<&str>) -> ControlError {
        let arn = self.settings.function_arn(name, qualifier);
        ControlError::not_found(format!("Function not found: {arn}"))
    }

    /// AWS's text for a version or alias that is not there.
    pub(crate) fn qualifier_missing(&self, name: &str, qualifier: &str) -> ControlError {
        if QualifierForm::of(qualifier) == QualifierForm::Alias {
            let arn = self.settings.function_arn(name, Some(qualifier));
            return ControlError::not_found(format!("Cannot find alias arn: {arn}"));
        }
        self.function_missing(name, Some(qualifier))
    }

    /// A name or ARN of ours, and the qualifier where it has one.
    pub(crate) fn resolve_name(
        &self,
        text: &str,
        qualifier: Option<&str>,
    ) -> Result<FunctionName, ControlError> {
        FunctionName::resolve(text, qualifier, &self.settings)
    }

    /// A name or ARN of ours, and what it is qualified with: `$LATEST` where nothing is said.
    pub(crate) fn resolve_place(
        &self,
        text: &str,
        qualifier: Option<&str>,
    ) -> Result<(String, String), ControlError> {
        let named = self.resolve_name(text, qualifier)?;
        Ok((named.name, named.qualifier.unwrap_or_else(|| LATEST.into())))
    }

    /// The function, where its qualifier is there too.
    pub(crate) async fn find_owner(
        &self,
        name: &str,
        qualifier: &str,
    ) -> Result<Option<Found<FunctionRecord>>, ControlError> {
        let function = self.find_function(name).await?;
        let qualified = self.find_qualified(name, qualifier).await?;
        Ok(function.filter(|_| qualified.is_some()))
    }

    /// The answer of a list: a page of the records under a prefix, each shown with the rest of its key, as `member`.
    pub(crate) async fn show_page<T: DeserializeOwned, S: Into<Value>>(
        &self,
        prefix: &str,
        page: &Page,
        member: &str,
        show: impl Fn(&str, &T) -> S,
    ) -> Result<Map<String, Value>, ControlError> {
        let most = page.max_items.unwrap_or(PAGE);
        let (page, next) = self.list_page(prefix, page.marker.as_deref(), most, |_| true).await?;
        let shown = page.iter().map(|(key, record)| {
            let rest = key.strip_prefix(prefix).unwrap_or(key);
            show(rest, record).into()
        });
        let shown: Vec<Value> = shown.collect();
        let mut members = Map::new();
        members.insert(member.into(), shown.into());
        members.insert("NextMarker".into(), next.into());
        answer(members)
    }

    /// One page of records under a prefix, and the marker of the next where there is one.
    pub(crate) async fn list_page<T: DeserializeOwned>(
        &self,
        prefix: &str,
        marker_text: Option<&str>,
        most: usize,
        keep: impl Fn(&T) -> bool,
    ) -> Result<(Vec<(String, T)>, Option<String>), ControlError> {
        let mut after = after_marker(prefix, marker_text)?;
        let mut page: Vec<(String, T)> = Vec::new();
        loop {
            let entries = self.list::<T>(prefix, after.as_deref(), WALK).await?;
            let ended = entries.len() < WALK;
            after = entries.last().map(|(key, _)| key.clone());
            for (key, record) in entries {
                if !keep(&record) {
                    continue;
                }
                if page.len() == most {
                    let next = page.last().map(|(last, _)| marker(prefix, last));
                    return Ok((page, next));
                }
                page.push((key, record));
            }
            if ended {
                return Ok((page, None));
            }
        }
    }

    /// Every record under a prefix, one after the other.
    pub(crate) async fn walk<T: DeserializeOwned>(
        &self,
        prefix: &str,
        mut visit: impl FnMut(&str, T),
    ) -> Result<(), ControlError> {
        let mut after: Option<String> = None;
        loop {
            let entries = self.list::<T>(prefix, after.as_deref(), WALK).await?;
            let ended = entries.len() < WALK;
            after = entries.last().map(|(key, _)| key.clone());
            for (key, record) in entries {
                visit(&key, record);
            }
            if ended {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
