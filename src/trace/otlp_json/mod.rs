//! OTLP's JSON form: `encode` writes it strictly, `decode` reads what real SDKs send.
//!
//! Source: OTLP 1.11, "JSON Protobuf Encoding". Ids are hex, not base64; 64-bit integers are decimal strings;
//! enumerations are numbers; names are in lowerCamelCase. The `serde` support of opentelemetry-proto is not used, because
//! it writes NaN as null and refuses forms that SDKs send. Transport is left to `otlp_http`.

mod decode;
mod encode;
mod metrics;
mod requests;
mod structure;

pub use decode::{JsonError, decode_logs_response, decode_status_message, decode_trace_response};
pub use encode::{
    encode_logs_request, encode_logs_response, encode_status, encode_trace_request, encode_trace_response,
};
pub use metrics::decode_metrics_request;
pub use requests::{decode_logs_request, decode_trace_request};

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::collector::logs::v1::{
        ExportLogsPartialSuccess, ExportLogsServiceRequest, ExportLogsServiceResponse,
    };
    use opentelemetry_proto::tonic::collector::trace::v1::{
        ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
    };
    use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
    use opentelemetry_proto::tonic::logs::v1::{ResourceLogs, ScopeLogs};
    use opentelemetry_proto::tonic::resource::v1::Resource;
    use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans};
    use proptest::prelude::*;

    use super::*;
    use crate::model::{Event, Key, Link, LogRecord, Span, SpanId, SpanKind, Status, TraceId, Value};
    use crate::trace::otlp;

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Empty),
            ".{0,8}".prop_map(Value::from),
            any::<bool>().prop_map(Value::Bool),
            any::<i64>().prop_map(Value::Int),
            any::<f64>().prop_filter("NaN is not equal to itself", |x| !x.is_nan()).prop_map(Value::Double),
            proptest::collection::vec(any::<u8>(), 0..6).prop_map(Value::Bytes),
        ];
        leaf.prop_recursive(3, 12, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
                proptest::collection::vec((".{0,4}".prop_map(Key::from), inner), 0..4).prop_map(Value::Map),
            ]
        })
    }

    fn attributes() -> impl Strategy<Value = Vec<(Key, Value)>> {
        proptest::collection::vec((".{0,6}".prop_map(Key::from), any_value()), 0..4)
    }

    prop_compose! {
        fn any_span()(
            ids in any::<([u8; 16], [u8; 8], Option<[u8; 8]>)>(),
            (name, state) in (".{0,8}", "[a-z=,]{0,8}"),
            times in any::<(u64, u64, u64)>(),
            (flags, counts) in any::<(u32, [u32; 4])>(),
            kind in 0..6i32,
            status in prop_oneof![Just(Status::Unset), Just(Status::Ok), ".{0,8}".prop_map(Status::Error)],
            (own, of_event, of_link) in (attributes(), attributes(), attributes()),
        ) -> Span {
            Span {
                trace_state: state.clone(),
                flags,
                kind: SpanKind::from_number(kind),
                end_unix_nano: times.1,
                status,
                attributes: own,
                dropped_attributes_count: counts[0],
                events: vec![Event {
                    name: name.clone().into(),
                    time_unix_nano: times.2,
                    attributes: of_event,
                    dropped_attributes_count: counts[1],
                }],
                dropped_events_count: counts[2],
                links: vec![Link {
                    trace_id: TraceId::from_bytes(ids.0),
                    span_id: SpanId::from_bytes(ids.1),
                    trace_state: state,
                    attributes: of_link,
                    dropped_attributes_count: counts[1],
                    flags,
                }],
                dropped_links_count: counts[3],
                ..Span::open(
                    TraceId::from_bytes(ids.0),
                    SpanId::from_bytes(ids.1),
                    ids.2.map(SpanId::from_bytes),
                    name,
                    times.0,
                )
            }
        }
    }

    prop_compose! {
        fn any_record()(
            ids in any::<(Option<[u8; 16]>, Option<[u8; 8]>)>(),
            (text, event) in (".{0,8}", "[a-z.]{0,8}"),
            times in any::<(u64, u64)>(),
            (flags, dropped) in any::<(u32, u32)>(),
            severity in 0..25i32,
            (body, own) in (any_value(), attributes()),
        ) -> LogRecord {
            LogRecord {
                time_unix_nano: times.0,
                observed_unix_nano: times.1,
                severity_number: severity,
                severity_text: text,
                event_name: event.into(),
                body,
                attributes: own,
                dropped_attributes_count: dropped,
                flags,
                trace_id: ids.0.map(TraceId::from_bytes),
                span_id: ids.1.map(SpanId::from_bytes),
            }
        }
    }

    fn scope() -> InstrumentationScope {
        InstrumentationScope {
            name: "s".into(),
            version: "1".into(),
            attributes: otlp::encode_attributes(&[("k".into(), Value::Int(1))]),
            dropped_attributes_count: 2,
        }
    }

    fn resource(attributes: &[(Key, Value)]) -> Resource {
        Resource { dropped_attributes_count: 1, ..otlp::encode_resource(attributes) }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn trace_requests_come_back_as_they_were(spans in proptest::collection::vec(any_span(), 0..3), own in attributes()) {
            let request = ExportTraceServiceRequest {
                resource_spans: vec![ResourceSpans {
                    resource: Some(resource(&own)),
                    scope_spans: vec![ScopeSpans {
                        scope: Some(scope()),
                        spans: spans.iter().map(otlp::encode_span).collect(),
                        schema_url: "u".into(),
                    }],
                    schema_url: "v".into(),
                }],
            };
            prop_assert_eq!(decode_trace_request(&encode_trace_request(&request)).unwrap(), request);
        }

        #[test]
        fn logs_requests_come_back_as_they_were(records in proptest::collection::vec(any_record(), 0..3), own in attributes()) {
            let request = ExportLogsServiceRequest {
                resource_logs: vec![ResourceLogs {
                    resource: Some(resource(&own)),
                    scope_logs: vec![ScopeLogs {
                        scope: Some(scope()),
                        log_records: records.iter().map(otlp::encode_log).collect(),
                        schema_url: "u".into(),
                    }],
                    schema_url: "v".into(),
                }],
            };
            prop_assert_eq!(decode_logs_request(&encode_logs_request(&request)).unwrap(), request);
        }
    }

    #[test]
    fn responses_come_back_as_they_were() {
        for partial_success in
            [None, Some(ExportTracePartialSuccess { rejected_spans: 3, error_message: "too \"old\"".into() })]
        {
            let response = ExportTraceServiceResponse { partial_success };
            assert_eq!(decode_trace_response(&encode_trace_response(&response)).unwrap(), response);
        }
        let response = ExportLogsServiceResponse {
            partial_success: Some(ExportLogsPartialSuccess { rejected_log_records: 1, error_message: String::new() }),
        };
        assert_eq!(decode_logs_response(&encode_logs_response(&response)).unwrap(), response);
        assert_eq!(decode_status_message(&encode_status(3, "no")).as_deref(), Some("no"));
    }
}
