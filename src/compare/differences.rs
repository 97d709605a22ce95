//! What two sides did differently: said before any number, for it is what the numbers are about.

use std::collections::BTreeSet;

use super::load::dataset_of;
use super::operand::{Difference, short};
use super::side::{Side, SideEvaluator};

/// What differs, what a gate refuses first.
pub fn differences(base: &Side, head: &Side) -> Vec<Difference> {
    let mut found = Found::default();
    if base.dataset != head.dataset {
        found.add("dataset", Some(dataset_of(base)), Some(dataset_of(head)), Some("dataset".to_owned()));
    }
    let ids: BTreeSet<&str> = base.evaluators.iter().chain(&head.evaluators).map(|e| e.id.as_str()).collect();
    for id in ids {
        let of = |side: &Side| side.evaluators.iter().find(|e| e.id.as_str() == id).map(described);
        let (then, now) = (of(base), of(head));
        // An evaluator of one side only is no trap: it is not compared.
        let refused = (then.is_some() && now.is_some()).then(|| id.to_owned());
        found.add(&format!("evaluator {id}"), then, now, refused);
    }
    found.add("prompt", Some(short(&base.prompt)), Some(short(&head.prompt)), None);
    found.add("workflow", Some(base.workflow.clone()), Some(head.workflow.clone()), None);
    let model = |side: &Side| Some(format!("{} ({})", side.operand.model, side.operand.provider));
    if model(base) == model(head) {
        found.add("parameters", Some(short(&base.model)), Some(short(&head.model)), None);
    } else {
        found.add("model", model(base), model(head), None);
    }
    let list = |names: &[String]| (!names.is_empty()).then(|| names.join(", "));
    found.add("response model", list(&base.operand.response_models), list(&head.operand.response_models), None);
    found.add("fingerprint", list(&base.operand.fingerprints), list(&head.operand.fingerprints), None);
    found.add("primary evaluator", Some(base.primary.to_string()), Some(head.primary.to_string()), None);
    let trials = |side: &Side| Some(side.per_case().to_string());
    found.add("trials per case", trials(base), trials(head), None);
    let git = |side: &Side| {
        let revisions: BTreeSet<&str> = side.operand.runs.iter().filter_map(|run| run.git.as_deref()).collect();
        let revisions: Vec<&str> = revisions.into_iter().collect();
        (!revisions.is_empty()).then(|| revisions.join(", "))
    };
    found.add("git", git(base), git(head), None);
    found.0.sort_by_key(|difference| difference.refused_as.is_none());
    found.0
}

/// Whether scores of two evaluators of one id may be held against each other.
pub fn is_same(a: &SideEvaluator, b: &SideEvaluator) -> bool {
    a.version == b.version && a.digest == b.digest && a.kind == b.kind && a.direction == b.direction
}

/// Whether `--allow` names what a difference is refused as.
pub fn is_allowed(difference: &Difference, allow: &[String]) -> bool {
    difference
        .refused_as
        .as_ref()
        .is_none_or(|name| allow.iter().any(|allowed| allowed == name || name != "dataset" && allowed == "evaluator"))
}

fn described(evaluator: &SideEvaluator) -> String {
    format!("version {} ({})", evaluator.version, short(&evaluator.digest))
}

#[derive(Default)]
struct Found(Vec<Difference>);

impl Found {
    fn add(&mut self, what: &str, base: Option<String>, head: Option<String>, refused_as: Option<String>) {
        if base != head {
            self.0.push(Difference { what: what.to_owned(), base, head, refused_as });
        }
    }
}
