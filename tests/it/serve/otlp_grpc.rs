//! The Export calls over gRPC, by tonic's client and by hand.

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::logs::v1::logs_service_client::LogsServiceClient;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_client::MetricsServiceClient;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use tonic::codec::CompressionEncoding;
use tonic::transport::Channel;
use tonic::{Code, Request};

use super::{Served, request, spans};

async fn channel(served: &Served) -> Channel {
    Channel::from_shared(format!("http://{}", served.grpc())).expect("a URI").connect().await.expect("it listens")
}

#[test]
fn all_three_services_answer_and_traces_are_kept_plain_and_packed() {
    let served = Served::new();
    served.block_on(async {
        let channel = channel(&served).await;
        let mut traces = TraceServiceClient::new(channel.clone());
        let response = traces.export(request(spans(0, 10))).await.expect("taken").into_inner();
        assert_eq!(response.partial_success, None);
        assert_eq!(traces.export(ExportTraceServiceRequest::default()).await.expect("taken").into_inner(), response);
        let mut packed = TraceServiceClient::new(channel.clone())
            .send_compressed(CompressionEncoding::Gzip)
            .accept_compressed(CompressionEncoding::Gzip);
        packed.export(request(spans(100, 1000))).await.expect("taken");
        LogsServiceClient::new(channel.clone()).export(ExportLogsServiceRequest::default()).await.expect("taken");
        MetricsServiceClient::new(channel).export(ExportMetricsServiceRequest::default()).await.expect("taken");
    });
    assert_eq!(served.count(|t| &t.spans), 1010);
    let reader = served.store.reader().expect("a reader");
    assert_eq!(reader.trace(&format!("{:032x}", 1)).expect("the trace").spans.len(), 5);
}

#[test]
fn partial_success_says_how_many_and_why() {
    let served = Served::new();
    let mut some = request(spans(0, 5));
    some.resource_spans[0].scope_spans[0].spans[0].trace_id.clear();
    let response = served.block_on(async { TraceServiceClient::new(channel(&served).await).export(some).await });
    let partial = response.expect("taken").into_inner().partial_success.expect("partial");
    assert_eq!(partial.rejected_spans, 1);
    assert!(partial.error_message.contains("trace id"), "{}", partial.error_message);
}

#[test]
fn other_methods_authorities_and_origins_are_refused() {
    let served = Served::new();
    served.block_on(async {
        let channel = channel(&served).await;

        let mut foreign = Request::new(ExportTraceServiceRequest::default());
        foreign.metadata_mut().insert("origin", "http://evil.example".parse().expect("ASCII"));
        let status = TraceServiceClient::new(channel).export(foreign).await.expect_err("foreign");
        assert_eq!(status.code(), Code::PermissionDenied);

        let rebound = Channel::from_shared(format!("http://{}", served.grpc()))
            .expect("a URI")
            .origin("http://evil.example".parse().expect("a URI"))
            .connect()
            .await
            .expect("it listens");
        let status = TraceServiceClient::new(rebound).export(request(spans(0, 5))).await.expect_err("foreign");
        assert_eq!((status.code(), served.count(|t| &t.spans)), (Code::PermissionDenied, 0));
    });
}
