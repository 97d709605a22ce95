//! Protobuf on the wire: the fields of a message with their places, and how many parts a message has, before anything of it
//! is decoded.
//!
//! Source: the encoding of protocol buffers, and OTLP 1.11 `trace.proto`, `logs.proto`, `common.proto` for the numbers.

use std::ops::Range;

use super::otlp::OtlpError;

/// How many attributes, events, links and values a span has, on all levels; the count stops soon above `most`.
pub(super) fn parts_of_span(bytes: &[u8], range: Range<usize>, most: usize) -> Result<usize, OtlpError> {
    count(bytes, range, Shape::Span, most)
}

/// The same of a log record.
pub(super) fn parts_of_log(bytes: &[u8], range: Range<usize>, most: usize) -> Result<usize, OtlpError> {
    count(bytes, range, Shape::LogRecord, most)
}

/// How deep messages may nest: as deep as their decoder follows.
const NESTING: usize = 100;

/// The messages that have parts.
#[derive(Clone, Copy)]
enum Shape {
    Span,
    LogRecord,
    Event,
    Link,
    KeyValue,
    AnyValue,
    /// `ArrayValue`: values.
    Array,
    /// `KeyValueList`: pairs.
    Map,
}

impl Shape {
    /// What the part in this field is.
    const fn part(self, field: u64) -> Option<Self> {
        match (self, field) {
            (Self::Span, 9) | (Self::LogRecord, 6) | (Self::Event, 3) | (Self::Link, 4) | (Self::Map, 1) => {
                Some(Self::KeyValue)
            }
            (Self::Span, 11) => Some(Self::Event),
            (Self::Span, 13) => Some(Self::Link),
            (Self::LogRecord, 5) | (Self::KeyValue, 2) | (Self::Array, 1) => Some(Self::AnyValue),
            (Self::AnyValue, 5) => Some(Self::Array),
            (Self::AnyValue, 6) => Some(Self::Map),
            _ => None,
        }
    }
}

/// Counts without recursion: how deep a message nests is its sender's choice.
fn count(bytes: &[u8], range: Range<usize>, shape: Shape, most: usize) -> Result<usize, OtlpError> {
    let mut found = 0;
    let mut pending = vec![(Fields::of(bytes, range), shape)];
    while let Some((fields, shape)) = pending.last_mut() {
        match fields.next()? {
            None => _ = pending.pop(),
            Some((number, Payload::Bytes(range))) => {
                if let Some(part) = shape.part(number) {
                    found += 1;
                    if found > most {
                        return Ok(found);
                    }
                    if pending.len() >= NESTING {
                        return Err(malformed(format!("messages nest deeper than {NESTING} levels")));
                    }
                    pending.push((Fields::of(bytes, range), part));
                }
            }
            Some(_) => {}
        }
    }
    Ok(found)
}

/// The error of a request that is none.
pub(super) fn malformed(reason: impl Into<String>) -> OtlpError {
    OtlpError::Malformed { what: "request", reason: reason.into() }
}

/// The fields of a message, with their places.
pub(super) struct Fields<'a> {
    bytes: &'a [u8],
    pub(super) at: usize,
    end: usize,
}

/// What a field holds.
pub(super) enum Payload {
    /// A text, bytes or a message, by its place.
    Bytes(Range<usize>),
    /// A number of variable length.
    Varint(u64),
    /// A number of fixed length.
    Fixed,
}

impl<'a> Fields<'a> {
    pub(super) fn of(bytes: &'a [u8], range: Range<usize>) -> Self {
        Self { bytes, at: range.start, end: range.end }
    }

    /// The next field's number and payload.
    pub(super) fn next(&mut self) -> Result<Option<(u64, Payload)>, OtlpError> {
        if self.at >= self.end {
            return Ok(None);
        }
        let tag = self.varint()?;
        let payload = match tag & 7 {
            0 => Payload::Varint(self.varint()?),
            1 => self.skip(8)?,
            2 => {
                let length = self.varint()?;
                let start = self.at;
                self.skip(usize::try_from(length).unwrap_or(usize::MAX))?;
                Payload::Bytes(start..self.at)
            }
            5 => self.skip(4)?,
            other => return Err(malformed(format!("wire type {other} has no place in it"))),
        };
        match tag >> 3 {
            0 => Err(malformed("a field has number 0")),
            number => Ok(Some((number, payload))),
        }
    }

    fn skip(&mut self, length: usize) -> Result<Payload, OtlpError> {
        match self.at.checked_add(length) {
            Some(at) if at <= self.end => {
                self.at = at;
                Ok(Payload::Fixed)
            }
            _ => Err(malformed("it ends early")),
        }
    }

    fn varint(&mut self) -> Result<u64, OtlpError> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte =
                self.bytes.get(self.at).filter(|_| self.at < self.end).ok_or_else(|| malformed("it ends early"))?;
            self.at += 1;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(malformed("a number is longer than ten bytes"))
    }
}
