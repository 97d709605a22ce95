//! Text files: decompression, the byte order mark, lines, and what their errors mean.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use flate2::read::MultiGzDecoder;

use super::error::{DatasetError, Problem, ProblemKind, not_found};
use super::source::Context;

/// A row of more bytes than this is taken for a fault: a quote that is never closed, or no text at all.
pub(super) const MAX_ROW: usize = 64 << 20;

const BUFFER: usize = 128 << 10;

/// The decompressed bytes of a text file, without a byte order mark.
pub(super) type Bytes = Box<dyn BufRead + Send>;

/// Opens a text file; the ending tells the compression.
pub(super) fn open(path: &Path) -> Result<Bytes, DatasetError> {
    let failed = |source: io::Error| {
        if source.kind() == io::ErrorKind::NotFound {
            not_found(path)
        } else {
            DatasetError::Io { attempt: "opening dataset", path: path.to_owned(), source }
        }
    };
    let file = File::open(path).map_err(failed)?;
    if file.metadata().map_err(failed)?.is_dir() {
        return Err(failed(io::Error::new(io::ErrorKind::IsADirectory, "it is a folder, not a file")));
    }
    let ending = path.extension().map(|ending| ending.to_string_lossy().to_ascii_lowercase());
    let bytes: Bytes = match ending.as_deref() {
        Some("gz") => Box::new(BufReader::with_capacity(BUFFER, MultiGzDecoder::new(BufReader::new(file)))),
        Some("zst") => {
            Box::new(BufReader::with_capacity(BUFFER, zstd::stream::read::Decoder::new(file).map_err(failed)?))
        }
        _ => Box::new(BufReader::with_capacity(BUFFER, file)),
    };
    Ok(bytes)
}

/// Takes the byte order mark off, if there is one. UTF-16 is refused by name: its text would be garbage.
pub(super) fn skip_mark(bytes: &mut Bytes, context: &Context) -> Result<(), DatasetError> {
    let start = bytes.fill_buf().map_err(|error| read_error(&error, 1, context))?;
    if start.starts_with(b"\xff\xfe") || start.starts_with(b"\xfe\xff") {
        let hint = "save it as UTF-8";
        return Err(context.problem(1, None, ProblemKind::BadEncoding, "the file is UTF-16", hint).into());
    }
    if start.starts_with(b"\xef\xbb\xbf") {
        bytes.consume(3);
    }
    Ok(())
}

/// What an error while reading means to the user.
pub(super) fn read_error(error: &io::Error, line: u64, context: &Context) -> Problem {
    let problem = |kind, message: &str, hint| context.problem(line, None, kind, message, hint);
    match error.kind() {
        io::ErrorKind::UnexpectedEof => {
            problem(ProblemKind::BadCompression, "the file ends in the middle of the compressed data", "copy it again")
        }
        io::ErrorKind::FileTooLarge => problem(
            ProblemKind::HugeRow,
            "a row of more than 64 MiB",
            "look for a quote that is never closed, or for a file that is not text",
        ),
        _ => problem(
            ProblemKind::Unreadable,
            &format!("the data cannot be read on: {error}"),
            "copy the file again, and see that its ending tells its compression",
        ),
    }
}

/// The lines of a file, counted.
pub(super) struct Lines {
    bytes: Bytes,
    /// How many lines have been read.
    pub(super) line: u64,
}

impl Lines {
    pub(super) fn new(bytes: Bytes) -> Self {
        Self { bytes, line: 0 }
    }

