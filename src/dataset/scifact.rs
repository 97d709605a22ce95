//! Turns the public SciFact layout, claims and corpus as two JSON Lines files, into a dataset of this program.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::columns::ColumnMap;
use super::error::{DatasetError, Problem, ProblemKind};
use super::source::Context;
use super::survey::{LabelCounts, MAX_PROBLEMS};
use super::text::{self, Lines, read_error, skip_mark, utf8};
use crate::model::Label;

/// What an import wrote and what it left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ImportSummary {
    /// Cases written.
    pub written: u64,
    /// Their labels.
    pub labels: LabelCounts,
    /// Claims left out because their evidence is for and against them.
    pub conflicting: u64,
    /// Claims left out because a document that they cite is not in the corpus, or they cite none.
    pub without_documents: u64,
    /// Lines of either file that cannot be read.
    pub unreadable: u64,
    /// What was left out and why, at most [`MAX_PROBLEMS`].
    pub problems: Vec<Problem>,
}

impl ImportSummary {
    fn report(&mut self, problem: Problem) {
        if self.problems.len() < MAX_PROBLEMS {
            self.problems.push(problem);
        }
    }
}

/// A line of the claims file. The test split has no evidence.
#[derive(Deserialize)]
struct Claim {
    id: Value,
    #[serde(rename = "claim")]
    statement: String,
    #[serde(default)]
    evidence: BTreeMap<String, Vec<Evidence>>,
    #[serde(default)]
    cited_doc_ids: Vec<Value>,
}

#[derive(Deserialize)]
struct Evidence {
    label: String,
}

/// A line of the corpus.
#[derive(Deserialize)]
struct Document {
    doc_id: Value,
    #[serde(default)]
    title: String,
    #[serde(default, rename = "abstract")]
    sentences: Vec<String>,
}

/// A line of the dataset.
#[derive(Serialize)]
struct Line<'a> {
    id: String,
    claim: &'a str,
    context: &'a str,
    label: Label,
    group: &'a str,
}

impl Claim {
    /// The documents cited, those of the evidence included, each once.
    fn documents(&self) -> Vec<String> {
        let mut documents: Vec<String> = Vec::new();
        for id in self.cited_doc_ids.iter().map(plain).chain(self.evidence.keys().cloned()) {
            if !documents.contains(&id) {
                documents.push(id);
            }
        }
        documents
    }
}

/// Reads claims and corpus and writes JSON Lines of id, claim, context, label and group, in the order of the claims.
///
/// The context is title and abstract of every cited document, joined with blanks; the label comes from the evidence:
/// SUPPORT is True, CONTRADICT False, none NEE. The group is the first document cited. Either file may be compressed.
/// Of the corpus only the documents that are cited are kept in memory.
pub fn import_scifact(claims: &Path, corpus: &Path, out: &mut dyn Write) -> Result<ImportSummary, DatasetError> {
    let mut summary = ImportSummary::default();
    let mut cited = BTreeSet::new();
    // Unreadable claims are reported by the pass that writes.
    read_lines(claims, &mut ImportSummary::default(), |_, claim: Claim, _| {
        cited.extend(claim.documents());
        Ok(())
    })?;
    let mut documents = HashMap::new();
    read_lines(corpus, &mut summary, |_, document: Document, _| {
        let id = plain(&document.doc_id);
        if cited.contains(&id) {
            let parts = std::iter::once(&document.title).chain(&document.sentences).filter(|part| !part.is_empty());
            documents.insert(id, parts.map(String::as_str).collect::<Vec<_>>().join(" "));
        }
        Ok(())
    })?;
    let context = Context { file: claims.display().to_string(), columns: ColumnMap::default() };
    let written = |source| DatasetError::Io { attempt: "writing the dataset made of", path: claims.to_owned(), source };
    read_lines(claims, &mut summary, |line, claim: Claim, summary| {
        let ids = claim.documents();
        let missing = ids.iter().find(|id| !documents.contains_key(*id));
        if missing.is_some() || ids.is_empty() {
            let message = match missing {
                Some(id) => format!("claim {} cites document {id}, which is not in the corpus", plain(&claim.id)),
                None => format!("claim {} cites no document", plain(&claim.id)),
            };
            let hint = "the claim is left out; see that claims and corpus are of one release";
            summary.without_documents += 1;
            summary.report(context.problem(line, None, ProblemKind::MissingDocument, message, hint));
            return Ok(());
        }
        let mut labels = BTreeSet::new();
        for evidence in claim.evidence.values().flatten() {
            match evidence.label.as_str() {
                "SUPPORT" => labels.insert(Label::True),
                "CONTRADICT" => labels.insert(Label::False),
                other => {
                    let message = format!("the evidence of claim {} is labelled `{other}`", plain(&claim.id));
                    let hint = "SUPPORT or CONTRADICT was expected; the claim is left out";
                    summary.unreadable += 1;
                    summary.report(context.problem(line, Some("evidence"), ProblemKind::UnknownLabel, message, hint));
                    return Ok(());
                }
            };
        }
        if labels.len() > 1 {
            let message = format!("claim {} has evidence for and against it", plain(&claim.id));
            summary.conflicting += 1;
            let kind = ProblemKind::ConflictingEvidence;
            summary.report(context.problem(line, Some("evidence"), kind, message, "the claim is left out"));
            return Ok(());
        }
        let label = labels.first().copied().unwrap_or(Label::Nee);
        let texts: Vec<&str> = ids.iter().filter_map(|id| documents.get(id)).map(String::as_str).collect();
        let row = Line {
            id: format!("scifact-{}", plain(&claim.id)),
            claim: &claim.statement,
            context: &texts.join(" "),
            label,
            group: ids.first().map(String::as_str).unwrap_or_default(),
        };
        let mut text = serde_json::to_vec(&row).map_err(|error| written(error.into()))?;
        text.push(b'\n');
        out.write_all(&text).map_err(written)?;
        summary.written += 1;
        summary.labels.add(Some(label));
        Ok(())
    })?;
    out.flush().map_err(written)?;
    Ok(summary)
}

