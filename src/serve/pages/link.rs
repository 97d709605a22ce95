//! Addresses of pages, with every part percent-encoded.

use std::fmt::{Display, Write as _};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// Everything but the characters that mean nothing in any part of a URL (RFC 3986, unreserved).
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The address of these path segments: `["runs", id]` is `/runs/ID`.
pub fn path(segments: &[&str]) -> String {
    let mut path = String::new();
    for segment in segments {
        let _ = write!(path, "/{}", utf8_percent_encode(segment, ESCAPED));
    }
    if path.is_empty() { "/".to_owned() } else { path }
}

/// An address with these parameters; those without a value are left out.
pub fn with_query<'q>(path: &str, parameters: impl IntoIterator<Item = (&'q str, Option<&'q str>)>) -> String {
    let mut url = path.to_owned();
    let mut mark = '?';
    for (name, value) in parameters {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            let _ = write!(url, "{mark}{}={}", utf8_percent_encode(name, ESCAPED), utf8_percent_encode(value, ESCAPED));
            mark = '&';
        }
    }
    url
}

/// The page of a run.
pub fn run(id: impl Display) -> String {
    path(&["runs", &id.to_string()])
}

/// The cases of a run that match a query.
pub fn cases(run: impl Display, query: &str) -> String {
    with_query(&path(&["runs", &run.to_string(), "cases"]), [("q", Some(query))])
}

/// The page of a case.
pub fn case(dataset: &str, id: impl Display) -> String {
    path(&["cases", dataset, &id.to_string()])
}

/// The page of a trace, at one of its spans.
pub fn trace(id: impl Display, span: Option<impl Display>) -> String {
    let span = span.map(|span| span.to_string());
    with_query(&path(&["traces", &id.to_string()]), [("span", span.as_deref())])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_is_encoded() {
        assert_eq!(path(&[]), "/");
        assert_eq!(case("a b", "x/../?#&"), "/cases/a%20b/x%2F..%2F%3F%23%26");
        assert_eq!(cases("r", "expected = NEE"), "/runs/r/cases?q=expected%20%3D%20NEE");
        assert_eq!(with_query("/traces", [("q", None), ("sort", Some("-start"))]), "/traces?sort=-start");
        assert_eq!(trace("t", Some("s")), "/traces/t?span=s");
    }
}
