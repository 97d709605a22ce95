//! One pass over a dataset with every check, and the digest of what is selected.

use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::case::{CaseMaker, control_character, is_blank};
use super::columns::Role;
use super::error::{DatasetError, Problem, ProblemKind, nearest};
use super::runs::SortedRuns;
use super::select::{Choice, Selection, next_case};
use super::source::{RowReader, Source};
use super::twins::{First, Hashes, Twins};
use crate::model::{Case, Digest, Label};
use crate::query::Field;

/// How many errors, and how many warnings, a survey keeps; the rest are counted.
pub const MAX_PROBLEMS: usize = 1000;

/// What a dataset holds and what is wrong with it.
#[derive(Debug, Clone, PartialEq)]
pub struct Survey {
    /// Cases selected.
    pub cases: u64,
    /// Rows in the file, those at fault included.
    pub rows: u64,
    /// SHA-256 of the selected cases' sorted digests, as raw bytes one behind the other.
    pub digest: Digest,
    /// Labels of the selected cases.
    pub labels: LabelCounts,
    /// What keeps the dataset from being used, by line; of the whole file, whatever is selected.
    pub errors: Vec<Problem>,
    /// Errors beyond [`MAX_PROBLEMS`].
    pub errors_omitted: u64,
    /// What deserves a look, by line.
    pub warnings: Vec<Problem>,
    /// Warnings beyond [`MAX_PROBLEMS`].
    pub warnings_omitted: u64,
    /// All columns of the file, in its order.
    pub columns: Vec<String>,
}

/// Why a receiver of cases wants no more.
pub type Refusal = Box<dyn std::error::Error + Send + Sync>;

/// How many cases have which label.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct LabelCounts {
    /// Label True.
    #[serde(rename = "True")]
    pub supported: u64,
    /// Label False.
    #[serde(rename = "False")]
    pub refuted: u64,
    /// Label NEE.
    #[serde(rename = "NEE")]
    pub not_enough_evidence: u64,
    /// No label.
    pub unlabelled: u64,
}

impl LabelCounts {
    pub(super) fn add(&mut self, label: Option<Label>) {
        *match label {
            Some(Label::True) => &mut self.supported,
            Some(Label::False) => &mut self.refuted,
            Some(Label::Nee) => &mut self.not_enough_evidence,
            None => &mut self.unlabelled,
        } += 1;
    }
}

/// Reads the whole file, checks every row, and hands each selected case, numbered from 0, to `on_case`.
///
/// Faults of rows are in the survey; an `Err` means that there is no dataset to speak of, or that `on_case` refused.
/// A sample takes one pass before, and duplicates one behind, to tell their lines.
pub fn survey(
    source: &Source,
    selection: &Selection,
    on_case: &mut dyn FnMut(&Case) -> Result<(), Refusal>,
) -> Result<Survey, DatasetError> {
    let file = source.path().display().to_string();
    let mut found = Findings::new(&file);
    let opened = Choice::new(source, selection).and_then(|choice| Ok((choice, source.open()?)));
    let (mut choice, mut reader) = match opened {
        Ok(opened) => opened,
        Err(DatasetError::Problem(problem)) => {
            found.errors.push(*problem);
            return Ok(found.survey(Vec::new()));
        }
        Err(error) => return Err(error),
    };
    let mut maker = CaseMaker::new(file, source.options());
    let mut hashes = Hashes::default();
    while let Some(next) = next_case(reader.as_mut(), &mut maker) {
        found.rows += 1;
        match next {
            Ok((place, mut case)) => {
                found.check(&case, place.line, reader.as_ref());
                hashes.add(&case);
                if let Some(seq) = choice.take(&case, place) {
                    case.seq = seq;
                    found.select(&case);
                    on_case(&case).map_err(|refusal| DatasetError::Receiver {
                        path: source.path().to_owned(),
                        case: case.id.to_string(),
                        source: refusal,
                    })?;
                }
            }
            Err(DatasetError::Problem(problem)) => found.errors.push(*problem),
            Err(error) => return Err(error),
        }
    }
    found.check_whole(selection, reader.as_ref());
    let columns = reader.columns();
    // The digests are done with before the second pass needs room for the first lines of twins.
    let mut survey = found.survey(columns);
    if let Some(twins) = hashes.twins() {
        report_twins(source, twins, &mut maker, &mut survey)?;
    }
    Ok(survey)
}

