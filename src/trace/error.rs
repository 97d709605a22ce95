//! Why telemetry in protobuf cannot be taken.

/// Why a message is not a span or a log record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OtlpError {
    /// The bytes are no such protobuf message.
    #[error("decoding an OTLP {what}: {reason}")]
    Malformed {
        /// `span`, `log record`, `resource`.
        what: &'static str,
        /// What the decoder said.
        reason: String,
    },
    /// An id of the wrong length.
    #[error("decoding an OTLP {what}: the {field} has {found} bytes, expected {expected}")]
    IdLength {
        /// `span`, `link`, `log record`.
        what: &'static str,
        /// Which id.
        field: &'static str,
        /// How many bytes it has.
        found: usize,
        /// How many it should have.
        expected: usize,
    },
    /// A value within values within values.
    #[error("decoding an OTLP {what}: a value nests deeper than {limit} levels")]
    Deep {
        /// `span`, `log record`.
        what: &'static str,
        /// How deep it may.
        limit: usize,
    },
    /// More parts than anybody could read.
    #[error("decoding an OTLP {what}: it has more than {limit} attributes, events, links and values")]
    Crowded {
        /// `span`, `log record`.
        what: &'static str,
        /// How many it may have.
        limit: usize,
    },
    /// What many items share is too large to be shared.
    #[error("decoding an OTLP {what}: it has {size} bytes, at most {limit} are taken")]
    Large {
        /// `resource`, `scope`.
        what: &'static str,
        /// How large it is.
        size: usize,
        /// How large it may be.
        limit: usize,
    },
}
