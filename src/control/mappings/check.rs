//! What each kind of event source takes, and what AWS fills in.

use serde_json::{Map, Value, json};

use super::filter::is_pattern;
use crate::control::ControlError;

type Config = Map<String, Value>;

/// AWS's limit on the filters of a mapping.
const MAX_FILTERS: usize = 5;
/// The largest batch of every kind but a FIFO queue.
const MAX_BATCH: u64 = 10_000;
const MAX_FIFO_BATCH: u64 = 10;

/// What events come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Queue,
    FifoQueue,
    Kinesis,
    DynamoDb,
    /// Amazon MSK.
    ManagedKafka,
    SelfManagedKafka,
    Mq,
    DocumentDb,
}

use Kind::{DocumentDb, DynamoDb, FifoQueue, Kinesis, ManagedKafka, Mq, Queue, SelfManagedKafka};

const QUEUES: &[Kind] = &[Queue, FifoQueue];
const STREAMS: &[Kind] = &[Kinesis, DynamoDb];
const STREAMS_AND_KAFKA: &[Kind] = &[Kinesis, DynamoDb, ManagedKafka, SelfManagedKafka];
const KAFKA: &[Kind] = &[ManagedKafka, SelfManagedKafka];

/// Members that only some kinds take. Source: the model's documentation of `CreateEventSourceMapping`.
const ONLY: &[(&str, &[Kind])] = &[
    ("ScalingConfig", QUEUES),
    ("ParallelizationFactor", STREAMS),
    ("TumblingWindowInSeconds", STREAMS),
    ("DestinationConfig", STREAMS_AND_KAFKA),
    ("MaximumRecordAgeInSeconds", STREAMS_AND_KAFKA),
    ("BisectBatchOnFunctionError", STREAMS_AND_KAFKA),
    ("MaximumRetryAttempts", STREAMS_AND_KAFKA),
    ("LoggingConfig", KAFKA),
    ("Topics", KAFKA),
    ("Queues", &[Mq]),
    ("SourceAccessConfigurations", &[ManagedKafka, SelfManagedKafka, Mq, DocumentDb]),
    (
        "FunctionResponseTypes",
        &[Queue, FifoQueue, Kinesis, DynamoDb, ManagedKafka, SelfManagedKafka],
    ),
    ("ProvisionedPollerConfig", &[Queue, FifoQueue, ManagedKafka, SelfManagedKafka]),
    ("AmazonManagedKafkaEventSourceConfig", &[ManagedKafka]),
    ("SelfManagedKafkaEventSourceConfig", &[SelfManagedKafka]),
    ("DocumentDBEventSourceConfig", &[DocumentDb]),
];

impl Kind {
    /// The kind of a mapping's source.
    ///
    /// # Errors
    /// No source, or one that Lambda does not read.
    pub fn of(config: &Config) -> Result<Self, ControlError> {
        if config.contains_key("SelfManagedEventSource") {
            if !config.contains_key("SourceAccessConfigurations") {
                let text = "Required 'sourceAccessConfigurations' parameter is missing.";
                return Err(ControlError::invalid(text));
            }
            return Ok(SelfManagedKafka);
        }
        let arn: Vec<&str> = source_arn(config).splitn(6, ':').collect();
        match arn[..] {
            ["arn", _, "sqs", _, _, name] if name.ends_with(".fifo") => Ok(FifoQueue),
            ["arn", _, "sqs", ..] => Ok(Queue),
            ["arn", _, "kinesis", _, _, name] if name.starts_with("stream/") => Ok(Kinesis),
            ["arn", _, "dynamodb", _, _, name] if name.contains("/stream/") => Ok(DynamoDb),
            ["arn", _, "kafka", ..] => Ok(ManagedKafka),
            ["arn", _, "mq", ..] => Ok(Mq),
            ["arn", _, "rds", _, _, name] if name.starts_with("cluster:") => Ok(DocumentDb),
            _ => Err(ControlError::invalid("Unrecognized event source.")),
        }
    }

