//! Telemetry out of Application Insights again: rows of Log Analytics as spans, events, links and log records.
//!
//! [`client`] asks one question, `table` reads its answer, `attributes` and `convert` turn rows into telemetry (the inverse of
//! `envelope`), `assemble` puts events onto their spans. [`Import`] goes through a range of time slice by slice: an answer that is
//! cut off is asked for again in narrower slices, so that memory stays bounded and no row is missed.

mod assemble;
mod attributes;
pub mod client;
mod convert;
mod table;

use std::collections::BTreeMap;

use assemble::Assembly;
pub use assemble::Stray;
use client::Failure;
pub use client::{LogAnalytics, QueryError, Target};
use table::Table;

use crate::model::Telemetry;

/// The most rows of one answer; as many are a sign that there are more.
const ROWS: u64 = 10_000;
/// The most rows where a slice cannot be narrower: the service's own limit.
const MOST_ROWS: u64 = 500_000;
/// The narrowest slice, in nanoseconds.
const NARROWEST: u64 = 1_000_000;
/// The first slice, in nanoseconds: a day. Later ones are wider where there is little.
const FIRST: u64 = 24 * 3_600_000_000_000;
/// After a slice that was too wide, so many are read before a wider one is tried.
const PATIENCE: u32 = 6;
/// Queries in a row that may run out of time, each of a narrower slice than the one before.
const SLOW: u32 = 3;
/// Below this width, in nanoseconds, what the service left out of an answer is no matter of its size.
const SURELY_SMALL: u64 = 1_000_000_000;

/// What is asked for, and where in time.
#[derive(Debug, Clone)]
pub struct Question {
    /// The user's own query, which gives rows of the tables as they are; `None`: everything that belongs to traces.
    pub kql: Option<String>,
    /// From here on, in nanoseconds since the Unix epoch.
    pub from: u64,
    /// Up to here, itself not included.
    pub to: u64,
}

/// What came in so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Queries that were answered.
    pub queries: u64,
    /// Rows that were read.
    pub rows: u64,
    /// Rows of tables that hold no part of a trace.
    pub ignored: u64,
    /// Rows that cannot be read, by reason.
    pub rejected: BTreeMap<String, u64>,
    /// Rows that stand for others as well, which were left out where they were sent from.
    pub sampled: u64,
    /// What the service says that it left out, and where in time.
    pub incomplete: Vec<String>,
}

impl Counts {
    /// How many rows cannot be read.
    pub fn rejected_rows(&self) -> u64 {
        self.rejected.values().sum()
    }
}

/// A part of what was found.
#[derive(Debug, Default)]
pub struct Portion {
    /// Spans that are whole, and log records.
    pub telemetry: Vec<Telemetry>,
    /// Events whose span is not among what was found.
    pub strays: Vec<Stray>,
}

/// Going through a range of time.
pub struct Import {
    client: LogAnalytics,
    question: Question,
    /// Up to here everything was read.
    at: u64,
    width: u64,
    slow: u32,
    patience: u32,
    assembly: Assembly,
    /// What came in so far.
    pub counts: Counts,
}

impl Import {
    /// Nothing is asked yet.
    pub fn new(client: LogAnalytics, question: Question) -> Self {
        let width = (question.to.saturating_sub(question.from)).clamp(NARROWEST, FIRST);
        let at = question.from;
        Self {
            client,
            question,
            at,
            width,
            slow: 0,
            patience: 0,
            assembly: Assembly::default(),
            counts: Counts::default(),
        }
    }

    /// Up to where everything was read, in nanoseconds since the Unix epoch.
    pub const fn read_to(&self) -> u64 {
        self.at
    }

    /// The next part; `None` at the end.
    ///
    /// # Errors
    /// What was read before stays read: asked again, it goes on where it was.
    pub async fn next(&mut self) -> Result<Option<Portion>, QueryError> {
        if self.at >= self.question.to {
            let rest = self.assembly.finish();
            return Ok((!rest.telemetry.is_empty() || !rest.strays.is_empty()).then_some(rest));
        }
        let (table, to) = self.slice().await?;
        self.at = to;
        self.take(&table)?;
        Ok(Some(self.assembly.portion(to)))
    }

