//! One process of a workflow that is a program: its pipes, the lines in flight, and its end.
//!
//! Each process leads a process group of its own, so that what it starts ends with it. Blocking pipes are served by
//! threads: one writes lines, one reads answers, one reads stderr, one waits for the end. Nothing is lost at the end: what was
//! written to stdout before it is read first, then the lines in flight are given up.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use tokio::sync::{Notify, mpsc, oneshot, watch};

use super::line::{Answer, MAX_ANSWER, hide};
use crate::net::quote;

/// Lines that may wait to be written to one process.
const QUEUE: usize = 1024;
/// Lines of stderr that are kept for messages.
const KEPT_LINES: usize = 20;
/// A line of stderr is cut to this many bytes.
const MAX_STDERR_LINE: u64 = 8 << 10;
/// How long a process may live on after it has closed stdout, and after SIGTERM.
const LINGER: Duration = Duration::from_secs(2);

/// What a program has to say besides answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// A line that it wrote to stderr.
    Stderr(String),
    /// Something that it does and should not.
    Fault(String),
}

/// Hears what programs say.
pub type Listener = Arc<dyn Fn(Said) + Send + Sync>;

/// What is to be started.
#[derive(Clone)]
pub(super) struct Program {
    /// The program's path, and its arguments.
    pub(super) words: Vec<String>,
    /// Where it runs.
    pub(super) folder: PathBuf,
    /// Variables to set.
    pub(super) env: BTreeMap<String, String>,
    /// Variables to take out.
    pub(super) removed: Vec<String>,
    /// Texts that must not get into messages.
    pub(super) secrets: Arc<[String]>,
    /// Hears stderr and faults.
    pub(super) listener: Listener,
    /// Where process groups are noted as long as they live.
    pub(super) leash: Leash,
}

/// The process groups that are alive, for whoever has to end them all at once.
#[derive(Debug, Clone, Default)]
pub struct Leash(Arc<Mutex<BTreeSet<i32>>>);

impl Leash {
    /// Kills every process group (SIGKILL).
    pub fn kill_all(&self) {
        for pid in self.0.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            signal_group(*pid, Signal::KILL);
        }
    }

    fn hold(&self, pid: i32) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(pid);
    }

    fn release(&self, pid: i32) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&pid);
    }
}

/// How a line in flight ended.
#[derive(Debug)]
pub(super) enum Asked {
    /// With an answer.
    Answer(Box<Answer>),
    /// Not within the time limit.
    Timeout,
    /// With the process, whose end is told.
    Died(String),
}

/// A line that was sent.
struct Outstanding {
    /// Counts the lines of the process in the order in which they were sent.
    number: u64,
    repeat: u32,
    /// `None` once nobody waits any more: its answer may still come.
    waiting: Option<oneshot::Sender<Answer>>,
}

#[derive(Default)]
struct Traffic {
    /// Lines without an answer yet, by case.
    outstanding: BTreeMap<String, Vec<Outstanding>>,
    /// How many lines it was given.
    lines: u64,
    waiting: usize,
    last_answer: Option<Instant>,
    /// Whether answers say which repeat they are for.
    echoes_repeat: bool,
    faults: u64,
    /// Set once the process is gone: how it ended.
    death: Option<String>,
}

/// A process under way. Dropping it kills its group.
pub(super) struct Process {
    pid: i32,
    lines: Mutex<Option<mpsc::Sender<Vec<u8>>>>,
    shared: Arc<Shared>,
    ended: watch::Receiver<bool>,
}

struct Shared {
    program: Program,
    traffic: Mutex<Traffic>,
    stderr: Mutex<VecDeque<String>>,
    /// Told of every answer and of the end.
    changed: Arc<Notify>,
    /// Why it was killed, if we did that.
    killed_for: Mutex<Option<&'static str>>,
}

