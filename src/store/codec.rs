//! Blobs: what of a trial is text or attributes, compressed with a dictionary that the store keeps.
//!
//! A blob is the number of its dictionary (a varint; 0 for bytes that are not compressed) and then the content. The
//! dictionary is a sample of what a trial's spans and log records look like as protobuf, so that names of attributes
//! cost next to nothing. It stands in the store: when a later version of this program makes another one, older blobs
//! still read back.

use std::cell::RefCell;
use std::sync::LazyLock;

use rusqlite::Connection;
use zstd::bulk::{Compressor, Decompressor};
use zstd::dict::EncoderDictionary;

use super::error::StoreError;
use crate::model::{LogRecord, Span, SpanId, SpanKind, Status, TraceId, Value};
use crate::trace::{otlp, semconv};

/// The content of the dictionary that this program compresses with.
pub(super) static DICTIONARY: LazyLock<Vec<u8>> = LazyLock::new(sample);

static PREPARED: LazyLock<EncoderDictionary<'static>> = LazyLock::new(|| EncoderDictionary::copy(&DICTIONARY, LEVEL));

/// The fastest level: the dictionary does more than effort would.
const LEVEL: i32 = -2;

/// Below this many bytes attributes stay as they are: compressing costs more time than the bytes are worth.
const COMPRESS_FROM: usize = 256;

/// The same for texts of datasets, which look like nothing in the dictionary.
pub(super) const COMPRESS_TEXT_FROM: usize = 1024;

/// No blob grows beyond this when it is decompressed; one that claims to is damaged.
const LARGEST: usize = 1 << 30;

/// Compressor and scratch buffers of a thread, reused from trial to trial.
struct Scratch {
    compressor: Compressor<'static>,
    compressed: Vec<u8>,
    plain: Vec<u8>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::new(Scratch {
        compressor: Compressor::with_prepared_dictionary(&PREPARED).expect("a prepared dictionary is accepted"),
        compressed: Vec::new(),
        plain: Vec::new(),
    });
}

/// The blob of what `write` appends; `dictionary` is the store's number of [`DICTIONARY`].
pub(super) fn encode(dictionary: u32, write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    encode_from(COMPRESS_FROM, dictionary, write)
}

/// The same, compressed from so many bytes on.
pub(super) fn encode_from(least: usize, dictionary: u32, write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    SCRATCH.with_borrow_mut(|scratch| {
        let Scratch { compressor, compressed, plain } = scratch;
        plain.clear();
        write(plain);
        if plain.len() >= least {
            compressed.clear();
            compressed.reserve(zstd::zstd_safe::compress_bound(plain.len()));
            // What zstd refuses to compress is stored as it is.
            if compressor.compress_to_buffer(plain.as_slice(), compressed).is_ok() && compressed.len() < plain.len() {
                let mut blob = Vec::with_capacity(compressed.len() + 5);
                put_varint(&mut blob, u64::from(dictionary));
                blob.extend_from_slice(compressed);
                return blob;
            }
        }
        let mut blob = Vec::with_capacity(plain.len() + 1);
        blob.push(0);
        blob.extend_from_slice(plain);
        blob
    })
}

/// Reads blobs of any of the store's dictionaries.
pub(super) struct Decoder {
    /// By number; few.
    dictionaries: Vec<(u32, Decompressor<'static>)>,
    plain: Vec<u8>,
}

impl Decoder {
    pub(super) fn new() -> Self {
        Self { dictionaries: Vec::new(), plain: Vec::new() }
    }

    /// The content of a blob, valid until the next call.
    pub(super) fn decode<'a>(
        &'a mut self,
        conn: &Connection,
        what: &'static str,
        blob: &'a [u8],
    ) -> Result<&'a [u8], StoreError> {
        let mut rest = blob;
        let number = take_varint(&mut rest).ok_or_else(|| StoreError::damaged(what, "the blob is empty"))? as u32;
        if number == 0 {
            return Ok(rest);
        }
        let size = zstd::zstd_safe::get_frame_content_size(rest)
            .ok()
            .flatten()
            .filter(|size| *size <= LARGEST as u64)
            .ok_or_else(|| StoreError::damaged(what, "the compressed blob has no credible size"))?;
        let at = if let Some(at) = self.dictionaries.iter().position(|(known, _)| *known == number) {
            at
        } else {
            let content: Vec<u8> = conn
                .query_row("SELECT content FROM dictionary WHERE id = ?1", [number], |row| row.get(0))
                .map_err(|e| StoreError::damaged(what, format!("dictionary {number}: {e}")))?;
            let decompressor = Decompressor::with_dictionary(&content).map_err(|e| StoreError::damaged(what, e))?;
            self.dictionaries.push((number, decompressor));
            self.dictionaries.len() - 1
        };
        self.plain.clear();
        self.plain.reserve(size as usize);
        self.dictionaries[at]
            .1
            .decompress_to_buffer(rest, &mut self.plain)
            .map_err(|e| StoreError::damaged(what, e))?;
        Ok(&self.plain)
    }
}

/// Appends an integer in protobuf's variable length.
pub(super) fn put_varint(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

/// Takes such an integer from the front.
pub(super) fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut n = 0;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        n |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(n);
        }
    }
    None
}

