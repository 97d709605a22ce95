//! One span model of our own with the whole OTLP value model, so that what comes in goes out unchanged.
//!
//! Source: OTLP 1.11 `trace.proto` and `common.proto`.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::{SpanId, TraceId};

/// An attribute's name; borrowed where it is one of ours.
pub type Key = Cow<'static, str>;

/// An attribute's value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Value {
    /// An `AnyValue` with no value set.
    Empty,
    /// UTF-8 text.
    Str(Cow<'static, str>),
    /// A truth value.
    Bool(bool),
    /// A 64-bit integer.
    Int(i64),
    /// A double; NaN and the infinities are kept.
    Double(f64),
    /// Raw bytes.
    Bytes(Vec<u8>),
    /// A list, of mixed kinds if need be.
    Array(Vec<Value>),
    /// A map that keeps its order.
    Map(Vec<(Key, Value)>),
}

impl From<&'static str> for Value {
    fn from(text: &'static str) -> Self {
        Self::Str(Cow::Borrowed(text))
    }
}
impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Str(Cow::Owned(text))
    }
}
impl From<bool> for Value {
    fn from(x: bool) -> Self {
        Self::Bool(x)
    }
}
impl From<i64> for Value {
    fn from(x: i64) -> Self {
        Self::Int(x)
    }
}
impl From<f64> for Value {
    fn from(x: f64) -> Self {
        Self::Double(x)
    }
}

/// The role of a span, numbered as in OTLP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[repr(u8)]
pub enum SpanKind {
    /// Not said.
    Unspecified = 0,
    /// An operation inside the application.
    Internal = 1,
    /// Handling of a remote request.
    Server = 2,
    /// A remote request.
    Client = 3,
    /// A message sent.
    Producer = 4,
    /// A message received.
    Consumer = 5,
}

impl SpanKind {
    /// The name as OpenTelemetry writes it: `INTERNAL`, `CLIENT`, …
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unspecified => "UNSPECIFIED",
            Self::Internal => "INTERNAL",
            Self::Server => "SERVER",
            Self::Client => "CLIENT",
            Self::Producer => "PRODUCER",
            Self::Consumer => "CONSUMER",
        }
    }

    /// The kind of OTLP's number; unknown numbers are `Unspecified`.
    pub const fn from_number(n: i32) -> Self {
        match n {
            1 => Self::Internal,
            2 => Self::Server,
            3 => Self::Client,
            4 => Self::Producer,
            5 => Self::Consumer,
            _ => Self::Unspecified,
        }
    }
}

/// How the operation of a span ended, numbered as in OTLP.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Status {
    /// Nothing said: success, by the GenAI conventions.
    #[default]
    Unset,
    /// Marked as good on purpose.
    Ok,
    /// Failed, with a description that may be empty.
    Error(String),
}

impl Status {
    /// `UNSET`, `OK` or `ERROR`.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Unset => "UNSET",
            Self::Ok => "OK",
            Self::Error(_) => "ERROR",
        }
    }

    /// OTLP's number: 0, 1 or 2.
    pub const fn number(&self) -> i32 {
        match self {
            Self::Unset => 0,
            Self::Ok => 1,
            Self::Error(_) => 2,
        }
    }
}

/// Something that happened at a moment of a span.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// What happened.
    pub name: Key,
    /// When, in nanoseconds since the Unix epoch.
    pub time_unix_nano: u64,
    /// Its attributes, in insertion order.
    pub attributes: Vec<(Key, Value)>,
    /// How many attributes its source dropped.
    pub dropped_attributes_count: u32,
}

/// A reference to a span of this or another trace.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Link {
    /// The other span's trace.
    pub trace_id: TraceId,
    /// The other span.
    pub span_id: SpanId,
    /// Its W3C trace state.
    pub trace_state: String,
    /// Its attributes, in insertion order.
    pub attributes: Vec<(Key, Value)>,
    /// How many attributes its source dropped.
    pub dropped_attributes_count: u32,
    /// OTLP span flags (W3C trace flags in the low byte).
    pub flags: u32,
}

