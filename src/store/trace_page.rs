//! Lists of traces, page by page: newest first over an index, or sorted; what SQLite cannot decide is filtered here.
//!
//! A page costs a bounded amount of work: where few traces match, it says how far back it has looked, and the next page
//! goes on from there.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rusqlite::types::Value as Sql;
use rusqlite::{OptionalExtension, params_from_iter};

use super::cases::owned;
use super::error::StoreError;
use super::reader::Reader;
use super::rows::TraceRow;
use super::trace_sql::{Condition, condition, operator, required_scores};
use super::traces::{COLUMNS, Evaluators, Searched, Summary, VISIBLE};
use crate::model::{RunId, Span};
use crate::query::{Expr, Field, FieldValue, Record, SortKey};

/// How many rows of the table a page looks at.
const ROWS: usize = 50_000;

/// How many spans of traces a page opens to look into them.
const OPENED: usize = 10_000;

/// How many required scores are looked at for one that few traces have.
const SCORES: usize = 8;

/// Up to so many traces with a score are sorted by start; if there are more, walking by start meets them soon.
const FEW: usize = 4_000;

/// Which traces, in which order.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TraceQuery {
    /// Only those that match.
    pub filter: Option<Expr>,
    /// In this order; without it the newest first.
    pub sort: Option<SortKey>,
    /// At most so many.
    pub limit: usize,
    /// Behind this place of the list.
    pub after: Option<TraceCursor>,
    /// Only those of this run.
    pub run: Option<RunId>,
}

/// Some traces of a list.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TracePage {
    /// The traces.
    pub rows: Vec<TraceRow>,
    /// Where the list goes on; `None` at its end.
    pub next: Option<TraceCursor>,
    /// Set where the search stopped before the page was full: traces that started before this, in nanoseconds since the
    /// Unix epoch, are not looked at yet. `next` goes on with them; in a sorted list nothing does, and its order is that of
    /// the traces since then.
    pub searched_until: Option<u64>,
}

/// A place in a list of traces. Its text can stand in a URL and means something in the same list only.
#[derive(Debug, Clone, PartialEq)]
pub struct TraceCursor {
    start: i64,
    number: i64,
    /// What the row is sorted by, in a sorted list.
    by: Option<FieldValue<'static>>,
}

/// A row on its way to the page.
struct Kept {
    by: Option<FieldValue<'static>>,
    start: i64,
    summary: Summary,
}

impl Reader {
    /// A page of traces.
    pub fn trace_page(&self, query: &TraceQuery) -> Result<TracePage, StoreError> {
        self.page(query, Some((ROWS, OPENED)))
    }

    /// The traces that match, at most `limit`, however long it takes; without `sort` the newest first.
    pub fn traces(
        &self,
        filter: Option<&Expr>,
        sort: Option<&SortKey>,
        limit: Option<usize>,
    ) -> Result<Vec<TraceRow>, StoreError> {
        let limit = limit.unwrap_or(usize::MAX - 1);
        let query = TraceQuery { filter: filter.cloned(), sort: sort.cloned(), limit, after: None, run: None };
        Ok(self.page(&query, None)?.rows)
    }

    /// `bounds`: how many rows to look at, and how many spans to open, at most.
    fn page(&self, query: &TraceQuery, bounds: Option<(usize, usize)>) -> Result<TracePage, StoreError> {
        // Newest first is the order of the index.
        let _moment = self.moment()?;
        let sort = query.sort.as_ref().filter(|sort| !(sort.field == Field::Start && sort.descending));
        let mut evaluators = Evaluators::new();
        let mut walk = Walk::new(query, sort, bounds);
        walk.run(self, &mut evaluators)?;
        let Walk { mut kept, searched_until, .. } = walk;
        if let Some(sort) = sort {
            kept.sort_by(|a, b| compare(sort, (&a.by, a.start, a.summary.number), (&b.by, b.start, b.summary.number)));
        }
        let more = kept.len() > query.limit;
        kept.truncate(query.limit);
        let next = match (kept.last(), &searched_until) {
            (Some(last), _) if more => {
                Some(TraceCursor { start: last.start, number: last.summary.number, by: last.by.clone() })
            }
            (_, Some((start, number))) if sort.is_none() => {
                Some(TraceCursor { start: *start, number: *number, by: None })
            }
            _ => None,
        };
        // A sorted list never goes on behind where the search ended, so each of its pages says where that is.
        let searched_until = searched_until.filter(|_| sort.is_some() || !more).map(|(start, _)| start as u64);
        let rows = kept
            .into_iter()
            .map(|mut kept| {
                self.add_scores(&mut kept.summary, &mut evaluators)?;
                Ok(kept.summary.row)
            })
            .collect::<Result<_, StoreError>>()?;
        Ok(TracePage { rows, next, searched_until })
    }
}