/// Takes bytes that their length stands before.
pub(super) fn take_bytes<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(take_varint(bytes)?).ok()?;
    let (taken, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(taken)
}

/// The spans and log records of a made-up trial, the most frequent shapes last, where zstd finds them cheapest.
fn sample() -> Vec<u8> {
    let (trace, parent, me) = (TraceId::from_bytes([0; 16]), SpanId::from_bytes([1; 8]), SpanId::from_bytes([2; 8]));
    let time = 1_790_000_000_000_000_000;

    let mut out = Vec::new();
    let mut batch = Span::open(trace, parent, None, semconv::span::ASSESS_CLAIMS_WITH_CONTEXT, time);
    batch.set(semconv::OPERATION_CLAIMS_COUNT, 8_i64);
    batch.set(semconv::GEN_AI_OPERATION_NAME, "invoke_workflow");
    batch.set(semconv::GEN_AI_WORKFLOW_NAME, semconv::span::ASSESS_CLAIMS_WITH_CONTEXT);
    batch.set(semconv::TEST_SUITE_NAME, "claims-demo");
    batch.set(semconv::TEST_SUITE_RUN_ID, "20260101-000000-000000");
    batch.set(semconv::OPENINFERENCE_SPAN_KIND, "CHAIN");
    for id in ["label_match", "valid_label", "abstention"] {
        batch.set(semconv::mean_key(id), 1.0);
    }
    batch.add_link(trace, parent, Vec::new());
    for name in [
        semconv::SPANSCORE_DATASET_NAME,
        semconv::SPANSCORE_DATASET_DIGEST,
        semconv::TEST_SUITE_RUN_STATUS,
        semconv::SPANSCORE_PROMPT_DIGEST,
    ] {
        batch.set(name, "success");
    }
    otlp::write_span(&mut out, &batch);

    let mut failed = Span::open(trace, me, Some(parent), "chat gpt-4.1", time);
    failed.add_event(
        semconv::event::ATTEMPT_FAILED,
        time,
        vec![
            (semconv::SPANSCORE_ATTEMPT_NUMBER.into(), Value::Int(1)),
            (semconv::ERROR_TYPE.into(), "429".into()),
            (semconv::HTTP_RESPONSE_STATUS_CODE.into(), Value::Int(429)),
            (semconv::SPANSCORE_ATTEMPT_MESSAGE.into(), "rate limit reached".into()),
            (semconv::SPANSCORE_ATTEMPT_WAIT.into(), Value::Double(0.5)),
        ],
    );
    failed.set(semconv::GEN_AI_INPUT_MESSAGES, r#"[{"role":"system","parts":[{"type":"text","content":""#);
    failed.set(
        semconv::GEN_AI_OUTPUT_MESSAGES,
        r#"[{"role":"assistant","parts":[{"type":"text","content":"True"}],"finish_reason":"stop"}]"#,
    );
    failed.status = Status::Error("timeout connection content_filter invalid_response".to_owned());
    otlp::write_span(&mut out, &failed);

    let mut chat = Span::open(trace, me, Some(parent), "chat lexical-baseline", time);
    chat.kind = SpanKind::Client;
    chat.end_unix_nano = time;
    chat.set(semconv::GEN_AI_OPERATION_NAME, "chat");
    chat.set(semconv::GEN_AI_PROVIDER_NAME, "openai");
    chat.set(semconv::GEN_AI_SYSTEM, "openai");
    chat.set(semconv::GEN_AI_REQUEST_MODEL, "lexical-baseline");
    chat.set(semconv::SERVER_ADDRESS, "127.0.0.1");
    chat.set(semconv::SERVER_PORT, 443_i64);
    chat.set(semconv::GEN_AI_REQUEST_TEMPERATURE, 0.0);
    chat.set(semconv::GEN_AI_REQUEST_TOP_P, 1.0);
    chat.set(semconv::GEN_AI_REQUEST_MAX_TOKENS, 3_i64);
    chat.set(semconv::GEN_AI_REQUEST_SEED, 42_i64);
    chat.set(semconv::OPENAI_API_TYPE, "chat_completions");
    chat.set(semconv::GEN_AI_RESPONSE_ID, "chatcmpl-");
    chat.set(semconv::GEN_AI_RESPONSE_MODEL, "lexical-baseline");
    chat.set(semconv::GEN_AI_RESPONSE_FINISH_REASONS, Value::Array(vec!["stop".into()]));
    chat.set(semconv::GEN_AI_USAGE_INPUT_TOKENS, 200_i64);
    chat.set(semconv::GEN_AI_USAGE_OUTPUT_TOKENS, 1_i64);
    chat.set(semconv::GEN_AI_USAGE_CACHE_READ_INPUT_TOKENS, 0_i64);
    chat.set(semconv::GEN_AI_USAGE_REASONING_OUTPUT_TOKENS, 0_i64);
    chat.set(semconv::OPENAI_RESPONSE_SERVICE_TIER, "default");
    chat.set(semconv::OPENAI_RESPONSE_SYSTEM_FINGERPRINT, "fp_");
    chat.set(semconv::OPENINFERENCE_SPAN_KIND, "LLM");
    otlp::write_span(&mut out, &chat);

    let verdicts = [("label_match", 1.0, "pass"), ("valid_label", 1.0, "pass"), ("abstention", 0.0, "fail")];
    let result = |(name, score, label): (&'static str, f64, &'static str)| {
        vec![
            (semconv::GEN_AI_EVALUATION_NAME.into(), Value::from(name)),
            (semconv::GEN_AI_EVALUATION_SCORE_VALUE.into(), Value::from(score)),
            (semconv::GEN_AI_EVALUATION_SCORE_LABEL.into(), Value::from(label)),
            (semconv::GEN_AI_EVALUATION_EXPLANATION.into(), Value::from("expected True, answered False")),
            (semconv::GEN_AI_RESPONSE_ID.into(), Value::from("chatcmpl-")),
        ]
    };
    let mut claim = Span::open(trace, me, Some(parent), semconv::span::ASSESS_CLAIM, time);
    claim.end_unix_nano = time;
    claim.set(semconv::TEST_CASE_ID, "row-1");
    claim.set(semconv::TEST_CASE_NAME, "row-1");
    claim.set(semconv::TEST_SUITE_RUN_ID, "20260101-000000-000000");
    claim.set(semconv::SPANSCORE_CASE_GROUP, "group");
    claim.set(semconv::SPANSCORE_TRIAL_REPEAT, 0_i64);
    claim.set(semconv::SPANSCORE_EXPECTED, "True");
    claim.set(semconv::SPANSCORE_OUTPUT, "False");
    claim.set(semconv::SPANSCORE_TRIAL_ATTEMPTS, 1_i64);
    claim.set(semconv::SPANSCORE_CACHED, true);
    claim.set(semconv::SPANSCORE_TRIAL_SKIPPED, "budget");
    claim.set(semconv::TEST_CASE_RESULT_STATUS, "pass");
    for (i, (name, score, label)) in verdicts.into_iter().enumerate() {
        claim.set(semconv::score_key(name), score);
        claim.set(semconv::label_key(name), label);
        for (field, value) in [
            ("name", Value::from(name)),
            ("score", Value::from(score)),
            ("label", Value::from(label)),
            ("explanation", Value::from("expected True, answered False")),
            ("annotator_kind", Value::from("CODE")),
            ("identifier", Value::from("1")),
        ] {
            claim.set(format!("{}{i}.evaluation.{field}", semconv::EVALUATIONS_PREFIX), value);
        }
    }
    claim.attributes.extend(result(verdicts[0]));
    for verdict in verdicts {
        claim.add_event(semconv::event::EVALUATION_RESULT, time, result(verdict));
    }
    otlp::write_span(&mut out, &claim);

    for verdict in verdicts {
        let mut attributes = result(verdict);
        attributes.push((semconv::TEST_CASE_ID.into(), "row-1".into()));
        attributes.push((semconv::TEST_SUITE_RUN_ID.into(), "20260101-000000-000000".into()));
        let log = LogRecord {
            time_unix_nano: time,
            observed_unix_nano: time,
            severity_number: 9,
            severity_text: String::new(),
            event_name: semconv::event::EVALUATION_RESULT.into(),
            body: Value::Empty,
            attributes,
            dropped_attributes_count: 0,
            flags: 1,
            trace_id: Some(trace),
            span_id: Some(me),
        };
        otlp::write_log(&mut out, &log);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> Connection {
        let conn = Connection::open_in_memory().expect("in memory");
        conn.execute_batch("CREATE TABLE dictionary (id INTEGER PRIMARY KEY, content BLOB NOT NULL)").expect("table");
        conn.execute("INSERT INTO dictionary VALUES (1, x'00'), (2, ?1)", [&*DICTIONARY]).expect("rows");
        conn
    }

    #[test]
    fn blobs_read_back_whether_compressed_or_not() {
        let (conn, mut decoder) = (store(), Decoder::new());
        for length in [0, 1, 5, COMPRESS_FROM - 1, COMPRESS_FROM, 5000, 300_000] {
            let content: Vec<u8> = (0..length).map(|i| (i * i % 251) as u8).collect();
            let blob = encode(2, |out| out.extend_from_slice(&content));
            assert_eq!(decoder.decode(&conn, "a test", &blob).expect("our own"), content, "{length}");
        }
    }

    #[test]
    fn the_dictionary_pays_for_what_trials_look_like() {
        let blob = encode(2, |out| out.extend_from_slice(&DICTIONARY));
        assert!(blob.len() * 20 < DICTIONARY.len(), "{} of {}", blob.len(), DICTIONARY.len());
    }

    #[test]
    fn damaged_blobs_are_errors() {
        let (conn, mut decoder) = (store(), Decoder::new());
        let good = encode(2, |out| out.extend_from_slice(&[7; 1000]));
        for bad in [&good[..good.len() - 1], &good[..3], &[][..], &[0x80][..], &[9, 1, 2, 3][..]] {
            let error = decoder.decode(&conn, "a test", bad).expect_err("damaged");
            assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
        }
    }
}
