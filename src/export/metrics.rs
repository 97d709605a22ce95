//! The two GenAI histograms, sent over OTLP while the run goes on and at its end. Best effort: what cannot be sent is
//! dropped, nothing is retried beyond what the SDK does, and nothing ever waits for it but [`Metrics::shutdown`], which
//! does so for a few seconds at most.

use std::collections::HashMap;
use std::future::Future;
use std::pin::pin;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures::future::poll_fn;
use opentelemetry::metrics::{Histogram, MeterProvider as _};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_otlp::{MetricExporter, WithExportConfig as _, WithHttpConfig as _, WithTonicConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::exporter::PushMetricExporter;
use opentelemetry_sdk::metrics::{SdkMeterProvider, Temporality};
use tokio::runtime::{Handle, Runtime};
use tonic::metadata::MetadataMap;

use super::connect::{connect_timeout, user_agent};
use super::endpoint::{Compression, OtlpSettings, Protocol};
use super::otlp_grpc::channel;
use crate::model::{Key, Span, Status, Value};
use crate::net::install_tls_provider;
use crate::trace::semconv;

/// How long the end of a run waits for the last export.
const LAST_EXPORT: Duration = Duration::from_secs(5);

/// Attributes of a `chat` span that its metrics carry too (OpenTelemetry semantic conventions, GenAI metrics).
const CARRIED: [&str; 8] = [
    semconv::GEN_AI_OPERATION_NAME,
    semconv::GEN_AI_PROVIDER_NAME,
    semconv::GEN_AI_REQUEST_MODEL,
    semconv::GEN_AI_RESPONSE_MODEL,
    semconv::SERVER_ADDRESS,
    semconv::SERVER_PORT,
    semconv::OPENAI_RESPONSE_SERVICE_TIER,
    semconv::OPENAI_RESPONSE_SYSTEM_FINGERPRINT,
];

/// Records model calls and sends what adds up.
pub struct Metrics {
    duration: Histogram<f64>,
    tokens: Histogram<u64>,
    provider: SdkMeterProvider,
    /// The exporter's own runtime: the SDK drives exports from a plain thread, where HTTP clients would panic, and the
    /// caller's runtime may be blocked or gone by then.
    runtime: Mutex<Option<Runtime>>,
}

impl Metrics {
    /// Starts sending to an endpoint; `None` where no client can be made for it, because metrics are no reason to stop.
    pub fn new(settings: &OtlpSettings, resource: &[(Key, Value)]) -> Option<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("metrics")
            .enable_all()
            .build()
            .ok()?;
        let inside = runtime.enter();
        let exporter = exporter(settings);
        drop(inside);
        let Some(exporter) = exporter else {
            runtime.shutdown_background();
            return None;
        };
        let resource = Resource::builder_empty().with_attributes(resource.iter().filter_map(key_value)).build();
        let provider = SdkMeterProvider::builder()
            .with_resource(resource)
            .with_periodic_exporter(InRuntime { exporter, handle: runtime.handle().clone() })
            .build();
        let scope = InstrumentationScope::builder(env!("CARGO_PKG_NAME")).with_version(env!("CARGO_PKG_VERSION"));
        let meter = provider.meter_with_scope(scope.build());
        let duration = meter
            .f64_histogram(semconv::metric::OPERATION_DURATION)
            .with_unit("s")
            .with_description("GenAI operation duration")
            .with_boundaries(semconv::metric::duration_bounds())
            .build();
        let tokens = meter
            .u64_histogram(semconv::metric::TOKEN_USAGE)
            .with_unit("{token}")
            .with_description("Number of input and output tokens used")
            .with_boundaries(semconv::metric::token_bounds())
            .build();
        Some(Self { duration, tokens, provider, runtime: Mutex::new(Some(runtime)) })
    }

    /// Records the model call that a span stands for; spans of other operations are passed over.
    pub fn observe(&self, span: &Span) {
        const CHAT: Value = Value::Str(std::borrow::Cow::Borrowed("chat"));
        if span.is_open() || span.get(semconv::GEN_AI_OPERATION_NAME) != Some(&CHAT) {
            return;
        }
        let mut attributes: Vec<KeyValue> =
            span.attributes.iter().filter(|(key, _)| CARRIED.contains(&key.as_ref())).filter_map(key_value).collect();
        for (key, kind) in
            [(semconv::GEN_AI_USAGE_INPUT_TOKENS, "input"), (semconv::GEN_AI_USAGE_OUTPUT_TOKENS, "output")]
        {
            if let Some(Value::Int(count)) = span.get(key) {
                attributes.push(KeyValue::new(semconv::GEN_AI_TOKEN_TYPE, kind));
                self.tokens.record(u64::try_from(*count).unwrap_or(0), &attributes);
                attributes.pop();
            }
        }
        if let (Status::Error(_), Some(Value::Str(class))) = (&span.status, span.get(semconv::ERROR_TYPE)) {
            attributes.push(KeyValue::new(semconv::ERROR_TYPE, class.clone().into_owned()));
        }
        let nanos = span.end_unix_nano.saturating_sub(span.start_unix_nano);
        self.duration.record(Duration::from_nanos(nanos).as_secs_f64(), &attributes);
    }

    /// Sends what is left and stops; waits no longer than a few seconds. Later calls do nothing.
    pub async fn shutdown(&self) {
        let Some(runtime) = self.runtime.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
        let provider = self.provider.clone();
        let stopped = tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(LAST_EXPORT));
        // The SDK keeps to its timeout; should it not, the run ends all the same.
        let _ = tokio::time::timeout(LAST_EXPORT + Duration::from_secs(1), stopped).await;
        runtime.shutdown_background();
    }
}