    /// Fills in what AWS fills in, so that a later reader finds every number in its place.
    pub fn with_defaults(self, mut config: Config) -> Config {
        let batch = if QUEUES.contains(&self) { 10 } else { 100 };
        let mut defaults = vec![("BatchSize", json!(batch))];
        if self == SelfManagedKafka {
            defaults.push(("StartingPosition", json!("TRIM_HORIZON")));
        }
        if QUEUES.contains(&self) || STREAMS.contains(&self) {
            defaults.push(("MaximumBatchingWindowInSeconds", json!(0)));
            defaults.push(("FunctionResponseTypes", json!([])));
        }
        if STREAMS.contains(&self) {
            defaults.extend([
                ("BisectBatchOnFunctionError", json!(false)),
                ("DestinationConfig", json!({ "OnFailure": {} })),
                ("MaximumRecordAgeInSeconds", json!(-1)),
                ("MaximumRetryAttempts", json!(-1)),
                ("ParallelizationFactor", json!(1)),
                ("TumblingWindowInSeconds", json!(0)),
            ]);
        }
        for (key, value) in defaults {
            config.entry(key).or_insert(value);
        }
        if STREAMS.contains(&self)
            && let Some(Value::Object(destinations)) = config.get_mut("DestinationConfig")
        {
            destinations.entry("OnFailure").or_insert_with(|| json!({}));
        }
        let filters = config.get("FilterCriteria").map(|c| c.get("Filters"));
        // No filter is no criteria.
        if let Some(None | Some(Value::Null)) = filters {
            config.remove("FilterCriteria");
        } else if let Some(Some(Value::Array(filters))) = filters
            && filters.is_empty()
        {
            config.remove("FilterCriteria");
        }
        config
    }

    /// Checks what the model cannot: what belongs together, and what belongs to this kind.
    ///
    /// # Errors
    /// AWS's text where it is known.
    pub fn check(self, config: &Config) -> Result<(), ControlError> {
        let refused = |text: String| Err(ControlError::invalid(text));
        for (member, kinds) in ONLY {
            let given = config.get(*member).is_some_and(|v| !is_empty_list(v));
            let success = *member == "DestinationConfig"
                && config.get(*member).and_then(|c| c.get("OnSuccess")).is_some();
            if given && !kinds.contains(&self) || success {
                return refused(format!(
                    "Unsupported {member} parameter for given event source mapping type."
                ));
            }
        }
        self.check_position(config)?;
        self.check_batch(config)?;
        if let Some(age) = config.get("MaximumRecordAgeInSeconds").and_then(Value::as_i64)
            && age != -1
            && age < 60
        {
            return refused(format!(
                "MaximumRecordAgeInSeconds is {age}: it must be -1 or between 60 and 604800."
            ));
        }
        let required = match self {
            ManagedKafka | SelfManagedKafka => Some("Topics"),
            Mq => Some("Queues"),
            DocumentDb => Some("DocumentDBEventSourceConfig"),
            _ => None,
        };
        if let Some(member) = required.filter(|m| !config.contains_key(*m)) {
            let mut name = member.to_owned();
            name[..1].make_ascii_lowercase();
            return refused(format!("Required '{name}' parameter is missing."));
        }
        check_filters(config)
    }

    fn check_position(self, config: &Config) -> Result<(), ControlError> {
        let position = config.get("StartingPosition").and_then(Value::as_str);
        let dated = config.contains_key("StartingPositionTimestamp");
        match (self, position) {
            (Kinesis | DynamoDb | DocumentDb, None) => {
                let text = "1 validation error detected: Value null at 'startingPosition' failed to satisfy constraint: Member must not be null.";
                Err(ControlError::invalid(text))
            }
            (DynamoDb, Some("AT_TIMESTAMP")) | (Queue | FifoQueue | Mq, Some(_)) => {
                let arn = source_arn(config);
                let text = format!("Unsupported starting position for arn type: {arn}");
                Err(ControlError::invalid(text))
            }
            (_, Some("AT_TIMESTAMP")) if !dated => Err(ControlError::invalid(
                "StartingPositionTimestamp is required with the starting position AT_TIMESTAMP.",
            )),
            (_, position) if dated && position != Some("AT_TIMESTAMP") => {
                Err(ControlError::invalid(
                    "StartingPositionTimestamp is allowed only with the starting position AT_TIMESTAMP.",
                ))
            }
            _ => Ok(()),
        }
    }

    fn check_batch(self, config: &Config) -> Result<(), ControlError> {
        let number = |member: &str| config.get(member).and_then(Value::as_u64).unwrap_or_default();
        let (size, window) = (number("BatchSize"), number("MaximumBatchingWindowInSeconds"));
        let most = if self == FifoQueue { MAX_FIFO_BATCH } else { MAX_BATCH };
        if !(1..=most).contains(&size) {
            let text = format!("BatchSize is {size}: for this event source it is 1 to {most}.");
            return Err(ControlError::invalid(text));
        }
        if self == FifoQueue && window > 0 {
            let text = "Unsupported MaximumBatchingWindowInSeconds parameter for given event source mapping type.";
            return Err(ControlError::invalid(text));
        }
        if self == Queue && size > 10 && window == 0 {
            let text = "Maximum batch window in seconds must be greater than 0 if maximum batch size is greater than 10";
            return Err(ControlError::invalid(text));
        }
        Ok(())
    }

