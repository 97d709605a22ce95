//! Files that are written whole or not at all: under another name beside their own, which they take when they are finished.
//! What is no plain file (`/dev/null`, a pipe) is written to as it is: it must not be replaced.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

/// A file under way that has not its name yet. If it is dropped before, nothing is left of it.
#[derive(Debug)]
pub struct Unnamed {
    path: PathBuf,
    /// Where it is written; `None` of what is written to as it is.
    partial: Option<PathBuf>,
}

/// Begins the file of this path. A link is followed and stays one.
pub fn begin(path: &Path) -> io::Result<(File, Unnamed)> {
    if fs::metadata(path).is_ok_and(|found| found.is_dir()) {
        return Err(io::Error::new(io::ErrorKind::IsADirectory, "it is a folder, not a file"));
    }
    let (path, partial) = places(path)?;
    let file = match &partial {
        Some(partial) => File::create(partial)?,
        None => OpenOptions::new().write(true).open(&path)?,
    };
    Ok((file, Unnamed { path, partial }))
}

/// Where this process writes the file of that path until it is finished; `None` of what is written to as it is.
pub fn partial_of(path: &Path) -> Option<PathBuf> {
    places(path).ok()?.1
}

fn places(path: &Path) -> io::Result<(PathBuf, Option<PathBuf>)> {
    let path = match fs::metadata(path) {
        Ok(found) if !found.is_file() => return Ok((path.to_owned(), None)),
        Ok(_) => fs::canonicalize(path)?,
        Err(_) => path.to_owned(),
    };
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.partial", std::process::id()));
    let partial = path.with_file_name(name);
    Ok((path, Some(partial)))
}

impl Unnamed {
    /// Gives the file its name, once it is on the disk.
    pub fn name(mut self, file: &File) -> io::Result<()> {
        let Some(partial) = &self.partial else { return Ok(()) };
        file.sync_all()?;
        fs::rename(partial, &self.path)?;
        self.partial = None;
        Ok(())
    }
}

impl Drop for Unnamed {
    fn drop(&mut self) {
        if let Some(partial) = &self.partial {
            // The error that matters is another.
            let _ = fs::remove_file(partial);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::unix::fs::{FileTypeExt as _, symlink};

    use super::*;

    fn write(path: &Path, text: &str) -> io::Result<()> {
        let (mut file, unnamed) = begin(path)?;
        file.write_all(text.as_bytes())?;
        unnamed.name(&file)
    }

    #[test]
    fn a_file_has_its_name_once_it_is_whole() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.txt");
        write(&path, "old").expect("written");
        let (mut file, unnamed) = begin(&path).expect("begun");
        file.write_all(b"new").expect("written");
        assert_eq!(fs::read_to_string(&path).expect("read"), "old");
        drop(unnamed);
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 1, "nothing is left of what was given up");
        write(&path, "new").expect("written");
        assert_eq!(fs::read_to_string(&path).expect("read"), "new");
        assert!(begin(folder.path()).is_err() && begin(&folder.path().join("none/a")).is_err());
    }

    #[test]
    fn what_is_no_plain_file_is_not_replaced() {
        let folder = tempfile::tempdir().expect("a folder");
        let (path, link) = (folder.path().join("a.txt"), folder.path().join("link"));
        write(&path, "old").expect("written");
        symlink(&path, &link).expect("linked");
        write(&link, "new").expect("written");
        assert_eq!(fs::read_to_string(&path).expect("read"), "new");
        assert!(fs::symlink_metadata(&link).expect("there").is_symlink());
        let null = folder.path().join("null");
        symlink("/dev/null", &null).expect("linked");
        write(&null, "text").expect("written");
        assert!(fs::metadata("/dev/null").expect("there").file_type().is_char_device());
        assert!(fs::symlink_metadata(&null).expect("there").is_symlink());
    }
}
