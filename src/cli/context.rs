//! What every command has at hand: where the store is, how results are to look, and the only writers to stdout and stderr.

use std::borrow::Cow;
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde::Serialize;

use crate::config::Environment;
use crate::report::Style;
use crate::report::terminal::shell_word;
use crate::report::text::clean;
use crate::store::{Store, StoreError};

/// How results are printed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// Exactly one JSON document.
    Json,
}

/// What may stand behind `--format`: how results are printed and, for `export`, what is written into the file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum FormatWord {
    #[default]
    Text,
    Json,
    #[value(hide = true)]
    OtlpJson,
    #[value(hide = true)]
    Parquet,
}

/// What `export` writes into a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileFormat {
    /// OTLP requests as JSON lines.
    OtlpJson,
    /// A table of spans.
    Parquet,
}

impl FileFormat {
    /// The word behind `--format`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OtlpJson => "otlp-json",
            Self::Parquet => "parquet",
        }
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Color {
    #[default]
    Auto,
    Always,
    Never,
}

/// Flags of every command.
#[derive(Debug, Clone, Args)]
pub(super) struct Globals {
    /// Folder of the store
    #[arg(
        long,
        global = true,
        help_heading = "Global options",
        env = "SPANSCORE_STORE",
        default_value = ".spanscore",
        value_name = "DIR"
    )]
    store: PathBuf,
    /// How results are printed
    #[arg(long, global = true, help_heading = "Global options", value_enum, default_value_t)]
    format: FormatWord,
    /// Colour in text output
    #[arg(long, global = true, help_heading = "Global options", value_enum, default_value_t)]
    color: Color,
    /// Print results only: no progress, no hints
    #[arg(long, short, global = true, help_heading = "Global options")]
    quiet: bool,
}

/// What every command has at hand.
#[derive(Debug)]
pub struct Context {
    /// The folder of the store.
    pub store_dir: PathBuf,
    /// How results are printed.
    pub format: Format,
    /// What `export` was told to write.
    pub file_format: Option<FileFormat>,
    /// Colour and width of text output.
    pub style: Style,
    /// Whether hints and progress are left out.
    pub quiet: bool,
    /// The process's environment.
    pub env: Environment,
    /// The command line, without the program's name.
    pub args: Vec<String>,
}

