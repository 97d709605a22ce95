//! What all destinations over HTTP share: packing bodies, reading answers with a bound, waits asked for, causes of failures.

use std::io::Write as _;
use std::time::Duration;

use flate2::write::GzEncoder;
use http::HeaderMap;
use http::header::RETRY_AFTER;
use reqwest::Response;

use crate::net::quote;
use crate::trace::provider::Clock;

/// An answer is a few hundred bytes; what goes beyond this is not read.
const MAX_ANSWER: usize = 64 << 10;

/// A body, packed.
pub(super) fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 4), flate2::Compression::fast());
    encoder.write_all(body).and_then(|()| encoder.finish()).expect("writing to memory cannot fail")
}

/// As much of the answer as is worth reading. An answer that breaks off is an answer nevertheless: its status is known.
pub(super) async fn read_capped(mut response: Response) -> Vec<u8> {
    let mut answer = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        let room = MAX_ANSWER - answer.len();
        answer.extend_from_slice(chunk.get(..room).unwrap_or(&chunk));
        if answer.len() == MAX_ANSWER {
            break;
        }
    }
    answer
}

/// An answer that is of use only as a whole.
pub(super) enum Capped {
    /// All of it.
    Whole(Vec<u8>),
    /// It goes on beyond the bound; the rest was not read.
    TooLarge,
    /// The connection broke, or time ran out.
    Broken,
}

/// The whole answer, if it has no more than `most` bytes.
pub(super) async fn read_whole(mut response: Response, most: usize) -> Capped {
    let mut answer = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if answer.len() + chunk.len() <= most => answer.extend_from_slice(&chunk),
            Ok(Some(_)) => return Capped::TooLarge,
            Ok(None) => return Capped::Whole(answer),
            Err(_) => return Capped::Broken,
        }
    }
}

/// The wait asked for, as seconds or as a date.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let moment = httpdate::parse_http_date(text).ok()?.duration_since(std::time::UNIX_EPOCH).ok()?;
    Some(moment.saturating_sub(Duration::from_nanos(Clock::System.now_unix_nano())))
}

/// The innermost cause, which is the one that says something: `Connection refused`.
pub(super) fn root_cause(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    quote(&innermost.to_string())
}
