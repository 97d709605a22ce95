//! `spanscore import evaluation`: the results of azure-ai-evaluation's `evaluate()` as scores of trials and spans.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use serde_json::json;

use super::import::counts;
use super::intake::Intake;
use super::{Context, Exit, Format};
use crate::export::evaluation::{self, EvaluatedRow, EvaluatedScore, Keys};
use crate::model::{Key, LogRecord, Origin, SpanId, Telemetry, TraceId, Value};
use crate::report::text::clean;
use crate::store::rows::{RunRow, TraceRow};
use crate::store::{Reader, Store, StoreError};
use crate::trace::semconv::{self as sc, event};

/// Rows that are named one by one; the rest is counted.
const SHOWN: usize = 5;
/// Who is said to have made the scores.
const SERVICE: &str = "azure-ai-evaluation";

/// Flags of `import evaluation`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// What `evaluate(…, output_path=FILE)` wrote; also .gz and .zst
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// The run whose cases the rows are of, where they name neither a span nor a run
    #[arg(long, value_name = "RUN")]
    run: Option<String>,
    /// Put this in front of the scores' names, such as `nightly.`
    #[arg(long, value_name = "TEXT", default_value = "")]
    prefix: String,
}

/// What became of the rows of a file.
#[derive(Debug, Default)]
struct Tally {
    rows: u64,
    matched: u64,
    /// Why rows were not matched, with the first of them.
    unmatched: BTreeMap<String, (u64, usize)>,
    unscored: u64,
    /// Scores under the name of an evaluator of the run, by name.
    taken: BTreeMap<String, u64>,
    /// Scores of which there was one already in the same file.
    repeated: u64,
}

pub(super) fn exec(args: &Args, context: &Context) -> anyhow::Result<Exit> {
    let files: Vec<_> = args
        .files
        .iter()
        .map(|path| Ok((path, evaluation::read(path)?)))
        .collect::<Result<_, crate::export::files::FileError>>()?;
    let store = Store::open_existing(&context.store_dir)
        .context("scores are taken in beside the runs and traces that they are of")?;
    let reader = store.reader()?;
    let run = args.run.as_deref().map(|run| reader.resolve_run(run)).transpose()?;
    let mut matcher = Matcher { reader: &reader, default: run, runs: HashMap::new() };
    let mut intake = Intake::new(store.writer()?)?;
    let resource = vec![(Key::from(sc::SERVICE_NAME), Value::from(SERVICE))];
    let origin = Arc::new(Origin { resource, scope_name: SERVICE.to_owned(), ..Origin::default() });
    let (mut all, mut unmatched) = (Vec::new(), 0);
    for (path, rows) in files {
        let before = intake.sum;
        let tally = take(&rows, &args.prefix, &mut matcher, &origin, &mut intake)?;
        intake.flush()?;
        let lost: u64 = tally.unmatched.values().map(|(rows, _)| rows).sum();
        unmatched += lost;
        tell(&path.display().to_string(), &tally, context);
        let (records, scores) = (intake.sum.logs - before.logs, intake.sum.scores - before.scores);
        all.push(json!({
            "file": path, "rows": tally.rows, "matched": tally.matched, "unmatched": lost, "unscored": tally.unscored,
            "scores": scores, "replaced": records.saturating_sub(scores), "duplicates": intake.sum.duplicates - before.duplicates,
            "repeated": tally.repeated, "names_taken": tally.taken,
            "problems": tally.unmatched.iter().map(|(why, (rows, first))| json!({"reason": why, "rows": rows, "first": first}))
                .collect::<Vec<_>>(),
        }));
    }
    let sum = intake.close()?;
    match context.format {
        Format::Json => context.print_json(&json!({ "files": all, "total": counts(sum) }))?,
        Format::Text => {
            // Each record is a score; one that is no new score stands for an earlier one of its name and trial.
            let replaced = match sum.logs.saturating_sub(sum.scores) {
                0 => String::new(),
                replaced => format!("{replaced} replace earlier ones, "),
            };
            context
                .print(&format!("{} scores taken in; {replaced}{} were here already", sum.scores, sum.duplicates))?;
        }
    }
    if unmatched > 0 {
        context.say(&format!("error: {unmatched} rows are of no trial and no span of this store"));
        return Ok(Exit::Usage);
    }
    context.next(["spanscore cases".to_owned(), "spanscore traces".to_owned()]);
    Ok(Exit::Success)
}

