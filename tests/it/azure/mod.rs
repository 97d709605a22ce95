//! Azure on the loopback: from a Foundry project to stored envelopes, every answer of the ingestion endpoint, models with
//! a key or a token, and nothing of what is secret anywhere.

// What stands for Entra, the project, the ingestion endpoint and the models.
mod fake;
// Telemetry.
mod delivery;
// Model calls.
mod models;
