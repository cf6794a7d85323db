//! Payloads as files: one for each content, named by its SHA-256, whole or not there.
//!
//! The names are those of the library's folder store, so that a worker on the same machine reads
//! what is here. A file is synced, with its name, before anybody hears of it. Blocking: callers are
//! threads that may wait. What must never happen: a name that comes from outside leads out of the
//! folder, or a file under a content's name is not that content.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::UNIX_EPOCH;

use sha2::{Digest as _, Sha256};
use wharf_message::Timestamp;

/// Where the contents are.
const CONTENTS: &str = "sha256";
/// Where a file is while it is written.
const UPLOADS: &str = "uploads";

/// The SHA-256 of a content, in hex.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Digest(String);

impl Digest {
    pub(crate) fn of(content: &[u8]) -> Self {
        let digest = Sha256::digest(content);
        Self(digest.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// 64 lower-case hex digits, and nothing else.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        (text.len() == 64 && text.bytes().all(is_hex)).then(|| Self(text.to_owned()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// A folder of contents.
#[derive(Debug)]
pub(crate) struct Folder {
    root: PathBuf,
    /// Held while something is stored or removed: what is stored again is not removed meanwhile.
    changing: Mutex<()>,
}

impl Folder {
    pub(crate) fn new(root: PathBuf) -> Self {
        Self {
            root,
            changing: Mutex::default(),
        }
    }

    fn place(&self, digest: &Digest) -> (PathBuf, PathBuf) {
        let (first, rest) = digest.0.split_at(2);
        let folder = self.root.join(CONTENTS).join(first);
        let file = folder.join(rest);
        (folder, file)
    }

    /// Stores a content; durable when it returns. One that is there is written anew and is of now.
    pub(crate) fn put(&self, content: &[u8]) -> io::Result<Digest> {
        let digest = Digest::of(content);
        let (folder, file) = self.place(&digest);
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let uploads = self.root.join(UPLOADS);
        fs::create_dir_all(&uploads)?;
        if !folder.is_dir() {
            fs::create_dir_all(&folder)?;
            let above = self.root.parent().unwrap_or(&self.root);
            for made in [above, &self.root, &self.root.join(CONTENTS)] {
                sync(made)?;
            }
        }
        // One at a time: whatever a crash left under this name is written over.
        let upload = uploads.join("new");
        let mut new = File::create(&upload)?;
        new.write_all(content)?;
        new.sync_all()?;
        fs::rename(&upload, &file)?;
        sync(&folder)?;
        Ok(digest)
    }

    /// A content; nothing when it is not there, an error when it is damaged.
    pub(crate) fn get(&self, digest: &Digest, bytes_max: usize) -> io::Result<Option<Vec<u8>>> {
        let (_, file) = self.place(digest);
        let open = match File::open(file) {
            Ok(open) => open,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut content = Vec::new();
        let most = u64::try_from(bytes_max).unwrap_or(u64::MAX);
        open.take(most.saturating_add(1))
            .read_to_end(&mut content)?;
        if content.len() > bytes_max || Digest::of(&content) != *digest {
            let reason = "what is stored is not what its name says, or larger than any payload; the disk is damaged";
            return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
        }
        Ok(Some(content))
    }

    /// Every content that was stored last before a moment.
    pub(crate) fn older_than(&self, moment: Timestamp) -> io::Result<Vec<Digest>> {
        let mut found = Vec::new();
        for folder in entries(&self.root.join(CONTENTS))? {
            let first = folder.file_name().to_string_lossy().into_owned();
            for file in entries(&folder.path())? {
                let name = format!("{first}{}", file.file_name().to_string_lossy());
                if let Some(digest) = Digest::parse(&name)
                    && stored(&file.path())?.is_some_and(|stored| stored < moment)
                {
                    found.push(digest);
                }
            }
        }
        Ok(found)
    }

    /// Removes a content, unless it was stored again since that moment; whether it went.
    pub(crate) fn remove(&self, digest: &Digest, moment: Timestamp) -> io::Result<bool> {
        let (_, file) = self.place(digest);
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        if stored(&file)?.is_none_or(|stored| stored >= moment) {
            return Ok(false);
        }
        fs::remove_file(&file)?;
        Ok(true)
    }
}

/// When a file was stored last; nothing when it is not there.
fn stored(file: &Path) -> io::Result<Option<Timestamp>> {
    let modified = match fs::metadata(file) {
        Ok(found) => found.modified()?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let since = modified.duration_since(UNIX_EPOCH).unwrap_or_default();
    let millis = i64::try_from(since.as_millis()).unwrap_or(i64::MAX);
    Ok(Some(Timestamp::from_millis(millis)))
}

/// What is in a folder; nothing when it is not there.
fn entries(folder: &Path) -> io::Result<Vec<fs::DirEntry>> {
    match fs::read_dir(folder) {
        Ok(entries) => entries.collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// Makes the names in a folder durable.
fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LATER: Timestamp = Timestamp::from_millis(i64::MAX);

    #[test]
    fn a_content_is_there_once_and_whole_until_it_is_removed() {
        let data = tempfile::tempdir().unwrap();
        let folder = Folder::new(data.path().join("claims"));
        assert!(folder.older_than(LATER).unwrap().is_empty());
        let digest = folder.put(b"abc").unwrap();
        let known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(digest.as_str(), known);
        assert_eq!(folder.put(b"abc").unwrap(), digest);
        assert_eq!(
            folder.get(&digest, 3).unwrap().as_deref(),
            Some(&b"abc"[..])
        );
        let there = folder.older_than(LATER).unwrap();
        assert_eq!(there, std::slice::from_ref(&digest));
        assert!(folder.older_than(Timestamp::ZERO).unwrap().is_empty());
        assert!(
            !folder.remove(&digest, Timestamp::ZERO).unwrap(),
            "stored again"
        );
        assert!(folder.remove(&digest, LATER).unwrap());
        assert!(!folder.remove(&digest, LATER).unwrap());
        assert_eq!(folder.get(&digest, 3).unwrap(), None);
    }

    #[test]
    fn what_is_damaged_or_too_large_is_never_handed_out() {
        let data = tempfile::tempdir().unwrap();
        let folder = Folder::new(data.path().to_owned());
        let digest = folder.put(b"abc").unwrap();
        assert!(folder.get(&digest, 2).is_err());
        fs::write(folder.place(&digest).1, b"abd").unwrap();
        assert!(folder.get(&digest, 3).is_err());
        folder.put(b"abc").unwrap();
        assert!(folder.get(&digest, 3).is_ok());
    }

    #[test]
    fn a_name_that_leads_elsewhere_is_none() {
        let digits = "0".repeat(64);
        assert!(Digest::parse(&digits).is_some());
        for wrong in [
            format!("../{}", &digits[3..]),
            digits[1..].to_owned(),
            format!("{digits}0"),
            digits.replacen('0', "A", 1),
            "é".repeat(32),
        ] {
            assert_eq!(Digest::parse(&wrong), None, "{wrong}");
        }
    }
}