impl Process {
    /// Starts the program.
    pub(super) fn start(program: &Program, changed: Arc<Notify>) -> std::io::Result<Self> {
        let (name, args) = program.words.split_first().ok_or(std::io::ErrorKind::InvalidInput)?;
        let mut command = Command::new(name);
        command.args(args).current_dir(&program.folder).process_group(0);
        for variable in &program.removed {
            command.env_remove(variable);
        }
        command.envs(&program.env).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        let pid = child.id() as i32;
        program.leash.hold(pid);
        let shared = Arc::new(Shared {
            program: program.clone(),
            traffic: Mutex::default(),
            stderr: Mutex::default(),
            changed,
            killed_for: Mutex::default(),
        });
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (lines, queue) = mpsc::channel(QUEUE);
        let (exited, exit) = std::sync::mpsc::sync_channel::<()>(1);
        let (done, readers) = std::sync::mpsc::sync_channel::<()>(2);
        let (ending, ended) = watch::channel(false);
        if let Some(stdin) = stdin {
            std::thread::spawn(move || write_lines(stdin, queue));
        }
        if let Some(stdout) = stdout {
            let (shared, done) = (Arc::clone(&shared), done.clone());
            std::thread::spawn(move || {
                read_answers(stdout, &shared);
                // Nobody waits for this any more if the other end is gone.
                let _ = done.send(());
                end_without_stdout(pid, &exit);
            });
        }
        if let Some(stderr) = stderr {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || {
                read_stderr(stderr, &shared);
                let _ = done.send(());
            });
        }
        let watched = Arc::clone(&shared);
        std::thread::spawn(move || {
            let status = wait(pid, child, &exited);
            // The pipes are closed now, unless something has left the group: then its output is nobody's.
            for _ in 0..2 {
                let _ = readers.recv_timeout(LINGER);
            }
            watched.program.leash.release(pid);
            watched.end(status);
            ending.send_replace(true);
        });
        Ok(Self { pid, lines: Mutex::new(Some(lines)), shared, ended })
    }

    /// How many lines wait for their answers.
    pub(super) fn waiting(&self) -> usize {
        self.shared.traffic().waiting
    }

    /// How the process ended, if it has.
    pub(super) fn death(&self) -> Option<String> {
        self.shared.traffic().death.clone()
    }

    /// Whether an answer has ever come.
    pub(super) fn has_answered(&self) -> bool {
        self.shared.traffic().last_answer.is_some()
    }

    /// Takes in a line to be sent, unless its answer could be taken for another one's: repeats of a case run at once only
    /// in programs whose answers say which repeat they are for.
    pub(super) fn enlist(&self, id: &str, repeat: u32) -> Option<Enlisted> {
        let mut traffic = self.shared.traffic();
        if traffic.death.is_some() {
            return None;
        }
        let free = match traffic.outstanding.get(id) {
            None => true,
            Some(same) => traffic.echoes_repeat && same.iter().all(|one| one.repeat != repeat),
        };
        if !free {
            return None;
        }
        let (sender, receiver) = oneshot::channel();
        traffic.lines += 1;
        let number = traffic.lines;
        let one = Outstanding { number, repeat, waiting: Some(sender) };
        traffic.outstanding.entry(id.to_owned()).or_default().push(one);
        traffic.waiting += 1;
        drop(traffic);
        Some(Enlisted { number, id: id.to_owned(), repeat, receiver })
    }

    /// Sends a line and waits for its answer.
    pub(super) async fn ask(&self, enlisted: Enlisted, line: Vec<u8>, timeout: Duration) -> Asked {
        let Enlisted { number, id, repeat, receiver } = enlisted;
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let asked = tokio::time::timeout(timeout, async {
            if let Some(lines) = lines {
                // A closed queue means that the process is at its end, which the receiver will learn.
                let _ = lines.send(line).await;
            }
            receiver.await
        });
        match asked.await {
            Ok(Ok(answer)) => Asked::Answer(Box::new(answer)),
            Ok(Err(_)) => Asked::Died(self.death().unwrap_or_default()),
            Err(_) => {
                self.shared.give_up(&id, repeat);
                // Half the limit: the case that holds up the others was sent before the last answer to another came.
                if !self.is_silent(timeout / 2) {
                    return Asked::Timeout;
                }
                self.kill("a case held it up and it answered no other");
                if self.is_oldest(number) {
                    return Asked::Timeout;
                }
                // The line before it was at fault; two that are sent in one moment time out in one moment.
                let _ = tokio::time::timeout(LINGER + LINGER, self.ended.clone().wait_for(|ended| *ended)).await;
                Asked::Died(self.death().unwrap_or_default())
            }
        }
    }

    /// Takes a line back that was not sent.
    pub(super) fn withdraw(&self, enlisted: Enlisted) {
        let mut traffic = self.shared.traffic();
        if let Some(same) = traffic.outstanding.get_mut(&enlisted.id) {
            same.retain(|one| one.repeat != enlisted.repeat);
            traffic.waiting = traffic.waiting.saturating_sub(1);
        }
        if traffic.outstanding.get(&enlisted.id).is_some_and(Vec::is_empty) {
            traffic.outstanding.remove(&enlisted.id);
        }
    }

    /// Whether it once answered but has not for so long; before its first answer it may still be starting.
    fn is_silent(&self, for_long: Duration) -> bool {
        self.shared.traffic().last_answer.is_some_and(|last| last.elapsed() >= for_long)
    }

    /// Whether no line without an answer was sent before this one.
    fn is_oldest(&self, number: u64) -> bool {
        self.shared.traffic().outstanding.values().flatten().all(|one| one.number >= number)
    }

    /// Ends it at once.
    fn kill(&self, why: &'static str) {
        *self.shared.killed_for.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
        signal_group(self.pid, Signal::KILL);
    }

    /// Closes stdin and waits for the end; after `grace` the group gets SIGTERM, then SIGKILL. Whether it ended by itself.
    pub(super) async fn close(&self, grace: Duration) -> bool {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).take();
        let mut ended = self.ended.clone();
        for (wait, then) in [(grace, Signal::TERM), (LINGER, Signal::KILL)] {
            if tokio::time::timeout(wait, ended.wait_for(|ended| *ended)).await.is_ok() {
                return then == Signal::TERM;
            }
            signal_group(self.pid, then);
        }
        // A killed process ends, but the kernel may be slow about it.
        let _ = tokio::time::timeout(LINGER + LINGER, ended.wait_for(|ended| *ended)).await;
        false
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !*self.ended.borrow() {
            signal_group(self.pid, Signal::KILL);
        }
    }
}

