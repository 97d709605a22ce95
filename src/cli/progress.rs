//! Progress on stderr: a bar in a terminal, a plain line now and then elsewhere. Best effort: it never holds up a run.

use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::export::Counts;
use crate::llm::concurrency::Concurrency;
use crate::model::{Outcome, RunEvent};

const PLAIN_EVERY: Duration = Duration::from_secs(10);
const BAR_EVERY: Duration = Duration::from_millis(120);

/// Counters that the run's events feed.
#[derive(Debug, Default)]
pub(super) struct Tally {
    done: AtomicU64,
    failed: AtomicU64,
    skipped: AtomicU64,
    judged: AtomicU64,
    passed: AtomicU64,
    tokens: AtomicU64,
    /// Millionths of a US dollar.
    cost: AtomicU64,
    /// The primary evaluator's place among a trial's scores.
    primary: usize,
    /// Whether nothing is said of the first failure.
    quiet: bool,
}

impl Tally {
    pub(super) fn new(primary: usize, quiet: bool) -> Self {
        Self { primary, quiet, ..Self::default() }
    }

    /// Takes note of an event.
    pub(super) fn observe(&self, event: &RunEvent) {
        let RunEvent::TrialFinished { trial, .. } = event else { return };
        let add = |counter: &AtomicU64, n: u64| _ = counter.fetch_add(n, Ordering::Relaxed);
        add(&self.done, 1);
        match trial.outcome {
            Outcome::Failed(ref failure) => {
                if self.failed.fetch_add(1, Ordering::Relaxed) == 0 && !self.quiet {
                    super::context::note(&format!(
                        "the first failed trial: {}: {}",
                        failure.error_type,
                        crate::report::text::clean(&failure.message)
                    ));
                }
            }
            Outcome::Skipped { .. } => add(&self.skipped, 1),
            Outcome::Completed { .. } => {}
        }
        if let Some(value) = trial.scores.get(self.primary).and_then(|score| score.evaluation.value()) {
            add(&self.judged, 1);
            add(&self.passed, u64::from(value >= 1.0));
        }
        add(&self.tokens, trial.usage.input_tokens.unwrap_or(0) + trial.usage.output_tokens.unwrap_or(0));
        add(&self.cost, trial.cost_usd.map_or(0, |usd| (usd * 1e6) as u64));
    }

    fn line(&self, concurrency: &Concurrency, sent: &Counts) -> String {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        // The count of errors first: what a narrow terminal cuts off is at the end.
        let mut parts = vec![format!("errors {}", get(&self.failed))];
        let judged = get(&self.judged);
        if judged > 0 {
            parts.push(format!("passing {:.1} %", 100.0 * get(&self.passed) as f64 / judged as f64));
        }
        if get(&self.skipped) > 0 {
            parts.push(format!("skipped {}", get(&self.skipped)));
        }
        parts.extend(words(sent));
        parts.push(format!("tokens {}", get(&self.tokens)));
        let cost = get(&self.cost);
        if cost > 0 {
            parts.push(format!("cost {:.4} USD", cost as f64 / 1e6));
        }
        parts.push(format!("in flight {}/{}", concurrency.in_use(), concurrency.limit()));
        parts.join(" · ")
    }
}

/// A task that shows the tally until it is stopped.
pub(super) struct Progress {
    task: Option<tokio::task::JoinHandle<()>>,
    stop: tokio::sync::watch::Sender<bool>,
}

impl Progress {
    /// Starts to show `planned` trials, of which `before` were recorded by earlier sessions.
    pub(super) fn start(
        tally: Arc<Tally>,
        concurrency: Concurrency,
        planned: u64,
        before: u64,
        hidden: bool,
        sent: Counts,
        write: fn(&str),
    ) -> Self {
        let (stop, mut stopped) = tokio::sync::watch::channel(false);
        if hidden {
            return Self { task: None, stop };
        }
        let terminal = std::io::stderr().is_terminal();
        let started = Instant::now();
        let task = tokio::spawn(async move {
            let bar = bar(planned, terminal);
            let every = if terminal { BAR_EVERY } else { PLAIN_EVERY };
            let mut ticks = tokio::time::interval(every);
            ticks.tick().await;
            loop {
                tokio::select! {
                    _ = ticks.tick() => {}
                    _ = stopped.wait_for(|stop| *stop) => break,
                }
                let done = before + tally.done.load(Ordering::Relaxed);
                let line = tally.line(&concurrency, &sent);
                let line = whole(done, planned, before, started.elapsed(), &line);
                if terminal {
                    bar.set_position(done);
                    bar.set_message(line);
                } else {
                    write(&line);
                }
            }
            bar.finish_and_clear();
        });
        Self { task: Some(task), stop }
    }

    /// Takes the bar away.
    pub(super) async fn finish(mut self) {
        self.stop.send_replace(true);
        if let Some(task) = self.task.take() {
            // A bar that panicked is no reason to fail the run.
            let _ = task.await;
        }
    }
}

/// How much each destination took.
fn words(sent: &Counts) -> impl Iterator<Item = String> {
    sent.now().into_iter().map(|(name, delivered, refused)| match refused {
        0 => format!("{name} {delivered}"),
        refused => format!("{name} {delivered} ({refused} refused)"),
    })
}

fn bar(planned: u64, terminal: bool) -> ProgressBar {
    let target = if terminal { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let bar = ProgressBar::with_draw_target(Some(planned), target);
    let template = "{bar:16} {wide_msg}";
    bar.with_style(ProgressStyle::with_template(template).expect("a valid template").progress_chars("━╸─"))
}

fn whole(done: u64, planned: u64, before: u64, elapsed: Duration, line: &str) -> String {
    let rate = done.saturating_sub(before) as f64 / elapsed.as_secs_f64().max(1e-3);
    let left = planned.saturating_sub(done) as f64 / rate.max(1e-9);
    let eta = if rate > 0.0 {
        humantime::format_duration(Duration::from_secs(left.min(1e7) as u64)).to_string()
    } else {
        "?".to_owned()
    };
    format!("{done}/{planned} · {rate:.1}/s · ETA {eta} · {line}")
}
