//! A workflow and an evaluator written in Rust, run with store, traces and report.
//!
//! The workflow asks no model: it says True where every word of the claim stands in the context. The evaluator scores how
//! much longer the context is than the claim. Run it with `cargo run --release --example own_evaluator`, then look at the
//! run with `spanscore show latest`, `spanscore cases latest` and `spanscore trace …`.

use async_trait::async_trait;
use spanscore::evaluation::Evaluation;
use spanscore::evaluator::{Evaluator, Subject};
use spanscore::model::{
    self, Case, Digest, Direction, EvaluatorId, EvaluatorKind, EvaluatorSpec, Label, Outcome, Predicted,
};
use spanscore::report::{Style, terminal};
use spanscore::workflow::{Assessment, TrialContext, Workflow};

/// The code under test.
struct EveryWord;

#[async_trait]
impl Workflow for EveryWord {
    fn name(&self) -> &'static str {
        "every_word"
    }

    /// Change it whenever answers may change: runs of two digests are not the same experiment.
    fn digest(&self) -> Digest {
        Digest::from_bytes([1; 32])
    }

    async fn assess(&self, case: &Case, _trial: TrialContext) -> Assessment {
        let context = case.context.to_lowercase();
        let claim = case.claim.to_lowercase();
        let all = claim.split(|c: char| !c.is_alphanumeric()).all(|word| context.contains(word));
        let label = if all { Label::True } else { Label::Nee };
        Assessment::answered(Outcome::Completed { predicted: Predicted::Label(label) }, label.as_str())
    }
}

/// A score: how many times as long as the claim its context is.
struct ContextRatio(EvaluatorSpec);

impl ContextRatio {
    fn new() -> Self {
        Self(EvaluatorSpec {
            id: EvaluatorId::parse("context_ratio").expect("lowercase snake_case"),
            version: "1".to_owned(),
            kind: EvaluatorKind::Number,
            direction: Direction::Lower,
            threshold: None,
            unit: "1".to_owned(),
            description: "Bytes of context per byte of claim.".to_owned(),
            digest: Digest::from_bytes([2; 32]),
        })
    }
}

#[async_trait]
impl Evaluator for ContextRatio {
    fn spec(&self) -> &EvaluatorSpec {
        &self.0
    }

    async fn evaluate(&self, subject: Subject<'_>) -> model::Evaluation {
        // A claim of no bytes would give infinity, which is a failed evaluation and not a number.
        model::Evaluation::number(subject.case.context.len() as f64 / subject.case.claim.len() as f64)
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let evaluation = Evaluation::new("datasets/claims.csv", EveryWord).evaluator(ContextRatio::new()).concurrency(16);
    let report = evaluation.run().await?;
    // The report is the document that `spanscore show --format json` prints; this is its text.
    #[expect(clippy::print_stdout, reason = "an example shows its result")]
    {
        println!("{}", terminal::render(&report, Style::plain(100)));
    }
    Ok(())
}
