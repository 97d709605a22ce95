//! A run beside the suite's earlier runs, and its parts beside each other, on the terminal.

use super::details::{Details, Previous};
use super::document::Report;
use super::format::{self, ABSENT, count, interval, statistic};
use super::style::{Style, Tone};
use super::table::Sheet;
use super::terminal::heading;
use super::text::{clean, put};

/// The worst parts of a column that are shown.
const PARTS: usize = 5;

/// What was run differently from the suite's previous run, and what became better or worse.
pub(super) fn since_previous(out: &mut String, report: &Report, details: &Details, style: Style) {
    let Some(previous) = &details.previous else { return };
    heading(out, style, &format!("Since {} ({})", clean(&previous.name), previous.run_id));
    cases(out, report, previous, style);
    let mut sheet = Sheet::new(style, &["evaluator", ">then", ">now", ">difference"]);
    for (id, change) in &previous.scores.0 {
        let difference = change.difference.map_or_else(|| ABSENT.to_owned(), |x| format!("{x:+.3}"));
        let tone = match change.improved {
            Some(_) if change.difference.is_some_and(|x| x.abs() < 5e-5) => None,
            Some(true) => Some(Tone::Good),
            Some(false) => Some(Tone::Bad),
            None => None,
        };
        let row = [(id.clone(), None), (mean(change.before), None), (mean(change.after), None), (difference, tone)];
        sheet.toned(row);
    }
    if !sheet.is_empty() {
        out.push_str(&sheet.render(2));
    }
    if previous.changed.is_empty() {
        out.push_str("  run in the same way\n");
    }
    for change in &previous.changed {
        let shown = |text: &Option<String>| clean(text.as_deref().unwrap_or("none")).into_owned();
        put!(out, "  {}: {} → {}\n", clean(&change.what), shown(&change.before), shown(&change.after));
    }
    if details.history.len() > 2 {
        let means: Vec<Option<f64>> = details.history.iter().map(|past| past.mean).collect();
        put!(out, "  {} in the last {} runs  {}\n", report.run.primary, means.len(), sparkline(&means));
    }
}

fn cases(out: &mut String, report: &Report, previous: &Previous, style: Style) {
    let cases = previous.cases;
    let mut words = vec![
        style.paint(Tone::Bad, &format!("{} regressed", count(cases.regressed))),
        style.paint(Tone::Good, &format!("{} improved", count(cases.improved))),
        format!("{} unchanged", count(cases.unchanged)),
    ];
    for (n, word) in [
        (cases.lost, "lost their score"),
        (cases.gained, "are scored now"),
        (cases.unscored, "scored in neither"),
        (cases.added, "only in this run"),
        (cases.removed, "only in the previous one"),
    ] {
        if n > 0 {
            words.push(format!("{} {word}", count(n)));
        }
    }
    put!(out, "  cases by {}: {}\n", report.run.primary, words.join(", "));
}

/// The parts of the dataset by column, the lowest first.
pub(super) fn parts(out: &mut String, report: &Report, details: &Details, style: Style) {
    if details.slices.is_empty() {
        return;
    }
    heading(out, style, &format!("Parts of the dataset by {}, the lowest first", report.run.primary));
    let mut sheet = Sheet::new(style, &["column", "value", ">mean", "interval", ">trials"]);
    for slices in &details.slices {
        for slice in slices.values.iter().take(PARTS) {
            sheet.row([
                slices.column.clone(),
                slice.value.clone(),
                mean(slice.mean.value),
                interval(slice.mean.ci95),
                count(slice.trials),
            ]);
        }
        if slices.values.len() > PARTS {
            sheet.row([
                slices.column.clone(),
                format!("and {} more", slices.values.len() - PARTS),
                String::new(),
                String::new(),
                String::new(),
            ]);
        }
    }
    out.push_str(&sheet.render(2));
}

fn mean(mean: Option<f64>) -> String {
    match mean {
        Some(x) if x.abs() > 10.0 => format::score(x),
        mean => statistic(mean),
    }
}

/// Eight heights between the least and the largest value; a blank where there is none.
fn sparkline(values: &[Option<f64>]) -> String {
    const STEPS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let known = values.iter().flatten();
    let (low, high) = known.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), x| (low.min(*x), high.max(*x)));
    let step = |x: f64| if high > low { ((x - low) / (high - low) * 7.0).round() as usize } else { 3 };
    values.iter().map(|value| value.map_or(' ', |x| STEPS[step(x).min(7)])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::details::{CaseChanges, Change, Past, ScoreChange};
    use crate::report::distribution::{Slice, Slices};
    use crate::report::document::Ordered;
    use crate::report::fixture;
    use crate::report::terminal::render;
    use crate::stats::Estimate;

    #[test]
    fn a_run_is_shown_beside_the_previous_one() {
        let mut report = fixture::report();
        let past = |mean| Past { run_id: String::new(), name: String::new(), started_at: String::new(), mean, n: 1 };
        let slice = |value: &str, mean| Slice {
            value: value.to_owned(),
            trials: 15,
            mean: Estimate { value: Some(mean), ..Estimate::default() },
            filter: String::new(),
        };
        report.details = Some(Details {
            previous: Some(Previous {
                run_id: "20261121-154501-aaaaaa".to_owned(),
                name: "nightly\u{1b}[2J".to_owned(),
                started_at: String::new(),
                changed: vec![Change { what: "model".to_owned(), before: Some("a".to_owned()), after: None }],
                scores: Ordered(vec![(
                    "label_match".to_owned(),
                    ScoreChange { before: Some(0.9), after: Some(0.8), difference: Some(-0.1), improved: Some(false) },
                )]),
                cases: CaseChanges { improved: 1, regressed: 2, unchanged: 20, lost: 1, ..CaseChanges::default() },
            }),
            history: vec![past(Some(0.5)), past(None), past(Some(1.0))],
            slices: vec![Slices {
                column: "col.field".to_owned(),
                values: vec![slice("biology", 0.5), slice("x", 0.75)],
            }],
            ..Details::default()
        });
        let shown = render(&report, Style::plain(120));
        let part =
            |from: &str, to: &str| shown.split(from).nth(1).and_then(|rest| rest.split(to).next()).map(str::to_owned);
        insta::assert_snapshot!(part("tags     branch=main", "Agreement").expect("the part"), @r#"

        Since nightly␛[2J (20261121-154501-aaaaaa)
          cases by label_match: 2 regressed, 1 improved, 20 unchanged, 1 lost their score
          evaluator     then    now  difference
          label_match  0.900  0.800      -0.100
          model: a → none
          label_match in the last 3 runs  ▁ █
        "#);
        let parts = part("Parts of", "Latency").expect("the part");
        let lines: Vec<Vec<&str>> = parts.trim().lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[2], ["col.field", "biology", "0.500", "–", "15"], "{parts}");
    }
}
