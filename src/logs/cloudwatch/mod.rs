//! The rules of CloudWatch Logs, as far as they are built: groups, streams, retention and tags here, events in
//! [`events`]. Knows no HTTP: `api::logs_api` reads requests and writes answers. Names of members are AWS's, so that
//! one serde name serves the wire and the rule.
//!
//! Not here: Insights queries, subscription and metric filters, live tail, export, encryption, other accounts.

pub mod events;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use super::groups::{GroupRecord, Groups};
use super::reader::Marks;
use crate::store::{Durability, LogInfo, StoreError};

/// Items of a page of groups or streams, at most and unless the caller says. Source: the service model.
pub const PAGE: usize = 50;

/// Days that a group may keep its events. Source: AWS, PutRetentionPolicy.
pub const RETENTION_DAYS: [u32; 22] = [
    1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922,
    3288, 3653,
];

/// An error for the caller: AWS's exception and text.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct LogsError {
    pub code: &'static str,
    pub message: String,
    #[source]
    source: Option<StoreError>,
}

impl LogsError {
    pub fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), source: None }
    }

    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new("InvalidParameterException", message)
    }

    fn no_group() -> Self {
        Self::new("ResourceNotFoundException", "The specified log group does not exist.")
    }

    fn no_stream() -> Self {
        Self::new("ResourceNotFoundException", "The specified log stream does not exist.")
    }

    fn token() -> Self {
        Self::invalid("The specified nextToken is invalid.")
    }

    /// HTTP status.
    pub fn status(&self) -> u16 {
        if self.code == "ServiceUnavailableException" { 503 } else { 400 }
    }
}

impl From<StoreError> for LogsError {
    fn from(error: StoreError) -> Self {
        let text = "The service cannot complete the request.";
        Self { source: Some(error), ..Self::new("ServiceUnavailableException", text) }
    }
}

/// See the module's words.
#[derive(Debug)]
pub struct CloudWatch {
    pub groups: Arc<Groups>,
    pub region: String,
    /// Twelve digits.
    pub account: String,
    marks: Marks,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CreateLogGroup {
    pub log_group_name: String,
    pub kms_key_id: Option<String>,
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
    pub log_group_class: Option<String>,
    pub deletion_protection_enabled: Option<bool>,
}

/// A request about one group.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OneGroup {
    pub log_group_name: String,
}

