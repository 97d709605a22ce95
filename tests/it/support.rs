//! A scratch folder with a suite in it, the command run there, and an endpoint that answers what a test tells it to.

use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::Value;
use wiremock::matchers::method;
use wiremock::{Mock, MockServer, ResponseTemplate};

/// A folder that goes away with the test.
pub(crate) struct Scratch(tempfile::TempDir);

/// What a command printed, and its exit code.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

pub(crate) const CLAIMS: &str = "id,claim,context,label,group,field\n\
    c1,Bees dance.,\"A bee dances, and others follow.\",True,g1,biology\n\
    c2,Bees never dance.,\"A bee dances, and others follow.\",False,g1,biology\n\
    c3,Bees sleep at noon.,\"A bee dances, and others follow.\",NEE,g1,biology\n\
    c4,Ice is less salty than sea water.,Freezing pushes most salt out of the ice.,True,g2,earth\n\
    c5,Freezing leaves all salt in the ice.,Freezing pushes most salt out of the ice.,False,g2,earth\n\
    c6,Salt water freezes faster.,Freezing pushes most salt out of the ice.,NEE,g2,earth\n";

pub(crate) const SUITE: &str =
    "[suite]\nname = \"small\"\ndataset = \"claims.csv\"\n\n[model]\nprovider = \"builtin\"\n";

impl Scratch {
    /// With `claims.csv` and a `spanscore.toml` that runs it on the built-in model.
    pub(crate) fn new() -> Self {
        let scratch = Self(tempfile::tempdir().expect("a folder"));
        scratch.write("claims.csv", CLAIMS);
        scratch.write("spanscore.toml", SUITE);
        scratch
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path().join(name);
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).expect("a folder");
        }
        std::fs::write(&path, content).expect("written");
        path
    }

    pub(crate) fn command(&self, args: &[&str]) -> std::process::Command {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_spanscore"));
        // Nothing of the machine's own settings may decide a test.
        command.env_clear().env("PATH", path()).env("HOME", self.path()).env("COLUMNS", "110").env("NO_COLOR", "1");
        command.current_dir(self.path()).args(args);
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        Ran::of(self.command(args).output().expect("the command starts"))
    }

    /// Runs a command that must end with 0 and print one JSON document.
    pub(crate) fn json(&self, args: &[&str]) -> Value {
        let mut args = args.to_vec();
        args.extend(["--format", "json"]);
        let ran = self.run(&args);
        assert_eq!(ran.code, 0, "{args:?}: {}", ran.stderr);
        serde_json::from_str(&ran.stdout).unwrap_or_else(|e| panic!("{args:?}: {e}: {}", ran.stdout))
    }

    /// What a command says with this folder's path and other changing parts taken out.
    pub(crate) fn redact(&self, text: &str) -> String {
        let canonical = self.path().canonicalize().expect("it exists").display().to_string();
        let text = text.replace(&canonical, "[dir]").replace(&self.path().display().to_string(), "[dir]");
        let rules = [
            (r"127\.0\.0\.1:\d+", "127.0.0.1:[port]"),
            (r"\d{8}-\d{6}-[0-9a-f]{6}", "[run]"),
            (r"\b[0-9a-f]{32}\b", "[trace]"),
        ];
        rules.iter().fold(text, |text, (pattern, with)| {
            regex::Regex::new(pattern).expect("valid").replace_all(&text, *with).into_owned()
        })
    }
}

#[expect(clippy::disallowed_methods, reason = "the tests find git and the shell where the machine has them")]
fn path() -> std::ffi::OsString {
    std::env::var_os("PATH").unwrap_or_default()
}

impl Ran {
    pub(crate) fn of(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).expect("UTF-8"),
            stderr: String::from_utf8(output.stderr).expect("UTF-8"),
        }
    }
}

/// An endpoint that gives every request this answer.
pub(crate) struct Endpoint {
    server: MockServer,
    runtime: tokio::runtime::Runtime,
}

impl Endpoint {
    pub(crate) fn new(status: u16, body: &Value) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let server = runtime.block_on(MockServer::start());
        runtime.block_on(
            Mock::given(method("POST")).respond_with(ResponseTemplate::new(status).set_body_json(body)).mount(&server),
        );
        Self { server, runtime }
    }

    /// Answers with this text.
    pub(crate) fn answering(text: &str) -> Self {
        Self::new(200, &completion(text))
    }

    pub(crate) fn url(&self) -> String {
        format!("{}/v1", self.server.uri())
    }

    /// The address without a path.
    pub(crate) fn base(&self) -> String {
        self.server.uri()
    }

    /// The bodies of the requests to a path, unpacked.
    pub(crate) fn bodies(&self, path: &str) -> Vec<Value> {
        let requests = self.runtime.block_on(self.server.received_requests()).expect("they are kept");
        let of_path = requests.iter().filter(|request| request.url.path() == path);
        of_path
            .map(|request| {
                let unpacked = flate2::read::GzDecoder::new(&request.body[..]);
                serde_json::from_reader(unpacked).expect("gzip with JSON in it")
            })
            .collect()
    }

    /// How many requests came in.
    pub(crate) fn requests(&self) -> usize {
        self.runtime.block_on(self.server.received_requests()).expect("they are kept").len()
    }
}

/// A chat completion as OpenAI sends it.
pub(crate) fn completion(text: &str) -> Value {
    serde_json::json!({
        "id": "chatcmpl-test", "object": "chat.completion", "created": 1_700_000_000, "model": "test-2025",
        "system_fingerprint": "fp_test",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 40, "completion_tokens": 2, "total_tokens": 42},
    })
}
