//! Links to a trace in the user's own backend, and the query that finds it in Application Insights.

use std::collections::BTreeMap;
use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::write::GzEncoder;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::document::Exported;
use crate::model::{RunId, RunSpec, SpanId, TraceId};
use crate::store::rows::{CaseRow, RunRow};
use crate::store::{Reader, StoreError};

/// Everything but the characters that mean nothing in any part of a URL (RFC 3986, unreserved).
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The place of a template that [`kql_gzip`] fills.
pub const KQL_GZIP: &str = "{kql_gzip}";

/// The name of Application Insights among the destinations of a run.
const APP_INSIGHTS: &str = "appinsights";

/// Backends that want a range of time get this much on either side of the start, in milliseconds.
const AROUND: u64 = 3_600_000;

/// The link to a trial's span, where the run has a template.
pub fn of_case(spec: &RunSpec, row: &CaseRow) -> Option<String> {
    of_span(spec, row.trace_id?, row.span_id, row.started_unix_nano)
}

/// The template of a run's links, if it leads to a page: other schemes could run something.
pub fn template(spec: &RunSpec) -> Option<&str> {
    spec.trace_url.as_deref().filter(|url| url.starts_with("https://") || url.starts_with("http://"))
}

/// The link to a trace, or to a span of it, where the run has a template. `start_unix_nano` is about when it began.
pub fn of_span(spec: &RunSpec, trace_id: TraceId, span_id: Option<SpanId>, start_unix_nano: u64) -> Option<String> {
    Some(fill(template(spec)?, trace_id, span_id, start_unix_nano, spec.run_id.as_str()))
}

/// The query that finds all telemetry of a trace in Application Insights. A workspace calls the tables `AppDependencies` and so on;
/// the tables named here are those of the resource's own page `Logs`.
pub fn kql(trace_id: TraceId) -> String {
    format!(
        "union dependencies, requests, customEvents, exceptions, traces | where operation_Id == \"{trace_id}\" \
         | order by timestamp asc"
    )
}

/// The query for a run's scores, if Application Insights got anything of the run.
pub fn kql_if_delivered(run: &RunId, exported: &BTreeMap<String, Exported>) -> Option<String> {
    was_delivered(exported.get(APP_INSIGHTS).map(|counts| counts.delivered)).then(|| kql_of_run(run))
}

/// The query for a trace of a run, if Application Insights got anything of the run.
pub fn kql_of_trace(reader: &Reader, run: &RunRow, trace_id: TraceId) -> Result<Option<String>, StoreError> {
    let counts = reader.span_counts(run)?;
    Ok(was_delivered(counts.get(APP_INSIGHTS).map(|counts| counts.delivered)).then(|| kql(trace_id)))
}

const fn was_delivered(delivered: Option<u64>) -> bool {
    matches!(delivered, Some(1..))
}

/// The query that finds the scores of a run there.
fn kql_of_run(run: &RunId) -> String {
    // A run's id is letters, digits and dashes.
    format!(
        "customEvents | where name == \"{}\" and customDimensions[\"{}\"] == \"{run}\"",
        crate::trace::semconv::event::EVALUATION_RESULT,
        crate::trace::semconv::TEST_SUITE_RUN_ID,
    )
}

