//! What of a query about traces SQLite can decide by itself, as a condition on the table `trace`.

use rusqlite::types::Value as Sql;

use super::schema::REPEATS;
use crate::model::TraceId;
use crate::query::{Comparison, Expr, Field, Op};

/// A condition with its parameters.
#[derive(Debug, Default)]
pub(super) struct Condition {
    /// Never null: true or false for each row.
    pub(super) sql: String,
    pub(super) params: Vec<Sql>,
    /// Whether it says the same as the query; else it lets more through.
    pub(super) exact: bool,
}

/// The most terms that become SQL: SQLite refuses longer chains, and they are filtered here as well.
const TERMS: usize = 200;

/// Conditions that must hold, with the parameter numbers still open (`?`).
pub(super) fn condition(expr: &Expr) -> Condition {
    if expr.terms() > TERMS {
        return Condition::default();
    }
    match translate(expr) {
        Some(whole) => whole,
        None => {
            let parts = match expr {
                Expr::And(parts) => parts.as_slice(),
                _ => &[],
            };
            let mut all = Condition::default();
            for part in parts.iter().map(condition).filter(|part| !part.sql.is_empty()) {
                if !all.sql.is_empty() {
                    all.sql.push_str(" AND ");
                }
                all.sql.push_str(&part.sql);
                all.params.extend(part.params);
            }
            all
        }
    }
}

/// The comparisons of scores that every match must satisfy: each alone may be the fastest way to the matches.
pub(super) fn required_scores(expr: &Expr) -> Vec<&Comparison> {
    match expr {
        Expr::And(parts) => parts.iter().flat_map(required_scores).collect(),
        Expr::Compare(comparison)
            if matches!(comparison.field, Field::Score(_))
                && comparison.op != Op::Ne
                && comparison.value.number().is_some() =>
        {
            vec![comparison]
        }
        _ => Vec::new(),
    }
}

/// The operator of a comparison of numbers.
pub(super) const fn operator(op: Op) -> &'static str {
    match op {
        Op::Eq | Op::Contains => "=",
        Op::Ne => "<>",
        Op::Lt => "<",
        Op::Le => "<=",
        Op::Gt => ">",
        Op::Ge => ">=",
    }
}

/// The whole expression, if SQLite can decide all of it.
fn translate(expr: &Expr) -> Option<Condition> {
    let joined = |parts: &[Expr], word: &str| {
        let parts = parts.iter().map(translate).collect::<Option<Vec<_>>>()?;
        let sql: Vec<&str> = parts.iter().map(|part| part.sql.as_str()).collect();
        let sql = format!("({})", sql.join(word));
        Some(Condition { sql, params: parts.into_iter().flat_map(|part| part.params).collect(), exact: true })
    };
    match expr {
        Expr::And(parts) => joined(parts, " AND "),
        Expr::Or(parts) => joined(parts, " OR "),
        Expr::Not(part) => translate(part).map(|part| Condition { sql: format!("(NOT {})", part.sql), ..part }),
        Expr::Compare(comparison) => compare(comparison),
        Expr::Flag(Field::Errors | Field::Error) => Some(exact("(errors > 0)", vec![])),
        Expr::Flag(Field::Operations) => Some(exact("(operations > 0)", vec![])),
        Expr::Flag(Field::Run) => Some(exact("(trace.run IS NOT NULL)", vec![])),
        Expr::Flag(Field::Score(name)) => Some(score(name, "<>", 0.0)),
        Expr::Flag(_) => None,
    }
}

fn compare(comparison: &Comparison) -> Option<Condition> {
    let Comparison { field, op, value } = comparison;
    let number = |column: &str| {
        let wanted = value.number()?;
        Some(exact(&format!("({column} {} ?)", operator(*op)), vec![Sql::Real(wanted)]))
    };
    let text = |column: &str| match op {
        Op::Eq => Some(exact(&format!("coalesce({column} = ?, 0)"), vec![Sql::Text(value.text.clone())])),
        Op::Ne => Some(exact(&format!("coalesce({column} <> ?, 1)"), vec![Sql::Text(value.text.clone())])),
        _ => None,
    };
    match field {
        Field::Status if matches!(op, Op::Eq | Op::Ne) => {
            let failed = value.text.eq_ignore_ascii_case("error");
            Some(exact(if failed == (*op == Op::Eq) { "(errors > 0)" } else { "(errors = 0)" }, vec![]))
        }
        Field::Errors => number("errors"),
        Field::Operations => number("operations"),
        Field::Duration => number("(max(end - start, 0) / 1e9)"),
        Field::Start => number("(start / 1e9)"),
        Field::Root => text("root"),
        Field::Service => text("service"),
        Field::Run => {
            let of_run = |sql: &str| Some(exact(sql, vec![Sql::Text(value.text.clone())]));
            match op {
                Op::Eq => of_run("coalesce(trace.run = (SELECT number FROM run WHERE run_id = ?), 0)"),
                Op::Ne => of_run("coalesce(trace.run <> (SELECT number FROM run WHERE run_id = ?), 1)"),
                _ => None,
            }
        }
        Field::Case => {
            let of_case = |not: &str| {
                let sql = format!(
                    "(trace.number {not} IN (SELECT trial.trace FROM planned
                      JOIN trial ON trial.id BETWEEN planned.id AND planned.id + {REPEATS} WHERE planned.case_id = ?))"
                );
                Some(exact(&sql, vec![Sql::Text(value.text.clone())]))
            };
            match op {
                Op::Eq => of_case(""),
                Op::Ne => of_case("NOT"),
                _ => None,
            }
        }
        Field::Trace => {
            let id: TraceId = value.text.parse().ok()?;
            let sql = match op {
                Op::Eq => "(trace_id = ?)",
                Op::Ne => "(trace_id <> ?)",
                _ => return None,
            };
            Some(exact(sql, vec![Sql::Blob(id.as_bytes().to_vec())]))
        }
        Field::Score(name) => {
            let wanted = value.number()?;
            Some(match op {
                // A trace without that score is not equal to anything.
                Op::Ne => {
                    let equal = score(name, "=", wanted);
                    Condition { sql: format!("(NOT {})", equal.sql), ..equal }
                }
                op => score(name, operator(*op), wanted),
            })
        }
        _ => None,
    }
}

fn score(name: &str, operator: &str, value: f64) -> Condition {
    exact(
        &format!(
            "EXISTS (SELECT 1 FROM trace_score AS s WHERE s.trace = trace.number
                     AND s.name = (SELECT id FROM score_name WHERE name = ?) AND s.value {operator} ?)"
        ),
        vec![Sql::Text(name.to_owned()), Sql::Real(value)],
    )
}

fn exact(sql: &str, params: Vec<Sql>) -> Condition {
    Condition { sql: sql.to_owned(), params, exact: true }
}
