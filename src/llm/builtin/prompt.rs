//! Finds the evidence and the claim in a conversation, as a reader would: by their headings.

/// What was found in the messages; borrowed from them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Parts<'a> {
    /// The evidence, empty if no heading says where it is.
    pub(super) evidence: &'a str,
    /// The claim, empty if no heading says where it is.
    pub(super) claim: &'a str,
    /// Whether the rest of the conversation names the three words True, False and NEE.
    pub(super) names_labels: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Heading {
    Evidence,
    Claim,
    Answer,
}

/// Words that begin a section, in lower case; those marked `true` also count in the middle of a line.
const HEADINGS: [(&str, Heading, bool); 22] = [
    ("evidence", Heading::Evidence, true),
    ("context", Heading::Evidence, true),
    ("abstract", Heading::Evidence, false),
    ("passage", Heading::Evidence, false),
    ("document", Heading::Evidence, false),
    ("documents", Heading::Evidence, false),
    ("source", Heading::Evidence, false),
    ("sources", Heading::Evidence, false),
    ("text", Heading::Evidence, false),
    ("background", Heading::Evidence, false),
    ("premise", Heading::Evidence, false),
    ("claim", Heading::Claim, true),
    ("statement", Heading::Claim, true),
    ("hypothesis", Heading::Claim, false),
    ("assertion", Heading::Claim, false),
    ("answer", Heading::Answer, false),
    ("your answer", Heading::Answer, false),
    ("label", Heading::Answer, false),
    ("verdict", Heading::Answer, false),
    ("response", Heading::Answer, false),
    ("output", Heading::Answer, false),
    ("instructions", Heading::Answer, false),
];

/// A heading and where its line of text begins and its section starts.
#[derive(Debug, Clone, Copy)]
struct Found {
    heading: Heading,
    /// Where the heading begins.
    at: usize,
    /// Where its section begins.
    after: usize,
}

/// Reads the parts from the messages' texts: the last message that has a claim is the question.
pub(super) fn parts<'a>(messages: &[&'a str]) -> Parts<'a> {
    let question = messages.iter().enumerate().rev().find_map(|(i, text)| Some((i, split(text)?)));
    let Some((index, (evidence, claim))) = question else {
        let names_labels = names_labels(messages.iter().copied());
        return Parts { names_labels, ..Parts::default() };
    };
    let question = messages[index];
    // The evidence may stand in a message of its own.
    let evidence = evidence.or_else(|| messages.iter().rev().find_map(|text| evidence_of(text))).unwrap_or_default();
    // What the evidence and the claim say are no instructions.
    let rest = [before(question, evidence, claim), after(question, evidence, claim)];
    let others = messages.iter().enumerate().filter(|(i, _)| *i != index).map(|(_, text)| *text);
    Parts { evidence, claim, names_labels: names_labels(others.chain(rest)) }
}

/// Evidence, if this text holds it, and claim.
fn split(text: &str) -> Option<(Option<&str>, &str)> {
    let found = headings(text);
    // The evidence itself may hold a line that looks like a claim's heading: the last one counts.
    let claim = found.iter().rposition(|found| found.heading == Heading::Claim)?;
    let claim_end = found[claim + 1..].first().map_or(text.len(), |next| next.at);
    let claim_text = paragraph(section(text, found[claim].after, claim_end));
    if claim_text.is_empty() {
        return None;
    }
    let evidence = match found[..claim].iter().find(|found| found.heading == Heading::Evidence) {
        Some(first) => Some(section(text, first.after, found[claim].at)),
        None => last_section(text, &found[claim + 1..]),
    };
    Some((evidence, claim_text))
}

fn evidence_of(text: &str) -> Option<&str> {
    last_section(text, &headings(text))
}

