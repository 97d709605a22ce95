//! Opening a store: the directory, the file, its connections.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::error::{Attempt, BUSY_SECONDS, StoreError};
use super::lock::{self, RunLock};
use super::reader::Reader;
use super::schema::{self, Found};
use super::writer::Writer;
use crate::model::RunId;

/// A store's place. Holds no connection: readers and the writer open their own.
#[derive(Debug, Clone)]
pub struct Store {
    dir: PathBuf,
    path: PathBuf,
    /// The store's number of the dictionary that we compress with.
    dictionary: u32,
}

/// The database file within the store's directory.
const FILE: &str = "spanscore.db";

impl Store {
    /// Opens the store in `dir`; makes the directory (0700), the file (0600) and the tables where they are missing.
    ///
    /// Rows that a killed planning or removal left behind are swept away.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        make_directory(dir)?;
        let path = dir.join(FILE);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        lock::private(&mut options).open(&path).map_err(|e| lock::cannot("opening the store", &path, &e))?;
        Self::prepare(dir)
    }

    /// Opens the store in `dir`; one that is missing is an error that says how to get one.
    pub fn open_existing(dir: &Path) -> Result<Self, StoreError> {
        let file = dir.join(FILE);
        match std::fs::metadata(&file) {
            Ok(found) if found.is_file() && found.len() > 0 => {}
            // It may be there, and somebody else's.
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                return Err(lock::cannot("opening the store", dir, &error));
            }
            _ => return Err(StoreError::Missing { dir: dir.to_owned() }),
        }
        make_directory(dir)?;
        Self::prepare(dir)
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The database file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A reader with a connection of its own; any number of them work while others write.
    pub fn reader(&self) -> Result<Reader, StoreError> {
        Ok(Reader::new(self.connect_for_reading()?, Attempt::new("reading", &self.path), self.dir.clone()))
    }

    /// A writer: one thread with a connection of its own. A process needs one.
    pub fn writer(&self) -> Result<Writer, StoreError> {
        Writer::start(self.connect_for_writing()?, self.clone())
    }

    /// Takes the run for this process until the lock is dropped.
    pub fn lock_run(&self, run_id: &RunId) -> Result<RunLock, StoreError> {
        lock::lock_run(&self.dir, run_id)
    }

    pub(super) const fn dictionary(&self) -> u32 {
        self.dictionary
    }

    pub(super) fn connect_for_writing(&self) -> Result<Connection, StoreError> {
        connect_for_writing(&self.path)
    }

    pub(super) fn connect_for_reading(&self) -> Result<Connection, StoreError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        Connection::open_with_flags(&self.path, flags)
            .and_then(|conn| {
                conn.busy_timeout(Duration::from_secs(BUSY_SECONDS))?;
                conn.pragma_update(None, "cache_size", -8192)?;
                conn.set_prepared_statement_cache_capacity(64);
                Ok(conn)
            })
            .map_err(|e| Attempt::new("reading", &self.path).failed(e))
    }

    fn prepare(dir: &Path) -> Result<Self, StoreError> {
        let path = dir.join(FILE);
        let attempt = Attempt::new("opening", &path);
        let failed = |e| attempt.failed(e);
        // Two processes that open a new store at once make it one after the other.
        let opening = lock::lock_opening(dir)?;
        let conn = connect_for_writing(&path)?;
        match schema::inspect(&conn).map_err(failed)? {
            Found::Current => {}
            Found::Empty => schema::create(&conn).map_err(failed)?,
            Found::Older(_) => {
                // An older program that records a run does not know the newer tables: it would lose what it records.
                if let Some(run_id) = live_run(&conn, dir).map_err(failed)? {
                    let holder =
                        "an older spanscore records it, and this one would change the store's format".to_owned();
                    return Err(StoreError::RunInUse { run_id, holder });
                }
                schema::upgrade(&conn).map_err(failed)?;
            }
            Found::Newer(found) => return Err(StoreError::NewerFormat { path, found, known: schema::FORMAT }),
            Found::Foreign => {
                return Err(StoreError::NotAStore { path, reason: "it is the database of another program".to_owned() });
            }
        }
        let dictionary = schema::dictionary_number(&conn).map_err(failed)?;
        let store = Self { dir: dir.to_owned(), path, dictionary };
        super::remove::sweep(&conn, &store)?;
        drop(opening);
        Ok(store)
    }
}

/// A run that a process records now.
fn live_run(conn: &Connection, dir: &Path) -> rusqlite::Result<Option<RunId>> {
    let mut find = conn.prepare("SELECT run_id FROM run WHERE session_started IS NOT NULL OR spec IS NULL")?;
    let ids = find.query_map([], |row| row.get::<_, String>(0))?.collect::<Result<Vec<_>, _>>()?;
    let mut runs = ids.into_iter().filter_map(|id| RunId::parse(id).ok());
    Ok(runs.find(|run_id| lock::is_locked(dir, run_id) || lock::is_being_planned(dir, run_id)))
}

fn connect_for_writing(path: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    Connection::open_with_flags(path, flags)
        .and_then(|conn| {
            conn.busy_timeout(Duration::from_secs(BUSY_SECONDS))?;
            // Acknowledged means durable: every commit waits for the disk.
            conn.pragma_update(None, "synchronous", "FULL")?;
            conn.pragma_update(None, "cache_size", -16384)?;
            conn.pragma_update(None, "temp_store", "MEMORY")?;
            // Rarely and then much: a page that many trials touch goes to the database file once.
            conn.pragma_update(None, "wal_autocheckpoint", 4000)?;
            conn.pragma_update(None, "journal_size_limit", 64 << 20)?;
            conn.set_prepared_statement_cache_capacity(64);
            Ok(conn)
        })
        .map_err(|e| Attempt::new("opening", path).failed(e))
}

