//! Which process works on a run: a file lock per run, which the system takes back when the process dies.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use super::error::StoreError;
use crate::model::RunId;

/// The right to change a run, until it is dropped or the process ends, however it ends.
#[derive(Debug)]
#[must_use = "the run is free again when the lock is dropped"]
pub struct RunLock {
    _file: File,
}

/// The directory of the locks of the store in `dir`.
pub(super) fn directory(dir: &Path) -> PathBuf {
    dir.join("locks")
}

/// Takes the lock of a run.
pub(super) fn lock_run(dir: &Path, run_id: &RunId) -> Result<RunLock, StoreError> {
    take(&path_of(dir, run_id), run_id).map(|file| RunLock { _file: file })
}

/// Takes the lock of a run's planning, which is another one: who plans a run may hold its lock already.
pub(super) fn lock_planning(dir: &Path, run_id: &RunId) -> Result<File, StoreError> {
    take(&planning_path_of(dir, run_id), run_id)
}

fn take(path: &Path, run_id: &RunId) -> Result<File, StoreError> {
    let mut file = open(path)?;
    // Whoever only looks whether a run is live holds its lock for a moment: ask again before giving up.
    for pause_ms in [1, 5, 20, 50, 0] {
        match file.try_lock() {
            Ok(()) => {
                // For the message of the next one; without it the message only says less.
                let _ = file.set_len(0).and_then(|()| write!(file, "process {}", std::process::id()));
                return Ok(file);
            }
            Err(TryLockError::WouldBlock) => std::thread::sleep(std::time::Duration::from_millis(pause_ms)),
            Err(TryLockError::Error(e)) => return Err(cannot("locking", path, &e)),
        }
    }
    let mut holder = String::new();
    let _ = file.read_to_string(&mut holder);
    if holder.is_empty() {
        holder.push_str("its number is not known");
    }
    Err(StoreError::RunInUse { run_id: run_id.clone(), holder })
}

/// Whether a process works on the run now.
pub(super) fn is_locked(dir: &Path, run_id: &RunId) -> bool {
    let Ok(file) = File::open(path_of(dir, run_id)) else { return false };
    matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock))
}

/// Whether a process plans the run now.
pub(super) fn is_being_planned(dir: &Path, run_id: &RunId) -> bool {
    let Ok(file) = File::open(planning_path_of(dir, run_id)) else { return false };
    matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock))
}

/// Removes the lock file of a run that is no more.
pub(super) fn forget(dir: &Path, run_id: &RunId) {
    // What stays behind is an empty file of no consequence.
    let _ = std::fs::remove_file(path_of(dir, run_id));
}

/// Removes the lock file of a planning that ended.
pub(super) fn forget_planning(dir: &Path, run_id: &RunId) {
    let _ = std::fs::remove_file(planning_path_of(dir, run_id));
}

/// Waits for the lock under which stores are created and swept.
pub(super) fn lock_opening(dir: &Path) -> Result<File, StoreError> {
    let path = directory(dir).join("opening");
    let file = open(&path)?;
    file.lock().map_err(|e| cannot("locking", &path, &e))?;
    Ok(file)
}

fn path_of(dir: &Path, run_id: &RunId) -> PathBuf {
    directory(dir).join(format!("{run_id}.lock"))
}

fn planning_path_of(dir: &Path, run_id: &RunId) -> PathBuf {
    directory(dir).join(format!("{run_id}.planning"))
}

fn open(path: &Path) -> Result<File, StoreError> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    private(&mut options).open(path).map_err(|e| cannot("opening the lock", path, &e))
}

/// Makes new files readable by their owner only.
pub(super) fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
    options
}

/// The error of a file operation.
pub(super) fn cannot(doing: &'static str, path: &Path, error: &std::io::Error) -> StoreError {
    StoreError::Directory { doing, path: path.to_owned(), reason: error.to_string() }
}