/// A line that a process has room for.
pub(super) struct Enlisted {
    number: u64,
    id: String,
    repeat: u32,
    receiver: oneshot::Receiver<Answer>,
}

impl Shared {
    fn traffic(&self) -> MutexGuard<'_, Traffic> {
        self.traffic.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nobody waits for this answer any more.
    fn give_up(&self, id: &str, repeat: u32) {
        let mut traffic = self.traffic();
        let same = traffic.outstanding.get_mut(id).into_iter().flatten();
        if same.filter(|one| one.repeat == repeat).find_map(|one| one.waiting.take()).is_some() {
            traffic.waiting -= 1;
        }
    }

    fn take(&self, bytes: &[u8]) {
        if bytes.trim_ascii().is_empty() {
            return;
        }
        let answer = match Answer::read(bytes, &self.program.secrets) {
            Ok(answer) => answer,
            Err(problem) => {
                let shown =
                    self.clean(&String::from_utf8_lossy(bytes.get(..bytes.len().min(4096)).unwrap_or_default()));
                return self
                    .fault(format!("a line of its stdout is no answer ({problem}): {shown}; logs belong on stderr"));
            }
        };
        let Some(id) = answer.id.clone() else {
            return self.fault("an answer on its stdout has no `id`".to_owned());
        };
        let mut traffic = self.traffic();
        let repeat = answer.repeat;
        let found = traffic.outstanding.get_mut(&id).and_then(|same| {
            let place = match repeat {
                Some(repeat) => same.iter().position(|one| one.repeat == repeat),
                None if same.len() == 1 => Some(0),
                None => None,
            };
            place.map(|place| same.swap_remove(place))
        });
        let Some(one) = found else {
            drop(traffic);
            return self.fault(format!(
                "an answer on its stdout is for `{}`, which is not asked or answered",
                self.clean(&id)
            ));
        };
        if traffic.outstanding.get(&id).is_some_and(Vec::is_empty) {
            traffic.outstanding.remove(&id);
        }
        traffic.last_answer = Some(Instant::now());
        traffic.echoes_repeat = repeat.is_some();
        if let Some(waiting) = one.waiting {
            traffic.waiting -= 1;
            // Whoever asked may be gone; then the answer is too late like any other.
            let _ = waiting.send(answer);
        }
        drop(traffic);
        self.changed.notify_waiters();
    }

    /// Tells the first faults, then every hundredth: a program that prints its progress to stdout does so for every case.
    fn fault(&self, text: String) {
        let count = {
            let mut traffic = self.traffic();
            traffic.faults += 1;
            traffic.faults
        };
        match count {
            1..=3 => (self.program.listener)(Said::Fault(text)),
            n if n % 100 == 0 => (self.program.listener)(Said::Fault(format!("{text} ({n} such lines so far)"))),
            _ => {}
        }
    }

