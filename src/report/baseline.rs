//! A baseline on the terminal.

use super::format::{count, score};
use super::style::{Style, Tone};
use super::table::Sheet;
use super::terminal::{heading, pairs};
use super::text::{clean, put};
use crate::compare::comparison::Metric;
use crate::compare::file::Pinned;
use crate::compare::side::Side;
use crate::compare::{Baseline, pin};

/// What a baseline holds, ready to print.
pub fn baseline(pinned: &Pinned, file: &str, style: Style) -> String {
    let Pinned { baseline, digest } = pinned;
    let mut out = style.paint(Tone::Strong, &format!("Baseline {}", clean(file)));
    out.push('\n');
    let short = |text: &str| text.chars().take(12).collect::<String>();
    let dataset = &baseline.dataset;
    pairs(
        &mut out,
        style,
        &[
            ("suite", format!("{} · {}", baseline.suite, baseline.workflow)),
            ("model", format!("{} ({})", baseline.model, baseline.provider)),
            (
                "dataset",
                format!(
                    "{} ({}), {} cases",
                    dataset.name,
                    short(&dataset.digest.to_string()),
                    count(baseline.cases.len() as u64)
                ),
            ),
            ("prompt", short(&baseline.prompt_digest.to_string())),
            ("digest", short(digest)),
        ],
    );
    heading(&mut out, style, "Runs");
    let mut sheet = Sheet::new(style, &["run", "name", "started", ">repeats", "git", "answered by"]);
    for run in &baseline.runs {
        sheet.row([
            run.id.to_string(),
            run.name.clone(),
            run.started_at.replace('T', " ").get(..16).unwrap_or_default().to_owned(),
            run.repeat.to_string(),
            run.git.clone().unwrap_or_default(),
            run.response_models.join(", "),
        ]);
    }
    out.push_str(&sheet.render(2));
    heading(&mut out, style, "Level");
    for (name, mean, n) in levels(baseline) {
        put!(out, "  {}  {}  over {} cases\n", clean(&name), score(mean), count(n));
    }
    out
}

/// The mean of each evaluator, and accuracy, over the cases.
fn levels(baseline: &Baseline) -> Vec<(String, f64, u64)> {
    let side = pin::side_of(baseline, "");
    let mean = |name: &str, of: &dyn Fn(&Side, usize) -> Option<f64>| {
        let values: Vec<f64> = (0..side.cases.len()).filter_map(|case| of(&side, case)).collect();
        let n = values.len();
        (n > 0).then(|| (name.to_owned(), values.iter().sum::<f64>() / n as f64, n as u64))
    };
    let mut found: Vec<_> = mean("accuracy", &|side, case| side.accuracy(case).get()).into_iter().collect();
    for (place, evaluator) in side.evaluators.iter().enumerate() {
        found.extend(mean(evaluator.id.as_str(), &|side, case| side.score(place, case).get()));
    }
    found
}

/// How a level changed, in a line.
pub fn level(metric: &Metric) -> String {
    let shown = |x: Option<f64>| x.map_or_else(|| "none".to_owned(), score);
    format!("{}: {} → {}", metric.name, shown(metric.base), shown(metric.head))
}
