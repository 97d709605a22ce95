//! OTLP in files: one request per line as the Collector's file exporter writes them, one JSON document, or protobuf.
//!
//! Source: OTLP 1.11, "OTLP File Exporter" (JSON lines of TracesData, LogsData); the Collector's `fileexporter`, whose
//! protobuf form has the length of each message before it, in four bytes.

use std::io::{self, BufRead as _, Read as _, Write};
use std::path::Path;

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message as _;

use super::files::{FileError, open, rest};
use crate::model::{Telemetry, TraceId};
use crate::trace::otlp_json::{decode_logs_request, decode_trace_request, encode_logs_request, encode_trace_request};
use crate::trace::requests::{Received, logs_request, receive_logs, receive_traces, traces_request};

/// Spans or log records in a line: large traces are cut, for every reader holds a line as a whole.
const PER_LINE: usize = 1000;
/// A line or a document of more bytes than this is taken for a fault.
const MAX_DOCUMENT: usize = 512 << 20;
/// Problems that are kept; the rest is counted.
const KEPT_PROBLEMS: usize = 100;

const EXPECTED: &str = "OTLP requests: JSON lines, one JSON document, or protobuf";

/// Something in a file that cannot be taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The line, from 1; the number of the message in binary files; 0 where it is the whole document.
    pub line: u64,
    /// What is wrong with it.
    pub message: String,
}

/// What a file held.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReadFile {
    /// Requests that were taken, wholly or in part.
    pub requests: u64,
    /// Spans and log records that cannot be taken.
    pub rejected: u64,
    /// Requests of metrics, which are not kept.
    pub metrics: u64,
    /// What cannot be taken, the first hundred.
    pub problems: Vec<Problem>,
    /// How many more there are.
    pub problems_omitted: u64,
}

impl ReadFile {
    /// Takes note of something that cannot be taken.
    pub fn problem(&mut self, line: u64, message: impl Into<String>) {
        if self.problems.len() < KEPT_PROBLEMS {
            // A request is a line of the file: that it is the first of its own text would only confuse.
            let message = message.into().replace(" at line 1 column ", " at column ");
            self.problems.push(Problem { line, message });
        } else {
            self.problems_omitted += 1;
        }
    }

    /// Whether everything was taken.
    pub fn is_whole(&self) -> bool {
        self.problems.is_empty()
    }

    fn keep(&mut self, line: u64, received: Received) -> Vec<Telemetry> {
        if received.rejected > 0 {
            self.rejected += received.rejected;
            let reason = received.reason.unwrap_or_default();
            self.problem(line, format!("{} items are left out, the first for this: {reason}", received.rejected));
        }
        received.telemetry
    }
}

/// Writes telemetry as lines: requests of traces, then requests of logs.
pub fn write_lines(out: &mut dyn Write, telemetry: &[Telemetry]) -> io::Result<()> {
    for group in in_lines(telemetry) {
        let traces = traces_request(&group);
        if !traces.resource_spans.is_empty() {
            out.write_all(&encode_trace_request(&traces))?;
            out.write_all(b"\n")?;
        }
        let logs = logs_request(&group);
        if !logs.resource_logs.is_empty() {
            out.write_all(&encode_logs_request(&logs))?;
            out.write_all(b"\n")?;
        }
    }
    Ok(())
}

/// Telemetry in groups of a line each. Only what is too large for one is copied apart.
fn in_lines(telemetry: &[Telemetry]) -> Vec<Vec<Telemetry>> {
    let size = |part: &Telemetry| part.spans.len().max(part.logs.len());
    let mut lines: Vec<Vec<Telemetry>> = Vec::new();
    let mut open = 0;
    for part in telemetry.iter().filter(|part| size(part) > 0) {
        let mut spans = part.spans.chunks(PER_LINE);
        let mut logs = part.logs.chunks(PER_LINE);
        loop {
            let (spans, logs) = (spans.next().unwrap_or_default(), logs.next().unwrap_or_default());
            let n = spans.len().max(logs.len());
            if n == 0 {
                break;
            }
            if lines.is_empty() || open + n > PER_LINE {
                lines.push(Vec::new());
                open = 0;
            }
            open += n;
            let cut = Telemetry { origin: part.origin.clone(), spans: spans.to_vec(), logs: logs.to_vec() };
            lines.last_mut().expect("pushed above").push(cut);
        }
    }
    lines
}

