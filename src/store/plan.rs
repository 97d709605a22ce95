//! Planning: the cases of a run are recorded before its first trial, so that nothing can vanish from a denominator.
//!
//! Cases stream through in chunks; memory does not grow with the dataset. The planning thread compresses the texts of
//! one chunk while the writer inserts the one before. A plan that is not finished leaves nothing behind.

use std::borrow::Cow;
use std::fs::File;

use rusqlite::{Connection, OptionalExtension, params};
use tokio::sync::oneshot;

use super::apply::{Done, Work};
use super::codec::{self, put_varint};
use super::error::{Attempt, StoreError};
use super::lock;
use super::open::Store;
use super::schema::pack;
use super::writer::{Answer, Writer};
use crate::model::{Case, CaseId, Digest, Label, RunId, RunSpec, RunStatus, TrialKey};

/// How many cases share a transaction. Content is found by its hash, which lies anywhere in the index: the larger the
/// transaction, the more cases share the pages that it writes.
const CHUNK: usize = 4096;

/// A chunk is full before that if its texts reach this many bytes.
const CHUNK_BYTES: usize = 16 << 20;

/// Takes the cases of a run. Its methods block: call them off the async threads.
///
/// Dropped without [`Self::finish`], it removes what it added; what a killed planning leaves, the next opening removes.
pub struct Planner {
    writer: Writer,
    store: Store,
    run_id: RunId,
    lock: Option<File>,
    known: Option<Connection>,
    chunk: Vec<PlannedCase>,
    chunk_bytes: usize,
    /// The chunk before, on its way.
    under_way: Option<oneshot::Receiver<Answer>>,
    finished: bool,
}

/// A case ready to be inserted.
#[derive(Debug)]
pub(super) struct PlannedCase {
    seq: u64,
    id: CaseId,
    expected: Option<Label>,
    group: Option<String>,
    columns: Option<Vec<u8>>,
    digest: Digest,
    content: Content,
}

/// Claim and context of a planned case.
#[derive(Debug)]
enum Content {
    /// A blob, for the store seems not to have it.
    Encoded(Vec<u8>),
    /// Texts that need no compressing, for the store had them a moment ago.
    Known { claim: String, context: String },
}

impl Planner {
    pub(super) fn new(writer: Writer, store: Store, run_id: RunId) -> Self {
        Self {
            writer,
            store,
            run_id,
            lock: None,
            known: None,
            chunk: Vec::new(),
            chunk_bytes: 0,
            under_way: None,
            finished: false,
        }
    }

    /// Adds a case. Cases come in the order of their `seq`.
    pub fn add(&mut self, case: &Case) -> Result<(), StoreError> {
        let known = self.connect()?;
        // Only compressing is worth a look whether the store has the texts already.
        let large = case.claim.len() + case.context.len() >= codec::COMPRESS_TEXT_FROM;
        let content = if large && find_content(known, &case.digest).is_ok_and(|id| id.is_some()) {
            Content::Known { claim: case.claim.clone(), context: case.context.clone() }
        } else {
            Content::Encoded(encode_content(self.store.dictionary(), &case.claim, &case.context))
        };
        let columns = (!case.columns.is_empty()).then(|| {
            codec::encode(self.store.dictionary(), |out| {
                serde_json::to_writer(out, &case.columns).expect("strings always make JSON");
            })
        });
        self.chunk_bytes += columns.as_ref().map_or(0, Vec::len)
            + match &content {
                Content::Encoded(blob) => blob.len(),
                Content::Known { claim, context } => claim.len() + context.len(),
            };
        self.chunk.push(PlannedCase {
            seq: case.seq,
            id: case.id.clone(),
            expected: case.expected,
            group: case.group.clone(),
            columns,
            digest: case.digest,
            content,
        });
        if self.chunk.len() >= CHUNK || self.chunk_bytes >= CHUNK_BYTES {
            self.send_chunk()?;
        }
        Ok(())
    }

    /// Ends the plan: the run is visible from now on. Returns its number.
    ///
    /// `spec.dataset.cases` must be the number of cases added, and `spec.run_id` the id that was planned.
    pub fn finish(mut self, spec: &RunSpec) -> Result<i64, StoreError> {
        self.connect()?;
        if !self.chunk.is_empty() {
            self.send_chunk()?;
        }
        self.await_chunk()?;
        let answer = self.writer.queue_blocking(Work::PlanFinished(Box::new(spec.clone())))?;
        match answer.blocking_recv().map_err(|_| StoreError::Closed)?? {
            Done::Run(number) => {
                self.finished = true;
                Ok(number)
            }
            _ => Err(StoreError::Closed),
        }
    }

    /// Takes the lock of the planning and a connection to look for known content, at the first case.
    fn connect(&mut self) -> Result<&Connection, StoreError> {
        if self.lock.is_none() {
            self.lock = Some(lock::lock_planning(self.store.dir(), &self.run_id)?);
        }
        if self.known.is_none() {
            self.known = Some(self.store.connect_for_reading()?);
        }
        Ok(self.known.as_ref().expect("just set"))
    }

    fn send_chunk(&mut self) -> Result<(), StoreError> {
        self.await_chunk()?;
        let cases = std::mem::take(&mut self.chunk);
        self.chunk_bytes = 0;
        self.under_way = Some(self.writer.queue_blocking(Work::PlanCases { run_id: self.run_id.clone(), cases })?);
        Ok(())
    }

    fn await_chunk(&mut self) -> Result<(), StoreError> {
        match self.under_way.take() {
            Some(answer) => answer.blocking_recv().map_err(|_| StoreError::Closed)?.map(drop),
            None => Ok(()),
        }
    }
}