/// A request about one stream.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OneStream {
    pub log_group_name: String,
    pub log_stream_name: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PutRetentionPolicy {
    pub log_group_name: String,
    pub retention_in_days: u32,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribeLogGroups {
    pub log_group_name_prefix: Option<String>,
    pub log_group_name_pattern: Option<String>,
    pub next_token: Option<String>,
    pub limit: Option<usize>,
    pub log_group_class: Option<String>,
    pub log_group_identifiers: Option<Vec<String>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LogGroups {
    pub log_groups: Vec<LogGroup>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LogGroup {
    pub log_group_name: String,
    pub creation_time: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retention_in_days: Option<u32>,
    pub metric_filter_count: u32,
    /// With `:*` at its end; `log_group_arn` is without.
    pub arn: String,
    pub stored_bytes: u64,
    pub log_group_class: &'static str,
    pub log_group_arn: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribeLogStreams {
    pub log_group_name: Option<String>,
    pub log_group_identifier: Option<String>,
    pub log_stream_name_prefix: Option<String>,
    pub order_by: Option<String>,
    pub descending: Option<bool>,
    pub next_token: Option<String>,
    pub limit: Option<usize>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LogStreams {
    pub log_streams: Vec<LogStream>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LogStream {
    pub log_stream_name: String,
    pub creation_time: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_event_timestamp: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_event_timestamp: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_ingestion_time: Option<u64>,
    pub upload_sequence_token: &'static str,
    pub arn: String,
    /// Always 0, as AWS has it since 2019.
    pub stored_bytes: u64,
}

/// `ListTagsForResource`, `TagResource`, `UntagResource`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OfResource {
    pub resource_arn: String,
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
    #[serde(default)]
    pub tag_keys: Vec<String>,
}

/// `TagLogGroup`, `UntagLogGroup`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GroupTags<T> {
    pub log_group_name: String,
    pub tags: T,
}

#[derive(Debug, Serialize)]
pub struct Tags {
    pub tags: BTreeMap<String, String>,
}

/// An answer without members.
#[derive(Debug, Serialize)]
pub struct Nothing {}

fn now_ms() -> u64 {
    crate::pool::unix_ms(SystemTime::now())
}

fn encode_token(text: &str) -> String {
    URL_SAFE_NO_PAD.encode(text)
}

fn decode_token(token: &str) -> Result<String, LogsError> {
    let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| LogsError::token())?;
    String::from_utf8(bytes).map_err(|_| LogsError::token())
}

impl CloudWatch {
    pub fn new(groups: Arc<Groups>, region: &str, account: &str) -> Self {
        let (region, account) = (region.to_owned(), account.to_owned());
        Self { groups, region, account, marks: Marks::default() }
    }

    fn group_arn(&self, group: &str) -> String {
        format!("arn:aws:logs:{}:{}:log-group:{group}", self.region, self.account)
    }

    /// The group's name in an ARN or a bare name.
    fn group_in(&self, identifier: &str) -> Result<String, LogsError> {
        if !identifier.starts_with("arn:") {
            return Ok(identifier.to_owned());
        }
        let name = identifier
            .strip_prefix(&self.group_arn(""))
            .map(|name| name.strip_suffix(":*").unwrap_or(name));
        name.map(str::to_owned).ok_or_else(LogsError::no_group)
    }

    /// The group that a request names in one of the two ways.
    async fn group_of(
        &self,
        name: Option<&str>,
        identifier: Option<&str>,
    ) -> Result<String, LogsError> {
        let group = match (name, identifier) {
            (Some(_), Some(_)) => {
                let text = "LogGroup name and LogGroup ARN are mutually exclusive parameters.";
                return Err(LogsError::new("ValidationException", text));
            }
            (Some(name), None) => name.to_owned(),
            (None, Some(identifier)) => self.group_in(identifier)?,
            (None, None) => {
                return Err(LogsError::invalid("LogGroup name or LogGroup ARN must be specified."));
            }
        };
        self.record(&group).await?;
        Ok(group)
    }

    async fn record(&self, group: &str) -> Result<GroupRecord, LogsError> {
        self.groups.get(group).await?.ok_or_else(LogsError::no_group)
    }

    async fn stream(&self, group: &str, stream: &str) -> Result<LogInfo, LogsError> {
        self.groups.stream(group, stream).await?.ok_or_else(LogsError::no_stream)
    }

    /// # Errors
    /// The group exists; encryption and classes other than `STANDARD` are not built.
    pub async fn create_log_group(&self, asked: CreateLogGroup) -> Result<Nothing, LogsError> {
        if asked.kms_key_id.is_some() {
            return Err(LogsError::invalid(
                "The specified KMS key does not exist or is not allowed to be used.",
            ));
        }
        if asked.log_group_class.is_some_and(|class| class != "STANDARD")
            || asked.deletion_protection_enabled == Some(true)
        {
            return Err(LogsError::invalid(
                "Only log groups of class STANDARD without deletion protection are supported.",
            ));
        }
        let record = GroupRecord { created_ms: now_ms(), retention_days: None, tags: asked.tags };
        if self.groups.create(&asked.log_group_name, &record).await? {
            return Ok(Nothing {});
        }
        let text = "The specified log group already exists";
        Err(LogsError::new("ResourceAlreadyExistsException", text))
    }

    /// Removes the group with its streams. A sandbox that still logs makes it again.
    ///
    /// # Errors
    /// No such group.
    pub async fn delete_log_group(&self, asked: OneGroup) -> Result<Nothing, LogsError> {
        self.groups.delete(&asked.log_group_name).await?.ok_or_else(LogsError::no_group)?;
        Ok(Nothing {})
    }

    /// # Errors
    /// Prefix and pattern at once; a bad token.
    pub async fn describe_log_groups(
        &self,
        asked: DescribeLogGroups,
    ) -> Result<LogGroups, LogsError> {
        if asked.log_group_name_prefix.is_some() && asked.log_group_name_pattern.is_some() {
            return Err(LogsError::invalid(
                "LogGroup name prefix and LogGroup name pattern are mutually exclusive parameters.",
            ));
        }
        let limit = asked.limit.unwrap_or(PAGE);
        let mut after = asked.next_token.as_deref().map(decode_token).transpose()?;
        let mut found = Vec::new();
        let mut more = false;
        if let Some(identifiers) = &asked.log_group_identifiers {
            for identifier in identifiers {
                let name = self.group_in(identifier)?;
                found.extend(self.groups.get(&name).await?.map(|record| (name, record)));
            }
        } else if asked.log_group_class.as_ref().is_none_or(|class| class == "STANDARD") {
            let prefix = asked.log_group_name_prefix.unwrap_or_default();
            let pattern = asked.log_group_name_pattern.unwrap_or_default().to_lowercase();
            'pages: loop {
                let page = self.groups.list(&prefix, after.as_deref(), 1000).await?;
                let last = page.len() < 1000;
                after = page.last().map(|(name, _)| name.clone());
                for (name, record) in page {
                    if !name.to_lowercase().contains(&pattern) {
                        continue;
                    }
                    if found.len() == limit {
                        more = true;
                        break 'pages;
                    }
                    found.push((name, record));
                }
                if last {
                    break;
                }
            }
        }
        let next_token = more.then(|| found.last().map(|(name, _)| encode_token(name))).flatten();
        let mut log_groups = Vec::with_capacity(found.len());
        for (name, record) in found {
            let streams = self.groups.streams(&name, "").await?;
            let log_group_arn = self.group_arn(&name);
            log_groups.push(LogGroup {
                creation_time: record.created_ms,
                retention_in_days: record.retention_days,
                metric_filter_count: 0,
                arn: format!("{log_group_arn}:*"),
                stored_bytes: streams.iter().map(|info| info.bytes).sum(),
                log_group_class: "STANDARD",
                log_group_arn,
                log_group_name: name,
            });
        }
        Ok(LogGroups { log_groups, next_token })
    }

    /// # Errors
    /// No such group; the stream exists.
    pub async fn create_log_stream(&self, asked: OneStream) -> Result<Nothing, LogsError> {
        let (group, stream) = (&asked.log_group_name, &asked.log_stream_name);
        self.record(group).await?;
        if self.groups.stream(group, stream).await?.is_some() {
            let text = "The specified log stream already exists";
            return Err(LogsError::new("ResourceAlreadyExistsException", text));
        }
        let log = Groups::log_name(group, stream);
        self.groups.logs.append(&log, Vec::new(), Durability::Durable).await?;
        Ok(Nothing {})
    }

    /// # Errors
    /// No such group or stream.
    pub async fn delete_log_stream(&self, asked: OneStream) -> Result<Nothing, LogsError> {
        self.record(&asked.log_group_name).await?;
        let info = self.stream(&asked.log_group_name, &asked.log_stream_name).await?;
        self.groups.logs.remove(&info.log).await?;
        Ok(Nothing {})
    }

    /// # Errors
    /// No such group; an order by time within a prefix; a bad token.
    pub async fn describe_log_streams(
        &self,
        asked: DescribeLogStreams,
    ) -> Result<LogStreams, LogsError> {
        let by_time = asked.order_by.as_deref() == Some("LastEventTime");
        if by_time && asked.log_stream_name_prefix.is_some() {
            return Err(LogsError::invalid(
                "Cannot order by LastEventTime with a logStreamNamePrefix.",
            ));
        }
        let group = self
            .group_of(asked.log_group_name.as_deref(), asked.log_group_identifier.as_deref())
            .await?;
        let prefix = asked.log_stream_name_prefix.unwrap_or_default();
        let mut all = self.groups.streams(&group, &prefix).await?;
        let key = |info: &LogInfo| {
            let time = if by_time { info.last_record_ms.unwrap_or_default() } else { 0 };
            (time, info.log.clone())
        };
        all.sort_by_cached_key(key);
        let descending = asked.descending.unwrap_or(false);
        if descending {
            all.reverse();
        }
        if let Some(token) = asked.next_token {
            let token = decode_token(&token)?;
            let (time, log) = token.split_once('|').ok_or_else(LogsError::token)?;
            let last = (time.parse().map_err(|_| LogsError::token())?, log.to_owned());
            all.retain(|info| if descending { key(info) < last } else { key(info) > last });
        }
        let limit = asked.limit.unwrap_or(PAGE);
        let more = all.len() > limit;
        all.truncate(limit);
        let next_token = all.last().filter(|_| more).map(|last| {
            let (time, log) = key(last);
            encode_token(&format!("{time}|{log}"))
        });
        let arn = self.group_arn(&group);
        let log_streams = all.into_iter().map(|info| {
            let name = info.log[group.len() + 1..].to_owned();
            LogStream {
                creation_time: info.created_ms,
                first_event_timestamp: info.first_record_ms,
                last_event_timestamp: info.last_record_ms,
                last_ingestion_time: info.last_record_ms,
                upload_sequence_token: UPLOAD_TOKEN,
                arn: format!("{arn}:log-stream:{name}"),
                stored_bytes: 0,
                log_stream_name: name,
            }
        });
        Ok(LogStreams { log_streams: log_streams.collect(), next_token })
    }

    /// # Errors
    /// No such group; days that AWS does not have.
    pub async fn put_retention_policy(
        &self,
        asked: PutRetentionPolicy,
    ) -> Result<Nothing, LogsError> {
        let days = asked.retention_in_days;
        if !RETENTION_DAYS.contains(&days) {
            return Err(LogsError::invalid(format!(
                "1 validation error detected: Value '{days}' at 'retentionInDays' failed to satisfy constraint: \
                 Member must satisfy enum value set: {RETENTION_DAYS:?}"
            )));
        }
        self.retain(&asked.log_group_name, Some(days)).await
    }

    /// # Errors
    /// No such group.
    pub async fn delete_retention_policy(&self, asked: OneGroup) -> Result<Nothing, LogsError> {
        self.retain(&asked.log_group_name, None).await
    }

    async fn retain(&self, group: &str, days: Option<u32>) -> Result<Nothing, LogsError> {
        self.change(group, |record| record.retention_days = days).await
    }

    async fn change(
        &self,
        group: &str,
        change: impl Fn(&mut GroupRecord),
    ) -> Result<Nothing, LogsError> {
        self.groups.update(group, change).await?.ok_or_else(LogsError::no_group)?;
        Ok(Nothing {})
    }

    /// # Errors
    /// No such group.
    pub async fn list_tags(&self, identifier: &str) -> Result<Tags, LogsError> {
        let group = self.group_in(identifier)?;
        Ok(Tags { tags: self.record(&group).await?.tags })
    }

    /// # Errors
    /// No such group.
    pub async fn tag(
        &self,
        identifier: &str,
        tags: BTreeMap<String, String>,
    ) -> Result<Nothing, LogsError> {
        let group = self.group_in(identifier)?;
        self.change(&group, |record| record.tags.extend(tags.clone())).await
    }

    /// # Errors
    /// No such group.
    pub async fn untag(&self, identifier: &str, keys: &[String]) -> Result<Nothing, LogsError> {
        let group = self.group_in(identifier)?;
        self.change(&group, |record| record.tags.retain(|key, _| !keys.contains(key))).await
    }
}

/// AWS takes any sequence token since 2023, and still gives one.
const UPLOAD_TOKEN: &str = "49000000000000000000000000000000000000000000000000000000";
