//! Small files for the tests of this module.

use std::path::PathBuf;

use tempfile::TempDir;

use super::{ReadOptions, Row, Selection, Source, Survey, survey};
use crate::model::Case;

/// A file in a folder of its own, which goes when this goes.
pub(super) struct TestFile {
    _folder: TempDir,
    pub(super) path: PathBuf,
}

impl TestFile {
    pub(super) fn new(name: &str, bytes: impl AsRef<[u8]>) -> Self {
        let folder = tempfile::tempdir().expect("a folder for the test");
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).expect("a file for the test");
        Self { _folder: folder, path }
    }

    pub(super) fn source(&self) -> Source {
        Source::new(&self.path, ReadOptions::default())
    }

    /// Each row, or its problem without the folder.
    pub(super) fn rows(&self) -> Vec<Result<Row, String>> {
        let shown = |error: super::DatasetError| self.without_folder(&error.to_string());
        match self.source().rows() {
            Ok(rows) => rows.map(|row| row.map_err(shown)).collect(),
            Err(error) => vec![Err(shown(error))],
        }
    }

    pub(super) fn survey(&self, selection: &Selection) -> (Survey, Vec<Case>) {
        let mut cases = Vec::new();
        let survey = survey(&self.source(), selection, &mut |case| {
            cases.push(case.clone());
            Ok(())
        });
        (survey.expect("a survey"), cases)
    }

    fn without_folder(&self, text: &str) -> String {
        let folder = self.path.parent().expect("the file is in a folder");
        text.replace(&format!("{}/", folder.display()), "")
    }
}

/// So many lines, each made of its number.
pub(super) fn lines(count: u64, line: impl Fn(u64) -> String) -> String {
    (0..count).map(line).collect::<Vec<_>>().concat()
}

/// Lines and claims of rows that are rows; the problems of the others.
pub(super) fn claims(rows: &[Result<Row, String>]) -> Vec<(u64, String)> {
    rows.iter()
        .map(|row| match row {
            Ok(row) => (row.line, row.claim.clone().unwrap_or_default()),
            Err(problem) => (0, problem.clone()),
        })
        .collect()
}
