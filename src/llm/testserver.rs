//! A scripted HTTP server on loopback for tests: each request gets the next act of the script, the last one for ever.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What to do with a request.
#[derive(Debug, Clone)]
pub(super) enum Act {
    /// Status, further header lines (each ended by CR LF) and body.
    Answer(u16, &'static str, String),
    /// These bytes, then the end of the connection.
    Raw(String),
    /// These bytes, then nothing for ever.
    Stall(String),
    /// The end of the connection at once.
    Drop,
}

impl Act {
    /// A completion with this text.
    pub(super) fn says(text: &str) -> Self {
        let body = serde_json::json!({"id": "c1", "model": "m-2025", "choices": [
            {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}});
        Self::Answer(200, "", body.to_string())
    }

    /// An error object with this status and message.
    pub(super) fn error(status: u16, message: &str) -> Self {
        Self::Answer(status, "", serde_json::json!({"error": {"message": message, "code": null}}).to_string())
    }
}

/// The server; it ends with the test's runtime.
pub(super) struct TestServer {
    /// `http://127.0.0.1:PORT/v1`.
    pub(super) base_url: String,
    requests: Arc<Mutex<Vec<String>>>,
}

impl TestServer {
    /// Starts on a free port.
    pub(super) async fn start(script: Vec<Act>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port on loopback");
        let base_url = format!("http://{}/v1", listener.local_addr().expect("an address"));
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&requests);
        let script = Arc::new(script);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&script), Arc::clone(&seen)));
            }
        });
        Self { base_url, requests }
    }

    /// Heads and bodies of the requests so far.
    pub(super) fn requests(&self) -> Vec<String> {
        self.requests.lock().expect("no test panics in the server").clone()
    }
}

async fn serve(mut stream: TcpStream, script: Arc<Vec<Act>>, seen: Arc<Mutex<Vec<String>>>) {
    while let Some(request) = read_request(&mut stream).await {
        let number = {
            let mut seen = seen.lock().expect("no test panics in the server");
            seen.push(request);
            seen.len() - 1
        };
        let act = script.get(number).or(script.last()).cloned().unwrap_or(Act::Drop);
        match act {
            Act::Answer(status, headers, body) => {
                let head = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n{headers}\r\n", body.len());
                let _ = stream.write_all(format!("{head}{body}").as_bytes()).await;
            }
            Act::Raw(text) => {
                let _ = stream.write_all(text.as_bytes()).await;
                return;
            }
            Act::Stall(text) => {
                let _ = stream.write_all(text.as_bytes()).await;
                std::future::pending::<()>().await;
            }
            Act::Drop => return,
        }
    }
}

async fn read_request(stream: &mut TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 8192];
    loop {
        let n = stream.read(&mut buffer).await.ok().filter(|n| *n > 0)?;
        bytes.extend_from_slice(&buffer[..n]);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length =
                head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
            if body.len() >= length.unwrap_or(0) {
                return Some(text);
            }
        }
    }
}
