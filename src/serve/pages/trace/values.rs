//! Attributes and their values: JSON spelled out, long texts folded, and never more of them than a page can bear.

use maud::{Markup, html};

use super::super::layout::{block, text};
use crate::model::{Key, Value};
use crate::report::format::count;
use crate::report::trace_documents::json;

/// Up to this many characters a value stands in its row as it is.
const SHORT: usize = 160;
/// How much of one value is shown, in bytes.
const ONE: usize = 16 * 1024;
/// How many attributes of one list are shown.
const MANY: usize = 200;

/// How many more bytes of texts a page shows; what is cut can be had whole by another way.
pub(super) struct Budget(usize);

impl Budget {
    /// For the panel of one span.
    pub(super) const fn panel() -> Self {
        Self(96 * 1024)
    }

    /// For a page that consists of texts.
    pub(super) const fn page() -> Self {
        Self(1024 * 1024)
    }

    /// As much of the text as one value may take, and how many bytes were cut.
    pub(super) fn take<'t>(&mut self, text: &'t str) -> (&'t str, usize) {
        // A little is always shown, so that the reader sees what it is about.
        let mut end = text.len().min(ONE).min(self.0.max(200));
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        self.0 = self.0.saturating_sub(end);
        (text.get(..end).unwrap_or_default(), text.len() - end)
    }
}

/// A list of attributes, in their order.
pub(super) fn attributes(pairs: &[(Key, Value)], budget: &mut Budget) -> Markup {
    html! {
        table.attributes {
            thead.visually-hidden { tr { th scope="col" { "Attribute" } th scope="col" { "Value" } } }
            tbody {
                @for (key, value) in pairs.iter().take(MANY) {
                    tr {
                        th scope="row" { (name(key, budget)) }
                        td { (value_of(value, budget)) }
                    }
                }
            }
        }
        @if pairs.len() > MANY {
            p.muted { (count((pairs.len() - MANY) as u64)) " more stand in the raw view." }
        }
    }
}

/// A name, cut if it is absurdly long.
pub(super) fn name(key: &str, budget: &mut Budget) -> Markup {
    let shown: String = key.chars().take(SHORT).collect();
    budget.take(&shown);
    let cut = key.len() - shown.len();
    html! { (text(&shown)) @if cut > 0 { span.muted { "… " (count(cut as u64)) " more bytes" } } }
}

fn value_of(value: &Value, budget: &mut Budget) -> Markup {
    match value {
        Value::Empty => html! { span.absent { "no value" } },
        Value::Str(text) if text.is_empty() => html! { span.absent { "empty text" } },
        Value::Str(text) => long_text(text, budget),
        Value::Bytes(bytes) => html! {
            span.muted { (count(bytes.len() as u64)) " bytes, base64 " }
            (long_text(json(value).as_str().unwrap_or_default(), budget))
        },
        Value::Array(_) | Value::Map(_) => {
            let json = json(value);
            let short = json.to_string();
            if short.len() <= SHORT {
                html! { code { (text(&short)) } }
            } else {
                folded(&short, &pretty(&json), budget)
            }
        }
        Value::Bool(_) | Value::Int(_) | Value::Double(_) => html! { code { (text(&plain(value))) } },
    }
}

fn plain(value: &Value) -> String {
    match json(value) {
        serde_json::Value::String(text) => text,
        other => other.to_string(),
    }
}

/// A text: short ones as they are, JSON spelled out, others folded under their beginning.
pub(super) fn long_text(value: &str, budget: &mut Budget) -> Markup {
    if let Some(json) = as_json(value) {
        return if value.len() <= SHORT && !value.contains('\n') {
            html! { code { (text(value)) } }
        } else {
            folded(value, &json, budget)
        };
    }
    if value.len() <= SHORT && !value.contains('\n') {
        budget.take(value);
        return html! { (text(value)) };
    }
    if value.len() <= 4 * SHORT && value.lines().count() <= 8 {
        budget.take(value);
        return html! { pre.prose { (block(value)) } };
    }
    folded(value, value, budget)
}

/// The text laid out, if it is a JSON list or object.
pub(super) fn as_json(value: &str) -> Option<String> {
    if value.len() > 4 * ONE || !value.trim_start().starts_with(['[', '{']) {
        return None;
    }
    serde_json::from_str::<serde_json::Value>(value).ok().map(|json| pretty(&json))
}

fn pretty(json: &serde_json::Value) -> String {
    serde_json::to_string_pretty(json).unwrap_or_else(|_| json.to_string())
}

fn folded(beginning: &str, whole: &str, budget: &mut Budget) -> Markup {
    let head: String = beginning.chars().take(90).collect();
    let (shown, cut) = budget.take(whole);
    html! {
        details {
            summary { (text(&head)) "… " span.muted { "(" (count(whole.chars().count() as u64)) " characters)" } }
            pre.code { (block(shown)) @if cut > 0 { (cut_note(cut)) } }
        }
    }
}

/// Says that something was cut.
pub(super) fn cut_note(cut: usize) -> Markup {
    html! { "\n" span.muted { "… " (count(cut as u64)) " more bytes; the download has them all" } }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(value: Value) -> String {
        attributes(&[("k".into(), value)], &mut Budget::panel()).into_string()
    }

    #[test]
    fn values_are_shown_as_what_they_are() {
        assert!(shown("a < b".to_owned().into()).contains("<td>a &lt; b</td>"));
        assert!(shown(f64::NAN.into()).contains("<code>NaN</code>"));
        assert!(shown(Value::Empty).contains("no value"));
        assert!(shown(Value::Bytes(vec![1, 2])).contains("2 bytes, base64 </span>AQI="));
        assert!(shown(Value::Array(vec![1i64.into(), "x".into()])).contains("<code>[1,&quot;x&quot;]</code>"));
    }

    #[test]
    fn long_values_are_folded_and_json_is_spelled_out() {
        let long = format!("{{\"list\":[{}1]}}", "1,".repeat(200));
        let markup = shown(long.into());
        assert!(markup.contains("<details><summary>{&quot;list&quot;"), "{markup}");
        assert!(markup.contains("\n  &quot;list&quot;: ["), "{markup}");
    }

    #[test]
    fn what_is_absurdly_long_is_cut() {
        let key = "k".repeat(1 << 20);
        let many: Vec<(Key, Value)> = (0..300).map(|_| (key.clone().into(), "<".repeat(1 << 16).into())).collect();
        let markup = attributes(&many, &mut Budget::panel()).into_string();
        // Each `<` takes four bytes once it is escaped.
        assert!(markup.len() < 900_000, "{}", markup.len());
        assert!(markup.contains("100 more stand in the raw view"));
        assert!(!markup.contains("<<"));
    }
}
