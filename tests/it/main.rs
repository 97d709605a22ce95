//! The integration tests: one binary, one module per subject.

// The tree itself: layers, sizes, who may name what.
mod layers;
// What every test needs: a scratch folder, the command, a model endpoint with set answers.
mod support;
// Exit codes and messages for input that cannot be used.
mod bad_input;
// Runs from end to end, stopped and resumed, replayed and cached.
mod runs;
// Workflows that are a program or an endpoint of the user's.
mod applications;
// Traces and runs from one store to another.
mod exchange;
// Comparing runs, judging them against a baseline, following a score.
mod gate;
mod gate_accidents;
// What Application Insights gets, and what comes back out of it.
mod appinsights;
// Scores in Langfuse, and what all sinks have in common.
mod sinks;
mod log_analytics;
// Foundry projects, Entra tokens and Azure OpenAI, all on the loopback.
mod azure;
// Scores of azure-ai-evaluation.
mod evaluation;
// Reports as files.
mod reports;
// Scores and the spans that carry them.
mod linkage;
// The collector and its ports.
mod serve;
// How often the gate is wrong, in worlds with a known truth.
mod gate_rates;
mod gate_worlds;
