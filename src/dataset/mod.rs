//! Datasets of claims: read in any of four formats, checked, selected and streamed; what is done with the cases is left
//! to others.
//!
//! Reading order: [`Source`] (a file and its rows), [`ColumnMap`] and [`LabelVocabulary`] (what its columns and labels
//! mean), [`select`] (which cases, streaming), [`survey`] (the same with every check), [`import_scifact`].
//!
//! - Formats go by the ending: `.csv`, `.tsv`, `.jsonl`, `.ndjson`, `.json` (lines or one array) and `.parquet`; the text
//!   formats also compressed, with `.gz` or `.zst` behind.
//! - Text is UTF-8, with or without a byte order mark, and is kept to the letter.
//! - Rows stream. Memory stays within the largest row (the largest row group of a Parquet file), plus at most 48 bytes a
//!   case while a survey looks for duplicates.

mod case;
mod columns;
mod csv;
mod error;
mod jsonl;
mod label;
mod runs;
mod parquet;
mod scifact;
mod select;
mod source;
mod survey;
#[cfg(test)]
mod testing;
mod text;
mod tsv;
mod twins;
mod validation;

pub use columns::ColumnMap;
pub use error::{DatasetError, Problem, ProblemKind};
pub use label::LabelVocabulary;
pub use scifact::{ImportSummary, import_scifact};
pub use select::{Cases, Sample, Selection, select};
pub use source::{ReadOptions, Row, Rows, Source};
pub use survey::{LabelCounts, MAX_PROBLEMS, Refusal, Survey, survey};
pub use validation::Validation;
