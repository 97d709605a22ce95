//! `/setup`: how to send an application's traces here, and a test span that takes the way of all telemetry.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::{get, post};
use maud::{Markup, html};
use serde::Serialize;

use super::{Nav, PageContext, PageError, PageResult, layout, link, parts};
use crate::model::{Origin, Span, SpanKind, Telemetry, TraceId, Value};
use crate::serve::App;
use crate::serve::app::Traffic;
use crate::trace::provider::Ambient;
use crate::trace::requests::{receive_traces, traces_request};
use crate::trace::{otlp_json, semconv};

/// Who a test span comes from.
const TEST_SERVICE: &str = "spanscore-test";

pub(super) fn routes() -> Router<Arc<App>> {
    Router::new().route("/setup", get(show)).route("/setup/test-span", post(send_test_span))
}

/// The document of `/setup`: what to set so that an application's traces come here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Setup {
    /// Where OTLP over HTTP is received.
    otlp_http: Option<String>,
    /// Where OTLP over gRPC is received.
    otlp_grpc: Option<String>,
    /// The variables that every OpenTelemetry SDK reads.
    environment: Vec<Variable>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Variable {
    name: &'static str,
    value: String,
}

/// An address as a client names it: one that means every interface is no place to connect to.
fn url(address: SocketAddr) -> String {
    if address.ip().is_unspecified() {
        format!("http://127.0.0.1:{}", address.port())
    } else {
        format!("http://{address}")
    }
}

