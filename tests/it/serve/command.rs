//! The command: flags, what it prints, and how it ends.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use prost::Message as _;

use super::{PROTOBUF, head, message, request, send, spans};
use crate::support::{Ran, Scratch};

/// A running `spanscore serve`; killed if the test ends early.
struct Running {
    child: Child,
    lines: Vec<String>,
}

const FREE: [&str; 6] = ["--listen", "127.0.0.1:0", "--otlp-http", "127.0.0.1:0", "--otlp-grpc", "127.0.0.1:0"];

impl Running {
    /// Starts it and reads so many lines of its output.
    fn start(mut command: std::process::Command, lines: usize) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
        let mut out = BufReader::new(child.stdout.take().expect("piped")).lines();
        let lines = (0..lines).map(|_| out.next().expect("a line").expect("UTF-8")).collect();
        Self { child, lines }
    }

    fn address(&self, name: &str) -> SocketAddr {
        let line = self.lines.iter().find_map(|line| line.strip_prefix(name)?.strip_prefix(" http://"));
        line.unwrap_or_else(|| panic!("no {name} in {:?}", self.lines)).parse().expect("an address")
    }

    fn signal(mut self, signal: &str) -> Ran {
        let pid = self.child.id().to_string();
        let sent = std::process::Command::new("kill").args([signal, &pid]).status().expect("kill runs");
        assert!(sent.success());
        let status = self.child.wait().expect("it ends");
        let mut stderr = String::new();
        std::io::Read::read_to_string(&mut self.child.stderr.take().expect("piped"), &mut stderr).expect("UTF-8");
        Ran { code: status.code().unwrap_or(-1), stdout: String::new(), stderr }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn serve(scratch: &Scratch, args: &[&str]) -> std::process::Command {
    scratch.command(&[&["serve"], args].concat())
}

#[test]
fn it_says_where_it_listens_makes_the_store_and_ends_on_a_signal() {
    let scratch = Scratch::new();
    let running = Running::start(serve(&scratch, &FREE), 3);
    let http = running.address("otlp/http");
    let body = message(0, 5);
    assert_eq!(send(http, &head("POST", "/v1/traces", http, &[PROTOBUF], body.len()), &body).status, 200);
    assert!(running.address("ui").ip().is_loopback() && running.address("otlp/grpc").ip().is_loopback());
    assert_ne!(running.address("ui").port(), 0);
    let ran = running.signal("-TERM");
    assert_eq!(ran.code, 143, "{}", ran.stderr);
    assert!(scratch.path().join(".spanscore/spanscore.db").is_file());
    let traces = scratch.json(&["traces"]);
    assert_eq!(traces.as_array().map(Vec::len), Some(1), "{traces}");
    assert_eq!(Running::start(serve(&scratch, &FREE), 3).signal("-INT").code, 130);
}

#[test]
fn ports_can_be_left_out_and_addresses_come_as_json() {
    let scratch = Scratch::new();
    let running = Running::start(serve(&scratch, &[&FREE[..], &["--no-otlp"]].concat()), 1);
    assert!(running.lines[0].starts_with("ui http://127.0.0.1:"), "{:?}", running.lines);
    drop(running);
    let running = Running::start(serve(&scratch, &[&FREE[..], &["--no-ui", "--format", "json"]].concat()), 5);
    let document: serde_json::Value = serde_json::from_str(&running.lines.join("\n")).expect("one JSON document");
    assert_eq!(document["ui"], serde_json::Value::Null);
    for port in ["otlp_http", "otlp_grpc"] {
        assert!(document[port].as_str().is_some_and(|url| url.starts_with("http://127.0.0.1:")), "{document}");
    }
    assert_eq!(scratch.run(&["serve", "--no-ui", "--no-otlp"]).code, 2, "nothing to serve");
}

#[test]
fn a_port_in_use_is_named_with_its_flag() {
    let scratch = Scratch::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("bound").to_string();
    for flag in ["--listen", "--otlp-http", "--otlp-grpc"] {
        let mut args = vec!["serve"];
        args.extend(FREE);
        let at = args.iter().position(|arg| *arg == flag).expect("one of them");
        args[at + 1] = &address;
        let ran = scratch.run(&args);
        assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{}", ran.stderr);
        let expected = format!("listening on {address} ({flag}): Address already in use");
        assert!(ran.stderr.contains(&expected) && ran.stderr.contains("port 0"), "{}", ran.stderr);
    }
}

#[test]
fn other_machines_are_let_in_with_a_token_only() {
    let scratch = Scratch::new();
    for flag in ["--listen", "--otlp-http", "--otlp-grpc"] {
        let mut args = vec!["serve"];
        args.extend(FREE);
        let at = args.iter().position(|arg| *arg == flag).expect("one of them");
        args[at + 1] = "0.0.0.0:0";
        let ran = scratch.run(&args);
        assert_eq!(ran.code, 2, "{}", ran.stderr);
        assert!(ran.stderr.contains(flag) && ran.stderr.contains("--token FILE"), "{}", ran.stderr);
    }
    for (content, found) in [("", "nothing"), ("short", "fewer"), ("two words are not a token", "other characters")] {
        scratch.write("token", content);
        let ran = scratch.run(&[&["serve"], &FREE[..], &["--token", "token"]].concat());
        assert!(ran.code == 2 && ran.stderr.contains(found), "{}", ran.stderr);
    }
    scratch.write("token", "correct-horse-battery-staple\n");
    let args = ["--listen", "0.0.0.0:0", "--no-otlp", "--token", "token"];
    let running = Running::start(serve(&scratch, &args), 1);
    let port = running.lines[0].rsplit(':').next().expect("a port").parse::<u16>().expect("a number");
    let local = SocketAddr::from(([127, 0, 0, 1], port));
    assert_eq!(send(local, &head("GET", "/", local, &[], 0), b"").status, 401);
    let bearer = ["Authorization: Bearer correct-horse-battery-staple"];
    assert_ne!(send(local, &head("GET", "/", local, &bearer, 0), b"").status, 401);
}

#[test]
fn old_traces_are_removed_as_soon_as_it_starts() {
    let scratch = Scratch::new();
    let mut old = spans(0, 5);
    for span in &mut old {
        span.start_unix_nano = 1_000_000_000_000_000_000;
        span.end_unix_nano = span.start_unix_nano + 1;
    }
    let body = request([old, spans(5, 5)].concat()).encode_to_vec();
    let running = Running::start(serve(&scratch, &FREE), 3);
    let http = running.address("otlp/http");
    assert_eq!(send(http, &head("POST", "/v1/traces", http, &[PROTOBUF], body.len()), &body).status, 200);
    running.signal("-TERM");
    let count = || scratch.json(&["traces"]).as_array().map(Vec::len);
    assert_eq!(count(), Some(2));
    let running = Running::start(serve(&scratch, &[&FREE[..], &["--max-age", "30d"]].concat()), 3);
    let end = Instant::now() + Duration::from_secs(30);
    while count() != Some(1) {
        assert!(Instant::now() < end, "the old trace is still there");
    }
    running.signal("-TERM");
    let ran = scratch.run(&["trace", &format!("{:032x}", 1)]);
    assert!(ran.code == 2 && ran.stderr.contains("removed"), "{}", ran.stderr);
    for (flag, value) in [("--max-age", "30"), ("--max-size", "much")] {
        let ran = scratch.run(&["serve", flag, value]);
        assert!(ran.code == 2 && ran.stderr.contains("expected"), "{}", ran.stderr);
    }
}

#[test]
fn a_full_disk_is_said_and_what_was_acknowledged_stays() {
    let scratch = Scratch::new();
    let binary = env!("CARGO_BIN_EXE_spanscore");
    // No file may grow beyond some megabytes: the system's word for a full disk that a test can have.
    let script = format!("trap '' XFSZ; ulimit -S -f 6000; exec {binary} serve {}", FREE.join(" "));
    let mut command = std::process::Command::new("sh");
    command.current_dir(scratch.path()).args(["-c", &script]);
    let running = Running::start(command, 3);
    let http = running.address("otlp/http");
    let mut acknowledged = 0;
    let refused = loop {
        let body = message(acknowledged, 1000);
        let answer = send(http, &head("POST", "/v1/traces", http, &[PROTOBUF], body.len()), &body);
        match answer.status {
            200 => acknowledged += 1000,
            _ => break answer,
        }
        assert!(acknowledged < 1_000_000, "the limit holds");
    };
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("1")));
    assert!(refused.text().contains("free some space"), "{}", refused.text());
    // There is room again.
    let pid = running.child.id().to_string();
    let freed = std::process::Command::new("prlimit").args(["--pid", &pid, "--fsize=unlimited:"]).status();
    if freed.is_ok_and(|status| status.success()) {
        let body = message(acknowledged, 1000);
        let answer = send(http, &head("POST", "/v1/traces", http, &[PROTOBUF], body.len()), &body);
        assert_eq!(answer.status, 200, "{}", answer.text());
        acknowledged += 1000;
    }
    running.signal("-TERM");
    let traces = scratch.json(&["traces", "--limit", "1000000"]);
    assert!(acknowledged > 0 && traces.as_array().is_some_and(|all| all.len() as u64 >= acknowledged / 5));
}
