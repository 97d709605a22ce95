//! JSON as a metrics request. Histograms are read; of other kinds only how many points there are, for nothing else is asked
//! of them.

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, ExponentialHistogram, ExponentialHistogramDataPoint, Gauge, Histogram, HistogramDataPoint,
    Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, Summary, SummaryDataPoint,
};

use super::decode::{JsonError, Object, document, key_value, resource, scope};

/// The metrics request in this text.
pub fn decode_metrics_request(text: &[u8]) -> Result<ExportMetricsServiceRequest, JsonError> {
    document(text, |o| {
        Ok(ExportMetricsServiceRequest { resource_metrics: o.messages("resourceMetrics", resource_metrics)? })
    })
}

fn resource_metrics(o: &Object<'_>) -> Result<ResourceMetrics, JsonError> {
    Ok(ResourceMetrics {
        resource: o.message("resource", resource)?,
        scope_metrics: o.messages("scopeMetrics", scope_metrics)?,
        schema_url: o.text("schemaUrl")?,
    })
}

fn scope_metrics(o: &Object<'_>) -> Result<ScopeMetrics, JsonError> {
    Ok(ScopeMetrics {
        scope: o.message("scope", scope)?,
        metrics: o.messages("metrics", metric)?,
        schema_url: o.text("schemaUrl")?,
    })
}

fn metric(o: &Object<'_>) -> Result<Metric, JsonError> {
    let mut data = o.message("histogram", |o| Ok(Data::Histogram(histogram(o)?)))?;
    if data.is_none() {
        data = o.message("gauge", |o| Ok(Data::Gauge(Gauge { data_points: counted::<NumberDataPoint>(o)? })))?;
    }
    if data.is_none() {
        data =
            o.message("sum", |o| Ok(Data::Sum(Sum { data_points: counted::<NumberDataPoint>(o)?, ..Sum::default() })))?;
    }
    if data.is_none() {
        data = o.message("exponentialHistogram", |o| {
            let data_points = counted::<ExponentialHistogramDataPoint>(o)?;
            Ok(Data::ExponentialHistogram(ExponentialHistogram { data_points, ..ExponentialHistogram::default() }))
        })?;
    }
    if data.is_none() {
        data = o.message("summary", |o| Ok(Data::Summary(Summary { data_points: counted::<SummaryDataPoint>(o)? })))?;
    }
    Ok(Metric { name: o.text("name")?, unit: o.text("unit")?, data, ..Metric::default() })
}

fn histogram(o: &Object<'_>) -> Result<Histogram, JsonError> {
    Ok(Histogram {
        data_points: o.messages("dataPoints", histogram_point)?,
        aggregation_temporality: o
            .enumeration("aggregationTemporality", |name| AggregationTemporality::from_str_name(name).map(i32::from))?,
    })
}

fn histogram_point(o: &Object<'_>) -> Result<HistogramDataPoint, JsonError> {
    Ok(HistogramDataPoint {
        attributes: o.messages("attributes", key_value)?,
        start_time_unix_nano: o.int("startTimeUnixNano")?,
        time_unix_nano: o.int("timeUnixNano")?,
        count: o.int("count")?,
        sum: o.read("sum", |at, json| at.double(json).map(Some))?,
        ..HistogramDataPoint::default()
    })
}

/// As many empty points as there are points.
fn counted<T: Default>(o: &Object<'_>) -> Result<Vec<T>, JsonError> {
    o.messages("dataPoints", |_| Ok(T::default()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::metrics::read_points;
    use prost::Message as _;

    #[test]
    fn histograms_are_read_and_other_kinds_counted() {
        let json = br#"{"resourceMetrics":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"a"}}]},
            "scopeMetrics":[{"scope":null,"metrics":[
              {"name":"gen_ai.client.operation.duration","unit":"s","histogram":{"aggregationTemporality":2,"dataPoints":[
                {"count":"3","sum":1.5,"timeUnixNano":"7","bucketCounts":["1","2"],"explicitBounds":[1],
                 "attributes":[{"key":"gen_ai.request.model","value":{"stringValue":"m"}}]}]}},
              {"name":"up","gauge":{"dataPoints":[{"asInt":"1"},{"asDouble":2}]}},
              {"name":"n","sum":{"dataPoints":[{"asInt":"1"}],"isMonotonic":true}},
              {"name":"later","unknownKind":{}}]}]}]}"#;
        let request = decode_metrics_request(json).expect("a request");
        let points = read_points(&request.encode_to_vec()).expect("points");
        assert_eq!((points.kept.len(), points.others), (1, 3));
        let point = &points.kept[0];
        assert_eq!((point.total.count, point.total.sum, point.is_delta), (3, 1.5, false));
        assert_eq!((point.series.service.as_str(), point.series.attributes.len()), ("a", 1));
    }
}