async fn show(State(app): State<Arc<App>>, context: PageContext) -> PageResult {
    let (http, grpc) = (app.addresses.otlp_http.map(url), app.addresses.otlp_grpc.map(url));
    let variable = |name, value: &str| Variable { name, value: value.to_owned() };
    let environment = match (&http, &grpc) {
        (Some(http), _) => vec![
            variable("OTEL_EXPORTER_OTLP_ENDPOINT", http),
            variable("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
        ],
        (None, Some(grpc)) => {
            vec![variable("OTEL_EXPORTER_OTLP_ENDPOINT", grpc), variable("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")]
        }
        (None, None) => Vec::new(),
    };
    let setup = Setup { otlp_http: http, otlp_grpc: grpc, environment };
    Ok(context.answer(&setup, "Setup", Nav::Setup, || body(&app, &setup)))
}

fn body(app: &App, setup: &Setup) -> Markup {
    html! {
        div.head {
            div {
                h1 { "Send traces here" }
                p.muted { "Any OpenTelemetry SDK can. What comes in is kept in this store, beside the runs' own traces." }
            }
        }
        @if setup.environment.is_empty() {
            p.notice.low { "This server takes no telemetry in: it was started with " code { "--no-otlp" } "." }
        } @else {
            div.grid {
                section.card.span-6 aria-labelledby="variables" {
                    header { h2 #variables { "Any OTLP SDK" } }
                    p { "Python, JavaScript, Java, .NET, Go and the others read these variables:" }
                    (parts::snippet(&exports(setup)))
                    @if let (Some(_), Some(grpc)) = (&setup.otlp_http, &setup.otlp_grpc) {
                        p.gap { "Over gRPC instead:" }
                        (parts::snippet(&format!("export OTEL_EXPORTER_OTLP_ENDPOINT={grpc}\nexport OTEL_EXPORTER_OTLP_PROTOCOL=grpc")))
                    }
                    p.gap.muted {
                        "A server that was started with " code { "--token" } " wants that token too: "
                        code { "OTEL_EXPORTER_OTLP_HEADERS=authorization=Bearer%20TOKEN" } "."
                    }
                }
                (test_span(app, setup))
                section.card.span-6 aria-labelledby="python" {
                    header { h2 #python { "OpenAI SDK in Python" } }
                    (parts::snippet(PYTHON_INSTALL))
                    p.gap { "Then run the application as it is:" }
                    (parts::snippet(&format!("{}\n{CONTENT}\nopentelemetry-instrument python app.py", exports(setup))))
                    p.gap.muted { "The last variable records prompts and answers too; leave it out to keep them off." }
                }
                section.card.span-6 aria-labelledby="js" {
                    header { h2 #js { "OpenAI SDK in JavaScript" } }
                    (parts::snippet(JS_INSTALL))
                    p.gap { "In " code { "telemetry.mjs" } ":" }
                    (parts::snippet(JS_FILE))
                    p.gap { "Then:" }
                    (parts::snippet(&format!("{}\nnode --import ./telemetry.mjs app.mjs", exports(setup))))
                }
                section.card.span-12 aria-labelledby="evaluate" {
                    header { h2 #evaluate { "Under evaluation" } }
                    p {
                        "A suite whose workflow is a program or an HTTP endpoint needs none of this: " code { "spanscore run" }
                        " sets these variables for the program, hands it a " code { "traceparent" } " for every case, and its spans join the case's trace, with the score on top of them."
                    }
                }
            }
        }
    }
}

fn test_span(app: &App, setup: &Setup) -> Markup {
    html! {
        section.card.span-6 aria-labelledby="test" {
            header { h2 #test { "Send a test span" } }
            @if app.writer.is_some() {
                form.script-only method="post" action="/setup/test-span" data-post="" {
                    p { "Stores a short trace of one model call, the way all telemetry takes." }
                    p { button.primary type="submit" { "Send a test span" } }
                    p data-result="" role="status" {}
                }
            }
            @if let Some(http) = &setup.otlp_http {
                p.gap { "With curl, over the network port:" }
                (parts::snippet(&curl(http)))
                p.gap.muted { "It answers " code { "{\"partialSuccess\":{}}" } " or " code { "{}" } "; then look at " a href="/traces" { "the traces" } ". Ids and times are new whenever this page is loaded." }
            }
        }
    }
}

fn exports(setup: &Setup) -> String {
    let lines = setup.environment.iter().map(|variable| format!("export {}={}", variable.name, variable.value));
    lines.chain(["export OTEL_SERVICE_NAME=my-app".to_owned()]).collect::<Vec<_>>().join("\n")
}

const CONTENT: &str = "export OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT=true";

// The instrumentation asks for no upper bounds and does not work with later versions of these.
const PYTHON_INSTALL: &str = "pip install opentelemetry-distro opentelemetry-exporter-otlp-proto-http \\\n    \
    opentelemetry-instrumentation-openai-v2 \"opentelemetry-util-genai==0.4b0\" \\\n    \"openai<2\" httpx";

const JS_INSTALL: &str = "npm install openai @opentelemetry/sdk-node \\\n    @opentelemetry/instrumentation-openai";

const JS_FILE: &str = r"import { register } from 'node:module';
import { NodeSDK } from '@opentelemetry/sdk-node';
import { OpenAIInstrumentation } from '@opentelemetry/instrumentation-openai';

register('@opentelemetry/instrumentation/hook.mjs', import.meta.url);
const sdk = new NodeSDK({ instrumentations: [new OpenAIInstrumentation()] });
sdk.start();
process.once('beforeExit', () => sdk.shutdown());";

/// A trace of one model call, as an instrumented application would send it.
fn test_telemetry() -> (TraceId, Telemetry) {
    let ambient = Ambient::default();
    let (trace_id, end) = (ambient.ids.trace_id(), ambient.now());
    let ms = |n: u64| end - Duration::from_millis(n).as_nanos() as u64;
    let mut root = Span::open(trace_id, ambient.ids.span_id(), None, "test", ms(50));
    root.end_unix_nano = end;
    let mut chat = Span::open(trace_id, ambient.ids.span_id(), Some(root.span_id), "chat test-model", ms(45));
    chat.kind = SpanKind::Client;
    chat.end_unix_nano = ms(5);
    chat.set(semconv::GEN_AI_OPERATION_NAME, "chat");
    chat.set(semconv::GEN_AI_PROVIDER_NAME, "openai");
    chat.set(semconv::GEN_AI_REQUEST_MODEL, "test-model");
    chat.set(semconv::GEN_AI_USAGE_INPUT_TOKENS, 5i64);
    chat.set(semconv::GEN_AI_USAGE_OUTPUT_TOKENS, 4i64);
    chat.set(
        semconv::GEN_AI_INPUT_MESSAGES,
        r#"[{"role":"user","parts":[{"type":"text","content":"Do spans arrive here?"}]}]"#,
    );
    chat.set(
        semconv::GEN_AI_OUTPUT_MESSAGES,
        r#"[{"role":"assistant","parts":[{"type":"text","content":"This one did."}],"finish_reason":"stop"}]"#,
    );
    let origin = Origin {
        resource: vec![(semconv::SERVICE_NAME.into(), Value::from(TEST_SERVICE.to_owned()))],
        ..Origin::default()
    };
    (trace_id, Telemetry { origin: Arc::new(origin), spans: vec![chat, root], logs: Vec::new() })
}

fn curl(endpoint: &str) -> String {
    let (_, telemetry) = test_telemetry();
    let json = otlp_json::encode_trace_request(&traces_request(&[telemetry]));
    let json = String::from_utf8_lossy(&json);
    // The text has no apostrophe, so that one pair of them quotes it for any shell.
    format!("curl {endpoint}/v1/traces -H 'content-type: application/json' -d '{}'", json.replace('\'', "\\u0027"))
}

/// What a test span's sender learns.
#[derive(Debug, Serialize)]
struct Sent {
    message: &'static str,
    trace_id: TraceId,
    url: String,
}

/// Encodes, decodes and records the test span as if it had come over the network.
async fn send_test_span(State(app): State<Arc<App>>) -> Result<Response, PageError> {
    let Some(writer) = &app.writer else {
        return Err(PageError::new(StatusCode::SERVICE_UNAVAILABLE, "This server takes no telemetry in."));
    };
    let (trace_id, telemetry) = test_telemetry();
    let received = receive_traces(traces_request(&[telemetry]));
    let stored = writer.ingest(received.telemetry).await?;
    Traffic::add(&app.traffic.spans, stored.spans);
    let sent = Sent { message: "Stored.", trace_id, url: link::trace(trace_id, None::<TraceId>) };
    Ok(layout::json(StatusCode::OK, &sent))
}
