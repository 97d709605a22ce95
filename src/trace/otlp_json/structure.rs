//! How much structure a text of JSON has, before it is read: a list of empty objects takes a hundred times its bytes once
//! it is values.

use super::decode::JsonError;

/// The most brackets, braces and commas of one span or log record: each stands for a value that takes some hundred bytes.
const OF_ITEM: usize = 400_000;

/// How deep the objects of spans and log records stand: request, groups, group, scopes, scope, items, item.
const ITEM_DEPTH: usize = 7;

/// The fewest bytes that a span or log record has that is worth keeping: its ids alone have more.
const BYTES_OF_ITEM: usize = 24;

/// Items that may be smaller.
const SMALL_ITEMS: usize = 10_000;

/// Refuses a text that is nearly all structure. Whether it is JSON is for others to say.
pub(super) fn check(text: &[u8]) -> Result<(), JsonError> {
    let (mut depth, mut items, mut of_item) = (0_usize, 0_usize, 0_usize);
    let mut bytes = text.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => skip_text(&mut bytes),
            b'{' | b'[' => {
                depth += 1;
                of_item += 1;
                if depth == ITEM_DEPTH {
                    (items, of_item) = (items + 1, 1);
                }
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            b',' => of_item += 1,
            _ => {}
        }
        if depth >= ITEM_DEPTH && of_item > OF_ITEM {
            let reason =
                format!("a span or log record has more than {OF_ITEM} brackets and commas; nothing is that large");
            return Err(JsonError::Syntax(reason));
        }
    }
    if items > SMALL_ITEMS + text.len() / BYTES_OF_ITEM {
        return Err(JsonError::Syntax(format!("{items} spans or log records in {} bytes: they are empty", text.len())));
    }
    Ok(())
}

/// Goes behind the end of a text.
fn skip_text<'b>(bytes: &mut impl Iterator<Item = &'b u8>) {
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => return,
            b'\\' => _ = bytes.next(),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_nearly_all_structure_is_refused() {
        let request = |spans: &str| format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{spans}]}}]}}]}}"#);
        let empty = request(&"{},".repeat(100_000));
        assert!(check(empty.as_bytes()).expect_err("empty spans").to_string().contains("they are empty"));
        let attributes = request(&format!(r#"{{"attributes":[{}]}}"#, "{},".repeat(300_000)));
        assert!(check(attributes.as_bytes()).expect_err("a crowded span").to_string().contains("400000"));
        let good = r#"{"traceId":"0af7651916cd43dd8448eb211c80319c","attributes":[{"key":"{[,","value":{"stringValue":"\\\"{{{"}}]},"#;
        assert_eq!(check(request(&good.repeat(20_000)).as_bytes()), Ok(()));
        assert_eq!(check(request(&"{},".repeat(5_000)).as_bytes()), Ok(()));
        assert_eq!(check(b"\"open"), Ok(()));
    }
}