/// The evidence where no claim follows it: up to a heading for the answer, or a last paragraph that asks for one.
fn last_section<'a>(text: &'a str, found: &[Found]) -> Option<&'a str> {
    let first = found.iter().find(|found| found.heading == Heading::Evidence)?;
    let end = found.iter().find(|found| found.at > first.at && found.heading == Heading::Answer);
    let section = section(text, first.after, end.map_or(text.len(), |end| end.at));
    let (head, tail) = section.rsplit_once("\n\n").unwrap_or((section, ""));
    let asks = ["answer", "respond", "reply", "classify", "decide", "label", "does ", "do ", "is the "];
    let tail = tail.trim_start().to_ascii_lowercase();
    Some(if asks.iter().any(|word| tail.starts_with(word)) { head.trim_end() } else { section })
}

fn section(text: &str, from: usize, to: usize) -> &str {
    let text = text.get(from..to).unwrap_or_default().trim();
    // A closing tag or mark of emphasis may follow the section.
    let text = text.rsplit_once("</").map_or(text, |(inner, tag)| if tag.ends_with('>') { inner } else { text });
    text.trim_matches(|c: char| c.is_whitespace() || c == '*' || c == '`')
}

/// Up to the first empty line: a claim is one paragraph, and what follows are instructions.
fn paragraph(text: &str) -> &str {
    text.split("\n\n").next().unwrap_or_default().trim().trim_matches('"')
}

/// All headings of the text, in order.
fn headings(text: &str) -> Vec<Found> {
    let mut found = Vec::new();
    let mut line_start = 0;
    for line in text.split_inclusive('\n') {
        if let Some((heading, length)) = opening(line) {
            found.push(Found { heading, at: line_start, after: line_start + length });
        }
        for (colon, _) in line.match_indices(": ") {
            let word_start = line.get(..colon).and_then(|head| head.rfind(' ')).map(|blank| blank + 1);
            let Some(start) = word_start else { continue };
            let word = line.get(start..colon).unwrap_or_default();
            let known = HEADINGS.iter().find(|(name, _, inline)| *inline && word.eq_ignore_ascii_case(name));
            if let Some((_, heading, _)) = known.filter(|_| word.starts_with(|c: char| c.is_ascii_uppercase())) {
                let (at, after) = (line_start + start, line_start + colon + 1);
                if found.last().is_none_or(|last| last.after <= at) {
                    found.push(Found { heading: *heading, at, after });
                }
            }
        }
        line_start += line.len();
    }
    found
}

/// The heading that a line begins with, and how many bytes of the line belong to it: `Claim:`, `**Claim**:`,
/// `## Claim`, `<claim>`.
fn opening(line: &str) -> Option<(Heading, usize)> {
    let start = line.trim_start_matches(|c: char| c.is_whitespace() || "*#->_<[`".contains(c));
    let marks = line.get(..line.len() - start.len())?;
    let end = start.find(|c: char| !c.is_ascii_alphabetic() && c != ' ').unwrap_or(start.len());
    let (word, rest) = start.split_at_checked(end)?;
    let word = word.trim();
    let (_, heading, _) = HEADINGS.iter().find(|(name, ..)| word.eq_ignore_ascii_case(name))?;
    let closing = rest.trim_start_matches(['*', '_', '`', ' ', ']']);
    let length = match closing.chars().next() {
        Some(':') => line.len() - closing.len() + 1,
        Some('>') if marks.ends_with('<') => line.len() - closing.len() + 1,
        Some('\n' | '\r') | None if marks.contains('#') || marks.contains('*') => line.len() - closing.len(),
        _ => return None,
    };
    // `Claim:** text` closes its emphasis after the colon.
    let marks_after = line.get(length..).map_or(0, |tail| tail.len() - tail.trim_start_matches(['*', '_']).len());
    Some((*heading, length + marks_after))
}

fn before<'a>(text: &'a str, evidence: &str, claim: &str) -> &'a str {
    let start = [evidence, claim].into_iter().filter_map(|part| offset(text, part)).min();
    text.get(..start.unwrap_or(0)).unwrap_or_default()
}

