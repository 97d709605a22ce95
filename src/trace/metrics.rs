//! What of a metrics request the pages show: the two GenAI histograms, summed up per series.
//!
//! Source: OTLP 1.11 `metrics.proto`; the names are `semconv`'s. Other metrics are counted, so that nobody wonders where
//! they went.

use std::collections::BTreeMap;
use std::ops::Range;

use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::metrics::v1::{AggregationTemporality, HistogramDataPoint};
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message as _;

use super::otlp::{OtlpError, decode_attributes, decode_resource};
use super::requests::LARGEST_ORIGIN;
use super::semconv;
use super::wire::{Fields, Payload, malformed};
use crate::model::{Key, Value};

/// The most series that are remembered. Attributes make series, and their number is the sender's choice.
const SERIES: usize = 1000;
/// The most points that are kept of a request, and the most bytes of each; the others are counted.
const POINTS: usize = 20_000;
const POINT: usize = 16 << 10;
/// The most characters of a text that is part of a series.
const TEXT: usize = 256;

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
    /// Gives the number of points that belong to one series too many and were let go.
    pub fn keep(&mut self, points: Vec<Point>) -> u64 {
        let mut dropped = 0;
        for point in points {
            if self.totals.len() >= SERIES && !self.totals.contains_key(&point.series) {
                dropped += 1;
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
        dropped
    }

    /// Every series with its total, by name.
    pub fn totals(&self) -> impl Iterator<Item = (&Series, &Total)> {
        self.totals.iter()
    }
}

/// The points of a metrics request in protobuf. Only those that are shown are decoded, one after the other: a point takes
/// a hundred times the bytes that an empty one is sent in.
pub fn read_points(bytes: &[u8]) -> Result<Points, OtlpError> {
    let mut points = Points::default();
    let mut fields = Fields::of(bytes, 0..bytes.len());
    while let Some(field) = fields.next()? {
        let (1, Payload::Bytes(group)) = field else { continue };
        let service = service_of(bytes, group.clone())?;
        for scope in messages(bytes, group, 2)? {
            for metric in messages(bytes, scope, 2)? {
                read_metric(bytes, metric, &service, &mut points)?;
            }
        }
    }
    Ok(points)
}

/// `service.name` of a group's resource.
fn service_of(bytes: &[u8], group: Range<usize>) -> Result<String, OtlpError> {
    let mut service = String::new();
    for resource in messages(bytes, group, 1)? {
        if resource.len() > LARGEST_ORIGIN {
            continue;
        }
        let resource = Resource::decode(&bytes[resource]).map_err(|e| malformed(e.to_string()))?;
        let attributes = decode_resource(resource);
        let found = attributes.iter().find(|(key, _)| key == semconv::SERVICE_NAME);
        service = found.map(|(_, value)| short(&plain(value))).unwrap_or(service);
    }
    Ok(service)
}

/// The places of the messages in a field.
fn messages(bytes: &[u8], range: Range<usize>, wanted: u64) -> Result<Vec<Range<usize>>, OtlpError> {
    let mut found = Vec::new();
    let mut fields = Fields::of(bytes, range);
    while let Some((number, payload)) = fields.next()? {
        if let (true, Payload::Bytes(range)) = (number == wanted, payload)
            && !range.is_empty()
        {
            found.push(range);
        }
    }
    Ok(found)
}

fn read_metric(bytes: &[u8], metric: Range<usize>, service: &str, points: &mut Points) -> Result<(), OtlpError> {
    let (mut name, mut unit) = (0..0, 0..0);
    let mut data = Vec::new();
    let mut fields = Fields::of(bytes, metric);
    while let Some(field) = fields.next()? {
        match field {
            (1, Payload::Bytes(range)) => name = range,
            (3, Payload::Bytes(range)) => unit = range,
            // Gauge, sum, histogram, exponential histogram, summary: all have their points in field 1.
            (kind @ (5 | 7 | 9..=11), Payload::Bytes(range)) => data.push((kind == 9, range)),
            _ => {}
        }
    }
    let name = known(&bytes[name]);
    for (is_histogram, range) in data {
        let mut is_delta = false;
        let mut fields = Fields::of(bytes, range.clone());
        while let Some(field) = fields.next()? {
            if let (2, Payload::Varint(temporality)) = field {
                is_delta = temporality == AggregationTemporality::Delta as u64;
            }
        }
        let mut fields = Fields::of(bytes, range);
        while let Some(field) = fields.next()? {
            let (1, Payload::Bytes(point)) = field else { continue };
            let Some(name) = name.filter(|_| is_histogram && points.kept.len() < POINTS && point.len() <= POINT) else {
                points.others += 1;
                continue;
            };
            let unit = String::from_utf8_lossy(&bytes[unit.clone()]);
            let point = HistogramDataPoint::decode(&bytes[point]).map_err(|e| malformed(e.to_string()))?;
            points.keep(name, &unit, service, point, is_delta);
        }
    }
    Ok(())
}

/// The metric of this name, if it is one that the pages show.
fn known(name: &[u8]) -> Option<&'static str> {
    let known = [semconv::metric::OPERATION_DURATION, semconv::metric::TOKEN_USAGE];
    known.into_iter().find(|known| known.as_bytes() == name)
}