/// A comparison that holds for few traces.
struct RareScore {
    name: String,
    op: &'static str,
    value: f64,
}

/// One walk over the table.
struct Walk<'q> {
    query: &'q TraceQuery,
    sort: Option<&'q SortKey>,
    condition: Condition,
    /// What the filter and the order need of a trace beyond its row.
    means: bool,
    cases: bool,
    spans: bool,
    texts: bool,
    bounds: Option<(usize, usize)>,
    kept: Vec<Kept>,
    /// The means that the list is sorted by, by trace.
    sorted_by: HashMap<i64, f64>,
    /// Start and number of the last row that was looked at, where the walk stopped early.
    searched_until: Option<(i64, i64)>,
}

impl<'q> Walk<'q> {
    fn new(query: &'q TraceQuery, sort: Option<&'q SortKey>, bounds: Option<(usize, usize)>) -> Self {
        let condition = match &query.filter {
            Some(filter) => condition(filter),
            None => Condition { exact: true, ..Condition::default() },
        };
        let mut fields: Vec<&Field> =
            query.filter.as_ref().filter(|_| !condition.exact).map(Expr::fields).unwrap_or_default();
        let means = fields.iter().any(|field| matches!(field, Field::Score(_)));
        fields.extend(sort.map(|sort| &sort.field));
        let wants = |wanted: fn(&Field) -> bool| fields.iter().any(|field| wanted(field));
        Self {
            query,
            sort,
            means,
            cases: wants(|f| matches!(f, Field::Case)),
            spans: wants(|f| matches!(f, Field::Attribute(_) | Field::Error | Field::Text)),
            texts: wants(|f| matches!(f, Field::Text)),
            condition,
            bounds,
            kept: Vec::new(),
            sorted_by: HashMap::new(),
            searched_until: None,
        }
    }

