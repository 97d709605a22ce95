//! The baseline file: JSON that a person can review and a version control system can merge.
//!
//! A fixed order of keys, one evaluator, run and case a line, cases by id: the same runs give the same bytes, and a case
//! that changed is one line of a diff. The digest is of what the file says, not of its bytes: reformatting does no harm, any
//! other change does.

use std::path::{Path, PathBuf};

use serde::de::Error as _;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::baseline::Baseline;

/// The version of the file's form that this program writes.
pub const FORM: u64 = 1;

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
    parse(&text, path)
}

/// The baseline of a text; `path` names it in errors.
pub fn parse(text: &str, path: &Path) -> Result<Pinned, BaselineError> {
    let damaged = |reason: String| BaselineError::Damaged { path: path.to_owned(), reason };
    if text.trim().is_empty() {
        return Err(damaged("it is empty".to_owned()));
    }
    // Said first: a later form may have keys that this one does not know.
    let form: Form = serde_json::from_str(text).map_err(|e| damaged(e.to_string()))?;
    if form.spanscore_baseline > FORM {
        return Err(BaselineError::Newer { path: path.to_owned(), found: form.spanscore_baseline });
    }
    let envelope: Envelope = serde_json::from_str(text).map_err(|e| damaged(e.to_string()))?;
    if envelope.spanscore_baseline != FORM {
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
    format!(
        "{{\n\"spanscore_baseline\": {FORM},\n\"digest\": \"{}\",\n\"baseline\": {}\n}}\n",
        digest(baseline),
        content(baseline)
    )
}

/// Writes a baseline file: whole, or not at all.
pub fn write(path: &Path, baseline: &Baseline) -> Result<(), BaselineError> {
    let failed = |source| BaselineError::Write { path: path.to_owned(), source };
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    std::fs::create_dir_all(folder).map_err(failed)?;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.partial", std::process::id()));
    let partial = folder.join(name);
    std::fs::write(&partial, render(baseline)).map_err(failed)?;
    std::fs::rename(&partial, path).map_err(|source| {
        // The half of it is nobody's.
        let _ = std::fs::remove_file(&partial);
        failed(source)
    })
}

/// SHA-256 of what a baseline says.
pub fn digest(baseline: &Baseline) -> String {
    hex::encode(Sha256::digest(content(baseline).as_bytes()))
}

/// The baseline in its fixed form.
fn content(baseline: &Baseline) -> String {
    let mut out = String::from("{\n");
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
        out.extend(["\"", key, "\": ", &value, ",\n"]);
    }
    let lists: [(&str, Vec<String>); 3] = [
        ("evaluators", baseline.evaluators.iter().map(json).collect()),
        ("runs", baseline.runs.iter().map(json).collect()),
        ("cases", baseline.cases.iter().map(json).collect()),
    ];
    let lists: Vec<String> = lists.into_iter().map(|(key, lines)| list(key, &lines)).collect();
    out.push_str(&lists.join(",\n"));
    out.push_str("\n}");
    out
}

fn list(key: &str, lines: &[String]) -> String {
    if lines.is_empty() { format!("\"{key}\": []") } else { format!("\"{key}\": [\n{}\n]", lines.join(",\n")) }
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