    /// Reads the next line, without its line feed, into the buffer; false at the end of the file.
    pub(super) fn read(&mut self, buffer: &mut Vec<u8>) -> io::Result<bool> {
        buffer.clear();
        let read = (&mut self.bytes).take(MAX_ROW as u64).read_until(b'\n', buffer)?;
        if read == 0 {
            return Ok(false);
        }
        if buffer.last() == Some(&b'\n') {
            buffer.pop();
        } else if read == MAX_ROW {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.line += 1;
        Ok(true)
    }

    /// The bytes behind the lines read so far.
    pub(super) fn bytes(&mut self) -> &mut Bytes {
        &mut self.bytes
    }
}

/// The text of bytes, or a problem that names the first byte at fault.
pub(super) fn utf8<'a>(
    bytes: &'a [u8],
    line: u64,
    column: Option<&str>,
    context: &Context,
) -> Result<&'a str, Problem> {
    std::str::from_utf8(bytes).map_err(|error| {
        let at = error.valid_up_to();
        let place = if column.is_some() { "field" } else { "line" };
        let byte = bytes.get(at).copied().unwrap_or_default();
        let message = format!("byte {} of the {place} (0x{byte:02x}) is not UTF-8", at + 1);
        context.problem(line, column, ProblemKind::BadEncoding, message, "save the file as UTF-8")
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use crate::dataset::testing::{TestFile, claims, lines};
    use crate::dataset::{ReadOptions, Source};

    const TEXT: &str = "{\"claim\":\"a\",\"context\":\"b\"}\n{\"claim\":\"c\",\"context\":\"d\"}\n";

    fn gzip(text: &str) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(text.as_bytes()).expect("memory is writable");
        encoder.finish().expect("memory is writable")
    }

    #[test]
    fn compressed_text_reads_as_plain_text() {
        let plain = TestFile::new("x.jsonl", TEXT).rows();
        assert_eq!(plain.len(), 2);
        assert_eq!(TestFile::new("x.jsonl.gz", gzip(TEXT)).rows(), plain);
        let (first, second) = TEXT.split_at_checked(27).expect("the first line");
        assert_eq!(TestFile::new("x.jsonl.gz", [gzip(first), gzip(second)].concat()).rows(), plain);
        let zstd = zstd::encode_all(TEXT.as_bytes(), 1).expect("memory is writable");
        assert_eq!(TestFile::new("x.ndjson.zst", zstd).rows(), plain);
    }

    #[test]
    fn a_cut_archive_is_an_error_whatever_the_format() {
        let long = lines(5000, |n| format!("{{\"claim\":\"{n}\",\"context\":\"{}\"}}\n", n * 7919));
        let csv = format!("claim,context\n{}", lines(5000, |n| format!("{n},{}\n", n * 7919)));
        let zstd = zstd::encode_all(long.as_bytes(), 1).expect("memory is writable");
        for (name, bytes) in [
            ("x.jsonl.gz", gzip(&long)),
            ("x.csv.gz", gzip(&csv)),
            ("x.tsv.gz", gzip(&csv.replace(',', "\t"))),
            ("x.jsonl.zst", zstd),
        ] {
            let cut = bytes.get(..bytes.len() - 20).expect("longer than that");
            let rows = TestFile::new(name, cut).rows();
            let last = rows.last().expect("something").as_ref().expect_err("cut");
            assert!(last.contains("ends in the middle of the compressed data; copy it again"), "{name}: {last}");
        }
    }

    #[test]
    fn what_is_no_archive_or_no_utf8_text_is_named() {
        let not_gzip = TestFile::new("x.csv.gz", "claim,context\n").rows();
        assert!(not_gzip[0].as_ref().expect_err("no gzip").contains("cannot be read on"), "{not_gzip:?}");
        let utf16 = TestFile::new("x.csv", b"\xff\xfec\0l\0").rows();
        assert!(claims(&utf16)[0].1.contains("the file is UTF-16; save it as UTF-8"), "{utf16:?}");
    }

    #[test]
    fn a_missing_file_is_named_with_its_nearest_neighbour() {
        let file = TestFile::new("claims.csv", "claim,context\n");
        let near = Source::new(file.path.with_file_name("claim.csv"), ReadOptions::default());
        let error = near.rows().err().expect("missing").to_string();
        assert!(error.contains("does not exist; did you mean") && error.contains("claims.csv`"), "{error}");
        let relative = Source::new("no-such-folder/x.parquet", ReadOptions::default());
        let error = relative.rows().err().expect("missing").to_string();
        assert!(
            error.contains("there is no folder `no-such-folder`") && error.contains("(looked for in `/"),
            "{error}"
        );
        let folder = file.path.with_file_name("y.csv");
        std::fs::create_dir(&folder).expect("a folder");
        assert!(Source::new(folder, ReadOptions::default()).rows().is_err());
    }
}
