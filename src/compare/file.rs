//! The baseline file: JSON that a person can review and a version control system can merge.
//!
//! A fixed order of keys, one evaluator, run and case a line, cases by id: the same runs give the same bytes, and a case
//! that changed is one line of a diff. The digest is of what the file says, not of its bytes: reformatting does no harm, any
//! other change does.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde::de::Error as _;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::baseline::{Baseline, BaselineScore};
use crate::whole;

/// The latest form of the file that this program reads and writes. Form 2 says of a missing score why it is missing; a baseline
/// without any is written in form 1, which earlier versions read.
pub const FORM: u64 = 2;

/// Why a baseline file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BaselineError {
    /// It cannot be read.
    #[error(
        "reading the baseline `{path}`: {source}; save one with `spanscore baseline save RUN -o {path}`",
        path = path.display()
    )]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// It is not the JSON of a baseline.
    #[error("the baseline `{path}` is damaged: {reason}; restore it, or save it anew with `spanscore baseline save`", path = path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Its content is not what its digest says.
    #[error(
        "the baseline `{path}` was changed by hand: its digest is {found}, and it says {said}; restore it, or save it anew \
         with `spanscore baseline save`",
        path = path.display()
    )]
    Tampered {
        /// The file.
        path: PathBuf,
        /// The digest of its content.
        found: String,
        /// The digest that it names.
        said: String,
    },
    /// A later version wrote it.
    #[error("the baseline `{path}` is of form {found}, and this program knows forms up to {FORM}; upgrade spanscore", path = path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its form.
        found: u64,
    },
    /// It cannot be written.
    #[error("writing the baseline `{path}`: {source}", path = path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
}

/// The file's outermost object.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope {
    spanscore_baseline: u64,
    digest: String,
    baseline: Baseline,
}

/// Of a file of any form, which one it is.
#[derive(Deserialize)]
struct Form {
    spanscore_baseline: u64,
}

/// A baseline with the digest of its content.
#[derive(Debug, Clone, PartialEq)]
pub struct Pinned {
    /// The baseline.
    pub baseline: Baseline,
    /// SHA-256 of its content, 64 hex digits.
    pub digest: String,
}

/// Reads a baseline file and checks its digest and its shape.
pub fn read(path: &Path) -> Result<Pinned, BaselineError> {
    let text = std::fs::read_to_string(path).map_err(|source| BaselineError::Read { path: path.to_owned(), source })?;
    let envelope = envelope(&text, path)?;
    // A large baseline is not kept twice.
    drop(text);
    verified(envelope, path)
}

/// The baseline of a text; `path` names it in errors.
pub fn parse(text: &str, path: &Path) -> Result<Pinned, BaselineError> {
    verified(envelope(text, path)?, path)
}

fn envelope(text: &str, path: &Path) -> Result<Envelope, BaselineError> {
    let damaged = |reason: String| BaselineError::Damaged { path: path.to_owned(), reason };
    if text.trim().is_empty() {
        return Err(damaged("it is empty".to_owned()));
    }
    // Said first: a later form may have keys that this one does not know.
    let form: Form = serde_json::from_str(text).map_err(|e| damaged(e.to_string()))?;
    if form.spanscore_baseline > FORM {
        return Err(BaselineError::Newer { path: path.to_owned(), found: form.spanscore_baseline });
    }
    serde_json::from_str(text).map_err(|e| damaged(e.to_string()))
}

fn verified(envelope: Envelope, path: &Path) -> Result<Pinned, BaselineError> {
    let damaged = |reason: String| BaselineError::Damaged { path: path.to_owned(), reason };
    if envelope.spanscore_baseline == 0 {
        return Err(damaged(format!("there is no form {}", envelope.spanscore_baseline)));
    }
    check(&envelope.baseline).map_err(|e| damaged(e.to_string()))?;
    let found = digest(&envelope.baseline);
    if found != envelope.digest {
        return Err(BaselineError::Tampered { path: path.to_owned(), found, said: envelope.digest });
    }
    Ok(Pinned { baseline: envelope.baseline, digest: found })
}

