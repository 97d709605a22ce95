//! Trace and logs requests in JSON, read one span or log record at a time: as a tree of JSON values, a whole request would take
//! many times the memory of its text.

use std::cell::RefCell;
use std::fmt;

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
use opentelemetry_proto::tonic::logs::v1::{ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans};
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value as Json;

use super::decode::{JsonError, Object, Place, log_record, read_text, resource, scope, snake_case, span};
use super::structure;

/// The trace request in this text.
pub fn decode_trace_request(text: &[u8]) -> Result<ExportTraceServiceRequest, JsonError> {
    let kind = Kind { groups: "resourceSpans", scopes: "scopeSpans", items: "spans", item: span };
    let resource_spans = groups(text, &kind)?.into_iter().map(|group| ResourceSpans {
        resource: group.resource,
        scope_spans: group
            .scopes
            .into_iter()
            .map(|scope| ScopeSpans { scope: scope.source, spans: scope.items, schema_url: scope.schema_url })
            .collect(),
        schema_url: group.schema_url,
    });
    Ok(ExportTraceServiceRequest { resource_spans: resource_spans.collect() })
}

/// The logs request in this text.
pub fn decode_logs_request(text: &[u8]) -> Result<ExportLogsServiceRequest, JsonError> {
    let kind = Kind { groups: "resourceLogs", scopes: "scopeLogs", items: "logRecords", item: log_record };
    let resource_logs = groups(text, &kind)?.into_iter().map(|group| ResourceLogs {
        resource: group.resource,
        scope_logs: group
            .scopes
            .into_iter()
            .map(|scope| ScopeLogs { scope: scope.source, log_records: scope.items, schema_url: scope.schema_url })
            .collect(),
        schema_url: group.schema_url,
    });
    Ok(ExportLogsServiceRequest { resource_logs: resource_logs.collect() })
}

/// What the two kinds of requests call their parts, and how an item is read.
struct Kind<T> {
    groups: &'static str,
    scopes: &'static str,
    items: &'static str,
    item: fn(&Object<'_>) -> Result<T, JsonError>,
}

struct Group<T> {
    resource: Option<Resource>,
    scopes: Vec<Scope<T>>,
    schema_url: String,
}

struct Scope<T> {
    source: Option<InstrumentationScope>,
    items: Vec<T>,
    schema_url: String,
}

fn groups<T>(text: &[u8], kind: &Kind<T>) -> Result<Vec<Group<T>>, JsonError> {
    structure::check(text)?;
    let failure = Failure::default();
    // serde_json stops at a depth of 128, so that nesting cannot exhaust the stack.
    let mut json = serde_json::Deserializer::from_slice(text);
    let at = At { kind, failure: &failure };
    let groups = RequestAt(at).deserialize(&mut json).and_then(|groups| json.end().map(|()| groups));
    groups.map_err(|error| failure.take().unwrap_or_else(|| JsonError::Syntax(error.to_string())))
}

/// An error of ours on its way through serde, which has no place for it, and the way to where it happened.
#[derive(Default)]
struct Failure {
    error: RefCell<Option<JsonError>>,
    /// From the inside out.
    path: RefCell<Vec<Step>>,
}

enum Step {
    Member(&'static str),
    Item(usize),
}

impl Failure {
    fn set<E: serde::de::Error>(&self, error: JsonError) -> E {
        *self.error.borrow_mut() = Some(error);
        E::custom("")
    }

    /// Adds a step of the way to an error.
    fn within<T, E>(&self, step: Step, result: Result<T, E>) -> Result<T, E> {
        if result.is_err() {
            self.path.borrow_mut().push(step);
        }
        result
    }