fn after<'a>(text: &'a str, evidence: &str, claim: &str) -> &'a str {
    let end = [evidence, claim].into_iter().filter_map(|part| Some(offset(text, part)? + part.len())).max();
    text.get(end.unwrap_or(text.len())..).unwrap_or_default()
}

/// Where `part`, a slice of `text`, begins in it; `None` for a slice of another text.
fn offset(text: &str, part: &str) -> Option<usize> {
    let at = (part.as_ptr() as usize).checked_sub(text.as_ptr() as usize)?;
    (at + part.len() <= text.len() && !part.is_empty()).then_some(at)
}

fn names_labels<'a>(texts: impl Iterator<Item = &'a str>) -> bool {
    let mut seen = [false; 3];
    for text in texts {
        for word in text.split(|c: char| !c.is_alphanumeric()) {
            for (seen, label) in seen.iter_mut().zip(["True", "False", "NEE"]) {
                *seen |= word == label;
            }
        }
    }
    seen == [true; 3]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(messages: &[&str], evidence: &str, claim: &str) {
        let parts = parts(messages);
        assert_eq!((parts.evidence, parts.claim), (evidence, claim), "{messages:?}");
    }

    #[test]
    fn the_parts_are_found_under_their_headings() {
        check(&["Evidence:\nE one.\nE two.\n\nClaim:\nC.\n\nAnswer:"], "E one.\nE two.", "C.");
        check(&["Context: E.\nStatement: C."], "E.", "C.");
        check(&["Claim: C.\n\nContext: E.\n\nAnswer with True, False or NEE."], "E.", "C.");
        check(&["**Evidence:** E.\n**Claim:** C."], "E.", "C.");
        check(&["## Abstract\nE.\n## Hypothesis\nC."], "E.", "C.");
        check(&["<context>\nE.\n</context>\n<claim>C.</claim>"], "E.", "C.");
        check(&["Check this. Evidence: E. Claim: C."], "E.", "C.");
        check(&["evidence:\r\nE.\r\nclaim:\r\nC.\r\n"], "E.", "C.");
        check(&["Evidence: E.", "Claim: C."], "E.", "C.");
    }

    #[test]
    fn a_claims_heading_within_the_evidence_is_evidence() {
        check(
            &["Evidence:\nThey wrote:\nClaim: not this.\nMore.\n\nClaim:\nC."],
            "They wrote:\nClaim: not this.\nMore.",
            "C.",
        );
        check(&["Evidence:\nThe text says Claim: not this.\n\nClaim:\nC."], "The text says Claim: not this.", "C.");
    }

    #[test]
    fn without_headings_nothing_is_found() {
        check(&["E. C."], "", "");
        check(&["Evidence: E."], "", "");
        check(&[], "", "");
        check(&["Claim:\n\nAnswer:"], "", "");
        check(&["Claim: C."], "", "C.");
    }

    #[test]
    fn the_words_to_answer_with_must_be_named_outside_of_evidence_and_claim() {
        let labels = |messages: &[&str]| parts(messages).names_labels;
        let system = "Answer with one word: True, False or NEE.";
        assert!(labels(&[system, "Evidence: E.\n\nClaim: C."]));
        assert!(labels(&["Evidence: E.\n\nClaim: C.\n\nTrue, False or NEE?"]));
        assert!(labels(&["Claim: C.\n\nContext: E.\n\nAnswer with True, False or NEE."]));
        assert!(!labels(&["Evidence: True, False, NEE.\n\nClaim: C."]));
        assert!(!labels(&["Answer True or False.", "Evidence: E.\n\nClaim: C."]));
        assert!(!labels(&["Answer with SUPPORTED or REFUTED.", "Evidence: E.\n\nClaim: C."]));
    }

    #[test]
    fn texts_of_any_kind_are_read_without_a_panic() {
        for text in
            ["<", "Claim", ":", "Claim:é\u{301}: ", "**", "é: ü: Claim: ", "</", "Claim: </x>", "\n\n\nClaim:\n"]
        {
            let _ = parts(&[text, text]);
        }
    }
}