    fn run(&mut self, reader: &Reader, evaluators: &mut Evaluators) -> Result<(), StoreError> {
        let or = reader.or();
        let after = self.query.after.as_ref().filter(|_| self.sort.is_none());
        let by_score = self.few_with_a_score(reader)?;
        if let Some(SortKey { field: Field::Score(name), .. }) = self.sort {
            self.sorted_by = reader.means_of(name)?;
        }
        let mut sql = match &by_score {
            // The order of the join is ours to choose: SQLite does not know how few they are.
            Some(RareScore { op, .. }) => format!(
                "SELECT {COLUMNS} FROM trace_score CROSS JOIN trace ON trace.number = trace_score.trace
                 LEFT JOIN run ON run.number = trace.run
                 WHERE trace_score.name = (SELECT id FROM score_name WHERE name = ?) AND trace_score.value {op} ?
                 AND {VISIBLE}"
            ),
            None => format!("SELECT {COLUMNS} FROM trace LEFT JOIN run ON run.number = trace.run WHERE {VISIBLE}"),
        };
        let mut params: Vec<Sql> = match &by_score {
            Some(RareScore { name, value, .. }) => vec![Sql::Text(name.clone()), Sql::Real(*value)],
            None => Vec::new(),
        };
        if let Some(run) = &self.query.run {
            sql.push_str(" AND trace.run = (SELECT number FROM run WHERE run_id = ?)");
            params.push(Sql::Text(run.as_str().to_owned()));
        }
        if let Some(cursor) = after {
            sql.push_str(" AND start <= ? AND (start < ? OR trace.number < ?)");
            params.extend([cursor.start, cursor.start, cursor.number].map(Sql::Integer));
        }
        let filtered = self.query.filter.is_some();
        // Where a filter lets little through, the end of the walk is looked up before it begins.
        let bound = match self.bounds {
            // What SQLite decides alone is sorted as a whole, as it is without a filter.
            Some(_) if self.sort.is_some() && self.condition.exact => None,
            Some((rows, _)) if filtered && by_score.is_none() => self.row_behind(reader, after, rows)?,
            _ => None,
        };
        if let Some((start, number)) = bound {
            sql.push_str(" AND start >= ? AND (start > ? OR trace.number >= ?)");
            params.extend([start, start, number].map(Sql::Integer));
        }
        if !self.condition.sql.is_empty() {
            sql.push_str(" AND ");
            sql.push_str(&self.condition.sql);
            params.append(&mut self.condition.params);
        }
        sql.push_str(" ORDER BY start DESC, trace.number DESC");
        let enough = self.query.limit.saturating_add(1);
        let mut opened = 0;
        let mut find = reader.conn.prepare_cached(&sql).map_err(&or)?;
        let mut rows = find.query(params_from_iter(params)).map_err(&or)?;
        while let Some(row) = rows.next().map_err(&or)? {
            let mut summary = Summary::from_row(row).map_err(&or)?;
            let start: i64 = row.get(2).map_err(&or)?;
            if self.spans {
                if self.bounds.is_some_and(|(_, most)| opened >= most) {
                    return Ok(());
                }
                opened += summary.row.operations as usize;
                if self.bounds.is_some_and(|(_, most)| opened >= most) {
                    self.searched_until = Some((start, summary.number));
                }
            }
            if self.cases {
                reader.add_scores(&mut summary, evaluators)?;
            } else if self.means {
                reader.add_means(&mut summary)?;
            }
            let by = self.matches(reader, &summary)?;
            let Some(by) = by else { continue };
            self.kept.push(Kept { by, start, summary });
            match self.sort {
                None if self.kept.len() >= enough => {
                    self.searched_until = None;
                    return Ok(());
                }
                Some(sort) if self.kept.len() >= 2 * enough.min(1 << 40) + 1024 => {
                    self.kept.sort_by(|a, b| {
                        compare(sort, (&a.by, a.start, a.summary.number), (&b.by, b.start, b.summary.number))
                    });
                    self.kept.truncate(enough);
                }
                _ => {}
            }
        }
        // The walk came to its end: to the bound, or to the oldest trace.
        self.searched_until = bound;
        Ok(())
    }