fn take(
    rows: &[EvaluatedRow],
    prefix: &str,
    matcher: &mut Matcher<'_>,
    origin: &Arc<Origin>,
    intake: &mut Intake,
) -> Result<Tally, StoreError> {
    let mut tally = Tally::default();
    let mut seen = HashSet::new();
    for (at, row) in rows.iter().enumerate() {
        tally.rows += 1;
        tally.unscored += row.unscored;
        let target = match matcher.find(&row.keys)? {
            Ok(target) => target,
            Err(why) => {
                tally.unmatched.entry(why).or_insert((0, at)).0 += 1;
                continue;
            }
        };
        tally.matched += 1;
        let mut logs = Vec::with_capacity(row.results.len());
        for score in &row.results {
            let name = format!("{prefix}{}", score.name);
            if target.evaluators.contains(&name) {
                *tally.taken.entry(name).or_default() += 1;
            } else if seen.insert((target.trace_id, target.span_id, name.clone())) {
                logs.push(record(name, score, &target, row.keys.response_id.as_deref()));
            } else {
                tally.repeated += 1;
            }
        }
        intake.take(vec![Telemetry { origin: Arc::clone(origin), spans: Vec::new(), logs }])?;
    }
    Ok(tally)
}

/// The score as the log record that a program with the SDK would have sent. It bears the time of what was judged, so that the same
/// file makes the same record.
fn record(name: String, score: &EvaluatedScore, target: &Target, response_id: Option<&str>) -> LogRecord {
    let mut attributes: Vec<(Key, Value)> = vec![(sc::GEN_AI_EVALUATION_NAME.into(), name.into())];
    let mut add = |key: &'static str, value: Option<Value>| attributes.extend(value.map(|value| (key.into(), value)));
    add(sc::GEN_AI_EVALUATION_SCORE_VALUE, score.value.map(Value::Double));
    add(sc::GEN_AI_EVALUATION_SCORE_LABEL, score.label.clone().map(Value::from));
    add(sc::GEN_AI_EVALUATION_EXPLANATION, score.explanation.clone().map(Value::from));
    add(sc::SPANSCORE_EVALUATION_THRESHOLD, score.threshold.map(Value::Double));
    add(sc::GEN_AI_RESPONSE_ID, target.response_id.as_deref().or(response_id).map(|id| Value::from(id.to_owned())));
    if let Some((run, case, repeat)) = &target.trial {
        add(sc::TEST_SUITE_RUN_ID, Some(run.clone().into()));
        add(sc::TEST_CASE_ID, Some(case.clone().into()));
        add(sc::SPANSCORE_TRIAL_REPEAT, Some(Value::Int(i64::from(*repeat))));
    }
    LogRecord {
        time_unix_nano: target.time,
        observed_unix_nano: target.time,
        severity_number: 0,
        severity_text: String::new(),
        event_name: event::EVALUATION_RESULT.into(),
        body: Value::Empty,
        attributes,
        dropped_attributes_count: 0,
        flags: 0,
        trace_id: Some(target.trace_id),
        span_id: target.span_id,
    }
}

/// What a row is of.
#[derive(Debug, Clone)]
struct Target {
    trace_id: TraceId,
    span_id: Option<SpanId>,
    time: u64,
    /// Run, case and repeat.
    trial: Option<(String, String, u32)>,
    response_id: Option<String>,
    /// The evaluators of the run: their names are theirs.
    evaluators: Arc<HashSet<String>>,
}

/// The trials of a run by what rows call them.
struct Index {
    by_response: HashMap<String, Vec<usize>>,
    by_case: HashMap<String, Vec<(u32, usize)>>,
    targets: Vec<Target>,
}

/// Finds what rows are of.
struct Matcher<'r> {
    reader: &'r Reader,
    default: Option<RunRow>,
    /// What was read of runs so far; `None` of those that are not here.
    runs: HashMap<String, Option<Index>>,
}