/// One operation of a trace.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Span {
    /// The trace it belongs to.
    pub trace_id: TraceId,
    /// Its own id.
    pub span_id: SpanId,
    /// The span that caused it; `None` for a root.
    pub parent_span_id: Option<SpanId>,
    /// W3C trace state; mostly empty.
    pub trace_state: String,
    /// OTLP span flags (W3C trace flags in the low byte).
    pub flags: u32,
    /// What it does.
    pub name: Key,
    /// Its role.
    pub kind: SpanKind,
    /// When it began, in nanoseconds since the Unix epoch.
    pub start_unix_nano: u64,
    /// When it ended; 0 while it is open.
    pub end_unix_nano: u64,
    /// How it ended.
    pub status: Status,
    /// Its attributes, in insertion order.
    pub attributes: Vec<(Key, Value)>,
    /// How many attributes its source dropped.
    pub dropped_attributes_count: u32,
    /// Its events, in time order.
    pub events: Vec<Event>,
    /// How many events its source dropped.
    pub dropped_events_count: u32,
    /// Its links.
    pub links: Vec<Link>,
    /// How many links its source dropped.
    pub dropped_links_count: u32,
}

impl Span {
    /// An open span with sampled flag and nothing else set.
    pub fn open(trace_id: TraceId, span_id: SpanId, parent: Option<SpanId>, name: impl Into<Key>, start: u64) -> Self {
        Self {
            trace_id,
            span_id,
            parent_span_id: parent,
            trace_state: String::new(),
            flags: 1,
            name: name.into(),
            kind: SpanKind::Internal,
            start_unix_nano: start,
            end_unix_nano: 0,
            status: Status::Unset,
            attributes: Vec::new(),
            dropped_attributes_count: 0,
            events: Vec::new(),
            dropped_events_count: 0,
            links: Vec::new(),
            dropped_links_count: 0,
        }
    }

    /// Whether it has not ended yet.
    pub const fn is_open(&self) -> bool {
        self.end_unix_nano == 0
    }

    /// Adds an attribute; the caller adds each name once.
    pub fn set(&mut self, key: impl Into<Key>, value: impl Into<Value>) {
        self.attributes.push((key.into(), value.into()));
    }

    /// The value of an attribute.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.attributes.iter().find(|(k, _)| k == key).map(|(_, v)| v)
    }

    /// Adds an event.
    pub fn add_event(&mut self, name: impl Into<Key>, time_unix_nano: u64, attributes: Vec<(Key, Value)>) {
        self.events.push(Event { name: name.into(), time_unix_nano, attributes, dropped_attributes_count: 0 });
    }

    /// Adds a link to another span.
    pub fn add_link(&mut self, trace_id: TraceId, span_id: SpanId, attributes: Vec<(Key, Value)>) {
        self.links.push(Link {
            trace_id,
            span_id,
            trace_state: String::new(),
            attributes,
            dropped_attributes_count: 0,
            flags: 1,
        });
    }
}

/// A log record, such as the `gen_ai.evaluation.result` of one score.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LogRecord {
    /// When it happened, in nanoseconds since the Unix epoch.
    pub time_unix_nano: u64,
    /// When it was seen.
    pub observed_unix_nano: u64,
    /// OTLP severity number; 0 where there is none.
    pub severity_number: i32,
    /// Severity in words; mostly empty.
    pub severity_text: String,
    /// What kind of record it is.
    pub event_name: Key,
    /// Its body; [`Value::Empty`] where there is none.
    pub body: Value,
    /// Its attributes, in insertion order.
    pub attributes: Vec<(Key, Value)>,
    /// How many attributes its source dropped.
    pub dropped_attributes_count: u32,
    /// OTLP log record flags (W3C trace flags in the low byte).
    pub flags: u32,
    /// The trace it belongs to.
    pub trace_id: Option<TraceId>,
    /// The span it belongs to.
    pub span_id: Option<SpanId>,
}
