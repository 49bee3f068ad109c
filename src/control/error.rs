//! Why a request cannot be done, with AWS's own text.
//!
//! The kind is AWS's exception; `api::errors` is the one place that gives it a status and a shape on the wire.

use crate::package::PackageError;
use crate::store::StoreError;

/// AWS's exceptions, as far as Kennel answers with them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// `ValidationException`: a broken constraint of the model; on the wire with the key `message` and no `Type`.
    Validation,
    InvalidParameterValue,
    InvalidRequestContent,
    ResourceNotFound,
    ResourceConflict,
    ResourceInUse,
    PreconditionFailed,
    PolicyLengthExceeded,
    CodeStorageExceeded,
    CodeSigningConfigNotFound,
    ProvisionedConcurrencyConfigNotFound,
    InvalidCodeSignature,
    RequestTooLarge,
    /// `RequestEntityTooLargeException`.
    RequestEntityTooLarge,
    UnsupportedMediaType,
    TooManyRequests,
    AccessDenied,
    /// `NotImplementedException`-like: the operation is known and not built.
    NotBuilt,
    /// `ServiceException`, 500: the cause stays in our log.
    Service,
    /// `ServiceException`, 503: nothing was done, and it may be tried again.
    Unavailable,
}

/// An error for the caller. `message` is public; the source is for our log alone.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct ControlError {
    pub kind: ErrorKind,
    pub message: String,
    /// Further members of AWS's shape, such as `Reason` or `retryAfterSeconds`.
    pub members: Vec<(&'static str, String)>,
    #[source]
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl ControlError {
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), members: Vec::new(), source: None }
    }

    pub fn with(mut self, member: &'static str, value: impl Into<String>) -> Self {
        self.members.push((member, value.into()));
        self
    }

    pub fn caused_by(mut self, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        self.source = Some(Box::new(source));
        self
    }

    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidParameterValue, message)
    }

    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::ResourceNotFound, message)
    }

    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::ResourceConflict, message)
    }

    pub fn internal(cause: impl Into<String>) -> Self {
        let cause = std::io::Error::other(cause.into());
        Self::new(ErrorKind::Service, "Internal error").caused_by(cause)
    }

    /// AWS's text for a revision id that is not the latest.
    pub fn stale_revision() -> Self {
        let text = "The Revision Id provided does not match the latest Revision Id. Call the GetFunction/GetAlias API to retrieve the latest Revision Id";
        Self::new(ErrorKind::PreconditionFailed, text)
    }
}

impl From<StoreError> for ControlError {
    fn from(error: StoreError) -> Self {
        let new = match &error {
            // A writer that loses every round of compare-and-set; callers loop before they give up with this.
            StoreError::Conflict { .. } => Self::conflict(
                "The resource was changed by another request at the same time. Try again.",
            ),
            StoreError::Full { .. } => Self::new(
                ErrorKind::Unavailable,
                "No space is left to store this; nothing was changed.",
            ),
            _ => Self::new(ErrorKind::Service, "Internal error"),
        };
        new.caused_by(error)
    }
}

impl From<PackageError> for ControlError {
    fn from(error: PackageError) -> Self {
        if error.is_refusal() {
            let chain = std::iter::successors(
                std::error::Error::source(&error).map(|e| e as &dyn std::error::Error),
                |e| e.source(),
            );
            let text = chain.fold(error.to_string(), |text, cause| format!("{text}: {cause}"));
            return Self::invalid(format!("Could not unzip uploaded file. {text}"));
        }
        Self::internal(error.to_string()).caused_by(error)
    }
}
