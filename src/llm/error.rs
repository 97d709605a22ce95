//! What can go wrong before the first call.

use std::net::SocketAddr;
use std::path::PathBuf;

/// A model that cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum LlmError {
    /// The base URL is no URL of an HTTP endpoint.
    #[error("base URL `{url}` {problem}; expected something like https://api.openai.com/v1")]
    BaseUrl {
        /// The URL without user name and password.
        url: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The API key cannot be sent.
    #[error("the API key from {variable} holds characters that no HTTP header can carry; set {variable} anew")]
    ApiKey {
        /// Where the key comes from.
        variable: String,
    },
    /// A setting cannot be sent as an HTTP header.
    #[error("{name} holds characters that no HTTP header can carry")]
    Header {
        /// Which setting.
        name: &'static str,
    },
    /// A header that the user set cannot be sent.
    #[error("the header `{name}` holds characters that no HTTP header can carry; set it anew")]
    UserHeader {
        /// Its name.
        name: String,
    },
    /// The HTTP client cannot be made.
    #[error("cannot set up the HTTP client: {message}")]
    Client {
        /// Why.
        message: String,
    },
    /// The built-in server cannot listen.
    #[error("cannot listen on {address} for the built-in model server: {source}; choose another port, or port 0")]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// A recording cannot be read.
    #[error("reading recorded answers from `{}`: {source}", path.display())]
    ReadRecording {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A line of a recording is not an answer.
    #[error("recorded answers `{}`, line {line}: {problem}", path.display())]
    Recording {
        /// The file.
        path: PathBuf,
        /// Line number from 1.
        line: u64,
        /// What was found and what was expected.
        problem: String,
    },
    /// The cache directory cannot be used.
    #[error("cannot use the cache directory `{}`: {source}", path.display())]
    Cache {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}