    fn take(self) -> Option<JsonError> {
        let mut outer = String::new();
        for step in self.path.into_inner().into_iter().rev() {
            match step {
                Step::Member(name) if outer.is_empty() => outer.push_str(name),
                Step::Member(name) => outer.extend([".", name]),
                Step::Item(n) => outer.extend(["[", n.to_string().as_str(), "]"]),
            }
        }
        match self.error.into_inner()? {
            JsonError::Shape { path, found, expected } => {
                let path = match (outer.is_empty(), path.as_str()) {
                    (true, _) => path,
                    (false, Place::DOCUMENT) => outer,
                    (false, inner) => format!("{outer}.{inner}"),
                };
                Some(JsonError::Shape { path, found, expected })
            }
            syntax @ JsonError::Syntax(_) => Some(syntax),
        }
    }
}

struct At<'a, T> {
    kind: &'a Kind<T>,
    failure: &'a Failure,
}

impl<T> Clone for At<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for At<'_, T> {}

impl<T> At<'_, T> {
    /// Reads a member of an object that is small, through a tree of values.
    fn small<'de, V, A: MapAccess<'de>>(
        self,
        map: &mut A,
        name: &'static str,
        read: impl FnOnce(&Json) -> Result<V, JsonError>,
    ) -> Result<V, A::Error> {
        let json: Json = map.next_value()?;
        let result = read(&json).map_err(|error| self.failure.set(error));
        self.failure.within(Step::Member(name), result)
    }

    /// Reads a member that is a list.
    fn list<'de, S, A: MapAccess<'de>>(
        self,
        map: &mut A,
        name: &'static str,
        item: S,
    ) -> Result<Vec<S::Value>, A::Error>
    where
        S: DeserializeSeed<'de> + Copy,
    {
        let result = map.next_value_seed(ListOf { item, failure: self.failure });
        self.failure.within(Step::Member(name), result)
    }
}

fn is(key: &str, name: &str) -> bool {
    key == name || key == snake_case(name)
}

fn url(json: &Json) -> Result<String, JsonError> {
    if json.is_null() { Ok(String::new()) } else { read_text(Place::Root, json) }
}

fn message<V>(json: &Json, read: fn(&Object<'_>) -> Result<V, JsonError>) -> Result<Option<V>, JsonError> {
    if json.is_null() { Ok(None) } else { read(&Place::Root.object(json)?).map(Some) }
}

/// A list, or null for an empty one.
struct ListOf<'a, S> {
    item: S,
    failure: &'a Failure,
}

impl<'de, S: DeserializeSeed<'de> + Copy> DeserializeSeed<'de> for ListOf<'_, S> {
    type Value = Vec<S::Value>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, S: DeserializeSeed<'de> + Copy> Visitor<'de> for ListOf<'_, S> {
    type Value = Vec<S::Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = self.failure.within(Step::Item(items.len()), list.next_element_seed(self.item))? {
            items.push(item);
        }
        Ok(items)
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<Self::Value, E> {
        Ok(Vec::new())
    }
}

/// Makes a seed of an object whose members are read one by one; null stands for one without members.
macro_rules! object {
    ($seed:ident gives $value:ty, starting with $empty:expr, $at:ident, $out:ident, $key:ident, $map:ident => $members:block) => {
        struct $seed<'a, T>(At<'a, T>);

        impl<T> Clone for $seed<'_, T> {
            fn clone(&self) -> Self {
                *self
            }
        }

        impl<T> Copy for $seed<'_, T> {}

        impl<'de, T> DeserializeSeed<'de> for $seed<'_, T> {
            type Value = $value;

            fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
                deserializer.deserialize_any(self)
            }
        }

        impl<'de, T> Visitor<'de> for $seed<'_, T> {
            type Value = $value;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
                let ($at, $map) = (self.0, &mut members);
                let mut $out = $empty;
                while let Some(key) = $map.next_key::<String>()? {
                    let $key = key.as_str();
                    $members
                }
                Ok($out)
            }

            fn visit_unit<E: serde::de::Error>(self) -> Result<Self::Value, E> {
                Ok($empty)
            }
        }
    };
}

object!(RequestAt gives Vec<Group<T>>, starting with Vec::new(), at, out, key, map => {
    if is(key, at.kind.groups) {
        out = at.list(map, at.kind.groups, GroupAt(at))?;
    } else {
        map.next_value::<IgnoredAny>()?;
    }
});

object!(GroupAt gives Group<T>, starting with Group { resource: None, scopes: Vec::new(), schema_url: String::new() },
    at, out, key, map => {
    if is(key, at.kind.scopes) {
        out.scopes = at.list(map, at.kind.scopes, ScopeAt(at))?;
    } else if key == "resource" {
        out.resource = at.small(map, "resource", |json| message(json, resource))?;
    } else if is(key, "schemaUrl") {
        out.schema_url = at.small(map, "schemaUrl", url)?;
    } else {
        map.next_value::<IgnoredAny>()?;
    }
});

