//! Files that telemetry is written to and read from: compression by ending or by content, replaced whole or not at all.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;

use crate::whole::{self, Unnamed};

/// Why a file of telemetry cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be written.
    #[error("writing `{path}`: {source}; {}", advice(source))]
    Write {
        /// The file.
        path: String,
        /// Why not.
        source: io::Error,
    },
    /// It cannot be read.
    #[error("reading `{path}`: {source}; name a file that is there and that you may read")]
    Read {
        /// The file.
        path: String,
        /// Why not.
        source: io::Error,
    },
    /// The whole file is something else.
    #[error("reading `{path}`: {problem}; expected {expected}")]
    Content {
        /// The file.
        path: String,
        /// What it is.
        problem: String,
        /// What it should be.
        expected: &'static str,
    },
    /// The table cannot be written.
    #[error("writing the table `{path}`: {reason}")]
    Table {
        /// The file.
        path: String,
        /// What the writer said.
        reason: String,
    },
}

/// What helps where a file cannot be written.
fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "make room, and write it again",
        _ => "name a file in a folder that you may write to with -o",
    }
}

impl FileError {
    pub(super) fn read(path: &Path, source: io::Error) -> Self {
        Self::Read { path: path.display().to_string(), source }
    }

    pub(super) fn content(path: &Path, problem: impl Into<String>, expected: &'static str) -> Self {
        Self::Content { path: path.display().to_string(), problem: problem.into(), expected }
    }
}

const BUFFER: usize = 128 << 10;
/// zstd's own default.
const ZSTD_LEVEL: i32 = 3;

enum Coat {
    Plain(BufWriter<File>),
    Gzip(GzEncoder<BufWriter<File>>),
    Zstd(zstd::stream::write::Encoder<'static, BufWriter<File>>),
    Stdout(io::StdoutLock<'static>),
}

/// A file under way. It takes its name when it is finished; if it is dropped before, nothing is left of it.
pub struct Target {
    path: PathBuf,
    /// `None` of stdout.
    unnamed: Option<Unnamed>,
    coat: Option<Coat>,
}

impl Target {
    /// Begins a file; `.gz` and `.zst` are compressed. `-` is stdout.
    pub fn create(path: &Path) -> Result<Self, FileError> {
        if path == Path::new("-") {
            let coat = Some(Coat::Stdout(io::stdout().lock()));
            return Ok(Self { path: path.to_owned(), unnamed: None, coat });
        }
        let failed = |source| FileError::Write { path: path.display().to_string(), source };
        let (file, unnamed) = whole::begin(path).map_err(failed)?;
        let file = BufWriter::with_capacity(BUFFER, file);
        let ending = path.extension().map(|ending| ending.to_string_lossy().to_ascii_lowercase());
        let coat = match ending.as_deref() {
            Some("gz") => Coat::Gzip(GzEncoder::new(file, Compression::default())),
            Some("zst") => Coat::Zstd(zstd::stream::write::Encoder::new(file, ZSTD_LEVEL).map_err(failed)?),
            _ => Coat::Plain(file),
        };
        Ok(Self { path: path.to_owned(), unnamed: Some(unnamed), coat: Some(coat) })
    }

    /// Says what failed, on which file.
    pub fn failed(&self, source: io::Error) -> FileError {
        FileError::Write { path: self.path.display().to_string(), source }
    }

    /// Ends the file and gives it its name.
    pub fn finish(mut self) -> Result<(), FileError> {
        let ended = match self.coat.take() {
            None => return Ok(()),
            Some(Coat::Stdout(mut out)) => return out.flush().map_err(|e| self.failed(e)),
            Some(Coat::Plain(file)) => into_file(file),
            Some(Coat::Gzip(encoder)) => encoder.finish().and_then(into_file),
            Some(Coat::Zstd(encoder)) => encoder.finish().and_then(into_file),
        };
        let unnamed = self.unnamed.take();
        let named = ended.and_then(|file| unnamed.map_or(Ok(()), |unnamed| unnamed.name(&file)));
        named.map_err(|e| self.failed(e))
    }
}

fn into_file(file: BufWriter<File>) -> io::Result<File> {
    file.into_inner().map_err(io::IntoInnerError::into_error)
}

impl Write for Target {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.coat {
            Some(Coat::Plain(out)) => out.write(bytes),
            Some(Coat::Gzip(out)) => out.write(bytes),
            Some(Coat::Zstd(out)) => out.write(bytes),
            Some(Coat::Stdout(out)) => out.write(bytes),
            None => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.coat {
            Some(Coat::Plain(out)) => out.flush(),
            Some(Coat::Gzip(out)) => out.flush(),
            Some(Coat::Zstd(out)) => out.flush(),
            Some(Coat::Stdout(out)) => out.flush(),
            None => Ok(()),
        }
    }
}

/// The unpacked bytes of a file; its first bytes tell the compression.
pub(super) fn open(path: &Path) -> Result<Box<dyn BufRead>, FileError> {
    let failed = |source| FileError::read(path, source);
    let file = File::open(path).map_err(failed)?;
    if file.metadata().map_err(failed)?.is_dir() {
        return Err(failed(io::Error::new(io::ErrorKind::IsADirectory, "it is a folder, not a file")));
    }
    let mut bytes = BufReader::with_capacity(BUFFER, file);
    let start = bytes.fill_buf().map_err(failed)?;
    Ok(if start.starts_with(b"\x1f\x8b") {
        Box::new(BufReader::with_capacity(BUFFER, MultiGzDecoder::new(bytes)))
    } else if start.starts_with(b"\x28\xb5\x2f\xfd") {
        Box::new(BufReader::with_capacity(BUFFER, zstd::stream::read::Decoder::with_buffer(bytes).map_err(failed)?))
    } else {
        Box::new(bytes)
    })
}

/// Everything that is left of a file, up to `limit` bytes.
pub(super) fn rest(path: &Path, bytes: &mut dyn BufRead, limit: usize, whole: &mut Vec<u8>) -> Result<(), FileError> {
    let room = limit.saturating_sub(whole.len()) as u64;
    bytes.take(room + 1).read_to_end(whole).map_err(|source| FileError::read(path, source))?;
    if whole.len() > limit {
        let problem = format!("one document of more than {} MiB", limit >> 20);
        return Err(FileError::content(path, problem, "smaller documents, such as one request per line"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back_whatever_the_compression() {
        let folder = tempfile::tempdir().expect("a folder");
        for name in ["a.jsonl", "a.jsonl.gz", "a.jsonl.zst"] {
            let path = folder.path().join(name);
            let mut target = Target::create(&path).expect("a file");
            target.write_all(b"one\ntwo\n").expect("written");
            assert!(!path.exists(), "it has no name before it is whole");
            target.finish().expect("finished");
            let mut text = String::new();
            open(&path).expect("opened").read_to_string(&mut text).expect("read");
            assert_eq!(text, "one\ntwo\n", "{name}");
        }
        assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 3);
    }

    #[test]
    fn a_file_that_is_given_up_leaves_nothing_and_harms_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.json");
        std::fs::write(&path, "old").expect("written");
        drop(Target::create(&path).expect("a file"));
        assert_eq!(std::fs::read_to_string(&path).expect("read"), "old");
        assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 1);
        assert!(Target::create(&folder.path().join("none/a.json")).is_err());
    }
}
