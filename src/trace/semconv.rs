//! Every span, event, attribute and metric name; nothing else in the program spells them.
//!
//! Source: OpenTelemetry semantic conventions v1.41.1 (GenAI), OpenInference `spec/annotations.md`; names of our own
//! stand under `spanscore.`. Names marked "proposed" are upstream proposals, not yet standard.

/// Names of spans.
pub mod span {
    /// The root of a session's own trace.
    pub const EVALUATION_RUN: &str = "evaluation_run";
    /// The root of a batch's trace, and the name of the workflow.
    pub const ASSESS_CLAIMS_WITH_CONTEXT: &str = "assess_claims_with_context";
    /// One trial.
    pub const ASSESS_CLAIM: &str = "assess_claim";
    /// Before the id of an evaluator: the span of a judge or an external command.
    pub const EVALUATE_PREFIX: &str = "evaluate ";
}

/// Names of span events and log records.
pub mod event {
    /// One per score.
    pub const EVALUATION_RESULT: &str = "gen_ai.evaluation.result";
    /// The messages of a model call, when content goes to logs.
    pub const OPERATION_DETAILS: &str = "gen_ai.client.inference.operation.details";
    /// Before a role: one message of a model call, by the older conventions (`gen_ai.user.message`).
    pub const GEN_AI_PREFIX: &str = "gen_ai.";
    /// After the role.
    pub const MESSAGE_SUFFIX: &str = ".message";
    /// One answer of a model, by the older conventions.
    pub const CHOICE: &str = "gen_ai.choice";
    /// All messages sent as one JSON text, by the oldest conventions.
    pub const CONTENT_PROMPT: &str = "gen_ai.content.prompt";
    /// All messages received.
    pub const CONTENT_COMPLETION: &str = "gen_ai.content.completion";
    /// An exception that was caught.
    pub const EXCEPTION: &str = "exception";
    /// A failed HTTP try on a `chat` span.
    pub const ATTEMPT_FAILED: &str = "spanscore.attempt.failed";
}

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {
        $($(#[$doc])* pub const $name: &str = $text;)*
    };
}

names! {
    /// Name of the suite.
    TEST_SUITE_NAME = "test.suite.name";
    /// Id of the run (proposed).
    TEST_SUITE_RUN_ID = "test.suite.run.id";
    /// `success`, `failure`, `skipped`, `aborted`, `timed_out` or `in_progress`.
    TEST_SUITE_RUN_STATUS = "test.suite.run.status";
    /// Id of the case (proposed).
    TEST_CASE_ID = "test.case.id";
    /// Name of the case.
    TEST_CASE_NAME = "test.case.name";
    /// `pass` or `fail`, by the primary evaluator.
    TEST_CASE_RESULT_STATUS = "test.case.result.status";

    /// How many claims a batch holds (int).
    OPERATION_CLAIMS_COUNT = "operation.claims_count";
    /// OpenInference's kind of span: `CHAIN`, `LLM`, `EVALUATOR`.
    OPENINFERENCE_SPAN_KIND = "openinference.span.kind";
    /// Of a resource: the project of Phoenix that its spans go to.
    OPENINFERENCE_PROJECT_NAME = "openinference.project.name";

    /// `chat`, `invoke_workflow`.
    GEN_AI_OPERATION_NAME = "gen_ai.operation.name";
    /// Name of the workflow.
    GEN_AI_WORKFLOW_NAME = "gen_ai.workflow.name";
    /// `openai`, `azure.ai.openai`.
    GEN_AI_PROVIDER_NAME = "gen_ai.provider.name";
    /// The older name of the provider.
    GEN_AI_SYSTEM = "gen_ai.system";
    /// Model asked for.
    GEN_AI_REQUEST_MODEL = "gen_ai.request.model";
    /// Sampling temperature (double).
    GEN_AI_REQUEST_TEMPERATURE = "gen_ai.request.temperature";
    /// Nucleus sampling (double).
    GEN_AI_REQUEST_TOP_P = "gen_ai.request.top_p";
    /// Frequency penalty (double).
    GEN_AI_REQUEST_FREQUENCY_PENALTY = "gen_ai.request.frequency_penalty";
    /// Presence penalty (double).
    GEN_AI_REQUEST_PRESENCE_PENALTY = "gen_ai.request.presence_penalty";
    /// Limit of output tokens (int).
    GEN_AI_REQUEST_MAX_TOKENS = "gen_ai.request.max_tokens";
    /// Seed (int).
    GEN_AI_REQUEST_SEED = "gen_ai.request.seed";
    /// Number of choices, if not 1 (int).
    GEN_AI_REQUEST_CHOICE_COUNT = "gen_ai.request.choice.count";
    /// Stop sequences.
    GEN_AI_REQUEST_STOP_SEQUENCES = "gen_ai.request.stop_sequences";
    /// The endpoint's id of the answer.
    GEN_AI_RESPONSE_ID = "gen_ai.response.id";
    /// Model that answered.
    GEN_AI_RESPONSE_MODEL = "gen_ai.response.model";
    /// Why each choice ended.
    GEN_AI_RESPONSE_FINISH_REASONS = "gen_ai.response.finish_reasons";
    /// Tokens of the request (int).
    GEN_AI_USAGE_INPUT_TOKENS = "gen_ai.usage.input_tokens";
    /// Tokens of the answer (int).
    GEN_AI_USAGE_OUTPUT_TOKENS = "gen_ai.usage.output_tokens";
    /// Of the input, read from the endpoint's cache (int).
    GEN_AI_USAGE_CACHE_READ_INPUT_TOKENS = "gen_ai.usage.cache_read.input_tokens";
    /// Of the output, spent on reasoning (int).
    GEN_AI_USAGE_REASONING_OUTPUT_TOKENS = "gen_ai.usage.reasoning.output_tokens";
    /// OpenInference's tokens of the request (int).
    LLM_TOKEN_COUNT_PROMPT = "llm.token_count.prompt";
    /// OpenInference's tokens of the answer (int).
    LLM_TOKEN_COUNT_COMPLETION = "llm.token_count.completion";
    /// The messages sent, as a JSON string on spans.
    GEN_AI_INPUT_MESSAGES = "gen_ai.input.messages";
    /// The messages received, as a JSON string on spans.
    GEN_AI_OUTPUT_MESSAGES = "gen_ai.output.messages";
    /// The instructions given apart from the messages, as a JSON string on spans.
    GEN_AI_SYSTEM_INSTRUCTIONS = "gen_ai.system_instructions";
    /// What a tool was called with.
    GEN_AI_TOOL_CALL_ARGUMENTS = "gen_ai.tool.call.arguments";
    /// What a tool gave back.
    GEN_AI_TOOL_CALL_RESULT = "gen_ai.tool.call.result";
    /// Id of a call of a tool.
    GEN_AI_TOOL_CALL_ID = "gen_ai.tool.call.id";
    /// Name of a tool.
    GEN_AI_TOOL_NAME = "gen_ai.tool.name";
    /// A message as JSON on a span event, as Azure's SDKs send it.
    GEN_AI_EVENT_CONTENT = "gen_ai.event.content";
    /// Before an index: messages sent, one attribute per field (older OpenLLMetry); alone, all of them as text.
    GEN_AI_PROMPT = "gen_ai.prompt";
    /// Before an index: messages received.
    GEN_AI_COMPLETION = "gen_ai.completion";
    /// Before an index: messages sent, by OpenInference.
    LLM_INPUT_MESSAGES = "llm.input_messages";
    /// Before an index: messages received, by OpenInference.
    LLM_OUTPUT_MESSAGES = "llm.output_messages";
    /// What an operation was given, by OpenInference.
    INPUT_VALUE = "input.value";
    /// What it gave back.
    OUTPUT_VALUE = "output.value";
    /// What an operation was given, by OpenLLMetry.
    TRACELOOP_ENTITY_INPUT = "traceloop.entity.input";
    /// What it gave back.
    TRACELOOP_ENTITY_OUTPUT = "traceloop.entity.output";
    /// What an operation was given, by MLflow.
    MLFLOW_SPAN_INPUTS = "mlflow.spanInputs";
    /// What it gave back.
    MLFLOW_SPAN_OUTPUTS = "mlflow.spanOutputs";
    /// Kind of a log record or event, where it has no name of its own.
    EVENT_NAME = "event.name";
    /// `input` or `output`, on the token metric.
    GEN_AI_TOKEN_TYPE = "gen_ai.token.type";

    /// `chat_completions`.
    OPENAI_API_TYPE = "openai.api.type";
    /// Tier that served the answer.
    OPENAI_RESPONSE_SERVICE_TIER = "openai.response.service_tier";
    /// Fingerprint of the endpoint's configuration.
    OPENAI_RESPONSE_SYSTEM_FINGERPRINT = "openai.response.system_fingerprint";

    /// Host of the endpoint.
    SERVER_ADDRESS = "server.address";
    /// Port of the endpoint (int).
    SERVER_PORT = "server.port";
    /// Low-cardinality class of an error.
    ERROR_TYPE = "error.type";
    /// HTTP status of a failed try (int).
    HTTP_RESPONSE_STATUS_CODE = "http.response.status_code";
    /// Class of an exception.
    EXCEPTION_TYPE = "exception.type";
    /// What an exception says.
    EXCEPTION_MESSAGE = "exception.message";
    /// Where it was thrown.
    EXCEPTION_STACKTRACE = "exception.stacktrace";
    /// Name of the service.
    SERVICE_NAME = "service.name";
    /// Version of the service.
    SERVICE_VERSION = "service.version";
    /// What the service belongs to.
    SERVICE_NAMESPACE = "service.namespace";
    /// Which instance of the service.
    SERVICE_INSTANCE_ID = "service.instance.id";
    /// Which machine.
    HOST_NAME = "host.name";
    /// What made the telemetry: its language.
    TELEMETRY_SDK_LANGUAGE = "telemetry.sdk.language";
    /// Its name; `opentelemetry` is reserved for that project's own SDKs.
    TELEMETRY_SDK_NAME = "telemetry.sdk.name";
    /// Its version.
    TELEMETRY_SDK_VERSION = "telemetry.sdk.version";

    /// Before all names of evaluation results.
    GEN_AI_EVALUATION_PREFIX = "gen_ai.evaluation.";
    /// Which evaluator.
    GEN_AI_EVALUATION_NAME = "gen_ai.evaluation.name";
    /// The score as a double.
    GEN_AI_EVALUATION_SCORE_VALUE = "gen_ai.evaluation.score.value";
    /// The score as a label.
    GEN_AI_EVALUATION_SCORE_LABEL = "gen_ai.evaluation.score.label";
    /// Why.
    GEN_AI_EVALUATION_EXPLANATION = "gen_ai.evaluation.explanation";

    /// Dataset of the run.
    SPANSCORE_DATASET_NAME = "spanscore.dataset.name";
    /// Its digest.
    SPANSCORE_DATASET_DIGEST = "spanscore.dataset.digest";
    /// Digest of the prompt.
    SPANSCORE_PROMPT_DIGEST = "spanscore.prompt.digest";
    /// The gold label.
    SPANSCORE_EXPECTED = "spanscore.expected";
    /// The parsed label, or `unparseable`; never raw text.
    SPANSCORE_OUTPUT = "spanscore.output";
    /// The case's cluster.
    SPANSCORE_CASE_GROUP = "spanscore.case.group";
    /// Which repeat, from 0 (int).
    SPANSCORE_TRIAL_REPEAT = "spanscore.trial.repeat";
    /// How many HTTP tries (int).
    SPANSCORE_TRIAL_ATTEMPTS = "spanscore.trial.attempts";
    /// Why a trial was skipped.
    SPANSCORE_TRIAL_SKIPPED = "spanscore.trial.skipped";
    /// From which value on a score passes (double).
    SPANSCORE_EVALUATION_THRESHOLD = "spanscore.evaluation.threshold";
    /// Whether the answer came from the cache (bool).
    SPANSCORE_CACHED = "spanscore.cached";
    /// Number of a failed HTTP try, from 1 (int).
    SPANSCORE_ATTEMPT_NUMBER = "spanscore.attempt.number";
    /// Seconds waited after it (double).
    SPANSCORE_ATTEMPT_WAIT = "spanscore.attempt.wait_s";
    /// What went wrong with it.
    SPANSCORE_ATTEMPT_MESSAGE = "spanscore.attempt.message";
    /// Before the id of an evaluator: its score as a double.
    SPANSCORE_SCORE_PREFIX = "spanscore.score.";
    /// Behind the id of an evaluator: its mean on batch and run spans.
    MEAN_SUFFIX = ".mean";
    /// Before the id of an evaluator: its label.
    SPANSCORE_LABEL_PREFIX = "spanscore.label.";
    /// Before an index: OpenInference's inline evaluations.
    EVALUATIONS_PREFIX = "evaluations.";
}

/// OpenInference's word for a score that code gave.
pub const ANNOTATOR_CODE: &str = "CODE";
/// OpenInference's kind of a span in which something is evaluated.
pub const KIND_EVALUATOR: &str = "EVALUATOR";

/// What Azure Monitor reads off the spans of any application: of several names the first that is there, the stable before the
/// older; and names of Azure's own.
pub mod azure {
    /// Makes a log record a custom event of this name.
    pub const CUSTOM_EVENT_NAME: &str = "microsoft.custom_event.name";
    /// Numbers by name, as a map or as JSON, that become measurements.
    pub const CUSTOM_MEASUREMENTS: &str = "microsoft.custom_measurements";
    /// Whether a score passes, inside the property `internal_properties`.
    pub const EVALUATION_PASSED: &str = "gen_ai.evaluation.passed";
    /// From which value on, there.
    pub const EVALUATION_THRESHOLD: &str = "gen_ai.evaluation.threshold";
    /// Name of the evaluator, there.
    pub const TESTING_CRITERIA_NAME: &str = "gen_ai.evaluation.testing_criteria.name";
    /// A status in words, as other exporters name it.
    pub const STATUS_MESSAGE: &str = "otel.status_description";
    /// `GET`.
    pub const HTTP_METHOD: [&str; 2] = ["http.request.method", "http.method"];
    /// `/assess/{id}`.
    pub const HTTP_ROUTE: &str = "http.route";
    /// The whole address.
    pub const HTTP_URL: [&str; 2] = ["url.full", "http.url"];
    /// 200.
    pub const HTTP_STATUS_CODE: [&str; 2] = ["http.response.status_code", "http.status_code"];
    /// The other side's name.
    pub const PEER: [&str; 4] = ["peer.service", "server.address", "net.peer.name", "net.peer.ip"];
    /// Its port.
    pub const PEER_PORT: [&str; 2] = ["server.port", "net.peer.port"];
    /// Which database.
    pub const DB_SYSTEM: [&str; 2] = ["db.system.name", "db.system"];
    /// Its name.
    pub const DB_NAME: [&str; 2] = ["db.namespace", "db.name"];
    /// What it was asked.
    pub const DB_QUERY: [&str; 4] = ["db.query.text", "db.statement", "db.operation.name", "db.operation"];
    /// Which system of messages.
    pub const MESSAGING_SYSTEM: &str = "messaging.system";
    /// Which queue or topic.
    pub const MESSAGING_DESTINATION: [&str; 2] = ["messaging.destination.name", "messaging.destination"];
    /// Which system of remote calls.
    pub const RPC_SYSTEM: &str = "rpc.system";
}

/// Names and bucket bounds of metrics.
pub mod metric {
    /// Histogram of seconds per model call.
    pub const OPERATION_DURATION: &str = "gen_ai.client.operation.duration";
    /// Histogram of tokens per model call.
    pub const TOKEN_USAGE: &str = "gen_ai.client.token.usage";

    /// 0.01·2^k seconds, k = 0..13.
    pub fn duration_bounds() -> Vec<f64> {
        (0..=13).map(|k| 0.01 * f64::from(1 << k)).collect()
    }

    /// 4^k tokens, k = 0..13.
    pub fn token_bounds() -> Vec<f64> {
        (0..=13).map(|k| 4f64.powi(k)).collect()
    }
}

/// The attribute that holds an evaluator's score as a double.
pub fn score_key(evaluator: &str) -> String {
    format!("{SPANSCORE_SCORE_PREFIX}{evaluator}")
}

/// The attribute that holds an evaluator's label.
pub fn label_key(evaluator: &str) -> String {
    format!("{SPANSCORE_LABEL_PREFIX}{evaluator}")
}

/// The attribute of an evaluator's mean on batch and run spans.
pub fn mean_key(evaluator: &str) -> String {
    format!("{SPANSCORE_SCORE_PREFIX}{evaluator}{MEAN_SUFFIX}")
}