    /// What the trace is sorted by, if it matches and lies behind the cursor.
    #[expect(clippy::option_option, reason = "whether it matches, and what it is sorted by in a sorted list")]
    fn matches(&self, reader: &Reader, summary: &Summary) -> Result<Option<Option<FieldValue<'static>>>, StoreError> {
        let spans: Vec<Span> = if self.spans {
            reader
                .open_trace_up_to(summary.number, self.bounds.map(|(_, spans)| spans))?
                .spans
                .into_iter()
                .map(|(span, _)| span)
                .collect()
        } else {
            Vec::new()
        };
        let texts = if self.texts { reader.texts_of(summary.number)? } else { Vec::new() };
        let searched = Searched { row: &summary.row, spans, texts };
        let filter = self.query.filter.as_ref().filter(|_| !self.condition.exact);
        if !filter.is_none_or(|filter| filter.matches(&searched)) {
            return Ok(None);
        }
        let Some(sort) = self.sort else { return Ok(Some(None)) };
        let by = Some(match &sort.field {
            Field::Score(_) => FieldValue::maybe_number(self.sorted_by.get(&summary.number).copied()),
            field => owned(searched.field(field)),
        });
        let start = summary.row.start_unix_nano as i64;
        let behind = self.query.after.as_ref().is_none_or(|cursor| {
            compare(sort, (&by, start, summary.number), (&cursor.by, cursor.start, cursor.number)).is_gt()
        });
        Ok(behind.then_some(by))
    }

    /// The score that few traces have, if the filter requires one: its name and value, and the operator.
    fn few_with_a_score(&self, reader: &Reader) -> Result<Option<RareScore>, StoreError> {
        let Some(filter) = &self.query.filter else { return Ok(None) };
        for comparison in required_scores(filter).into_iter().take(SCORES) {
            let (Field::Score(name), Some(value)) = (&comparison.field, comparison.value.number()) else { continue };
            let op = operator(comparison.op);
            let sql = format!(
                "SELECT count(*) FROM (SELECT 1 FROM trace_score WHERE name = (SELECT id FROM score_name WHERE name = ?1)
                                       AND value {op} ?2 LIMIT {})",
                FEW + 1
            );
            let found: i64 = reader
                .conn
                .prepare_cached(&sql)
                .and_then(|mut count| count.query_row(rusqlite::params![name, value], |row| row.get(0)))
                .map_err(reader.or())?;
            if found as usize <= FEW {
                return Ok(Some(RareScore { name: name.clone(), value, op }));
            }
        }
        Ok(None)
    }

    /// Start and number of the row so many rows behind the cursor; `None` if the table ends before.
    fn row_behind(
        &self,
        reader: &Reader,
        after: Option<&TraceCursor>,
        rows: usize,
    ) -> Result<Option<(i64, i64)>, StoreError> {
        if self.query.run.is_some() {
            return Ok(None);
        }
        let (start, number) = after.map_or((i64::MAX, i64::MAX), |cursor| (cursor.start, cursor.number));
        reader
            .conn
            .prepare_cached(
                "SELECT start, number FROM trace WHERE start <= ?1 AND (start < ?1 OR number < ?2)
                 ORDER BY start DESC, number DESC LIMIT 1 OFFSET ?3",
            )
            .and_then(|mut find| {
                find.query_row([start, number, rows as i64], |row| Ok((row.get(0)?, row.get(1)?))).optional()
            })
            .map_err(reader.or())
    }
}

type Place<'a> = (&'a Option<FieldValue<'static>>, i64, i64);

/// The order of a sorted list; equal rows newest first.
fn compare(sort: &SortKey, a: Place<'_>, b: Place<'_>) -> Ordering {
    let missing = FieldValue::Missing;
    sort.compare_values(a.0.as_ref().unwrap_or(&missing), b.0.as_ref().unwrap_or(&missing))
        .then(b.1.cmp(&a.1))
        .then(b.2.cmp(&a.2))
}

impl fmt::Display for TraceCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}-{:x}", self.start, self.number)?;
        let text = |f: &mut fmt::Formatter<'_>, text: &str| write!(f, "-t{}", URL_SAFE_NO_PAD.encode(text));
        match &self.by {
            None => Ok(()),
            Some(FieldValue::Missing) => f.write_str("-m"),
            Some(FieldValue::Number(x)) => write!(f, "-n{:x}", x.to_bits()),
            Some(FieldValue::Bool(x)) => write!(f, "-n{:x}", f64::from(u8::from(*x)).to_bits()),
            Some(FieldValue::Text(value)) => text(f, value),
            // Lists are sorted by their first.
            Some(FieldValue::Texts(values)) => match values.first() {
                Some(value) => text(f, value),
                None => f.write_str("-m"),
            },
        }
    }
}

impl FromStr for TraceCursor {
    type Err = StoreError;

    fn from_str(text: &str) -> Result<Self, StoreError> {
        let read = || {
            let mut parts = text.splitn(3, '-');
            let mut number = || i64::from_str_radix(parts.next()?, 16).ok();
            let (start, number) = (number()?, number()?);
            let by = match parts.next() {
                None => None,
                Some("m") => Some(FieldValue::Missing),
                Some(value) => Some(match value.split_at_checked(1)? {
                    ("n", bits) => FieldValue::Number(f64::from_bits(u64::from_str_radix(bits, 16).ok()?)),
                    ("t", text) => FieldValue::Text(String::from_utf8(URL_SAFE_NO_PAD.decode(text).ok()?).ok()?.into()),
                    _ => return None,
                }),
            };
            Some(Self { start, number, by })
        };
        read().ok_or_else(|| StoreError::BadCursor { found: text.chars().take(64).collect() })
    }
}
