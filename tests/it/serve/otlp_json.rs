//! The JSON encoding as SDKs write it, and what is no message in it.

use spanscore::model::{SpanKind, Value};

use super::{JSON, Served};

const TRACE: &str = "00112233445566778899aabbccddeeff";

/// Sends one span with these members and gives what is stored of it.
fn stored(members: &str) -> spanscore::model::Span {
    let served = Served::new();
    let json = format!(
        r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{{"traceId":"{TRACE}","spanId":"0102030405060708",
            "name":"s","startTimeUnixNano":"1800000000000000000","endTimeUnixNano":1800000000000000001{members}}}]}}]}}]}}"#
    );
    let answer = served.post("/v1/traces", &[JSON], json.as_bytes());
    assert_eq!((answer.status, answer.text().as_str()), (200, "{}"), "{members}");
    let detail = served.store.reader().expect("a reader").trace(TRACE).expect("the trace");
    detail.spans.into_iter().next().expect("the span")
}

fn refused(json: &str) -> String {
    let served = Served::new();
    let answer = served.post("/v1/traces", &[JSON], json.as_bytes());
    assert_eq!(answer.status, 400, "{json}");
    assert_eq!(served.count(|t| &t.spans), 0);
    answer.json()["message"].as_str().expect("a message").to_owned()
}

fn value(json: &str) -> Value {
    let span = stored(&format!(r#","attributes":[{{"key":"a","value":{json}}}]"#));
    assert_eq!(span.attributes.len(), 1, "{json}");
    span.attributes[0].1.clone()
}

#[test]
fn ids_are_hex_in_either_case_and_their_length_is_checked() {
    let served = Served::new();
    let json = |trace: &str, span: &str| {
        format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{{"traceId":"{trace}","spanId":"{span}"}}]}}]}}]}}"#)
    };
    let upper = json(&TRACE.to_uppercase(), "ABCDEFABCDEFABCD");
    assert_eq!(served.post("/v1/traces", &[JSON], upper.as_bytes()).text(), "{}");
    assert!(served.store.reader().expect("a reader").trace(TRACE).is_ok());
    for (trace, span) in [("00ff", "ABCDEFABCDEFABCD"), (TRACE, "01"), ("ABEiM0RVZneImaq7zN3u/w==", "AQIDBAUGBwg=")] {
        let message = refused(&json(trace, span));
        assert!(message.contains("hex digits") && message.contains("spans[0]"), "{message}");
    }
}

#[test]
fn numbers_are_read_as_numbers_or_text_and_kinds_as_numbers_or_names() {
    let span = stored(r#","kind":3,"flags":"257","droppedAttributesCount":2,"status":{"code":2,"message":"no"}"#);
    assert_eq!((span.kind, span.flags, span.dropped_attributes_count), (SpanKind::Client, 257, 2));
    assert_eq!((span.start_unix_nano, span.end_unix_nano), (1_800_000_000_000_000_000, 1_800_000_000_000_000_001));
    assert_eq!(span.status, spanscore::model::Status::Error("no".to_owned()));
    assert_eq!(stored(r#","kind":"SPAN_KIND_SERVER""#).kind, SpanKind::Server);
    assert_eq!(value(r#"{"intValue":"-9223372036854775808"}"#), Value::Int(i64::MIN));
    assert_eq!(value(r#"{"intValue":42}"#), Value::Int(42));
    assert_eq!(value(r#"{"doubleValue":"1.5"}"#), Value::Double(1.5));
    assert_eq!(value(r#"{"doubleValue":"Infinity"}"#), Value::Double(f64::INFINITY));
    assert!(matches!(value(r#"{"doubleValue":"NaN"}"#), Value::Double(x) if x.is_nan()));
}

#[test]
fn null_is_unset_and_unknown_fields_are_passed_over() {
    let span = stored(
        r#","attributes":null,"events":null,"links":null,"status":null,"parentSpanId":null,"kind":null,"later":{"x":[1]}"#,
    );
    assert_eq!((span.attributes.len(), span.events.len(), span.links.len()), (0, 0, 0));
    assert_eq!((span.parent_span_id, span.kind), (None, SpanKind::Unspecified));
    assert_eq!(value(r#"{"stringValue":null}"#), Value::Empty);
    assert_eq!(value("null"), Value::Empty);
    let served = Served::new();
    for json in [r#"{"resourceSpans":null}"#, r#"{"resourceSpans":[{"resource":null,"scopeSpans":null}]}"#] {
        assert_eq!(served.post("/v1/traces", &[JSON], json.as_bytes()).text(), "{}", "{json}");
    }
}

#[test]
fn empty_lists_and_both_alphabets_of_base64_are_read() {
    assert_eq!(value(r#"{"arrayValue":{}}"#), Value::Array(vec![]));
    assert_eq!(value(r#"{"arrayValue":{"values":null}}"#), Value::Array(vec![]));
    assert_eq!(value(r#"{"kvlistValue":{}}"#), Value::Map(vec![]));
    assert_eq!(value(r#"{"bytesValue":"+/8="}"#), Value::Bytes(vec![0xfb, 0xff]));
    assert_eq!(value(r#"{"bytesValue":"-_8"}"#), Value::Bytes(vec![0xfb, 0xff]));
    assert_eq!(value(r#"{"arrayValue":{"values":[{"intValue":1},{"stringValue":"x"},null]}}"#), {
        Value::Array(vec![Value::Int(1), Value::from("x"), Value::Empty])
    });
}

#[test]
fn strange_names_and_sizes_are_data() {
    let long = "k".repeat(1 << 20);
    let dots = ".".repeat(10_000);
    let span = stored(&format!(
        r#","attributes":[{{"key":"__proto__","value":{{"kvlistValue":{{"values":[{{"key":"constructor","value":{{"stringValue":"x"}}}}]}}}}}},
            {{"key":"{long}","value":{{"intValue":1}}}},{{"key":"{dots}","value":{{"stringValue":"{dots}"}}}}]"#
    ));
    let keys: Vec<usize> = span.attributes.iter().map(|(key, _)| key.len()).collect();
    assert_eq!(keys, ["__proto__".len(), 1 << 20, 10_000]);
}

#[test]
fn deep_values_are_refused_in_words_and_never_exhaust_the_stack() {
    let nested = |depth: usize, open: &str, close: &str| {
        format!(
            r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{{"traceId":"{TRACE}","spanId":"0102030405060708",
            "attributes":[{{"key":"a","value":{}{}{}}}]}}]}}]}}]}}"#,
            open.repeat(depth),
            r#"{"intValue":1}"#,
            close.repeat(depth)
        )
    };
    for depth in [100, 100_000] {
        let message = refused(&nested(depth, r#"{"arrayValue":{"values":["#, "]}}"));
        assert!(message.contains("recursion limit") || message.contains("nest"), "{message}");
    }
    // Even where nobody reads what is nested.
    refused(&nested(100_000, r#"{"x":"#, "}"));
    refused(&"[".repeat(100_000));
}