/// The text of a baseline file.
pub fn render(baseline: &Baseline) -> String {
    let missing = |score: &BaselineScore| matches!(score, BaselineScore::Missing(_));
    let form =
        if baseline.cases.iter().flat_map(|case| case.scores.values().flatten()).any(missing) { FORM } else { 1 };
    let mut out = format!("{{\n\"spanscore_baseline\": {form},\n\"digest\": \"{}\",\n\"baseline\": ", digest(baseline));
    content(baseline, &mut |part| out.push_str(part));
    out.push_str("\n}\n");
    out
}

/// Writes a baseline file: whole, or not at all.
pub fn write(path: &Path, baseline: &Baseline) -> Result<(), BaselineError> {
    let failed = |source| BaselineError::Write { path: path.to_owned(), source };
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    std::fs::create_dir_all(folder).map_err(failed)?;
    let (mut file, unnamed) = whole::begin(path).map_err(failed)?;
    file.write_all(render(baseline).as_bytes()).and_then(|()| unnamed.name(&file)).map_err(failed)
}

/// SHA-256 of what a baseline says.
pub fn digest(baseline: &Baseline) -> String {
    let mut hash = Sha256::new();
    content(baseline, &mut |part| hash.update(part.as_bytes()));
    hex::encode(hash.finalize())
}

/// Hands over the baseline in its fixed form, piece by piece.
fn content(baseline: &Baseline, put: &mut dyn FnMut(&str)) {
    put("{\n");
    for (key, value) in [
        ("suite", json(&baseline.suite)),
        ("workflow", json(&baseline.workflow)),
        ("model", json(&baseline.model)),
        ("provider", json(&baseline.provider)),
        ("dataset", json(&baseline.dataset)),
        ("prompt_digest", json(&baseline.prompt_digest)),
        ("model_digest", json(&baseline.model_digest)),
        ("primary", json(&baseline.primary)),
    ] {
        for part in ["\"", key, "\": ", &value, ",\n"] {
            put(part);
        }
    }
    list("evaluators", &baseline.evaluators, put);
    put(",\n");
    list("runs", &baseline.runs, put);
    put(",\n");
    list("cases", &baseline.cases, put);
    put("\n}");
}

/// A list with an element a line.
fn list<T: Serialize>(key: &str, elements: &[T], put: &mut dyn FnMut(&str)) {
    for part in ["\"", key, "\": ["] {
        put(part);
    }
    for (place, element) in elements.iter().enumerate() {
        put(if place == 0 { "\n" } else { ",\n" });
        put(&json(element));
    }
    put(if elements.is_empty() { "]" } else { "\n]" });
}

/// JSON in one line, whole numbers without a fraction.
fn json<T: Serialize>(value: &T) -> String {
    let mut value = serde_json::to_value(value).expect("plain values always make JSON");
    shorten(&mut value);
    value.to_string()
}

/// 1.0 becomes 1, which reads back as the same number.
fn shorten(value: &mut Value) {
    match value {
        Value::Number(number) => {
            if let Some(x) = number.as_f64().filter(|x| number.is_f64() && x.fract() == 0.0 && x.abs() < 9e15) {
                *value = Value::from(x as i64);
            }
        }
        Value::Array(values) => values.iter_mut().for_each(shorten),
        Value::Object(map) => map.values_mut().for_each(shorten),
        _ => {}
    }
}