    fn clean(&self, text: &str) -> String {
        quote(&hide(text, &self.program.secrets))
    }

    fn end(&self, status: std::io::Result<ExitStatus>) {
        let how = match (*self.killed_for.lock().unwrap_or_else(PoisonError::into_inner), status) {
            (Some(why), _) => format!("the program was killed, for {why}"),
            (None, Ok(status)) => format!("the program ended ({status})"),
            (None, Err(error)) => format!("the program ended ({error})"),
        };
        let stderr = self.stderr.lock().unwrap_or_else(PoisonError::into_inner);
        // Of a traceback the last line says what is wrong.
        let last = stderr.iter().rev().map(|line| self.clean(line)).find(|line| !line.is_empty());
        drop(stderr);
        let told = match last {
            Some(line) => format!("{how}; the end of its stderr: {line}"),
            None => how,
        };
        let mut traffic = self.traffic();
        traffic.death = Some(told);
        traffic.outstanding.clear();
        traffic.waiting = 0;
        drop(traffic);
        self.changed.notify_waiters();
    }
}

fn write_lines(mut stdin: impl Write, mut queue: mpsc::Receiver<Vec<u8>>) {
    while let Some(mut line) = queue.blocking_recv() {
        line.push(b'\n');
        // A program that reads no more is at its end, or will be timed out.
        if stdin.write_all(&line).and_then(|()| stdin.flush()).is_err() {
            return;
        }
    }
}

fn read_answers(stdout: impl Read, shared: &Shared) {
    let mut stdout = BufReader::with_capacity(64 << 10, stdout);
    let mut line = Vec::new();
    loop {
        line.clear();
        match (&mut stdout).take(MAX_ANSWER as u64 + 1).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) if line.len() > MAX_ANSWER && !line.ends_with(b"\n") => {
                shared.fault(format!("a line of its stdout is longer than {} MiB and is left out", MAX_ANSWER >> 20));
                if skip_line(&mut stdout).is_err() {
                    return;
                }
            }
            Ok(_) => shared.take(&line),
        }
        // A single huge answer is no reason to keep its memory.
        line.shrink_to(1 << 20);
    }
}

/// Reads past the end of the line without keeping it.
fn skip_line(reader: &mut impl BufRead) -> std::io::Result<()> {
    loop {
        let buffer = reader.fill_buf()?;
        let end = buffer.iter().position(|b| *b == b'\n');
        let (used, done) = match end {
            Some(end) => (end + 1, true),
            None => (buffer.len(), buffer.is_empty()),
        };
        reader.consume(used);
        if done {
            return Ok(());
        }
    }
}

fn read_stderr(stderr: impl Read, shared: &Shared) {
    let mut stderr = BufReader::new(stderr);
    let mut line = Vec::new();
    while let Ok(n) = (&mut stderr).take(MAX_STDERR_LINE).read_until(b'\n', &mut line) {
        if n == 0 {
            return;
        }
        let text = String::from_utf8_lossy(&line).trim_end().to_owned();
        line.clear();
        let mut kept = shared.stderr.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() == KEPT_LINES {
            kept.pop_front();
        }
        kept.push_back(text.clone());
        drop(kept);
        (shared.program.listener)(Said::Stderr(text));
    }
}

/// A process that has closed stdout can answer no more: it has a moment to end by itself.
fn end_without_stdout(pid: i32, exit: &std::sync::mpsc::Receiver<()>) {
    for signal in [Signal::TERM, Signal::KILL] {
        match exit.recv_timeout(LINGER) {
            Err(std::sync::mpsc::RecvTimeoutError::Timeout) => signal_group(pid, signal),
            _ => return,
        }
    }
}

/// Waits for the process; what is left of its group is killed before the process number is free for others.
fn wait(pid: i32, mut child: Child, exited: &std::sync::mpsc::SyncSender<()>) -> std::io::Result<ExitStatus> {
    if let Some(pid) = Pid::from_raw(pid) {
        // Leaves the process to be reaped below; any error shows there as well.
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        while matches!(waitid(WaitId::Pid(pid), options), Err(rustix::io::Errno::INTR)) {}
    }
    signal_group(pid, Signal::KILL);
    let _ = exited.try_send(());
    child.wait()
}

fn signal_group(pid: i32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid) {
        // No such group any more: then there is nothing to end.
        let _ = kill_process_group(pid, signal);
    }
}