    /// The rows of the next slice, as wide as it can be, and its end.
    async fn slice(&mut self) -> Result<(Table, u64), QueryError> {
        let mut most = ROWS;
        loop {
            let to = self.at.saturating_add(self.width).min(self.question.to);
            let width = to - self.at;
            let kql = kql(&self.question, self.client.target(), self.at, to, most);
            let answer = match self.client.query(&kql, (self.at, to)).await {
                Ok(answer) => answer,
                Err(Failure::TooMuch(why)) if width > NARROWEST => {
                    self.slow += u32::from(why.slow);
                    if self.slow > SLOW {
                        return Err(QueryError::TooSlow(why.words));
                    }
                    self.narrow(width);
                    continue;
                }
                Err(Failure::TooMuch(why)) => return Err(QueryError::TooMuch { at: self.at, why: why.words }),
                Err(Failure::Other(error)) => return Err(error),
            };
            self.slow = 0;
            self.counts.queries += 1;
            let rows = answer.table.rows.len() as u64;
            if rows >= most && most < MOST_ROWS || answer.partial.is_some() && width > SURELY_SMALL {
                if width > NARROWEST {
                    self.narrow(width);
                } else {
                    most = MOST_ROWS;
                }
                continue;
            }
            if rows >= MOST_ROWS {
                let why = format!("it has {rows} rows, the most that one answer may have");
                return Err(QueryError::TooMuch { at: self.at, why });
            }
            if let Some(partial) = answer.partial {
                self.counts.incomplete.push(format!(
                    "{} to {}: {partial}",
                    client::moment(self.at),
                    client::moment(to)
                ));
            }
            self.patience = self.patience.saturating_sub(1);
            if rows < ROWS / 4 && self.patience == 0 {
                self.width = self.width.saturating_mul(2);
            }
            return Ok((answer.table, to));
        }
    }

    fn narrow(&mut self, width: u64) {
        self.width = (width / 2).max(NARROWEST);
        self.patience = PATIENCE;
    }

    fn take(&mut self, table: &Table) -> Result<(), QueryError> {
        self.counts.rows += table.rows.len() as u64;
        if table.rows.is_empty() {
            return Ok(());
        }
        let columns = table.columns()?;
        for row in &table.rows {
            let row = columns.row(row);
            self.counts.sampled += u64::from(row.item_count > 1);
            match convert::convert(&row) {
                Ok(Some(item)) => self.assembly.add(item),
                Ok(None) => self.counts.ignored += 1,
                Err(reason) => *self.counts.rejected.entry(reason).or_default() += 1,
            }
        }
        Ok(())
    }
}

/// The query for a slice of time. A query of the user's is bounded in time by the request; to the tables as they are the bounds are
/// written, so that no row lies in two slices.
fn kql(question: &Question, target: &Target, from: u64, to: u64, most: u64) -> String {
    let (from, to) = (client::moment(from), client::moment(to));
    match (&question.kql, target) {
        (Some(kql), _) => format!("{}\n| take {most}", kql.trim().trim_end_matches(';')),
        (None, Target::Resource(_)) => format!(
            "union dependencies, requests, customEvents, exceptions, traces\n\
             | where timestamp >= datetime({from}) and timestamp < datetime({to})\n\
             | project timestamp, itemType, id, name, type, target, data, success, resultCode, duration, url, source, message, \
             outerMessage, details, severityLevel, operation_Id, operation_ParentId, customDimensions, customMeasurements, \
             cloud_RoleName, cloud_RoleInstance, application_Version, itemCount\n| take {most}"
        ),
        (None, Target::Workspace(_)) => format!(
            "union AppDependencies, AppRequests, AppEvents, AppExceptions, AppTraces\n\
             | where TimeGenerated >= datetime({from}) and TimeGenerated < datetime({to})\n\
             | project TimeGenerated, Type, Id, Name, DependencyType, Target, Data, Success, ResultCode, DurationMs, Url, Source, \
             Message, OuterMessage, ExceptionType, Details, SeverityLevel, OperationId, ParentId, Properties, Measurements, \
             AppRoleName, AppRoleInstance, AppVersion, ItemCount\n| take {most}"
        ),
    }
}

#[cfg(test)]
mod tests;