/// What a pass has found so far.
struct Findings {
    file: String,
    rows: u64,
    cases: u64,
    labels: LabelCounts,
    digests: SortedRuns<[u8; 32]>,
    errors: Problems,
    warnings: Problems,
}

impl Findings {
    fn new(file: &str) -> Self {
        Self {
            file: file.to_owned(),
            rows: 0,
            cases: 0,
            labels: LabelCounts::default(),
            digests: SortedRuns::default(),
            errors: Problems::default(),
            warnings: Problems::default(),
        }
    }

    fn problem(&self, line: u64, column: Option<&str>, kind: ProblemKind, message: String, hint: &str) -> Problem {
        let (file, column, hint) = (self.file.clone(), column.map(str::to_owned), hint.to_owned());
        Problem { file, line, column, kind, message, hint }
    }

    fn select(&mut self, case: &Case) {
        self.cases += 1;
        self.labels.add(case.expected);
        self.digests.push(*case.digest.as_bytes());
    }

    /// Warnings of one case.
    fn check(&mut self, case: &Case, line: u64, reader: &dyn RowReader) {
        if is_blank(&case.context) {
            let hint = "an answer other than NEE then rests on nothing";
            let (column, message) = (reader.name_of(Role::Context), "the context is empty".to_owned());
            self.warnings.push(self.problem(line, column, ProblemKind::EmptyContext, message, hint));
        }
        for (role, text) in [(Role::Claim, &case.claim), (Role::Context, &case.context)] {
            if let Some(found) = control_character(text) {
                let message = format!("the text holds the control character U+{:04X}", u32::from(found));
                let hint = "it is sent to the model as it is; clean the text if it is an accident";
                let kind = ProblemKind::ControlCharacters;
                self.warnings.push(self.problem(line, reader.name_of(role), kind, message, hint));
            }
        }
    }

    /// What can be said at the end only.
    fn check_whole(&mut self, selection: &Selection, reader: &dyn RowReader) {
        if self.rows == 0 && self.errors.kept.is_empty() {
            let message = "the dataset has no rows".to_owned();
            self.errors.push(self.problem(
                1,
                None,
                ProblemKind::EmptyDataset,
                message,
                "see that it is the right file",
            ));
        } else if self.cases == 0 && self.errors.kept.is_empty() {
            let message = format!("none of the dataset's {} rows is selected", self.rows);
            let hint = "look at the filter, the sample and the limit";
            self.errors.push(self.problem(1, None, ProblemKind::EmptySelection, message, hint));
        }
        if self.cases > 0 && self.labels.unlabelled == self.cases {
            let message = "no selected row has a label".to_owned();
            let hint = "scores that compare the answer with a label are skipped; name the column if there is one";
            let column = reader.name_of(Role::Expected);
            self.warnings.push(self.problem(1, column, ProblemKind::NoLabels, message, hint));
        }
        for (name, data_type) in reader.unreadable() {
            let message = format!("the column's type {data_type} is neither text nor number, and is left out");
            let hint = "write it as text if filters or slices need it";
            self.warnings.push(self.problem(1, Some(&name), ProblemKind::UnknownColumn, message, hint));
        }
        let columns = reader.columns();
        for field in selection.filter.iter().flat_map(|filter| filter.fields()) {
            let Field::Column(name) = field else { continue };
            let role = |role| reader.name_of(role) == Some(name.as_str());
            let message = if Role::ALL.into_iter().any(role) {
                format!("the filter asks for `col.{name}`, but this column has a role and is found under its field")
            } else if columns.contains(name) {
                continue;
            } else {
                format!("the filter asks for `col.{name}`, and no row has such a column")
            };
            let near = nearest(name, columns.iter().map(String::as_str));
            let hint = match near.filter(|near| near != name) {
                Some(near) => format!("did you mean `col.{near}`?"),
                None => "the fields of a dataset are id, claim, context, expected, group, text and col.NAME".to_owned(),
            };
            self.warnings.push(self.problem(1, Some(name), ProblemKind::UnknownColumn, message, &hint));
        }
    }

