//! The confusion matrix as a table: five steps of colour, and the numbers say the rest.

use maud::{Markup, html};

use crate::report::document::{ConfusionMatrix, Metrics};
use crate::report::format::{self, count};

/// Counts by expected label and answer; `href` gives where a cell leads, from its expected label and its column.
pub fn confusion(metrics: &Metrics, href: impl Fn(&str, &str) -> Option<String>) -> Markup {
    let ConfusionMatrix { expected, predicted, matrix } = &metrics.confusion;
    let most = matrix.iter().flatten().copied().max().unwrap_or(0).max(1);
    html! {
        div.scroll role="region" aria-label="Confusion matrix, table" tabindex="0" {
            table.matrix {
                caption.visually-hidden { "Trials by expected label and answer" }
                thead {
                    tr {
                        td {}
                        @for predicted in predicted { th scope="col" { (predicted) } }
                        th scope="col" { "recall" }
                    }
                }
                tbody {
                    @for (i, (expected, row)) in expected.iter().zip(matrix).enumerate() {
                        tr {
                            th scope="row" { (expected) }
                            @for (j, n) in row.iter().enumerate() {
                                @let column = predicted[j];
                                td class={ (if i == j { "right" } else { "wrong" }) " heat-" (heat(*n, most)) } {
                                    (cell(*n, href(expected, column), &described(*n, expected, column)))
                                }
                            }
                            td.number { (format::statistic(metrics.per_class.0.get(i).and_then(|class| class.1.recall.value))) }
                        }
                    }
                }
            }
        }
    }
}

fn described(n: u64, expected: &str, column: &str) -> String {
    let ended = if column == "failed" { "failed".to_owned() } else { format!("answered {column}") };
    format!("{n} trials: expected {expected}, {ended}")
}

/// How many cases went from which class (rows) to which (columns).
pub fn transitions(labels: &[String], matrix: &[Vec<u64>]) -> Markup {
    // What does not change is the bulk; colours are about what does.
    let moved = matrix.iter().enumerate().flat_map(|(i, row)| row.iter().enumerate().filter(move |(j, _)| *j != i));
    let most = moved.map(|(_, n)| *n).max().unwrap_or(0).max(1);
    html! {
        div.scroll role="region" aria-label="Transitions, table" tabindex="0" {
            table.matrix {
                caption.visually-hidden { "Cases by the answer of the base and that of the head" }
                thead { tr { td {} @for label in labels { th scope="col" { (label) } } } }
                tbody {
                    @for (i, (label, row)) in labels.iter().zip(matrix).enumerate() {
                        tr {
                            th scope="row" { (label) }
                            @for (j, n) in row.iter().enumerate() {
                                @if i == j { td.same { (cell(*n, None, "")) } }
                                @else { td class={ "moved heat-" (heat(*n, most)) } { (cell(*n, None, "")) } }
                            }
                        }
                    }
                }
            }
        }
    }
}

const fn heat(n: u64, most: u64) -> u64 {
    (5 * n).div_ceil(most)
}

fn cell(n: u64, href: Option<String>, described: &str) -> Markup {
    match href.filter(|_| n > 0) {
        Some(href) => html! { a href=(href) aria-label=(described) { (count(n)) } },
        None if n > 0 => html! { b { (count(n)) } },
        None => html! { span { "0" } },
    }
}