object!(ScopeAt gives Scope<T>, starting with Scope { source: None, items: Vec::new(), schema_url: String::new() },
    at, out, key, map => {
    if is(key, at.kind.items) {
        out.items = at.list(map, at.kind.items, ItemAt(at))?;
    } else if key == "scope" {
        out.source = at.small(map, "scope", |json| message(json, scope))?;
    } else if is(key, "schemaUrl") {
        out.schema_url = at.small(map, "schemaUrl", url)?;
    } else {
        map.next_value::<IgnoredAny>()?;
    }
});

struct ItemAt<'a, T>(At<'a, T>);

impl<T> Clone for ItemAt<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for ItemAt<'_, T> {}

impl<'de, T> DeserializeSeed<'de> for ItemAt<'_, T> {
    type Value = T;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<T, D::Error> {
        let json = <Json as serde::Deserialize>::deserialize(deserializer)?;
        let At { kind, failure } = self.0;
        let item = if json.is_null() {
            (kind.item)(&Object::empty(&serde_json::Map::new()))
        } else {
            Place::Root.object(&json).and_then(|o| (kind.item)(&o))
        };
        item.map_err(|error| failure.set(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_read_in_any_order_of_their_members() {
        let expected = decode_trace_request(
            br#"{"resourceSpans":[{"resource":{"droppedAttributesCount":1},"schemaUrl":"r","scopeSpans":[
                {"scope":{"name":"s"},"schemaUrl":"u","spans":[{"name":"a"},{"name":"b"}]}]}]}"#,
        )
        .expect("a request");
        assert_eq!(expected.resource_spans[0].scope_spans[0].spans.len(), 2);
        let turned = decode_trace_request(
            br#"{"x":{"y":[1]},"resource_spans":[{"scope_spans":[{"spans":[{"name":"a"},{"name":"b"}],"x":null,"schema_url":"u",
                "scope":{"name":"s"}}],"x":1,"schema_url":"r","resource":{"dropped_attributes_count":"1"}}]}"#,
        );
        assert_eq!(turned.as_ref(), Ok(&expected));
    }

    #[test]
    fn null_is_unset_on_every_level() {
        let count = |json: &str| decode_logs_request(json.as_bytes()).map(|request| request.resource_logs.len());
        assert_eq!((count("{}"), count("null"), count(r#"{"resourceLogs":null}"#)), (Ok(0), Ok(0), Ok(0)));
        assert_eq!(count(r#"{"resourceLogs":[null,{"scopeLogs":null,"resource":null,"schemaUrl":null}]}"#), Ok(2));
        let request =
            decode_logs_request(br#"{"resourceLogs":[{"scopeLogs":[null,{"logRecords":[null],"scope":null}]}]}"#);
        assert_eq!(request.expect("a request").resource_logs[0].scope_logs[1].log_records.len(), 1);
    }

    #[test]
    fn errors_name_the_place() {
        let check = |json: &str, expected: &str| {
            let error = decode_trace_request(json.as_bytes()).expect_err(json).to_string();
            assert!(error.contains(expected), "{json}: {error}");
        };
        let first = r#"{"resourceSpans":[{},{"scopeSpans":[{"spans":[{},"#;
        check(
            &format!(r#"{first}{{"traceId":"abc"}}]}}]}}]}}"#),
            "`resourceSpans[1].scopeSpans[0].spans[1].traceId` is",
        );
        check(&format!("{first}7]}}]}}]}}"), "`resourceSpans[1].scopeSpans[0].spans[1]` is 7, expected an object");
        check(r#"{"resourceSpans":[{"resource":{"attributes":1}}]}"#, "`resourceSpans[0].resource.attributes` is 1");
        check(r#"{"resourceSpans":[{"schemaUrl":1}]}"#, "`resourceSpans[0].schemaUrl` is 1, expected a string");
        check(r#"{"resourceSpans":7}"#, "invalid type: integer `7`, expected a list at line 1");
        check(r#"{"resourceSpans":[{"scopeSpans":[[]]}]}"#, "expected an object");
        check("[]", "expected an object");
        check("{} {}", "trailing characters");
        check(r#"{"resourceSpans":[{"scopeSpans":[{"spans":[{}"#, "EOF");
        let deep =
            format!("{}{}1{}{}", r#"{"resourceSpans":[{"resource":"#, r#"{"a":"#.repeat(200), "}".repeat(200), "}]}");
        check(&deep, "recursion limit exceeded");
    }
}
