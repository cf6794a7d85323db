//! The real file system below a root directory.
//!
//! Every path is checked to stay below the root. Positioned reads and writes only, so one open file
//! serves readers and the writer at once. Nothing here retries a failed sync.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use rustix::buffer::spare_capacity;
use rustix::fs::{FallocateFlags, fallocate};

use super::{Disk, DiskFile, Entry, Open};

/// How much is written at once when zero-filling.
const ZERO_CHUNK_BYTES: usize = 1 << 20;

/// The real file system below a root directory.
#[derive(Clone, Debug)]
pub struct RealDisk {
    root: PathBuf,
}

impl RealDisk {
    /// The file system below `root`, which is created when missing (and made durable then).
    pub fn open(root: impl Into<PathBuf>) -> io::Result<Self> {
        let disk = Self { root: root.into() };
        if !disk.root.is_dir() {
            fs::create_dir_all(&disk.root)?;
            if let Some(parent) = disk
                .root
                .parent()
                .filter(|parent| !parent.as_os_str().is_empty())
            {
                File::open(parent)?.sync_all()?;
            }
        }
        Ok(disk)
    }

    /// The root directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    fn resolve(&self, path: &str) -> io::Result<PathBuf> {
        let safe = path.is_empty()
            || path
                .split('/')
                .all(|part| !part.is_empty() && part != "." && part != "..");
        if safe && !path.contains('\0') {
            Ok(self.root.join(path))
        } else {
            Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("unsafe path {path:?}"),
            ))
        }
    }
}

fn missing_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

impl Disk for RealDisk {
    fn open(&self, path: &str, mode: Open) -> io::Result<Arc<dyn DiskFile>> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(mode == Open::New)
            .open(self.resolve(path)?)?;
        Ok(Arc::new(RealFile { file }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.resolve(from)?, self.resolve(to)?)
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        if path.is_empty() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the root stays",
            ));
        }
        let path = self.resolve(path)?;
        match fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.is_dir() => missing_is_fine(fs::remove_dir_all(path)),
            Ok(_) => missing_is_fine(fs::remove_file(path)),
            Err(error) => missing_is_fine(Err(error)),
        }
    }

    fn create_dir(&self, path: &str) -> io::Result<()> {
        fs::create_dir_all(self.resolve(path)?)
    }

    fn list(&self, path: &str) -> io::Result<Vec<Entry>> {
        let directory = match fs::read_dir(self.resolve(path)?) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other?,
        };
        let mut entries = Vec::new();
        for entry in directory {
            let entry = entry?;
            // Names that are not UTF-8 are not ours.
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            let metadata = entry.metadata()?;
            let is_dir = metadata.is_dir();
            entries.push(Entry {
                name,
                bytes: if is_dir { 0 } else { metadata.len() },
                is_dir,
            });
        }
        entries.sort_by(|left, right| left.name.cmp(&right.name));
        Ok(entries)
    }

    fn sync_dir(&self, path: &str) -> io::Result<()> {
        File::open(self.resolve(path)?)?.sync_all()
    }
}

/// An open file of a [`RealDisk`].
#[derive(Debug)]
struct RealFile {
    file: File,
}

impl DiskFile for RealFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self
                .file
                .read_at(&mut buffer[filled..], offset + filled as u64)
            {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    /// Into memory that is not zeroed before: large reads are most of what a catching-up consumer
    /// costs.
    fn read(&self, bytes: usize, offset: u64) -> io::Result<Bytes> {
        let mut buffer = Vec::with_capacity(bytes);
        while buffer.len() < bytes {
            let at = offset + buffer.len() as u64;
            match rustix::io::pread(&self.file, spare_capacity(&mut buffer), at) {
                Ok(0) => break,
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        // The allocator may have given more room than was asked for.
        buffer.truncate(bytes);
        Ok(Bytes::from(buffer))
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn preallocate(&self, bytes: u64) -> io::Result<()> {
        let start = self.len()?;
        if start >= bytes {
            return Ok(());
        }
        let filled = reserve(&self.file, start, bytes)
            .and_then(|()| fill_with_zeros(&self.file, start, bytes));
        if let Err(error) = filled {
            // Best effort: give the space back, so that a full disk is not made fuller.
            let _already_failing = self.file.set_len(start);
            return Err(error);
        }
        self.file.sync_all()
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        self.file.set_len(bytes)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }
}

/// Reserves blocks without changing the length, so that a full disk shows before anything is
/// written. File systems that cannot reserve find out while writing zeros.
fn reserve(file: &File, start: u64, end: u64) -> io::Result<()> {
    match fallocate(file, FallocateFlags::KEEP_SIZE, start, end - start) {
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => Ok(()),
        other => Ok(other?),
    }
}

/// Writes zeros. Reserved blocks are not enough: writing into a reserved but never written block
/// changes metadata, which makes each later sync several times dearer.
fn fill_with_zeros(file: &File, start: u64, end: u64) -> io::Result<()> {
    let zeros = vec![0; ZERO_CHUNK_BYTES];
    let mut position = start;
    while position < end {
        let count = usize::try_from(end - position)
            .unwrap_or(usize::MAX)
            .min(zeros.len());
        file.write_all_at(&zeros[..count], position)?;
        position += count as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::conformance::{self, Subject};

    fn disk() -> (tempfile::TempDir, RealDisk) {
        let directory = tempfile::tempdir().unwrap();
        let disk = RealDisk::open(directory.path().join("data")).unwrap();
        (directory, disk)
    }

    #[test]
    fn it_keeps_the_contract_of_the_seam() {
        let mut directories = Vec::new();
        conformance::run(|| {
            let (directory, disk) = disk();
            directories.push(directory);
            let root = disk.root().to_owned();
            Subject {
                disk: Arc::new(disk),
                restart: Box::new(move || Arc::new(RealDisk::open(root).unwrap())),
            }
        });
    }

    #[test]
    fn paths_outside_the_root_are_refused() {
        let (_directory, disk) = disk();
        for path in ["../x", "/x", "a/../x", "./x", "a//b", "a/", "a\0b"] {
            let refused = disk.open(path, Open::New).map(|_file| ()).unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::InvalidInput, "{path}");
        }
        assert!(disk.remove("").is_err());
    }

    #[test]
    fn preallocation_keeps_content_and_fills_with_zeros() {
        let (_directory, disk) = disk();
        let file = disk.open("file", Open::New).unwrap();
        file.write_at(b"abc", 0).unwrap();
        file.preallocate(3 << 20).unwrap();
        assert_eq!(file.len().unwrap(), 3 << 20);
        let mut buffer = vec![1; 10];
        assert_eq!(file.read_at(&mut buffer, 0).unwrap(), 10);
        assert_eq!(buffer, b"abc\0\0\0\0\0\0\0");
        assert_eq!(file.read_at(&mut buffer, (3 << 20) - 4).unwrap(), 4);
    }

    #[test]
    fn missing_things_list_as_empty_and_remove_as_done() {
        let (_directory, disk) = disk();
        assert!(disk.list("nowhere").unwrap().is_empty());
        disk.remove("nowhere").unwrap();
        disk.create_dir("a/b").unwrap();
        disk.open("a/b/file", Open::New).unwrap();
        assert!(disk.open("a/b/file", Open::New).is_err());
        disk.sync_dir("a").unwrap();
        disk.remove("a").unwrap();
        assert!(disk.list("").unwrap().is_empty());
        assert!(disk.open("a/b/file", Open::Existing).is_err());
    }
}