/// What must hold of every baseline, so that nobody asks again.
fn check(baseline: &Baseline) -> Result<(), serde_json::Error> {
    let wrong = |what: String| Err(serde_json::Error::custom(what));
    if baseline.runs.is_empty() {
        return wrong("it names no run".to_owned());
    }
    if baseline.cases.is_empty() {
        return wrong("it holds no case".to_owned());
    }
    let trials: usize = baseline.runs.iter().map(|run| run.repeat as usize).sum();
    for pair in baseline.cases.windows(2) {
        if pair[0].id >= pair[1].id {
            return wrong(format!("its cases are not sorted at `{}`", pair[1].id));
        }
    }
    for case in &baseline.cases {
        let optional = [case.latency_ms.len(), case.tokens.len(), case.cost_usd.len()];
        let lengths = [case.output.len(), case.trace.len(), case.span.len()];
        let scores = case.scores.values().map(Vec::len);
        if lengths.into_iter().chain(scores).chain(optional.into_iter().filter(|n| *n > 0)).any(|n| n != trials) {
            return wrong(format!("case `{}` does not have {trials} entries everywhere", case.id));
        }
        if let Some(word) = case.output.iter().find(|word| super::side::Output::from_name(word).is_none()) {
            return wrong(format!("`{word}` is no output of case `{}`", case.id));
        }
        if let Some(id) = case.scores.keys().find(|id| !baseline.evaluators.iter().any(|e| e.id == **id)) {
            return wrong(format!("case `{}` has a score of `{id}`, which is none of its evaluators", case.id));
        }
        if u64::from_str_radix(&case.digest, 16).is_err() || case.digest.len() != 16 {
            return wrong(format!("case `{}` has no digest of 16 hex digits", case.id));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::load::load_run;
    use crate::compare::pin::{pin, side_of};
    use crate::model::{Label, Predicted};
    use crate::store::testing::{Scene, completed, trial};

    async fn baseline() -> Baseline {
        let scene = Scene::started(5, 2).await;
        for (seq, repeat) in [(4, 1), (4, 0), (3, 0), (3, 1), (2, 0), (2, 1), (1, 1), (1, 0), (0, 0), (0, 1)] {
            let label = if repeat == 0 { Label::True } else { Label::Nee };
            scene.record(trial(seq, repeat, 0, completed(Predicted::Label(label)))).await;
        }
        scene.finish().await;
        let side = load_run(&scene.reader(), &scene.run(), &[]).expect("a side");
        pin(&[side]).expect("a baseline")
    }

    #[tokio::test]
    async fn what_is_written_reads_back_whatever_its_layout() {
        let baseline = baseline().await;
        let text = render(&baseline);
        let path = Path::new("b.json");
        assert_eq!(parse(&text, path).expect("valid").baseline, baseline);
        assert_eq!(text.lines().filter(|line| line.starts_with("{\"id\":\"case-")).count(), 5, "one case a line");
        let pretty: Value = serde_json::from_str(&text).expect("JSON");
        let pretty = serde_json::to_string_pretty(&pretty).expect("JSON");
        assert_eq!(parse(&pretty, path).expect("valid").digest, digest(&baseline));
        // As a side it says what the run said.
        let side = side_of(&baseline, "b.json");
        assert_eq!((side.per_case(), side.cases.len(), side.errors()), (2, 5, 0));
        assert_eq!(side.accuracy(0).get(), Some(0.5));
    }

    #[tokio::test]
    async fn a_score_that_broke_is_not_one_that_does_not_apply() {
        use crate::compare::baseline::MissingScore;
        use crate::compare::side::Cell;
        let mut baseline = baseline().await;
        assert!(render(&baseline).starts_with("{\n\"spanscore_baseline\": 1,"));
        let scores = baseline.cases[0].scores.values_mut().next().expect("an evaluator");
        *scores = vec![BaselineScore::Missing(MissingScore::Failed), BaselineScore::Missing(MissingScore::Absent)];
        *baseline.cases[1].scores.values_mut().next().expect("an evaluator") = vec![BaselineScore::Skipped; 2];
        let text = render(&baseline);
        assert!(
            text.starts_with("{\n\"spanscore_baseline\": 2,") && text.contains("[\"failed\",\"absent\"]"),
            "{text}"
        );
        let read = parse(&text, Path::new("b.json")).expect("valid").baseline;
        assert_eq!(read, baseline);
        let side = side_of(&read, "b.json");
        assert_eq!(side.cells_of(0, 0), [Cell::Failed, Cell::Absent]);
        assert_eq!((side.scores(0, 0).missing, side.scores(0, 1).due()), (2, 0));
    }

    #[tokio::test]
    async fn no_change_of_what_it_says_goes_unnoticed() {
        let text = render(&baseline().await);
        let path = Path::new("b.json");
        // Every digit and every word that carries meaning.
        let places = text.char_indices().skip(120).filter(|(_, c)| c.is_ascii_alphanumeric()).step_by(7);
        for (at, c) in places {
            let other = if c == '1' { '0' } else { '1' };
            let (before, after) = (text.get(..at).expect("a character"), text.get(at + 1..).expect("a character"));
            assert!(parse(&format!("{before}{other}{after}"), path).is_err(), "at {at}: {c} became {other}");
        }
        for length in (0..text.len() - 3).step_by(97) {
            assert!(parse(text.get(..length).expect("ASCII"), path).is_err(), "cut at {length}");
        }
    }
}