impl Drop for Metrics {
    fn drop(&mut self) {
        // Dropping a runtime waits for it, and panics inside another one.
        if let Some(runtime) = self.runtime.lock().unwrap_or_else(PoisonError::into_inner).take() {
            runtime.shutdown_background();
        }
    }
}

fn exporter(settings: &OtlpSettings) -> Option<MetricExporter> {
    install_tls_provider();
    let gzip = settings.compression == Compression::Gzip;
    if settings.protocol == Protocol::Grpc {
        let mut builder = MetricExporter::builder()
            .with_tonic()
            .with_channel(channel(settings).ok()?)
            .with_metadata(MetadataMap::from_headers(settings.headers.clone()))
            .with_timeout(settings.timeout);
        if gzip {
            builder = builder.with_compression(opentelemetry_otlp::Compression::Gzip);
        }
        return builder.build().ok();
    }
    let client = reqwest::Client::builder()
        .user_agent(user_agent())
        .timeout(settings.timeout)
        .connect_timeout(connect_timeout(settings.timeout))
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .ok()?;
    let headers: HashMap<String, String> = settings
        .headers
        .iter()
        .filter_map(|(name, value)| Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned())))
        .collect();
    let protocol = match settings.protocol {
        Protocol::HttpJson => opentelemetry_otlp::Protocol::HttpJson,
        _ => opentelemetry_otlp::Protocol::HttpBinary,
    };
    let mut builder = MetricExporter::builder()
        .with_http()
        .with_http_client(client)
        .with_endpoint(settings.endpoint.as_str())
        .with_protocol(protocol)
        .with_headers(headers)
        .with_timeout(settings.timeout);
    if gzip {
        builder = builder.with_compression(opentelemetry_otlp::Compression::Gzip);
    }
    builder.build().ok()
}

/// An attribute as the SDK has it; what its metrics cannot carry (maps, mixed lists, bytes) is left out.
fn key_value((key, value): &(Key, Value)) -> Option<KeyValue> {
    let value: opentelemetry::Value = match value {
        Value::Str(text) => text.clone().into_owned().into(),
        Value::Bool(x) => (*x).into(),
        Value::Int(x) => (*x).into(),
        Value::Double(x) => (*x).into(),
        Value::Empty | Value::Bytes(_) | Value::Array(_) | Value::Map(_) => return None,
    };
    Some(KeyValue::new(key.clone().into_owned(), value))
}

/// An exporter whose exports run in the context of a tokio runtime, whatever thread drives them.
struct InRuntime {
    exporter: MetricExporter,
    handle: Handle,
}

impl PushMetricExporter for InRuntime {
    async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
        let mut export = pin!(self.exporter.export(metrics));
        poll_fn(|context| {
            let _inside = self.handle.enter();
            export.as_mut().poll(context)
        })
        .await
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn temporality(&self) -> Temporality {
        self.exporter.temporality()
    }
}

#[cfg(test)]
mod tests {
    use wiremock::matchers::{method, path};
    use wiremock::{Mock, MockServer, ResponseTemplate};

    use super::*;
    use crate::model::{SpanId, TraceId};

    fn chat() -> Span {
        let mut span = Span::open(TraceId::from_bytes([1; 16]), SpanId::from_bytes([1; 8]), None, "chat m", 1);
        span.end_unix_nano = 50_000_001;
        span.set(semconv::GEN_AI_OPERATION_NAME, "chat");
        span.set(semconv::GEN_AI_REQUEST_MODEL, "m");
        span.set(semconv::GEN_AI_USAGE_INPUT_TOKENS, 149_i64);
        span
    }

    fn settings(address: &str, protocol: Protocol) -> OtlpSettings {
        let endpoint = format!("{address}/v1/metrics").parse().expect("an address");
        OtlpSettings::new(endpoint, protocol, http::HeaderMap::new())
    }

    #[tokio::test]
    async fn calls_are_sent_at_the_end_from_a_single_threaded_runtime() {
        for (protocol, content_type) in
            [(Protocol::HttpProtobuf, "application/x-protobuf"), (Protocol::HttpJson, "application/json")]
        {
            let server = MockServer::start().await;
            Mock::given(method("POST"))
                .and(path("/v1/metrics"))
                .respond_with(ResponseTemplate::new(200))
                .mount(&server)
                .await;
            let metrics = Metrics::new(&settings(&server.uri(), protocol), &[]).unwrap();
            metrics.observe(&chat());
            metrics.shutdown().await;
            metrics.shutdown().await;
            let requests = server.received_requests().await.unwrap();
            assert_eq!(requests.len(), 1);
            assert_eq!(requests[0].headers["content-type"], content_type);
            let body = String::from_utf8_lossy(&requests[0].body);
            assert!(body.contains(semconv::metric::OPERATION_DURATION) && body.contains(semconv::metric::TOKEN_USAGE));
        }
    }

    #[test]
    fn neither_a_missing_runtime_nor_a_dead_endpoint_is_a_problem() {
        let metrics = Metrics::new(&settings("http://127.0.0.1:1", Protocol::Grpc), &[]).unwrap();
        metrics.observe(&chat());
        drop(metrics);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let metrics = Metrics::new(&settings("http://127.0.0.1:1", Protocol::HttpProtobuf), &[]).unwrap();
            metrics.observe(&chat());
            drop(metrics);
        });
    }
}