    fn survey(self, columns: Vec<String>) -> Survey {
        let digest = self.digests.into_sorted().fold(Sha256::new(), Sha256::chain_update).finalize();
        let mut survey = Survey {
            cases: self.cases,
            rows: self.rows,
            digest: Digest::from_bytes(digest.into()),
            labels: self.labels,
            errors: Vec::new(),
            errors_omitted: 0,
            warnings: Vec::new(),
            warnings_omitted: 0,
            columns,
        };
        (survey.errors, survey.errors_omitted) = self.errors.sorted();
        (survey.warnings, survey.warnings_omitted) = self.warnings.sorted();
        survey
    }
}

/// A list of problems that stops growing.
#[derive(Default)]
struct Problems {
    kept: Vec<Problem>,
    omitted: u64,
}

impl Problems {
    fn push(&mut self, problem: Problem) {
        if self.kept.len() < MAX_PROBLEMS {
            self.kept.push(problem);
        } else {
            self.omitted += 1;
        }
    }

    fn sorted(mut self) -> (Vec<Problem>, u64) {
        self.kept.sort_by_key(|problem| problem.line);
        (self.kept, self.omitted)
    }
}

/// Reads the file once more and reports each case that has a twin before it.
fn report_twins(
    source: &Source,
    mut twins: Twins,
    maker: &mut CaseMaker,
    survey: &mut Survey,
) -> Result<(), DatasetError> {
    let mut errors = Problems { kept: std::mem::take(&mut survey.errors), omitted: survey.errors_omitted };
    let mut warnings = Problems { kept: std::mem::take(&mut survey.warnings), omitted: survey.warnings_omitted };
    let file = source.path().display().to_string();
    let mut reader = source.open()?;
    while let Some(next) = next_case(reader.as_mut(), maker) {
        // Rows at fault are reported already.
        let Ok((place, case)) = next else { continue };
        let line = place.line;
        let problem = |role: Role, kind: ProblemKind, message: String, hint: &str| Problem {
            file: file.clone(),
            line,
            column: reader.name_of(role).map(str::to_owned),
            kind,
            message,
            hint: hint.to_owned(),
        };
        if let Some(first) = twins.same_id(&case, line) {
            let message = format!("the id `{}` is that of line {} already", case.id, first.line);
            let hint = "ids name cases across runs: make them differ, or leave the column out";
            errors.push(problem(Role::Id, ProblemKind::DuplicateId, message, hint));
        }
        match twins.same_pair(&case, line) {
            None => {}
            Some(First { line: first, expected: Some(there) }) if case.expected.is_some_and(|here| here != there) => {
                let here = case.expected.map(Label::as_str).unwrap_or_default();
                let message =
                    format!("claim and context are those of line {first}, labelled {there} there and {here} here");
                let hint = "no model can be right about both: decide on one";
                warnings.push(problem(Role::Expected, ProblemKind::ConflictingLabels, message, hint));
            }
            Some(First { line: first, .. }) => {
                let message = format!("claim and context are those of line {first}");
                let hint = "the pair counts twice in every figure";
                warnings.push(problem(Role::Claim, ProblemKind::DuplicatePair, message, hint));
            }
        }
    }
    (survey.errors, survey.errors_omitted) = errors.sorted();
    (survey.warnings, survey.warnings_omitted) = warnings.sorted();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::testing::{TestFile, lines};
    use crate::dataset::{ColumnMap, ReadOptions, Validation};
    use crate::query::{Schema, parse};

    fn survey_of(name: &str, bytes: impl AsRef<[u8]>) -> Survey {
        TestFile::new(name, bytes).survey(&Selection::default()).0
    }

    fn kinds(problems: &[Problem]) -> Vec<(u64, &'static str)> {
        problems.iter().map(|problem| (problem.line, problem.kind.as_str())).collect()
    }

    #[test]
    fn twins_are_reported_at_the_later_line() {
        let found = survey_of(
            "x.csv",
            "id,claim,context,label\n1,a,b,True\n2,c,d,NEE\n1,e,f,False\n4,a,b,True\n5,\"c\",d,False\n6,c,d,\n2,a,b,NEE\n",
        );
        assert_eq!(kinds(&found.errors), [(4, "duplicate_id"), (8, "duplicate_id")]);
        assert_eq!(found.errors[1].message, "the id `2` is that of line 3 already");
        assert_eq!(found.errors[1].column.as_deref(), Some("id"));
        assert_eq!(
            kinds(&found.warnings),
            [(5, "duplicate_pair"), (6, "conflicting_labels"), (7, "duplicate_pair"), (8, "conflicting_labels")]
        );
        assert!(
            found.warnings[1].message.contains("line 3, labelled NEE there and False here"),
            "{:?}",
            found.warnings
        );
        assert_eq!((found.cases, found.rows), (7, 7));
        let counts = LabelCounts { supported: 2, refuted: 2, not_enough_evidence: 2, unlabelled: 1 };
        assert_eq!(found.labels, counts);
    }

    #[test]
    fn a_made_up_id_can_collide_with_one_in_the_file() {
        let found = survey_of("x.csv", "id,claim,context\nrow-2,a,b\n,c,d\n");
        assert_eq!(kinds(&found.errors), [(3, "duplicate_id")]);
    }

    #[test]
    fn odd_text_is_a_warning_and_the_words_true_and_false_are_not() {
        let found = survey_of(
            "x.jsonl",
            "{\"claim\":\"True\",\"context\":\" \",\"label\":\"False\"}\n{\"claim\":\"b\",\"context\":\"False\\u0000\",\"label\":null}\n{\"claim\":\" é \",\"context\":\"x\\u0085\"}\n",
        );
        assert!(found.errors.is_empty(), "{:?}", found.errors);
        assert_eq!(
            kinds(&found.warnings),
            [(1, "empty_context"), (2, "control_characters"), (3, "control_characters")]
        );
        assert!(found.warnings[1].message.contains("U+0000"));
        assert_eq!(found.warnings[2].column.as_deref(), Some("context"));
    }

    #[test]
    fn a_dataset_without_rows_labels_or_columns_says_so() {
        assert_eq!(kinds(&survey_of("x.csv", "").errors), [(1, "empty_dataset")]);
        assert_eq!(kinds(&survey_of("x.csv", "claim,context\n").errors), [(1, "empty_dataset")]);
        assert_eq!(kinds(&survey_of("x.jsonl", "\n\n").errors), [(1, "empty_dataset")]);
        assert_eq!(kinds(&survey_of("x.csv", "claim\na\n").errors), [(1, "missing_column")]);
        let unlabelled = survey_of("x.csv", "claim,context\na,b\n");
        assert_eq!(kinds(&unlabelled.warnings), [(1, "no_labels")]);
        assert!(unlabelled.errors.is_empty());
    }

    #[test]
    fn an_unknown_label_names_its_column_and_the_known_words() {
        let found = survey_of("x.csv", "claim,context,ground_truth\na,b,True\nc,d,suported\n");
        let [problem] = &found.errors[..] else { panic!("{:?}", found.errors) };
        assert_eq!((problem.line, problem.column.as_deref()), (3, Some("ground_truth")));
        assert!(problem.hint.starts_with("did you mean `supported`? known are True (1, 1.0, entailed"), "{problem}");
        assert_eq!((found.rows, found.cases), (2, 1));
    }

    #[test]
    fn bad_ids_are_errors() {
        let found = survey_of("x.jsonl", "{\"id\":\"a\\nb\",\"claim\":\"a\",\"context\":\"b\",\"label\":1}");
        assert_eq!(kinds(&found.errors), [(1, "bad_id")]);
    }

    #[test]
    fn the_digest_ignores_order_format_ids_and_other_columns() {
        let csv = survey_of("x.csv", "claim,context,label\na,b,True\nc,d,\n");
        let json = "{\"q\":1,\"query\":\"c\",\"contexts\":[\"d\"]}\n{\"id\":9,\"claim\":\"a\",\"context\":\"b\",\"label\":\"SUPPORTS\"}";
        assert_eq!(csv.digest, survey_of("x.jsonl", json).digest);
        let mut digests: Vec<[u8; 32]> = ["[\"a\",\"b\",\"True\"]", "[\"c\",\"d\",null]"]
            .iter()
            .map(|canonical| Sha256::digest(canonical.as_bytes()).into())
            .collect();
        digests.sort_unstable();
        assert_eq!(csv.digest.as_bytes()[..], Sha256::digest(digests.concat())[..]);
        assert_ne!(csv.digest, survey_of("x.csv", "claim,context,label\na,b,True\nc,d,NEE\n").digest);
    }

    #[test]
    fn problems_beyond_the_limit_are_counted() {
        let text = lines(1500, |n| format!("c{n},x,maybe\n"));
        let found = survey_of("x.csv", format!("claim,context,label\n{text}"));
        assert_eq!((found.errors.len(), found.errors_omitted), (MAX_PROBLEMS, 500));
        let text = lines(2500, |n| format!("c{},x,NEE\n", n % 2));
        let found = survey_of("x.csv", format!("claim,context,label\n{text}"));
        assert_eq!((found.warnings.len(), found.warnings_omitted), (MAX_PROBLEMS, 1498));
    }

    #[test]
    fn a_filter_on_an_unknown_column_is_pointed_out() {
        let file = TestFile::new("x.csv", "claim,context,label,field\na,b,True,bio\n");
        let selection = |text| Selection { filter: parse(text, &Schema::dataset()).ok(), ..Selection::default() };
        let (found, cases) = file.survey(&selection("col.feild = bio"));
        assert!(cases.is_empty());
        assert_eq!(kinds(&found.errors), [(1, "empty_selection")]);
        assert!(found.warnings[0].hint.contains("did you mean `col.field`?"), "{:?}", found.warnings);
        let (found, _) = file.survey(&selection("col.label = True or id"));
        assert!(found.warnings[0].message.contains("has a role"), "{:?}", found.warnings);
        let (found, _) = file.survey(&selection("col.field = bio"));
        assert!(found.warnings.is_empty() && found.errors.is_empty());
    }

    #[test]
    fn a_refused_case_ends_the_survey() {
        let file = TestFile::new("x.csv", "claim,context,label\na,b,True\nc,d,True\n");
        let mut seen = 0;
        let refused = survey(&file.source(), &Selection::default(), &mut |_| {
            seen += 1;
            Err("no more".into())
        });
        assert!(refused.expect_err("refused").to_string().contains("case `row-1`"));
        assert_eq!(seen, 1);
    }

    #[test]
    fn mapped_columns_and_added_labels_are_heeded() {
        let file = TestFile::new("x.csv", "text,passage,gold,claim\na,b,partial,z\n");
        let columns = ColumnMap {
            claim: Some("text".to_owned()),
            context: Some("passage".to_owned()),
            expected: Some("gold".to_owned()),
            ..ColumnMap::default()
        };
        let mut options = ReadOptions { columns, ..ReadOptions::default() };
        options.labels.extend(Label::Nee, &["partial".to_owned()]);
        let mut cases = Vec::new();
        let found = survey(&Source::new(&file.path, options), &Selection::default(), &mut |case| {
            cases.push(case.clone());
            Ok(())
        });
        assert!(found.expect("readable").errors.is_empty());
        assert_eq!((cases[0].claim.as_str(), cases[0].expected), ("a", Some(Label::Nee)));
        assert_eq!(cases[0].columns, [("claim".to_owned(), "z".to_owned())]);
    }

    #[test]
    fn the_validation_document_has_the_contract_s_fields() {
        let document =
            serde_json::to_value(Validation::from(survey_of("x.csv", "claim,context,label\na,,True\nc,d,x\n")))
                .expect("a document");
        assert_eq!(document["cases"], 1);
        assert_eq!(document["labels"], serde_json::json!({"True": 1, "False": 0, "NEE": 0, "unlabelled": 0}));
        assert_eq!(document["errors"][0]["kind"], "unknown_label");
        assert_eq!(document["errors"][0]["line"], 3);
        assert_eq!(document["warnings"][0]["kind"], "empty_context");
        for key in ["file", "line", "column", "kind", "message", "hint"] {
            assert!(document["errors"][0].get(key).is_some(), "{key}");
        }
    }
}