/// As much of a text as names a series.
fn short(text: &str) -> String {
    text.chars().take(TEXT).collect()
}

impl Points {
    fn keep(&mut self, name: &str, unit: &str, service: &str, point: HistogramDataPoint, is_delta: bool) {
        self.kept.push(Point {
            total: total(&point),
            series: Series {
                name: name.to_owned(),
                unit: short(unit),
                service: service.to_owned(),
                attributes: texts(point.attributes),
            },
            is_delta,
        });
    }
}

fn total(point: &HistogramDataPoint) -> Total {
    // A sum that is no number says nothing.
    let sum = point.sum.filter(|sum| sum.is_finite()).unwrap_or(0.0);
    Total { count: point.count, sum, time_unix_nano: point.time_unix_nano }
}

fn texts(attributes: Vec<KeyValue>) -> Vec<(String, String)> {
    let attributes: Vec<(Key, Value)> = decode_attributes(attributes);
    let mut texts: Vec<_> = attributes.into_iter().map(|(key, value)| (short(&key), short(&plain(&value)))).collect();
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

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
    use opentelemetry_proto::tonic::metrics::v1::metric::Data;
    use opentelemetry_proto::tonic::metrics::v1::{
        Gauge, Histogram, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics,
    };

    use super::*;
    use crate::trace::otlp::{encode_attributes, encode_resource};

    fn request(service: &str, metrics: Vec<Metric>) -> ExportMetricsServiceRequest {
        let resource = encode_resource(&[(semconv::SERVICE_NAME.into(), Value::from(service.to_owned()))]);
        let scope = ScopeMetrics { metrics, ..ScopeMetrics::default() };
        let group =
            ResourceMetrics { resource: Some(resource), scope_metrics: vec![scope], ..ResourceMetrics::default() };
        ExportMetricsServiceRequest { resource_metrics: vec![group.clone(), group] }
    }

    fn metric(name: &str, data: Data) -> Metric {
        Metric { name: name.to_owned(), unit: "s".to_owned(), data: Some(data), ..Metric::default() }
    }

    fn histogram(model: &str, points: usize) -> Data {
        let attributes = encode_attributes(&[("model".into(), Value::from(model.to_owned()))]);
        let point =
            HistogramDataPoint { attributes, count: 3, sum: Some(1.5), time_unix_nano: 7, ..Default::default() };
        Data::Histogram(Histogram { data_points: vec![point; points], aggregation_temporality: 1 })
    }

    #[test]
    fn the_points_that_are_shown_are_read_and_the_others_counted() {
        let gauge = Data::Gauge(Gauge { data_points: vec![NumberDataPoint::default(); 4] });
        let request = request(
            &"app".repeat(200),
            vec![
                metric(semconv::metric::OPERATION_DURATION, histogram("m", 2)),
                metric("other", histogram("m", 3)),
                metric(semconv::metric::TOKEN_USAGE, gauge),
                Metric::default(),
            ],
        );
        let read = read_points(&request.encode_to_vec()).expect("a request");
        assert_eq!((read.kept.len(), read.others), (4, 14));
        assert!(read.kept[0].is_delta && read.kept[0].series.service.len() == 256);
        let point = Point {
            series: Series {
                name: semconv::metric::OPERATION_DURATION.to_owned(),
                unit: "s".to_owned(),
                service: "app".repeat(86).chars().take(256).collect(),
                attributes: vec![("model".to_owned(), "m".to_owned())],
            },
            total: Total { count: 3, sum: 1.5, time_unix_nano: 7 },
            is_delta: true,
        };
        assert_eq!(read, Points { kept: vec![point; 4], others: 14 });
    }

    #[test]
    fn what_is_too_much_is_counted_and_not_kept() {
        let long = metric(semconv::metric::OPERATION_DURATION, histogram(&"x".repeat(20_000), 1));
        let read = read_points(&request("a", vec![long]).encode_to_vec()).expect("a request");
        assert_eq!((read.kept.len(), read.others), (0, 2));
        let many = metric(semconv::metric::OPERATION_DURATION, histogram("m", 15_000));
        let read = read_points(&request("a", vec![many]).encode_to_vec()).expect("a request");
        assert_eq!((read.kept.len(), read.others), (20_000, 10_000));
        assert!(read_points(&[0x0a, 200, 1]).is_err());
        let mut metrics = Metrics::default();
        let series = |n: usize| Point {
            series: Series { name: n.to_string(), unit: String::new(), service: String::new(), attributes: Vec::new() },
            total: Total { count: 1, ..Total::default() },
            is_delta: true,
        };
        assert_eq!(metrics.keep((0..SERIES + 5).map(series).collect()), 5);
        assert_eq!(metrics.keep((0..SERIES).map(series).collect()), 0);
    }
}
