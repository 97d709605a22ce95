//! Why a request is not taken, in the words of HTTP and of gRPC.

use std::time::Duration;

use http::StatusCode;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

/// When a client may come again that was told to. The queue is short: it drains in less.
pub(super) const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Why a request is not taken. Nothing of it is kept then, unless its store failed in the middle of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    /// No such message.
    #[error("{0}")]
    Undecodable(String),
    /// More bytes than one request may have.
    #[error(
        "the request {} more than {} MiB; send fewer items at a time",
        if *unpacked { "unpacks to" } else { "has" },
        limit >> 20
    )]
    TooLarge {
        /// The limit, in bytes.
        limit: usize,
        /// Whether the content is too large, or what was sent.
        unpacked: bool,
    },
    /// An encoding of the body that we do not know.
    #[error("the body is encoded as `{0}`, expected gzip or none")]
    Encoding(String),
    /// Too much is under way.
    #[error("the collector is busy: send the same request again in a moment")]
    Overloaded,
    /// The store did not take it; its words.
    #[error("{0}")]
    Store(String),
    /// The client took too long.
    #[error("the body did not arrive in time")]
    Slow,
    /// The client went away.
    #[error("the body ended early")]
    Cut,
}

impl Refusal {
    pub(super) fn http(&self) -> StatusCode {
        match self {
            Self::Undecodable(_) | Self::Cut => StatusCode::BAD_REQUEST,
            Self::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Encoding(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Overloaded | Self::Store(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Slow => StatusCode::REQUEST_TIMEOUT,
        }
    }

    pub(super) fn code(&self) -> Code {
        match self {
            Self::Undecodable(_) | Self::Cut => Code::InvalidArgument,
            Self::TooLarge { .. } => Code::ResourceExhausted,
            Self::Encoding(_) => Code::Unimplemented,
            Self::Overloaded | Self::Store(_) => Code::Unavailable,
            Self::Slow => Code::DeadlineExceeded,
        }
    }

    /// Whether the same request may succeed later.
    pub(super) const fn is_for_now(&self) -> bool {
        matches!(self, Self::Overloaded | Self::Store(_))
    }

    /// As gRPC says it: with `RetryInfo` where the client is to come again.
    ///
    /// A client may take RESOURCE_EXHAUSTED for "later" only if it comes with `RetryInfo` (OTLP 1.11), so that a request
    /// that is too large is not sent again.
    pub(super) fn grpc(&self) -> Status {
        if self.is_for_now() {
            let details = ErrorDetails::with_retry_info(Some(RETRY_AFTER));
            Status::with_error_details(self.code(), self.to_string(), details)
        } else {
            Status::new(self.code(), self.to_string())
        }
    }
}