/// The link of a template such as `https://jaeger.example/trace/{trace_id}`, filled with percent-encoded values.
/// A place without a value is left empty; unknown places stay as they are.
fn fill(template: &str, trace_id: TraceId, span_id: Option<SpanId>, start_unix_nano: u64, run_id: &str) -> String {
    let start = start_unix_nano / 1_000_000;
    let (mut url, mut rest) = (String::with_capacity(template.len() + 64), template);
    // One pass, so that a value that looks like a place is not filled again.
    while let Some((before, from)) = rest.find('{').and_then(|at| rest.split_at_checked(at)) {
        url.push_str(before);
        let inside = from.strip_prefix('{').unwrap_or_default();
        let place = inside.split_once('}');
        let value = place.and_then(|(name, _)| {
            Some(match name {
                "trace_id" => trace_id.to_string(),
                "span_id" => span_id.map(|id| id.to_string()).unwrap_or_default(),
                "start_unix_ms" => start.to_string(),
                "run_id" => run_id.to_owned(),
                "from_unix_ms" => start.saturating_sub(AROUND).to_string(),
                "to_unix_ms" => start.saturating_add(AROUND).to_string(),
                "kql_gzip" => kql_gzip(trace_id),
                _ => return None,
            })
        });
        // The one place that is two parts of a path.
        let target = place.filter(|(name, _)| *name == "target").map(|_| match span_id {
            Some(span) => format!("spans/{span}"),
            None => format!("traces/{trace_id}"),
        });
        match (value, target) {
            (Some(value), _) => url.extend(utf8_percent_encode(&value, ESCAPED)),
            (None, Some(target)) => url.push_str(&target),
            (None, None) => {
                url.push('{');
                rest = inside;
                continue;
            }
        }
        rest = place.map_or("", |(_, after)| after);
    }
    url + rest
}

/// The query for a trace as Azure's links carry it: gzip, then base64.
pub fn kql_gzip(trace_id: TraceId) -> String {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    let bytes = encoder.write_all(kql(trace_id).as_bytes()).and_then(|()| encoder.finish());
    STANDARD.encode(bytes.expect("writing to memory cannot fail"))
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;
    use crate::report::fixture;

    fn filled(template: &str) -> String {
        fill(template, fixture::trace_id(), None, 1_795_362_301_234_567_890, "a/{trace_id}&b")
    }

    #[test]
    fn links_are_filled_once_and_encoded() {
        for (template, expected) in [
            ("http://x/{trace_id}", "http://x/0af7651916cd43dd8448eb211c80319c"),
            (
                "http://x/?t={start_unix_ms}&s={span_id}&r={run_id}",
                "http://x/?t=1795362301234&s=&r=a%2F%7Btrace_id%7D%26b",
            ),
            ("http://x/{other}/{{trace_id}}", "http://x/{other}/{0af7651916cd43dd8448eb211c80319c}"),
            ("http://x/{", "http://x/{"),
            ("http://x/{from_unix_ms}-{to_unix_ms}", "http://x/1795358701234-1795365901234"),
            ("http://x/redirects/{target}", "http://x/redirects/traces/0af7651916cd43dd8448eb211c80319c"),
        ] {
            assert_eq!(filled(template), expected);
        }
        let span = SpanId::from_bytes([7; 8]);
        let url = fill("http://x/{target}", fixture::trace_id(), Some(span), 0, "r");
        assert_eq!(url, "http://x/spans/0707070707070707");
    }

    #[test]
    fn azure_gets_the_query_packed() {
        let url = filled("https://portal/query/{kql_gzip}/isQueryBase64Compressed/true");
        let packed = url.split('/').nth(4).expect("the query");
        assert!(packed.bytes().all(|b| b.is_ascii_alphanumeric() || b"%-._~".contains(&b)), "{packed}");
        let text = percent_encoding::percent_decode_str(packed).decode_utf8().expect("a text");
        let bytes = STANDARD.decode(text.as_bytes()).expect("base64");
        let mut query = String::new();
        flate2::read::GzDecoder::new(bytes.as_slice()).read_to_string(&mut query).expect("gzip");
        assert_eq!(query, kql(fixture::trace_id()));
        assert!(query.contains("operation_Id == \"0af7651916cd43dd8448eb211c80319c\""), "{query}");
    }

    #[test]
    fn only_pages_are_linked() {
        let mut run = fixture::run().spec;
        run.trace_url = Some("javascript:alert('{trace_id}')".to_owned());
        assert_eq!(of_span(&run, fixture::trace_id(), None, 0), None);
    }
}
