//! The workflow that is an HTTP endpoint of the user's: one POST per case, with the case as a JSON object.
//!
//! The trial's span goes along as the header `traceparent` and in the object, so that any instrumented server joins the
//! trace. Faults that may pass are retried as with a model.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::line::{Answer, INVALID, failed, question};
use super::{AnswerParser, Assessment, TrialContext, Workflow};
use crate::llm::{JsonEndpoint, Limits, LlmError, NOT_STARTED, PostSettings, Price, Secret};
use crate::model::{Case, Digest};
use crate::trace::provider::Ambient;
use crate::trace::semconv::span;
use crate::trace::traceparent::TraceParent;

/// What to ask, and how.
#[derive(Debug, Clone)]
pub struct HttpSettings {
    /// Where cases are posted.
    pub post: PostSettings,
    /// What else decides the answers, for the digest.
    pub version: Option<String>,
    /// Where the application may send its telemetry (OTLP over HTTP, base URL).
    pub otlp_endpoint: Option<String>,
}

/// The workflow: an endpoint, and how its answers are read.
pub struct HttpWorkflow {
    settings: HttpSettings,
    endpoint: JsonEndpoint,
    parser: AnswerParser,
    parser_source: String,
    price: Option<Price>,
    limits: Arc<Limits>,
    ambient: Ambient,
}

impl HttpWorkflow {
    /// Sets up the client; sends nothing.
    pub fn new(
        settings: HttpSettings,
        parser: AnswerParser,
        parser_source: String,
        price: Option<Price>,
        limits: Arc<Limits>,
        ambient: Ambient,
    ) -> Result<Self, LlmError> {
        let endpoint = JsonEndpoint::new(settings.post.clone(), Arc::clone(&limits), ambient.clone())?;
        Ok(Self { settings, endpoint, parser, parser_source, price, limits, ambient })
    }

    /// What no message may repeat.
    fn secrets(&self) -> Vec<&str> {
        self.settings.post.token.iter().map(Secret::expose).collect()
    }
}

#[async_trait]
impl Workflow for HttpWorkflow {
    fn name(&self) -> &str {
        span::ASSESS_CLAIMS_WITH_CONTEXT
    }

    fn digest(&self) -> Digest {
        let canonical = json!(["http", self.endpoint.shown_url(), self.settings.version, self.parser_source]);
        Digest::from_bytes(Sha256::digest(canonical.to_string().as_bytes()).into())
    }

    async fn assess(&self, case: &Case, trial: TrialContext) -> Assessment {
        let parent = TraceParent::sampled(trial.trace_id, trial.parent_span_id).to_string();
        let body = question(case, trial.repeat, &parent, self.settings.otlp_endpoint.as_deref());
        let estimate = Limits::estimate_tokens(case.claim.len() + case.context.len());
        let start = self.ambient.now();
        let Some(posted) = self.endpoint.post(body, &parent, estimate).await else {
            return failed(NOT_STARTED, "the run was stopped before the first request was sent".to_owned(), case, 0, 0);
        };
        let latency = self.ambient.now().saturating_sub(start);
        let attempts = posted.attempts;
        let price = self.price.as_ref();
        let mut assessment = match posted.result {
            Ok(body) => match Answer::read(&body, &self.secrets()) {
                Ok(answer) => {
                    if let Some(tokens) = answer.tokens() {
                        self.limits.settle(estimate, tokens);
                    }
                    answer.into_assessment(case, &self.parser, price, attempts, latency)
                }
                Err(problem) => failed(INVALID, format!("the answer is none: {problem}"), case, attempts, latency),
            },
            Err(error) => {
                let mut assessment = failed(&error.error_type, error.message, case, attempts, latency);
                assessment.fatal = error.fatal;
                assessment
            }
        };
        assessment.overloaded = posted.overloaded;
        assessment
    }
}