    /// Kafka's consumers are a group named after the mapping unless the caller names one.
    pub fn name_consumers(self, config: &mut Config, uuid: &str) {
        let member = match self {
            ManagedKafka => "AmazonManagedKafkaEventSourceConfig",
            SelfManagedKafka => "SelfManagedKafkaEventSourceConfig",
            _ => return,
        };
        if let Value::Object(kafka) = config.entry(member).or_insert_with(|| json!({})) {
            kafka.entry("ConsumerGroupId").or_insert_with(|| json!(uuid));
        }
    }

    /// Adds what AWS shows beside the configuration.
    pub fn show(self, shown: &mut Config) {
        let reason = if STREAMS.contains(&self) { "User action" } else { "USER_INITIATED" };
        shown.insert("StateTransitionReason".into(), reason.into());
        if !QUEUES.contains(&self) {
            shown.insert("LastProcessingResult".into(), "No records processed".into());
        }
    }
}

fn check_filters(config: &Config) -> Result<(), ControlError> {
    let Some(criteria) = config.get("FilterCriteria") else { return Ok(()) };
    let filters = criteria.get("Filters").and_then(Value::as_array);
    let filters = filters.map_or(&[][..], Vec::as_slice);
    if filters.len() > MAX_FILTERS {
        let text = format!("A mapping has at most {MAX_FILTERS} filters, not {}.", filters.len());
        return Err(ControlError::invalid(text));
    }
    let good =
        |filter: &Value| filter.get("Pattern").and_then(Value::as_str).is_some_and(is_pattern);
    if !filters.iter().all(good) {
        return Err(ControlError::invalid("Invalid filter pattern definition."));
    }
    Ok(())
}

fn is_empty_list(value: &Value) -> bool {
    value.as_array().is_some_and(Vec::is_empty)
}

fn source_arn(config: &Config) -> &str {
    config.get("EventSourceArn").and_then(Value::as_str).unwrap_or_default()
}

/// What a mapping reads for which function: no two mappings read the same.
#[derive(Debug)]
pub(super) struct Sources {
    function_arn: String,
    /// The source's ARN, or the addresses of a Kafka of one's own.
    sources: Vec<String>,
    /// Topics or queues within the source.
    within: Vec<String>,
}

impl Sources {
    pub fn of(function_arn: &str, config: &Config) -> Self {
        let texts = |value: Option<&Value>| -> Vec<String> {
            let list = value.and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
            list.iter().filter_map(|v| v.as_str().map(str::to_owned)).collect()
        };
        let endpoints = config.get("SelfManagedEventSource").and_then(|s| s.get("Endpoints"));
        let sources = endpoints.map_or_else(
            || vec![source_arn(config).to_owned()],
            |endpoints| texts(endpoints.get("KAFKA_BOOTSTRAP_SERVERS")),
        );
        let mut within = texts(config.get("Topics"));
        within.extend(texts(config.get("Queues")));
        Self { function_arn: function_arn.to_owned(), sources, within }
    }

    /// A key for everything that only one mapping may read.
    pub fn keys(&self) -> Vec<String> {
        let whole = [String::new()];
        let within = if self.within.is_empty() { &whole[..] } else { &self.within };
        let each = self.sources.iter().flat_map(|source| {
            within
                .iter()
                .map(move |part| format!("mapping-source/{}|{source}|{part}", self.function_arn))
        });
        let mut keys: Vec<String> = each.collect();
        keys.sort();
        keys.dedup();
        keys
    }

    /// AWS's text for a mapping that is there already; each kind has its own.
    pub fn taken(&self, kind: Kind, function: &str, existing: &str) -> ControlError {
        let source = self.sources.join(",");
        let text = match kind {
            Queue | FifoQueue => format!(
                "An event source mapping with SQS arn (\" {source} \") and function (\" {function} \") already exists. Please update or delete the existing mapping with UUID {existing}"
            ),
            SelfManagedKafka | ManagedKafka => format!(
                "An event source mapping with event source (\"{source}\"), function (\"{}\"), topics (\"{}\") already exists. Please update or delete the existing mapping with UUID {existing}",
                self.function_arn,
                self.within.join(",")
            ),
            Kinesis | DynamoDb | Mq | DocumentDb => format!(
                "The event source arn (\" {source} \") and function (\" {function} \") provided mapping already exists. Please update or delete the existing mapping with UUID {existing}"
            ),
        };
        ControlError::conflict(text)
    }
}
