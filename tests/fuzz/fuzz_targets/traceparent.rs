//! What is read as a `traceparent` is written and read again as the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use spanscore::export::sampler::ParentDecision;
use spanscore::trace::traceparent::TraceParent;

fuzz_target!(|text: &str| {
    let decision = ParentDecision::from_traceparent(text);
    let Ok(parent) = text.parse::<TraceParent>() else {
        assert_eq!(decision, None, "a decision of what is no parent");
        return;
    };
    assert_ne!(parent.trace_id.as_bytes(), &[0; 16]);
    assert_ne!(parent.span_id.as_bytes(), &[0; 8]);
    let written = parent.to_string();
    assert_eq!(written.len(), 55);
    assert_eq!(written.parse::<TraceParent>(), Ok(parent));
    assert!(text.contains(&written[2..]), "all but the version stands in the text");
    let decision = decision.expect("a parent decides");
    assert_eq!((decision.trace_id, decision.sampled), (parent.trace_id, parent.is_sampled()));
});