impl Drop for Planner {
    fn drop(&mut self) {
        if !self.finished && self.lock.is_some() {
            let (writer, run_id) = (self.writer.clone(), self.run_id.clone());
            // Waiting for the writer is allowed on any thread but an async one, and a drop may be on an async one.
            let removal = std::thread::Builder::new().spawn(move || {
                while let Ok(answer) = writer.queue_blocking(Work::DropPlan(run_id.clone())) {
                    if !matches!(answer.blocking_recv(), Ok(Ok(Done::More))) {
                        break;
                    }
                }
            });
            // If it fails, the next opening sweeps.
            let _ = removal.map(std::thread::JoinHandle::join);
        }
        if self.lock.is_some() {
            lock::forget_planning(self.store.dir(), &self.run_id);
        }
    }
}

/// Inserts a chunk, within the writer's transaction.
pub(super) fn insert(
    conn: &Connection,
    dictionary: u32,
    attempt: &Attempt,
    run_id: &RunId,
    cases: &[PlannedCase],
) -> Result<(), StoreError> {
    let or = |e| attempt.failed(e);
    let run = find_or_insert(conn, attempt, run_id)?;
    let mut find_group = conn.prepare_cached("SELECT id FROM case_group WHERE name = ?1").map_err(or)?;
    let mut insert_group = conn.prepare_cached("INSERT INTO case_group (name) VALUES (?1)").map_err(or)?;
    let mut insert_content =
        conn.prepare_cached("INSERT INTO content (hash, digest, body) VALUES (?1, ?2, ?3)").map_err(or)?;
    let mut insert_planned = conn.prepare_cached("INSERT INTO planned VALUES (?1, ?2, ?3, ?4, ?5, ?6)").map_err(or)?;
    // Cases of a group mostly follow each other.
    let mut last_group: Option<(&str, i64)> = None;
    for case in cases {
        let group = match case.group.as_deref() {
            None => None,
            Some(name) => {
                let known = match last_group {
                    Some((last, id)) if last == name => Some(id),
                    _ => find_group.query_row([name], |row| row.get(0)).optional().map_err(or)?,
                };
                let id = match known {
                    Some(id) => id,
                    None => insert_group.insert([name]).map_err(or)?,
                };
                last_group = Some((name, id));
                Some(id)
            }
        };
        let content = if let Some(id) = find_content(conn, &case.digest).map_err(or)? {
            id
        } else {
            let body = match &case.content {
                Content::Encoded(blob) => Cow::Borrowed(blob),
                Content::Known { claim, context } => Cow::Owned(encode_content(dictionary, claim, context)),
            };
            insert_content.insert(params![hash_of(&case.digest), case.digest.as_bytes(), *body]).map_err(or)?
        };
        let id = pack(run, TrialKey { seq: case.seq, repeat: 0 })?;
        let expected = case.expected.map(|label| label.index() as i64);
        insert_planned.execute(params![id, content, case.id.as_str(), expected, group, case.columns]).map_err(or)?;
    }
    Ok(())
}

/// The number of a run that is being planned.
pub(super) fn find_or_insert(conn: &Connection, attempt: &Attempt, run_id: &RunId) -> Result<i64, StoreError> {
    let found: Option<(i64, bool)> = conn
        .query_row("SELECT number, spec IS NOT NULL FROM run WHERE run_id = ?1", [run_id.as_str()], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .optional()
        .map_err(|e| attempt.failed(e))?;
    match found {
        Some((run, false)) => Ok(run),
        Some((_, true)) => Err(StoreError::OutOfOrder {
            what: format!("the plan of run {run_id}"),
            reason: "the store has that run already".to_owned(),
        }),
        None => {
            conn.execute(
                "INSERT INTO run (run_id, status) VALUES (?1, ?2)",
                params![run_id.as_str(), RunStatus::Running.as_str()],
            )
            .map_err(|e| attempt.failed(e))?;
            Ok(conn.last_insert_rowid())
        }
    }
}

fn find_content(conn: &Connection, digest: &Digest) -> rusqlite::Result<Option<i64>> {
    conn.prepare_cached("SELECT id FROM content WHERE hash = ?1 AND digest = ?2")?
        .query_row(params![hash_of(digest), digest.as_bytes()], |row| row.get(0))
        .optional()
}

/// The digest's first eight bytes: an index of them takes a quarter of the room.
fn hash_of(digest: &Digest) -> i64 {
    let mut first = [0; 8];
    first.copy_from_slice(&digest.as_bytes()[..8]);
    i64::from_be_bytes(first)
}

/// The length of the claim, the claim, the context.
fn encode_content(dictionary: u32, claim: &str, context: &str) -> Vec<u8> {
    codec::encode_from(codec::COMPRESS_TEXT_FROM, dictionary, |out| {
        put_varint(out, claim.len() as u64);
        out.extend_from_slice(claim.as_bytes());
        out.extend_from_slice(context.as_bytes());
    })
}

/// Claim and context of a content blob that is decoded already.
pub(super) fn decode_content(mut content: &[u8]) -> Result<(&str, &str), StoreError> {
    let damaged = |reason: &str| StoreError::damaged("a case", reason);
    let claim = codec::take_bytes(&mut content).ok_or_else(|| damaged("it ends too early"))?;
    match (std::str::from_utf8(claim), std::str::from_utf8(content)) {
        (Ok(claim), Ok(context)) => Ok((claim, context)),
        _ => Err(damaged("its text is no UTF-8")),
    }
}