/// Hands each line that can be read on; the others are counted and reported.
fn read_lines<T: for<'de> Deserialize<'de>>(
    path: &Path,
    summary: &mut ImportSummary,
    mut on_line: impl FnMut(u64, T, &mut ImportSummary) -> Result<(), DatasetError>,
) -> Result<(), DatasetError> {
    let context = Context { file: path.display().to_string(), columns: ColumnMap::default() };
    let mut bytes = text::open(path)?;
    skip_mark(&mut bytes, &context)?;
    let mut lines = Lines::new(bytes);
    let mut buffer = Vec::new();
    while lines.read(&mut buffer).map_err(|error| read_error(&error, lines.line + 1, &context))? {
        if buffer.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let line = lines.line;
        let parsed = utf8(&buffer, line, None, &context).and_then(|text| {
            serde_json::from_str(text).map_err(|error| {
                let hint = "one JSON object of the SciFact layout per line was expected";
                context.problem(line, None, ProblemKind::BadJson, error.to_string(), hint)
            })
        });
        match parsed {
            Ok(parsed) => on_line(line, parsed, summary)?,
            Err(problem) => {
                summary.unreadable += 1;
                summary.report(problem);
            }
        }
    }
    Ok(())
}

/// An id as text; the files have it as number or text.
fn plain(id: &Value) -> String {
    id.as_str().map_or_else(|| id.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::testing::TestFile;

    const CORPUS: &str = "{\"doc_id\":10,\"title\":\"Ten\",\"abstract\":[\"One.\",\"Two.\"],\"structured\":false}\n\
        {\"doc_id\":\"20\",\"title\":\"Twenty\",\"abstract\":[]}\n{\"doc_id\":30,\"title\":\"Unused\",\"abstract\":[\"x\"]}\n";

    fn import(claims: &str) -> (ImportSummary, Vec<Value>) {
        let (claims, corpus) = (TestFile::new("claims.jsonl", claims), TestFile::new("corpus.jsonl", CORPUS));
        let mut out = Vec::new();
        let summary = import_scifact(&claims.path, &corpus.path, &mut out).expect("readable");
        let rows = out.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        (summary, rows.map(|line| serde_json::from_slice(line).expect("JSON")).collect())
    }

    #[test]
    fn labels_come_from_the_evidence_and_contexts_from_the_corpus() {
        let (summary, rows) = import(
            "{\"id\":1,\"claim\":\"a\",\"evidence\":{},\"cited_doc_ids\":[20,10]}\n\
             {\"id\":2,\"claim\":\"b\",\"evidence\":{\"10\":[{\"sentences\":[0],\"label\":\"SUPPORT\"}]},\"cited_doc_ids\":[10]}\n\
             {\"id\":3,\"claim\":\"c\",\"evidence\":{\"20\":[{\"sentences\":[0],\"label\":\"CONTRADICT\"}]},\"cited_doc_ids\":[20]}\n",
        );
        assert_eq!((summary.written, summary.problems.len()), (3, 0));
        let row = |id, claim, context, label, group| serde_json::json!({"id": id, "claim": claim, "context": context, "label": label, "group": group});
        assert_eq!(rows[0], row("scifact-1", "a", "Twenty Ten One. Two.", "NEE", "20"));
        assert_eq!(rows[1], row("scifact-2", "b", "Ten One. Two.", "True", "10"));
        assert_eq!(rows[2], row("scifact-3", "c", "Twenty", "False", "20"));
    }

    #[test]
    fn what_is_left_out_is_counted_and_reported() {
        let (summary, rows) = import(
            "{\"id\":1,\"claim\":\"a\",\"evidence\":{\"10\":[{\"sentences\":[0],\"label\":\"SUPPORT\"}],\"20\":[{\"sentences\":[0],\"label\":\"CONTRADICT\"}]},\"cited_doc_ids\":[10,20]}\n\
             {\"id\":2,\"claim\":\"b\",\"evidence\":{},\"cited_doc_ids\":[99]}\nnot json\n\
             {\"id\":4,\"claim\":\"d\",\"cited_doc_ids\":[]}\n{\"id\":5,\"claim\":\"e\",\"cited_doc_ids\":[30]}\n",
        );
        assert_eq!((summary.written, rows.len()), (1, 1));
        assert_eq!((summary.conflicting, summary.without_documents, summary.unreadable), (1, 2, 1));
        let lines: Vec<u64> = summary.problems.iter().map(|problem| problem.line).collect();
        assert_eq!(lines, [1, 2, 3, 4]);
        assert!(summary.problems[1].message.contains("document 99"), "{:?}", summary.problems);
    }
}