impl Matcher<'_> {
    /// By span; else by the answer's id; else by the case's. The inner error is a reason of which there are few.
    fn find(&mut self, keys: &Keys) -> Result<Result<Target, String>, StoreError> {
        if let (Some(trace_id), Some(span_id)) = (keys.trace_id, keys.span_id)
            && let Some(place) = self.reader.span_place(trace_id, span_id)?
        {
            let trial = place.trial.map(|(run, case, repeat)| (run.to_string(), case.to_string(), repeat));
            let evaluators = match &trial {
                Some((run, ..)) => self.evaluators(run)?,
                None => Arc::default(),
            };
            let span_id = Some(place.span_id);
            let time = place.start_unix_nano;
            return Ok(Ok(Target { trace_id, span_id, time, trial, response_id: None, evaluators }));
        }
        let trace = keys.trace_id.map(|trace_id| self.trace(trace_id)).transpose()?.flatten();
        let of_trace = trace.as_ref().and_then(|trace| trace.run_id.as_ref()).map(ToString::to_string);
        let named = self.default.as_ref().map(|run| run.spec.run_id.to_string()).or(keys.run_id.clone());
        if let (Some(trace), None, None, None) = (&trace, keys.span_id, &keys.response_id, &keys.case_id) {
            return Ok(Ok(self.whole(trace, of_trace)?));
        }
        let Some(run) = named.or(of_trace) else {
            return Ok(match (keys.trace_id, &keys.response_id, &keys.case_id) {
                (Some(_), None, None) => Err("their trace or span is not in this store".to_owned()),
                (_, None, None) => Err("they have neither trace_id and span_id nor response_id nor case_id".to_owned()),
                _ => Err("no run is named: pass --run RUN".to_owned()),
            });
        };
        let Some(index) = self.index(&run)? else { return Ok(Err(format!("run {run} is not in this store"))) };
        if let Some(id) = &keys.response_id
            && let Some(places) = index.by_response.get(id)
        {
            return Ok(match places.as_slice() {
                [place] => Ok(index.targets[*place].clone()),
                _ => Err("their response_id is that of several trials".to_owned()),
            });
        }
        let Some(of_case) = keys.case_id.as_ref().and_then(|case| index.by_case.get(case)) else {
            return Ok(Err(format!("run {run} has no such answer or case")));
        };
        let place = match (keys.repeat, of_case.as_slice()) {
            (None, [(_, place)]) => Some(*place),
            (None, _) => {
                return Ok(Err("their case has several repeats, and they do not say which: `repeat`".to_owned()));
            }
            (Some(repeat), _) => of_case.iter().find(|(known, _)| *known == repeat).map(|(_, place)| *place),
        };
        Ok(place.map(|place| index.targets[place].clone()).ok_or_else(|| format!("run {run} has no such repeat")))
    }

    /// The trace, if it is here.
    fn trace(&self, trace_id: TraceId) -> Result<Option<TraceRow>, StoreError> {
        match self.reader.trace_row(trace_id) {
            Ok(row) => Ok(Some(row)),
            Err(StoreError::UnknownTrace { .. } | StoreError::PrunedTrace { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A trace as a whole: its scores sit on its root.
    fn whole(&mut self, trace: &TraceRow, run: Option<String>) -> Result<Target, StoreError> {
        let evaluators = run.map_or_else(|| Ok(Arc::default()), |run| self.evaluators(&run))?;
        let (trace_id, time) = (trace.trace_id, trace.start_unix_nano);
        Ok(Target { trace_id, span_id: None, time, trial: None, response_id: None, evaluators })
    }

    fn evaluators(&mut self, run: &str) -> Result<Arc<HashSet<String>>, StoreError> {
        let of_index = |index: &Index| index.targets.first().map(|target| Arc::clone(&target.evaluators));
        Ok(self.index(run)?.and_then(of_index).unwrap_or_default())
    }

    fn index(&mut self, run: &str) -> Result<Option<&Index>, StoreError> {
        if !self.runs.contains_key(run) {
            let found = match self.reader.resolve_run(run) {
                Ok(row) if row.spec.run_id.as_str() == run => Some(self.read(&row)?),
                Ok(_) | Err(StoreError::UnknownRun { .. } | StoreError::AmbiguousRun { .. }) => None,
                Err(error) => return Err(error),
            };
            self.runs.insert(run.to_owned(), found);
        }
        Ok(self.runs.get(run).and_then(Option::as_ref))
    }

    fn read(&self, run: &RunRow) -> Result<Index, StoreError> {
        let evaluators: Arc<HashSet<String>> =
            Arc::new(run.spec.evaluators.iter().map(|spec| spec.id.to_string()).collect());
        let mut index = Index { by_response: HashMap::new(), by_case: HashMap::new(), targets: Vec::new() };
        self.reader.for_each_row(run, &mut |row| {
            let Some(trace_id) = row.trace_id else { return };
            let place = index.targets.len();
            let case = row.case_id.to_string();
            index.by_case.entry(case.clone()).or_default().push((row.key.repeat, place));
            if let Some(id) = &row.response_id {
                index.by_response.entry(id.clone()).or_default().push(place);
            }
            index.targets.push(Target {
                trace_id,
                span_id: row.span_id,
                time: row.started_unix_nano,
                trial: Some((run.spec.run_id.to_string(), case, row.key.repeat)),
                response_id: row.response_id,
                evaluators: Arc::clone(&evaluators),
            });
        })?;
        Ok(index)
    }
}

fn tell(path: &str, tally: &Tally, context: &Context) {
    let path = clean(path);
    for (why, (rows, first)) in tally.unmatched.iter().take(SHOWN) {
        context.say(&format!("error: `{path}`: {rows} rows are left out, the first is rows[{first}]: {}", clean(why)));
    }
    for (name, scores) in tally.taken.iter().take(SHOWN) {
        context.say(&format!(
            "`{path}`: {scores} scores called `{}` are left out, for an evaluator of the run is called so; --prefix TEXT \
             gives them another name",
            clean(name)
        ));
    }
    if tally.repeated > 0 {
        context.hint(&format!("`{path}`: {} scores came twice for the same trial; the first counts", tally.repeated));
    }
    if tally.unscored > 0 {
        context.hint(&format!("`{path}`: {} results have no score and stay unscored", tally.unscored));
    }
}