/// Reads a file and hands over what it holds, request by request. What cannot be taken is noted and the rest goes on;
/// an error ends it at once.
pub fn read<E: From<FileError>>(
    path: &Path,
    mut take: impl FnMut(Vec<Telemetry>) -> Result<(), E>,
) -> Result<ReadFile, E> {
    let mut bytes = open(path)?;
    let mut found = ReadFile::default();
    let start = bytes.fill_buf().map_err(|source| FileError::read(path, source))?;
    let start = start.strip_prefix(b"\xef\xbb\xbf").unwrap_or(start);
    let first = start.iter().find(|byte| !byte.is_ascii_whitespace()).copied();
    if is_binary(path, start) {
        let mut whole = Vec::new();
        rest(path, &mut *bytes, MAX_DOCUMENT, &mut whole)?;
        binary(path, &whole, &mut found, &mut take)?;
        return Ok(found);
    }
    if first.is_none() {
        return Ok(found);
    }
    let mut line = Vec::new();
    let mut number = 0;
    loop {
        line.clear();
        let read = (&mut bytes).take(MAX_DOCUMENT as u64).read_until(b'\n', &mut line);
        match read {
            Ok(0) => break,
            Ok(_) => number += 1,
            // What came before is taken: this is said with the place, and ends with an error code like any bad line.
            Err(error) => {
                found.problem(number + 1, format!("the data cannot be read on: {error}"));
                break;
            }
        }
        if line.len() == MAX_DOCUMENT && !line.ends_with(b"\n") {
            found.problem(number, format!("a line of more than {} MiB; what follows is left out", MAX_DOCUMENT >> 20));
            break;
        }
        let text = line.strip_prefix(b"\xef\xbb\xbf").filter(|_| number == 1).unwrap_or(&line).trim_ascii();
        if text.is_empty() {
            continue;
        }
        if found.requests == 0 && is_open_ended(text) {
            // A document over several lines: there is no next line to go on with.
            let mut whole = text.to_vec();
            whole.push(b'\n');
            rest(path, &mut *bytes, MAX_DOCUMENT, &mut whole)?;
            if is_lines(&whole) {
                // The first line is torn, not the beginning of a longer document.
                for line in whole.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii) {
                    if !line.is_empty() {
                        document(line, number, &mut found, &mut take)?;
                    }
                    number += 1;
                }
            } else {
                document(&whole, number, &mut found, &mut take)?;
            }
            break;
        }
        document(text, number, &mut found, &mut take)?;
    }
    Ok(found)
}

/// Whether a line is only the beginning of a JSON document.
fn is_open_ended(text: &[u8]) -> bool {
    matches!(text, [b'{' | b'[', ..])
        && serde_json::from_slice::<serde::de::IgnoredAny>(text).is_err_and(|error| error.is_eof())
}

/// Whether the text is no JSON document though the first line after its own first is one by itself.
fn is_lines(text: &[u8]) -> bool {
    let is_json = |text: &[u8]| serde_json::from_slice::<serde::de::IgnoredAny>(text).is_ok();
    let mut lines = text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.is_empty());
    lines.nth(1).is_some_and(|second| second.starts_with(b"{") && is_json(second)) && !is_json(text)
}

