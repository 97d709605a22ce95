//! What of a metrics request the pages show: the two GenAI histograms, summed up per series.
//!
//! Source: OTLP 1.11 `metrics.proto`; the names are `semconv`'s. Other metrics are counted, so that nobody wonders where
//! they went.

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::{AggregationTemporality, HistogramDataPoint};

use super::otlp::{decode_attributes, decode_resource};
use super::semconv;
use crate::model::{Key, Value};

/// The most series that are remembered. Attributes make series, and their number is the sender's choice.
const SERIES: usize = 1000;

/// The points of a request.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Points {
    /// Those that the pages show.
    pub kept: Vec<Point>,
    /// How many others there were.
    pub others: u64,
}

/// One point of a histogram.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// What it is a point of.
    pub series: Series,
    /// What it says.
    pub total: Total,
    /// Whether it counts what came since the last point, rather than since the start.
    pub is_delta: bool,
}

/// What is measured, and of what.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Series {
    /// The metric.
    pub name: String,
    /// Its unit: `s`, `{token}`.
    pub unit: String,
    /// `service.name` of the sender; empty if it gave none.
    pub service: String,
    /// The point's attributes as text, by name.
    pub attributes: Vec<(String, String)>,
}

/// Measurements summed up.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Total {
    /// How many.
    pub count: u64,
    /// Their sum, in the series' unit.
    pub sum: f64,
    /// When the last of them came in, in nanoseconds since the Unix epoch.
    pub time_unix_nano: u64,
}

/// The totals of all series that came in.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    totals: BTreeMap<Series, Total>,
}

impl Metrics {
    /// Adds points: what they count since the last one, or since the start of their sender.
    pub fn keep(&mut self, points: Vec<Point>) {
        for point in points {
            if self.totals.len() >= SERIES && !self.totals.contains_key(&point.series) {
                continue;
            }
            let total = self.totals.entry(point.series).or_default();
            if point.is_delta {
                total.count = total.count.saturating_add(point.total.count);
                total.sum += point.total.sum;
                total.time_unix_nano = total.time_unix_nano.max(point.total.time_unix_nano);
            } else if point.total.time_unix_nano >= total.time_unix_nano {
                *total = point.total;
            }
        }
    }

    /// Every series with its total, by name.
    pub fn totals(&self) -> impl Iterator<Item = (&Series, &Total)> {
        self.totals.iter()
    }
}

/// The points of a metrics request.
pub fn points(request: ExportMetricsServiceRequest) -> Points {
    let mut points = Points::default();
    for group in request.resource_metrics {
        let resource = group.resource.map(decode_resource).unwrap_or_default();
        let service = resource.iter().find(|(key, _)| key == semconv::SERVICE_NAME).map(|(_, value)| plain(value));
        let service = service.unwrap_or_default();
        for metric in group.scope_metrics.into_iter().flat_map(|scope| scope.metrics) {
            let known = [semconv::metric::OPERATION_DURATION, semconv::metric::TOKEN_USAGE];
            match metric.data {
                Some(Data::Histogram(histogram)) if known.contains(&metric.name.as_str()) => {
                    let is_delta = histogram.aggregation_temporality == AggregationTemporality::Delta as i32;
                    points.kept.extend(histogram.data_points.into_iter().map(|point| Point {
                        total: total(&point),
                        series: Series {
                            name: metric.name.clone(),
                            unit: metric.unit.clone(),
                            service: service.clone(),
                            attributes: texts(point.attributes),
                        },
                        is_delta,
                    }));
                }
                Some(Data::Histogram(histogram)) => points.others += histogram.data_points.len() as u64,
                Some(Data::Gauge(gauge)) => points.others += gauge.data_points.len() as u64,
                Some(Data::Sum(sum)) => points.others += sum.data_points.len() as u64,
                Some(Data::ExponentialHistogram(histogram)) => points.others += histogram.data_points.len() as u64,
                Some(Data::Summary(summary)) => points.others += summary.data_points.len() as u64,
                None => {}
            }
        }
    }
    points
}

fn total(point: &HistogramDataPoint) -> Total {
    // A sum that is no number says nothing.
    let sum = point.sum.filter(|sum| sum.is_finite()).unwrap_or(0.0);
    Total { count: point.count, sum, time_unix_nano: point.time_unix_nano }
}

fn texts(attributes: Vec<KeyValue>) -> Vec<(String, String)> {
    let attributes: Vec<(Key, Value)> = decode_attributes(attributes);
    let mut texts: Vec<_> = attributes.into_iter().map(|(key, value)| (key.into_owned(), plain(&value))).collect();
    texts.sort();
    texts
}

fn plain(value: &Value) -> String {
    match value {
        Value::Str(text) => text.clone().into_owned(),
        Value::Bool(x) => x.to_string(),
        Value::Int(x) => x.to_string(),
        Value::Double(x) => x.to_string(),
        Value::Empty | Value::Bytes(_) | Value::Array(_) | Value::Map(_) => String::new(),
    }
}