fn make_directory(dir: &Path) -> Result<(), StoreError> {
    let doing = "creating the store directory";
    if let Some(parent) = dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        std::fs::create_dir_all(parent).map_err(|e| lock::cannot(doing, dir, &e))?;
    }
    for dir in [dir, &lock::directory(dir)] {
        let mut builder = std::fs::DirBuilder::new();
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        match builder.create(dir) {
            Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists || !dir.is_dir() => {
                return Err(lock::cannot(doing, dir, &e));
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::{Scene, spec};

    fn failure(dir: &Path) -> String {
        Store::open(dir).expect_err("no store").to_string()
    }

    #[test]
    fn a_new_store_is_private_and_can_shrink() {
        let dir = tempfile::tempdir().expect("a directory");
        let place = dir.path().join("deep").join("store");
        let store = Store::open(&place).expect("a new store");
        let conn = store.connect_for_reading().expect("a connection");
        let pragma = |name: &str| -> String {
            let value: rusqlite::types::Value = conn.pragma_query_value(None, name, |row| row.get(0)).expect(name);
            format!("{value:?}")
        };
        assert_eq!(
            (pragma("auto_vacuum"), pragma("user_version")),
            ("Integer(2)".to_owned(), format!("Integer({})", schema::FORMAT))
        );
        assert_eq!(pragma("journal_mode"), "Text(\"wal\")");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = |path: &Path| std::fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
            assert_eq!((mode(&place), mode(store.path())), (0o700, 0o600));
        }
        Store::open(&place).expect("the same store again");
    }

    #[test]
    fn what_is_no_store_is_refused_with_a_reason() {
        let dir = tempfile::tempdir().expect("a directory");
        let missing = Store::open_existing(dir.path()).expect_err("there is none").to_string();
        assert!(missing.contains("`spanscore run` makes one"), "{missing}");

        let path = dir.path().join(FILE);
        std::fs::write(
            &path,
            "This is a letter, and a long one, for SQLite looks at the first hundred bytes. ".repeat(9),
        )
        .expect("written");
        assert!(failure(dir.path()).contains("the file is no SQLite database"), "{}", failure(dir.path()));

        std::fs::remove_file(&path).expect("removed");
        let conn = Connection::open(&path).expect("a database");
        conn.execute_batch("CREATE TABLE bookmarks (url TEXT)").expect("a table");
        assert!(failure(dir.path()).contains("the database of another program"), "{}", failure(dir.path()));

        let file = dir.path().join("file");
        std::fs::write(&file, "").expect("written");
        assert!(failure(&file).starts_with("creating the store directory"), "{}", failure(&file));
    }

    #[test]
    fn a_newer_format_is_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = Store::open(dir.path()).expect("a new store");
        let conn = store.connect_for_writing().expect("a connection");
        conn.pragma_update(None, "user_version", schema::FORMAT + 1).expect("set");
        let error = failure(dir.path());
        let (found, known) = (schema::FORMAT + 1, schema::FORMAT);
        let wanted = format!("it has format {found}, and this spanscore knows formats up to {known}");
        assert!(error.contains(&wanted), "{error}");
    }

    #[test]
    fn two_openings_at_once_make_one_store() {
        let dir = tempfile::tempdir().expect("a directory");
        let opened: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| Store::open(dir.path()))).collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
        });
        assert!(opened.iter().all(|store| store.as_ref().is_ok_and(|store| store.dictionary == 1)), "{opened:?}");
    }

    #[test]
    fn one_process_works_on_a_run() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = Store::open(dir.path()).expect("a new store");
        let reader = store.reader().expect("a reader");
        let run_id = spec("20260922-120000-00000a", 1, 1).run_id;
        assert!(!reader.is_live(&run_id));
        let lock = store.lock_run(&run_id).expect("it is free");
        assert!(reader.is_live(&run_id));
        let error = store.lock_run(&run_id).expect_err("it is taken").to_string();
        let process = format!("run {run_id} is in use by another process (process {})", std::process::id());
        assert!(error.starts_with(&process), "{error}");
        drop(lock);
        assert!(!reader.is_live(&run_id));
        let _lock = store.lock_run(&run_id).expect("it is free again");
    }

    #[tokio::test]
    async fn opening_sweeps_what_a_killed_planning_left_and_leaves_a_live_one_alone() {
        let scene = Scene::planned(2, 1).await;
        let half = spec("20260923-120000-00000b", 9, 1);
        scene.tamper("INSERT INTO run (run_id, status) VALUES ('20260923-120000-00000b', 'running')");
        scene.tamper("INSERT INTO planned SELECT id + (1 << 40), content, case_id, 0, NULL, NULL FROM planned");
        let planned = || {
            let conn = scene.store.connect_for_reading().expect("a connection");
            conn.query_row("SELECT count(*) FROM planned", [], |row| row.get::<_, i64>(0)).expect("a count")
        };
        assert_eq!((planned(), scene.reader().runs().expect("runs").len()), (4, 1));
        let live = lock::lock_planning(scene.store.dir(), &half.run_id).expect("a lock");
        Store::open(scene.store.dir()).expect("opened");
        assert_eq!(planned(), 4);
        drop(live);
        Store::open(scene.store.dir()).expect("opened");
        assert_eq!(planned(), 2);
    }
}
