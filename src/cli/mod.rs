//! The commands: what the user typed, made into one call each, and errors into exit codes.
//!
//! One file per command holds its flags and its `exec`. Results go to stdout through [`Context`]; progress, logs and hints
//! to stderr.

mod context;
mod exit;
mod session;
mod progress;
mod model;
mod application;
mod inputs;
mod resume;

mod init;
mod validate;
mod run;
mod runs;
mod show;
mod cases;
mod case;
mod traces;
mod trace;
mod verify;
mod report;
mod compare;
mod baseline;
mod gate;
mod gate_extend;
mod trend;
mod export;
mod import;
mod import_appinsights;
mod import_dataset;
mod import_evaluation;
mod intake;
mod doctor;
mod serve;
mod serve_model;
mod completions;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

pub use context::{Context, FileFormat, Format};
pub use exit::Exit;

use context::Globals;

/// Run evaluation batches over claims with their contexts; every score is linked to the trace that explains it.
#[derive(Debug, Parser)]
#[command(name = "spanscore", version, propagate_version = true, max_term_width = 100)]
#[command(
    after_help = "Exit codes: 0 success, or a gate's PASS; 1 a gate's FAIL; 2 usage, configuration or input error; \
    3 a gate's INCONCLUSIVE or INVALID; 4 run incomplete, verify found a mismatch, or infrastructure failure; \
    130 and 143 after SIGINT and SIGTERM."
)]
struct Cli {
    #[command(flatten)]
    globals: Globals,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Write a commented suite, a small dataset and an evaluator to start from
    Init(init::Args),
    /// Check suite and dataset without running anything
    Validate(validate::Args),
    /// Run a suite: model calls, traces, scores, report
    Run(Box<run::Args>),
    /// List runs; remove or tag one
    Runs(runs::Args),
    /// Show the report of a run
    Show(show::Args),
    /// List the cases of a run, worst first
    Cases(cases::Args),
    /// Show one case across all runs
    Case(case::Args),
    /// List traces
    Traces(traces::Args),
    /// Show one trace as a waterfall
    Trace(trace::Args),
    /// Prove that every score of a run is linked to its span
    Verify(verify::Args),
    /// Compare two runs or baselines, case by case
    Compare(compare::Args),
    /// Pin runs as the level that later runs are held against
    Baseline(baseline::Args),
    /// Judge a run against a baseline: the exit code is the verdict
    Gate(Box<gate::Args>),
    /// Show a score night by night, and where its level changed
    Trend(trend::Args),
    /// Write the report of a run as HTML, Markdown, JUnit, JSON, JSON Lines, CSV or Parquet
    Report(report::Args),
    /// Write traces into a file, or deliver what is still pending
    Export(export::Args),
    /// Take in traces, scores, or another machine's store, or convert a public dataset
    Import(import::Args),
    /// Check configuration, model endpoint, credentials, exporters and store
    Doctor(Box<doctor::Args>),
    /// Collect traces of any application (OTLP) and show runs and traces in the browser
    Serve(serve::Args),
    /// Serve the built-in model to other clients
    ServeModel(serve_model::Args),
    /// Print a completion script for a shell
    Completions(completions::Args),
}

/// Parses the command line, runs the command, and turns its end into an exit code.
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    let context = Context::new(cli.globals);
    context.init_log();
    if let Some(format) = context.file_format
        && !matches!(cli.command, Command::Export(_))
    {
        let word = format.as_str();
        context.say(&format!("error: --format {word} is for `spanscore export -o FILE`; expected text or json here"));
        return Exit::Usage.into();
    }
    let result = match &cli.command {
        Command::Init(args) => init::exec(args, &context),
        Command::Validate(args) => validate::exec(args, &context),
        Command::Run(args) => run::exec(args, &context),
        Command::Runs(args) => runs::exec(args, &context),
        Command::Show(args) => show::exec(args, &context),
        Command::Cases(args) => cases::exec(args, &context),
        Command::Case(args) => case::exec(args, &context),
        Command::Traces(args) => traces::exec(args, &context),
        Command::Trace(args) => trace::exec(args, &context),
        Command::Verify(args) => verify::exec(args, &context),
        Command::Compare(args) => compare::exec(args, &context),
        Command::Baseline(args) => baseline::exec(args, &context),
        Command::Gate(args) => gate::exec(args, &context),
        Command::Trend(args) => trend::exec(args, &context),
        Command::Report(args) => report::exec(args, &context),
        Command::Export(args) => export::exec(args, &context),
        Command::Import(args) => import::exec(args, &context),
        Command::Doctor(args) => doctor::exec(args, &context),
        Command::Serve(args) => serve::exec(args, &context),
        Command::ServeModel(args) => serve_model::exec(args, &context),
        Command::Completions(args) => completions::exec(args, &context),
    };
    match result {
        Ok(exit) => exit.into(),
        Err(error) => {
            context.error(&error);
            Exit::of(&error).into()
        }
    }
}
