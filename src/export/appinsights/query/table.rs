//! A table of Log Analytics, with the columns as either of the two schemas names them.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::{Map, Value as Json};

use super::client::QueryError;

/// A table of an answer.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Table {
    columns: Vec<Column>,
    pub(super) rows: Vec<Vec<Json>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Column {
    name: String,
}

/// Which table a row is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Dependency,
    Request,
    Event,
    Exception,
    Message,
    /// One that holds no part of a trace, such as `pageViews`.
    Other,
}

/// A row.
#[derive(Debug, Clone)]
pub(super) struct Row<'a> {
    pub(super) kind: Kind,
    /// As the table has it: RFC 3339.
    pub(super) time: &'a str,
    pub(super) id: &'a str,
    pub(super) operation: &'a str,
    pub(super) parent: &'a str,
    pub(super) name: &'a str,
    /// Of a dependency or an exception.
    pub(super) of_type: &'a str,
    pub(super) success: Option<bool>,
    pub(super) result_code: String,
    pub(super) duration_ms: Option<f64>,
    pub(super) message: &'a str,
    pub(super) severity: Option<i64>,
    pub(super) details: Option<Json>,
    pub(super) properties: Map<String, Json>,
    pub(super) measurements: Map<String, Json>,
    pub(super) role: &'a str,
    pub(super) instance: &'a str,
    pub(super) version: &'a str,
    pub(super) item_count: i64,
}

/// Each field's name in the tables of a resource and of a workspace. `type` and `Type` are not the same.
const NAMES: [(&str, &[&str]); 21] = [
    ("time", &["timestamp", "TimeGenerated"]),
    ("table", &["itemType", "Type", "$table", "SourceTable"]),
    ("id", &["id", "Id"]),
    ("operation", &["operation_Id", "OperationId"]),
    ("parent", &["operation_ParentId", "ParentId"]),
    ("name", &["name", "Name"]),
    ("type", &["type", "DependencyType", "ExceptionType"]),
    ("exception", &["ExceptionType"]),
    ("success", &["success", "Success"]),
    ("code", &["resultCode", "ResultCode"]),
    ("duration", &["duration", "DurationMs"]),
    ("message", &["message", "Message"]),
    ("outer", &["outerMessage", "OuterMessage"]),
    ("severity", &["severityLevel", "SeverityLevel"]),
    ("details", &["details", "Details"]),
    ("properties", &["customDimensions", "Properties"]),
    ("measurements", &["customMeasurements", "Measurements"]),
    ("role", &["cloud_RoleName", "AppRoleName"]),
    ("instance", &["cloud_RoleInstance", "AppRoleInstance"]),
    ("version", &["application_Version", "AppVersion"]),
    ("count", &["itemCount", "ItemCount"]),
];

/// Where each field stands.
pub(super) struct Columns(HashMap<&'static str, usize>);

impl Table {
    /// Finds the columns.
    pub(super) fn columns(&self) -> Result<Columns, QueryError> {
        let place =
            |names: &[&str]| names.iter().find_map(|name| self.columns.iter().position(|column| column.name == *name));
        let found: HashMap<&str, usize> =
            NAMES.iter().filter_map(|(field, names)| Some((*field, place(names)?))).collect();
        for needed in ["time", "operation"] {
            if !found.contains_key(needed) {
                let names = NAMES.iter().find(|(field, _)| *field == needed).map_or(&[][..], |(_, names)| names);
                let there: Vec<&str> = self.columns.iter().take(12).map(|column| column.name.as_str()).collect();
                return Err(QueryError::Columns(format!(
                    "the rows of the query have no column `{}`; they have {}; a query for import gives rows of the tables \
                     dependencies, requests, customEvents, exceptions and traces as they are",
                    names.join("` or `"),
                    there.join(", ")
                )));
            }
        }
        Ok(Columns(found))
    }
}

impl Columns {
    /// The fields of a row; what is missing or null is empty.
    pub(super) fn row<'a>(&self, cells: &'a [Json]) -> Row<'a> {
        let cell = |field: &str| self.0.get(field).and_then(|&at| cells.get(at)).filter(|cell| !cell.is_null());
        let text = |field: &str| cell(field).and_then(Json::as_str).unwrap_or_default();
        let number = |field: &str| match cell(field)? {
            Json::String(text) => text.trim().parse::<f64>().ok(),
            other => other.as_f64(),
        };
        // A column of values of any kind comes as a text that holds JSON.
        let any = |field: &str| match cell(field)? {
            Json::String(text) => serde_json::from_str(text).ok(),
            other => Some(other.clone()),
        };
        let map = |field: &str| match any(field) {
            Some(Json::Object(map)) => map,
            _ => Map::new(),
        };
        let success = match cell("success") {
            Some(Json::Bool(success)) => Some(*success),
            Some(Json::String(text)) if text.eq_ignore_ascii_case("true") || text == "1" => Some(true),
            Some(Json::String(text)) if text.eq_ignore_ascii_case("false") || text == "0" => Some(false),
            Some(Json::Number(number)) => number.as_i64().map(|n| n != 0),
            _ => None,
        };
        let kind = match text("table") {
            "dependency" | "AppDependencies" | "dependencies" => Kind::Dependency,
            "request" | "AppRequests" | "requests" => Kind::Request,
            "customEvent" | "AppEvents" | "customEvents" => Kind::Event,
            "exception" | "AppExceptions" | "exceptions" => Kind::Exception,
            "trace" | "AppTraces" | "traces" => Kind::Message,
            // A query may have left that column out.
            "" if cell("duration").is_some() && !text("id").is_empty() => match text("type") {
                "" => Kind::Request,
                _ => Kind::Dependency,
            },
            "" if !text("message").is_empty() => Kind::Message,
            "" if cell("details").is_some() || !text("outer").is_empty() => Kind::Exception,
            "" if !text("name").is_empty() => Kind::Event,
            _ => Kind::Other,
        };
        let (message, of_type) = match kind {
            Kind::Exception if !text("exception").is_empty() => (text("outer"), text("exception")),
            Kind::Exception => (text("outer"), text("type")),
            _ => (text("message"), text("type")),
        };
        let code = match cell("code") {
            Some(Json::String(text)) => text.clone(),
            Some(other) => other.to_string(),
            None => String::new(),
        };
        Row {
            kind,
            time: text("time"),
            id: text("id"),
            operation: text("operation"),
            parent: text("parent"),
            name: text("name"),
            of_type,
            success,
            result_code: code,
            duration_ms: number("duration"),
            message,
            severity: number("severity").map(|x| x as i64),
            details: any("details"),
            properties: map("properties"),
            measurements: map("measurements"),
            role: text("role"),
            instance: text("instance"),
            version: text("version"),
            item_count: number("count").map_or(1, |x| x as i64),
        }
    }
}
