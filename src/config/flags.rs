//! What the user typed after `spanscore run`, before it means anything.

use std::path::PathBuf;

use clap::Args;

/// Flags of `run`; each overrides the environment and the suite file.
#[derive(Debug, Clone, Default, Args)]
pub struct RunFlags {
    /// Dataset to run instead of the suite's
    #[arg(long, value_name = "FILE", help_heading = "What to run")]
    pub dataset: Option<PathBuf>,
    /// Run only the first N cases (after --filter and --sample)
    #[arg(long, value_name = "N", help_heading = "What to run")]
    pub limit: Option<u64>,
    /// Run only the cases that match, e.g. 'col.field = biology and expected = NEE'
    #[arg(long, value_name = "EXPR", help_heading = "What to run")]
    pub filter: Option<String>,
    /// Run N cases drawn by --seed
    #[arg(long, value_name = "N", help_heading = "What to run")]
    pub sample: Option<u64>,
    /// Evaluators to apply instead of the suite's (repeat, or separate by commas)
    #[arg(long = "evaluator", value_name = "ID", value_delimiter = ',', help_heading = "What to run")]
    pub evaluators: Vec<String>,
    /// Trials per case
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u32).range(1..=1000), help_heading = "What to run")]
    pub repeat: Option<u32>,
    /// A name for the run
    #[arg(long, value_name = "NAME", help_heading = "What to run")]
    pub name: Option<String>,
    /// A tag of the run (repeatable)
    #[arg(long = "tag", value_name = "K=V", help_heading = "What to run")]
    pub tags: Vec<String>,

    /// Where answers come from
    #[arg(long, value_parser = ["builtin", "openai", "azure", "replay"], help_heading = "Model")]
    pub provider: Option<String>,
    /// Model to ask; several, separated by commas, make one run each
    #[arg(long = "model", value_name = "NAME", value_delimiter = ',', help_heading = "Model")]
    pub models: Vec<String>,
    /// Base URL of an OpenAI-compatible endpoint, or of the Azure resource
    #[arg(long, value_name = "URL", help_heading = "Model")]
    pub base_url: Option<String>,
    /// Recorded answers for --provider replay: a JSON Lines file or an earlier run
    #[arg(long, value_name = "FILE|RUN", help_heading = "Model")]
    pub replay: Option<String>,
    /// Answer identical requests from this folder, and keep new answers there
    #[arg(long, value_name = "DIR", help_heading = "Model")]
    pub cache: Option<PathBuf>,

    /// Model calls at once: a number, or `auto`
    #[arg(long, value_name = "N|auto", help_heading = "Pace and limits")]
    pub concurrency: Option<String>,
    /// Claims per trace
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000), help_heading = "Pace and limits")]
    pub batch_size: Option<u32>,
    /// Requests per minute
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), help_heading = "Pace and limits")]
    pub rpm: Option<u32>,
    /// Tokens per minute
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..), help_heading = "Pace and limits")]
    pub tpm: Option<u64>,
    /// Start no trial once this many tokens are used
    #[arg(long, value_name = "N", help_heading = "Pace and limits")]
    pub max_tokens_total: Option<u64>,
    /// Start no trial once this much is spent
    #[arg(long, value_name = "USD", help_heading = "Pace and limits")]
    pub max_cost: Option<f64>,
    /// Start no trial after this long
    #[arg(long, value_name = "DURATION", help_heading = "Pace and limits")]
    pub max_duration: Option<String>,
    /// Timeout of one HTTP try, or of one case of a workflow that is a program
    #[arg(long, value_name = "DURATION", help_heading = "Pace and limits")]
    pub timeout: Option<String>,
    /// Further tries after the first, for faults that may pass
    #[arg(long, value_name = "N", help_heading = "Pace and limits")]
    pub max_retries: Option<u32>,
    /// Seed of samples and of resampling
    #[arg(long, value_name = "N", help_heading = "Pace and limits")]
    pub seed: Option<u64>,

    /// Continue a run that was stopped or killed (default: the suite's newest)
    #[arg(long, value_name = "RUN", num_args = 0..=1, default_missing_value = "", help_heading = "Resume")]
    pub resume: Option<String>,
    /// Resume although prompt, model or evaluator versions differ (another dataset makes another run)
    #[arg(long, requires = "resume", help_heading = "Resume")]
    pub force: bool,
    /// On resume, try failed trials again
    #[arg(long, requires = "resume", help_heading = "Resume")]
    pub retry_failed: bool,

    /// Where traces go besides the store: otlp, console, appinsights, none
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = ["otlp", "console", "appinsights", "none"], help_heading = "Traces")]
    pub trace_to: Vec<String>,
    /// File with the connection string of Application Insights (else APPLICATIONINSIGHTS_CONNECTION_STRING)
    #[arg(long, value_name = "FILE", help_heading = "Traces")]
    pub connection_string_file: Option<PathBuf>,
    /// Names of the GenAI conventions on spans
    #[arg(long, value_parser = ["dual", "latest"], help_heading = "Traces")]
    pub semconv: Option<String>,
    /// Put prompts and answers on spans
    #[arg(long, help_heading = "Traces")]
    pub capture_content: bool,
}
