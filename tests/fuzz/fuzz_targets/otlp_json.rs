//! An OTLP JSON request that is read is written and read again as the same, before and after it was taken apart into
//! telemetry.
#![no_main]

use libfuzzer_sys::fuzz_target;
use prost::Message;
use spanscore::trace::otlp_json;
use spanscore::trace::requests::{logs_request, receive_logs, receive_traces, traces_request};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(request) = otlp_json::decode_trace_request(bytes) {
        let again = otlp_json::decode_trace_request(&otlp_json::encode_trace_request(&request));
        same(&again.expect("what we write we read"), &request);
        let taken = traces_request(&receive_traces(request).telemetry);
        let received = receive_traces(taken.clone());
        assert_eq!(received.rejected, 0, "what was taken once is taken again");
        same(&traces_request(&received.telemetry), &taken);
        let again = otlp_json::decode_trace_request(&otlp_json::encode_trace_request(&taken));
        same(&again.expect("what we write we read"), &taken);
    }
    if let Ok(request) = otlp_json::decode_logs_request(bytes) {
        let again = otlp_json::decode_logs_request(&otlp_json::encode_logs_request(&request));
        same(&again.expect("what we write we read"), &request);
        let taken = logs_request(&receive_logs(request).telemetry);
        let received = receive_logs(taken.clone());
        assert_eq!(received.rejected, 0, "what was taken once is taken again");
        same(&logs_request(&received.telemetry), &taken);
    }
    // These read what other servers answer.
    drop(otlp_json::decode_trace_response(bytes));
    drop(otlp_json::decode_logs_response(bytes));
    drop(otlp_json::decode_status_message(bytes));
});

/// Equal as bytes on the wire, for NaN is not equal to itself.
fn same<M: Message + std::fmt::Debug>(found: &M, expected: &M) {
    assert!(found.encode_to_vec() == expected.encode_to_vec(), "found {found:#?}\nexpected {expected:#?}");
}
