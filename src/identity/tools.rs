//! Tokens from programs: whoever is signed in to `az` or `azd`, or a command of the user's.
//!
//! The programs are started without a shell. What they print on stdout is a token and is shown to nobody.

use std::io::Read;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use rustix::process::{Pid, Signal, kill_process_group};

use super::answer;
use super::credential::{Credential, Problem, Token};
use crate::net::Secrets;
use crate::trace::provider::Clock;

/// The command-line tools of Azure take seconds to start.
const TIMEOUT: Duration = Duration::from_secs(30);
/// How long pipes may stay open after the program has ended.
const LINGER: Duration = Duration::from_secs(2);
/// How often the program is looked at.
const LOOK: Duration = Duration::from_millis(10);
/// No token is larger, and no message needs more.
const MAX_OUTPUT: usize = 128 << 10;

/// A program that prints a token.
pub(super) struct Tool {
    name: &'static str,
    words: Vec<String>,
    timeout: Duration,
}

impl Tool {
    /// Azure's command line.
    pub(super) fn az() -> Self {
        let words = ["az", "account", "get-access-token", "--output", "json", "--scope", "{scope}"];
        Self { name: "Azure CLI (az)", words: words.map(str::to_owned).to_vec(), timeout: TIMEOUT }
    }

    /// Azure's command line for developers.
    pub(super) fn azd() -> Self {
        let words = ["azd", "auth", "token", "--output", "json", "--no-prompt", "--scope", "{scope}"];
        Self { name: "Azure Developer CLI (azd)", words: words.map(str::to_owned).to_vec(), timeout: TIMEOUT }
    }

    /// A command of the user's: a program and its arguments.
    pub(super) fn command(words: Vec<String>) -> Self {
        Self { name: "token command", words, timeout: TIMEOUT }
    }

    #[cfg(test)]
    pub(super) fn within(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }
}

#[async_trait]
impl Credential for Tool {
    fn name(&self) -> &'static str {
        self.name
    }

    async fn ask(&self, scope: &str) -> Result<Token, Problem> {
        let words: Vec<String> = self.words.iter().map(|word| word.replace("{scope}", scope)).collect();
        let timeout = self.timeout;
        let ran = tokio::task::spawn_blocking(move || run(&words, timeout)).await;
        ran.unwrap_or_else(|_| Err(Problem::Refused("the program was not waited for".to_owned())))
    }
}

fn run(words: &[String], timeout: Duration) -> Result<Token, Problem> {
    let Some((program, arguments)) = words.split_first() else {
        return Err(Problem::Absent("it names no program".to_owned()));
    };
    let mut command = Command::new(program);
    command.args(arguments).process_group(0).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Problem::Absent(format!("there is no program `{program}`")),
        _ => Problem::Absent(format!("cannot start `{program}`: {error}")),
    })?;
    let (stdout, stderr) = (Pipe::read(child.stdout.take()), Pipe::read(child.stderr.take()));
    let status = wait(&mut child, timeout);
    let (stdout, stderr) = (stdout.content(), stderr.content());
    // What it left behind in its group ends with it.
    if let Some(group) = Pid::from_raw(child.id() as i32) {
        let _ = kill_process_group(group, Signal::KILL);
    }
    let now = Clock::System.now_unix_nano() / 1_000_000_000;
    let token = std::str::from_utf8(&stdout).ok().and_then(|text| answer::token(text, now));
    let secrets = Secrets::new(token.as_ref().map(|token| token.secret.clone()));
    let said = secrets.quote(last_line(&String::from_utf8_lossy(&stderr)));
    let colon = if said.is_empty() { "" } else { ": " };
    match status {
        Ok(Some(status)) if status.success() => {
            token.ok_or_else(|| Problem::Refused(format!("`{program}` printed no token{colon}{said}")))
        }
        // Nobody is signed in, most often: another tool may know somebody.
        Ok(Some(status)) => Err(Problem::Absent(format!("`{program}` ended with {status}{colon}{said}"))),
        Ok(None) => Err(Problem::Absent(format!("`{program}` did not end within {timeout:?}{colon}{said}"))),
        Err(error) => Err(Problem::Refused(format!("waiting for `{program}`: {error}"))),
    }
}

/// The line that says what is wrong: programs put it last, or behind `ERROR:`.
fn last_line(text: &str) -> &str {
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let marked = lines.clone().find(|line| line.starts_with("ERROR:"));
    marked.or_else(|| lines.next_back()).unwrap_or_default()
}

/// The status; `None` if time ran out and the program was killed.
fn wait(child: &mut Child, timeout: Duration) -> std::io::Result<Option<ExitStatus>> {
    let deadline = Instant::now() + timeout;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= deadline {
            if let Some(group) = Pid::from_raw(child.id() as i32) {
                let _ = kill_process_group(group, Signal::KILL);
            }
            child.wait()?;
            return Ok(None);
        }
        std::thread::sleep(LOOK);
    }
}

/// What comes out of a pipe, up to a bound, read by a thread of its own.
struct Pipe {
    content: Arc<Mutex<Vec<u8>>>,
    done: std::sync::mpsc::Receiver<()>,
}

impl Pipe {
    fn read(pipe: Option<impl Read + Send + 'static>) -> Self {
        let (done, end) = std::sync::mpsc::sync_channel(1);
        let content = Arc::new(Mutex::new(Vec::new()));
        let into = Arc::clone(&content);
        std::thread::spawn(move || {
            let mut chunk = [0; 4096];
            let Some(mut pipe) = pipe else { return };
            while let Ok(read @ 1..) = pipe.read(&mut chunk) {
                let mut content = into.lock().unwrap_or_else(PoisonError::into_inner);
                // What goes beyond the bound is read and forgotten, so that the program can go on.
                if content.len() < MAX_OUTPUT {
                    content.extend_from_slice(chunk.get(..read).unwrap_or_default());
                }
            }
            let _ = done.send(());
        });
        Self { content, done: end }
    }

    /// What came, once the pipe is closed or has been left open by something that goes on.
    fn content(self) -> Vec<u8> {
        let _ = self.done.recv_timeout(LINGER);
        std::mem::take(&mut *self.content.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