impl Context {
    pub(super) fn new(globals: Globals) -> Self {
        let env = Environment::from_process();
        let color = match globals.color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => io::stdout().is_terminal() && env.get("NO_COLOR").is_none() && env.get("CI").is_none(),
        };
        // COLUMNS is the user's word; otherwise the terminal's width, or a width that logs can bear.
        let columns = env.get("COLUMNS").and_then(|text| text.parse().ok());
        let width = columns.or_else(|| terminal_size::terminal_size().map(|(w, _)| usize::from(w.0))).unwrap_or(120);
        let style = Style { color, width: width.clamp(60, 200) };
        Self {
            store_dir: globals.store,
            format: if globals.format == FormatWord::Json { Format::Json } else { Format::Text },
            file_format: match globals.format {
                FormatWord::Text | FormatWord::Json => None,
                FormatWord::OtlpJson => Some(FileFormat::OtlpJson),
                FormatWord::Parquet => Some(FileFormat::Parquet),
            },
            style,
            quiet: globals.quiet,
            env,
            args: std::env::args().skip(1).collect(),
        }
    }

    /// Starts the program's own log: warnings to stderr unless SPANSCORE_LOG says otherwise.
    pub(super) fn init_log(&self) {
        let filter = self.env.get("SPANSCORE_LOG").unwrap_or("warn");
        // async-openai logs bodies that it cannot read, and prompts may be in them: silenced whatever is asked for.
        let filter = tracing_subscriber::EnvFilter::builder()
            .parse_lossy(filter)
            .add_directive("async_openai=off".parse().expect("a valid directive"));
        let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_ansi(self.style.color);
        // A second initialisation in one process keeps the first.
        let _ = log.try_init();
    }

    /// Opens the store for reading; there must be one.
    pub fn store(&self) -> Result<Store, StoreError> {
        Store::open_existing(&self.store_dir)
    }

    /// Prints a result to stdout, with a newline at its end. A closed pipe is no error: nobody is reading any more.
    pub fn print(&self, text: &str) -> anyhow::Result<()> {
        let mut out = io::stdout().lock();
        let text = if self.is_github_job() { without_commands(text) } else { Cow::Borrowed(text) };
        let end = if text.ends_with('\n') { "" } else { "\n" };
        ignore_broken_pipe(write!(out, "{text}{end}").and_then(|()| out.flush()))
    }

    /// Prints one JSON document to stdout.
    pub fn print_json(&self, document: &impl Serialize) -> anyhow::Result<()> {
        let mut text = serde_json::to_string_pretty(document)?;
        if self.is_github_job() {
            // The same document: such a text can only stand in a string.
            text = text.replace("##[", "#\\u0023[");
        }
        self.print(&text)
    }

    /// Prints a hint, a note or a warning to stderr, unless --quiet.
    pub fn hint(&self, text: &str) {
        if !self.quiet {
            self.say(text);
        }
    }

    /// Says what to run next: commands, made to find this store again.
    pub fn next(&self, commands: impl IntoIterator<Item = String>) {
        let store = match self.store_dir.to_str() {
            // The default, or where the environment points anyway.
            Some(dir) if dir == ".spanscore" || self.env.get("SPANSCORE_STORE") == Some(dir) => String::new(),
            _ => format!(" --store {}", shell_word(&self.store_dir.display().to_string())),
        };
        for (i, command) in commands.into_iter().enumerate() {
            let command = match command.strip_prefix("spanscore ") {
                Some(rest) if !rest.contains("--store") => format!("spanscore{store} {rest}"),
                _ => command,
            };
            self.hint(&format!("{} {command}", if i == 0 { "next:" } else { "     " }));
        }
    }

    /// Prints a rendered result to stderr, for stdout is taken.
    pub fn show_aside(&self, text: &str) {
        show(&if self.is_github_job() { without_commands(text) } else { Cow::Borrowed(text) });
    }

    /// Prints to stderr whatever is asked for, control bytes made visible.
    pub fn say(&self, text: &str) {
        if self.is_github_job() {
            note(&without_commands(text));
        } else {
            note(text);
        }
    }

    /// Prints a line that GitHub is to take as a command to its runner.
    pub fn command(&self, line: &str) {
        note(line);
    }

    /// Whether this is a job of GitHub Actions, whose runner reads commands off what a job prints.
    pub fn is_github_job(&self) -> bool {
        self.env.get("GITHUB_ACTIONS") == Some("true")
    }

    pub(super) fn error(&self, error: &anyhow::Error) {
        self.say(&format!("error: {}", in_words(error)));
    }
}

/// A text in which the runner of GitHub Actions finds no command: it reads `::name::` at the beginning of a line and `##[name]`
/// anywhere, and the text of datasets and models is not to command it.
fn without_commands(text: &str) -> Cow<'_, str> {
    let is_command = |line: &str| line.trim_start().starts_with("::") || line.contains("##[");
    if !text.lines().any(is_command) {
        return Cow::Borrowed(text);
    }
    let lines = text.split('\n').map(|line| {
        let line = line.replace("##[", "# #[");
        if line.trim_start().starts_with("::") { line.replacen("::", ": :", 1) } else { line }
    });
    Cow::Owned(lines.collect::<Vec<_>>().join("\n"))
}

/// An error with its causes, each said once.
pub(super) fn in_words(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain() {
        let cause = cause.to_string();
        // Wrappers that print their source would say it twice.
        if !text.contains(&cause) {
            text.push_str(if text.is_empty() { "" } else { ": " });
            text.push_str(&cause);
        }
    }
    text
}

/// A line on stderr from a task that has no context at hand.
pub(super) fn note(text: &str) {
    // What an error quotes may hold control bytes of a file or a server.
    let lines: Vec<_> = text.split('\n').map(clean).collect();
    show(&lines.join("\n"));
}

fn show(text: &str) {
    // There is nowhere left to report that stderr is closed.
    let _ = writeln!(io::stderr().lock(), "{text}");
}

fn ignore_broken_pipe(result: io::Result<()>) -> anyhow::Result<()> {
    match result {
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other.map_err(|e| super::exit::Infrastructure(format!("writing to stdout: {e}")).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_datasets_commands_no_runner() {
        let text = "id\n  ::error title=x::pwned\na ##[add-mask]True\nplain :: text";
        assert_eq!(without_commands(text), "id\n  : :error title=x::pwned\na # #[add-mask]True\nplain :: text");
        assert!(matches!(without_commands("a\nb :: c"), Cow::Borrowed(_)));
    }
}