fn document<E>(
    text: &[u8],
    line: u64,
    found: &mut ReadFile,
    take: &mut impl FnMut(Vec<Telemetry>) -> Result<(), E>,
) -> Result<(), E> {
    let holds = |names: [&[u8]; 2]| names.iter().any(|name| contains(text, name));
    let mut known = false;
    if holds([b"resourceSpans", b"resource_spans"]) {
        known = true;
        match decode_trace_request(text) {
            Ok(request) => {
                found.requests += 1;
                let telemetry = found.keep(line, receive_traces(request));
                take(telemetry)?;
            }
            Err(error) => {
                found.problem(line, error.to_string());
                return Ok(());
            }
        }
    }
    if holds([b"resourceLogs", b"resource_logs"]) {
        known = true;
        match decode_logs_request(text) {
            Ok(request) => {
                found.requests += 1;
                let telemetry = found.keep(line, receive_logs(request));
                take(telemetry)?;
            }
            Err(error) => found.problem(line, error.to_string()),
        }
    }
    if !known {
        if holds([b"resourceMetrics", b"resource_metrics"]) {
            found.metrics += 1;
        } else if serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(text).is_ok_and(|o| o.is_empty())
        {
            // An empty request is a request.
            found.requests += 1;
        } else {
            found.problem(line, "no OTLP request: expected an object with `resourceSpans` or `resourceLogs`");
        }
    }
    Ok(())
}

fn contains(text: &[u8], word: &[u8]) -> bool {
    text.windows(word.len()).any(|window| window == word)
}

fn is_binary(path: &Path, start: &[u8]) -> bool {
    let name = path.file_name().map(|name| name.to_string_lossy().to_ascii_lowercase()).unwrap_or_default();
    let plain = name.strip_suffix(".gz").or_else(|| name.strip_suffix(".zst")).unwrap_or(&name);
    let named = [".pb", ".bin", ".proto", ".binpb"].iter().any(|ending| plain.ends_with(ending));
    // JSON lines begin with a bracket; a message begins with the tag of its first field, and a length before it with zeros.
    named || matches!(start.first(), Some(0 | 0x0a)) && start.iter().take(64).any(|b| *b < 9)
}

fn binary<E: From<FileError>>(
    path: &Path,
    whole: &[u8],
    found: &mut ReadFile,
    take: &mut impl FnMut(Vec<Telemetry>) -> Result<(), E>,
) -> Result<(), E> {
    if let Some(received) = message(whole) {
        found.requests += 1;
        let telemetry = found.keep(1, received);
        return take(telemetry);
    }
    let mut left = whole;
    let mut number = 0;
    while !left.is_empty() {
        number += 1;
        let cut = left.split_at_checked(4).and_then(|(length, after)| {
            let length = u32::from_be_bytes(length.try_into().ok()?) as usize;
            after.split_at_checked(length)
        });
        match cut {
            Some((one, after)) => {
                left = after;
                match message(one) {
                    Some(received) => {
                        found.requests += 1;
                        let telemetry = found.keep(number, received);
                        take(telemetry)?;
                    }
                    None => found.problem(number, "no trace or logs request in protobuf"),
                }
            }
            None if number == 1 => {
                return Err(FileError::content(path, "it is no OTLP request in protobuf", EXPECTED).into());
            }
            None => {
                found.problem(number, "the file ends in the middle of a message");
                break;
            }
        }
    }
    Ok(())
}

/// The telemetry of a protobuf message: a request of traces or, if it is none, of logs. The two differ in the first field of
/// a span and of a log record, so that one that is not empty never passes for the other.
fn message(bytes: &[u8]) -> Option<Received> {
    if let Ok(request) = ExportTraceServiceRequest::decode(bytes) {
        let empty =
            request.resource_spans.iter().all(|group| group.scope_spans.iter().all(|scope| scope.spans.is_empty()));
        let ids = |request: &ExportTraceServiceRequest| {
            let mut spans = request.resource_spans.iter().flat_map(|g| &g.scope_spans).flat_map(|s| &s.spans);
            spans.any(|span| span.trace_id.len() == TraceId::from_bytes([0; 16]).as_bytes().len())
        };
        if empty || ids(&request) {
            return Some(receive_traces(request));
        }
    }
    ExportLogsServiceRequest::decode(bytes).ok().map(receive_logs)
}
