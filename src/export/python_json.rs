//! Text as Python's `json.dumps(value, indent=4)` gives it: ASCII only, doubles as `repr` shows them, empty containers
//! on one line. What is written is left to [`super::console`].

use std::fmt::Write as _;

/// Writes one JSON document with an indent of four blanks.
#[derive(Debug, Default)]
pub(super) struct PythonJson {
    out: String,
    /// One entry per open container: whether it holds something already.
    open: Vec<bool>,
    /// Whether a key was just written, so that the value follows on the same line.
    after_key: bool,
}

impl PythonJson {
    /// The document.
    pub(super) fn finish(self) -> String {
        debug_assert!(self.open.is_empty(), "every container is closed");
        self.out
    }

    /// An object with the members that `members` writes.
    pub(super) fn object(&mut self, members: impl FnOnce(&mut Self)) {
        self.container('{', '}', members);
    }

    /// A list with the items that `items` writes.
    pub(super) fn list(&mut self, items: impl FnOnce(&mut Self)) {
        self.container('[', ']', items);
    }

    /// The key of the next value.
    pub(super) fn key(&mut self, key: &str) -> &mut Self {
        self.place();
        quote(&mut self.out, key);
        self.out.push_str(": ");
        self.after_key = true;
        self
    }

    pub(super) fn null(&mut self) {
        self.literal("null");
    }

    pub(super) fn bool(&mut self, x: bool) {
        self.literal(if x { "true" } else { "false" });
    }

    pub(super) fn int(&mut self, x: i64) {
        self.place();
        write!(self.out, "{x}").expect("writing to a string cannot fail");
    }

    pub(super) fn double(&mut self, x: f64) {
        self.place();
        float(&mut self.out, x);
    }

    pub(super) fn str(&mut self, text: &str) {
        self.place();
        quote(&mut self.out, text);
    }

    /// The text, or null where it is empty.
    pub(super) fn str_or_null(&mut self, text: &str) {
        if text.is_empty() { self.null() } else { self.str(text) }
    }

    fn literal(&mut self, text: &str) {
        self.place();
        self.out.push_str(text);
    }

    fn container(&mut self, begin: char, end: char, content: impl FnOnce(&mut Self)) {
        self.place();
        self.out.push(begin);
        self.open.push(false);
        content(self);
        if self.open.pop() == Some(true) {
            self.new_line();
        }
        self.out.push(end);
    }

    /// Goes to where the next value, or the next key, belongs.
    fn place(&mut self) {
        if std::mem::take(&mut self.after_key) {
            return;
        }
        if let Some(holds_something) = self.open.last_mut() {
            if std::mem::replace(holds_something, true) {
                self.out.push(',');
            }
            self.new_line();
        }
    }

    fn new_line(&mut self) {
        self.out.push('\n');
        for _ in 0..self.open.len() {
            self.out.push_str("    ");
        }
    }
}

/// A string literal in ASCII; characters beyond the first plane become surrogate pairs.
fn quote(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            ' '..='~' => out.push(c),
            _ => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    write!(out, "\\u{unit:04x}").expect("writing to a string cannot fail");
                }
            }
        }
    }
    out.push('"');
}

/// A double as Python's `repr` shows it, and the names that `json.dumps` uses for what JSON has no number for.
///
/// Both languages print the shortest digits that read back as the same double; they differ in layout. Python writes an
/// exponent, of at least two digits, when the decimal exponent is below -4 or at least 16.
fn float(out: &mut String, x: f64) {
    if !x.is_finite() {
        out.push_str(match x {
            x if x.is_nan() => "NaN",
            x if x > 0.0 => "Infinity",
            _ => "-Infinity",
        });
        return;
    }
    let scientific = shortest(x);
    let (mantissa, exponent) = scientific.split_once('e').expect("`{:e}` writes an exponent");
    let exponent: i32 = exponent.parse().expect("`{:e}` writes a decimal exponent");
    if !(-4..16).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        write!(out, "{mantissa}e{sign}{:02}", exponent.unsigned_abs()).expect("writing to a string cannot fail");
        return;
    }
    out.extend(mantissa.strip_prefix('-').map(|_| '-'));
    let digits = mantissa.bytes().filter(u8::is_ascii_digit).map(char::from);
    if exponent < 0 {
        out.push_str("0.");
        out.extend((1..-exponent).map(|_| '0'));
        out.extend(digits);
    } else {
        let whole = exponent as usize + 1;
        out.extend(digits.clone().chain(std::iter::repeat('0')).take(whole));
        out.push('.');
        let before = out.len();
        out.extend(digits.skip(whole));
        if out.len() == before {
            out.push('0');
        }
    }
}

/// The shortest digits that read back as `x`, in scientific notation.
///
/// Where two numbers with as few digits are equally near, Rust takes the upper one and Python the even one; formatting
/// with the number of digits given rounds to even.
fn shortest(x: f64) -> String {
    let upper = format!("{x:e}");
    let decimals = upper.bytes().take_while(|b| *b != b'e').filter(u8::is_ascii_digit).count() - 1;
    let even = format!("{x:.decimals$e}");
    if even.parse() == Ok(x) { even } else { upper }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_look_as_python_shows_them() {
        let cases = [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (1.0, "1.0"),
            (0.1, "0.1"),
            (1e-4, "0.0001"),
            (1e-5, "1e-05"),
            (1.5e-7, "1.5e-07"),
            (1e15, "1000000000000000.0"),
            (9_007_199_254_740_993.0, "9007199254740992.0"),
            (1e16, "1e+16"),
            (1e22, "1e+22"),
            (123_456_789_012_345.0, "123456789012345.0"),
            (123_456_789_012_345_680.0, "1.2345678901234568e+17"),
            (f64::from_bits(0x4317_c419_25c6_e2dd), "1672384187840695.2"),
            (f64::from_bits(0x42be_999b_78a7_a790), "33645087205287.562"),
            (f64::from_bits(0xc312_d148_4900_8bdd), "-1324164493353719.2"),
            (5e22, "5e+22"),
            (9_007_199_254_740_992.0, "9007199254740992.0"),
            (f64::MAX, "1.7976931348623157e+308"),
            (f64::from_bits(1), "5e-324"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "Infinity"),
            (f64::NEG_INFINITY, "-Infinity"),
        ];
        for (x, expected) in cases {
            let mut out = String::new();
            float(&mut out, x);
            assert_eq!(out, expected);
        }
    }

    #[test]
    fn text_is_ascii_with_surrogate_pairs() {
        let mut out = String::new();
        quote(&mut out, "é \u{1f600} \"\\\n\r\t\u{8}\u{c}\u{0}\u{1f}\u{7f}~");
        assert_eq!(out, r#""\u00e9 \ud83d\ude00 \"\\\n\r\t\b\f\u0000\u001f\u007f~""#);
    }

    #[test]
    fn empty_containers_stay_on_their_line() {
        let mut json = PythonJson::default();
        json.object(|json| {
            json.key("a").list(|_| {});
            json.key("b").object(|_| {});
            json.key("c").list(|json| {
                json.int(1);
                json.list(PythonJson::null);
            });
        });
        let expected = "{\n    \"a\": [],\n    \"b\": {},\n    \"c\": [\n        1,\n        [\n            null\n        ]\n    ]\n}";
        assert_eq!(json.finish(), expected);
    }
}
