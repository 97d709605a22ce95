//! What the record costs: the same claims against the model server inside the process, asked by async-openai alone and by a
//! whole evaluation (spans, scores, store on disk with every commit synchronised, report). Items are claims.
//!
//! `cargo bench` prints both; their ratio is what `tests/bench` measures against an endpoint in a process of its own.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use async_openai::Client;
use async_openai::config::OpenAIConfig;
use async_openai::types::chat::{ChatCompletionRequestUserMessage, CreateChatCompletionRequestArgs};
use divan::Bencher;
use divan::counter::ItemsCount;
use futures::StreamExt;
use spanscore::evaluation::Evaluation;
use spanscore::llm::builtin::MODEL;
use spanscore::llm::{BuiltinServer, HttpModel, HttpSettings, Limits, Parameters};
use spanscore::trace::provider::Ambient;
use spanscore::workflow::{AnswerParser, AssessClaims, Capture, Prompt, Semconv};
use tokio::runtime::Runtime;

const CLAIMS: usize = 2_000;
const CONCURRENCY: usize = 64;

fn main() {
    spanscore::net::install_tls_provider();
    divan::main();
}

#[divan::bench(sample_count = 5, sample_size = 1)]
fn async_openai_alone(bencher: Bencher<'_, '_>) {
    let (runtime, server) = server();
    let config = OpenAIConfig::new().with_api_key("none").with_api_base(server.base_url());
    let client = Client::with_config(config);
    bencher.counter(ItemsCount::new(CLAIMS)).bench_local(|| {
        runtime.block_on(async {
            let asked = futures::stream::iter(0..CLAIMS).map(|i| ask(&client, i)).buffer_unordered(CONCURRENCY);
            assert_eq!(asked.collect::<Vec<_>>().await.len(), CLAIMS);
        });
    });
}

#[divan::bench(sample_count = 5, sample_size = 1)]
fn evaluation_with_record(bencher: Bencher<'_, '_>) {
    let (runtime, server) = server();
    let folder = tempfile::tempdir().expect("a folder");
    let dataset = folder.path().join("claims.csv");
    write_dataset(&dataset);
    let mut run = 0;
    bencher.counter(ItemsCount::new(CLAIMS)).bench_local(|| {
        run += 1;
        let store = folder.path().join(format!("store-{run}"));
        let evaluation = Evaluation::new(&dataset, workflow(&server)).store(store).concurrency(CONCURRENCY);
        let report = runtime.block_on(runtime.spawn(evaluation.run())).expect("no panic").expect("a report");
        assert_eq!(report.trials.completed, CLAIMS as u64);
    });
}

fn server() -> (Runtime, BuiltinServer) {
    let runtime = Runtime::new().expect("a runtime");
    let started = runtime.block_on(BuiltinServer::start(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))));
    (runtime, started.expect("the server listens"))
}

async fn ask(client: &Client<OpenAIConfig>, i: usize) -> String {
    let (claim, context) = texts(i);
    let prompt = format!("Evidence:\n{context}\n\nClaim:\n{claim}\n\nReply with True, False or NEE.\n\nAnswer:");
    let request = CreateChatCompletionRequestArgs::default()
        .model(MODEL)
        .messages([ChatCompletionRequestUserMessage::from(prompt).into()])
        .build()
        .expect("a model and a message");
    let answer = client.chat().create(request).await.expect("an answer");
    answer.choices[0].message.content.clone().expect("a text")
}

fn workflow(server: &BuiltinServer) -> AssessClaims {
    let ambient = Ambient::default();
    let settings = HttpSettings::new(server.base_url(), MODEL);
    let model = HttpModel::new(settings, Arc::new(Limits::none()), ambient.clone()).expect("a client");
    AssessClaims {
        prompt: Prompt::default(),
        model: Arc::new(model),
        parameters: Parameters::default(),
        parser: AnswerParser::default(),
        parser_source: String::new(),
        price: None,
        capture: Capture::default(),
        semconv: Semconv::default(),
        ambient,
    }
}

fn write_dataset(path: &Path) {
    let mut csv = String::from("id,claim,context,label\n");
    for i in 0..CLAIMS {
        let (claim, context) = texts(i);
        writeln!(csv, "c{i},{claim},{context},{}", ["True", "False", "NEE"][i % 3]).expect("written");
    }
    std::fs::write(path, csv).expect("written");
}

fn texts(i: usize) -> (String, String) {
    let claim =
        format!("Sample {i} loses {} percent of its mass when it is heated to {} degrees.", i % 90, 100 + i % 700);
    let context = format!(
        "Sample {i} was heated to {} degrees in dry air. It lost {} percent of its mass within an hour.",
        100 + i % 650,
        i % 80
    );
    (claim, context)
}
