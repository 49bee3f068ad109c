//! Requests that Kennel makes itself: to an S3-compatible endpoint for code, to SQS and SNS for destinations.

#![forbid(unsafe_code)]

mod aws;
mod http;
mod s3;
mod sns;
mod sqs;

pub use s3::get_object;
pub use sns::publish;
pub use sqs::send_message;

/// A service that speaks AWS's API somewhere.
#[derive(Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Endpoint {
    /// `http://HOST:PORT` or `https://…`.
    pub url: String,
    pub access_key_id: String,
    pub secret_access_key: String,
    /// Where it is not Kennel's own.
    #[serde(default)]
    pub region: Option<String>,
}

impl std::fmt::Debug for Endpoint {
    /// Without the secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Endpoint")
            .field("url", &self.url)
            .field("access_key_id", &self.access_key_id)
            .field("region", &self.region)
            .finish_non_exhaustive()
    }
}

/// An attribute beside a message's body.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct MessageAttribute {
    pub name: String,
    /// `String` or `Number`.
    pub data_type: String,
    /// Never empty.
    pub value: String,
}

#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("`{url}` is no address of the form http://HOST:PORT")]
    Address { url: String },
    #[error("`{arn}` is no ARN of {service}")]
    Arn { arn: String, service: &'static str },
    /// Also a service that does not answer in time.
    #[error("cannot reach `{url}`")]
    Connect { url: String, source: Box<dyn std::error::Error + Send + Sync> },
    /// The service's own words.
    #[error("`{url}` answered {status}: {code}: {message}")]
    Refused { url: String, status: u16, code: String, message: String },
    #[error("the answer of `{url}` is over {limit} bytes")]
    TooLarge { url: String, limit: u64 },
}

impl ClientError {
    /// Whether the service said no to this very request, so that asking again is of little use. A throttle is none.
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::Refused { status, code, .. } => {
                let later = matches!(status, 408 | 425 | 429) || code.contains("Throttl");
                (400..500).contains(status) && !later
            }
            Self::Arn { .. } => true,
            Self::Address { .. } | Self::Connect { .. } | Self::TooLarge { .. } => false,
        }
    }
}
