//! Scores behind one whose span the backend never gets.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value, json};
use wiremock::matchers::any;
use wiremock::{Mock, MockServer, Request, ResponseTemplate};

use super::score::tests::{record, value};
use super::*;
use crate::config::Environment;
use crate::config::suite::SinkSection;
use crate::export::delivery::{Deliveries, DeliveryReport, Pace, Route};
use crate::export::outbox::{Acknowledgement, Outbox, OutboxBatch, OutboxError, Reading};
use crate::export::sampler::Sampler;
use crate::model::{LogRecord, SpanId, TraceId};
use crate::trace::provider::Ids;

const SCORES: u64 = 600;
const LOST: u64 = 3;

const FAST: Pace = Pace {
    linger: Duration::from_millis(1),
    first_wait: Duration::from_millis(1),
    longest_wait: Duration::from_millis(4),
};

/// A score for each place, on a span and a trace of that number.
struct Scores {
    cursor: Mutex<i64>,
}

fn score(place: u64) -> LogRecord {
    let mut id = [0; 16];
    id[8..].copy_from_slice(&place.to_be_bytes());
    let mut score = record(&format!("c{place}"), "e", &[value(1.0)]);
    score.trace_id = Some(TraceId::from_bytes(id));
    score.span_id = Some(SpanId::from_bytes(place.to_be_bytes()));
    // An old one would be given up.
    score.time_unix_nano = Clock::System.now_unix_nano();
    score
}

#[async_trait]
impl Outbox for Scores {
    fn read(&self, _: &str, _: Option<&str>, _: Signal, after: i64, limit: usize) -> Result<Reading, OutboxError> {
        let from = after.max(*self.cursor.lock().expect("unpoisoned")) as u64 + 1;
        let places: Vec<u64> = (from..=SCORES).take(limit).collect();
        if places.is_empty() {
            return Ok(Reading::Nothing);
        }
        let items = Items::Logs(places.iter().copied().map(score).collect());
        let positions = places.into_iter().map(|place| place as i64).collect();
        let batch = Batch { origin: Arc::default(), items };
        Ok(Reading::Batch(OutboxBatch { batch, positions, cut: false }))
    }

    async fn acknowledge(&self, acknowledgement: Acknowledgement) -> Result<(), OutboxError> {
        *self.cursor.lock().expect("unpoisoned") = acknowledgement.cursor;
        Ok(())
    }
}

/// Phoenix and MLflow, as far as they know spans and traces; gives how many scores were taken.
fn answer(request: &Request, taken: &Mutex<Vec<String>>) -> ResponseTemplate {
    let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
    let lost = format!("{LOST:016x}");
    let mut taken = taken.lock().expect("unpoisoned");
    if let Some(data) = body["data"].as_array() {
        let spans: Vec<String> =
            data.iter().map(|one| one["span_id"].as_str().unwrap_or_default().to_owned()).collect();
        if spans.contains(&lost) {
            return ResponseTemplate::new(404).set_body_json(json!({"detail": format!("Spans {lost} do not exist")}));
        }
        taken.extend(spans);
    } else if request.url.path().contains(&format!("tr-{LOST:032x}")) {
        return ResponseTemplate::new(404).set_body_json(json!({"error_code": "RESOURCE_DOES_NOT_EXIST"}));
    } else if body["assessment"].is_object() {
        taken.push(body["assessment"]["span_id"].as_str().unwrap_or_default().to_owned());
    }
    ResponseTemplate::new(200).set_body_json(json!({"trace": {"trace_info": {}}}))
}

#[tokio::test]
async fn all_scores_are_delivered_but_the_one_whose_span_never_comes() {
    for kind in [SinkKind::Phoenix, SinkKind::Mlflow] {
        let (server, taken) = (MockServer::start().await, Arc::<Mutex<Vec<String>>>::default());
        let kept = Arc::clone(&taken);
        Mock::given(any()).respond_with(move |request: &Request| answer(request, &kept)).mount(&server).await;
        let section =
            SinkSection { kind: Some(kind.as_str().into()), url: Some(server.uri()), ..SinkSection::default() };
        let config = SinkConfig::resolve_all(&[section], &Environment::default()).expect("a sink").remove(0);
        let sink = Arc::new(Sink::new(&config).expect("a client"));
        let outbox = Arc::new(Scores { cursor: Mutex::new(0) });
        let kept: Arc<dyn Outbox> = Arc::clone(&outbox) as _;
        let route = Route { destination: Arc::clone(&sink) as _, sampler: Sampler::default() };
        let deliveries = Deliveries::start(&kept, &[route], &Ids::seeded(1), FAST);
        let report: DeliveryReport = deliveries.finish(Duration::from_mins(1)).await.remove(0);
        let taken = taken.lock().expect("unpoisoned").clone();
        assert_eq!(taken.len() as u64, SCORES - 1, "{kind:?}: each once");
        assert!(!taken.contains(&format!("{LOST:016x}")));
        assert_eq!((*outbox.cursor.lock().expect("unpoisoned"), report.complete), (LOST as i64 - 1, false));
        let problem = report.problem.expect("a problem");
        let end = format!("(1 wait for such; {} others are settled, and count as pending until then)", SCORES - LOST);
        assert!(problem.contains(&format!("{LOST:032x}")) && problem.ends_with(&end), "{problem}");
    }
}
