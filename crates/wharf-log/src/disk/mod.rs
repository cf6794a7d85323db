//! The `Disk` seam: every file Wharf touches is touched through it.
//!
//! Contract (what the log relies on, and what the conformance suite checks):
//! - *Ordering*: nothing is durable before a sync. Bytes are durable once [`DiskFile::sync`] has
//!   returned `Ok`; a name (create, rename, remove) is durable once [`Disk::sync_dir`] of its
//!   directory has. Writes since the last sync may be lost, torn or applied out of order.
//! - *Failure*: after a failed sync the content of the file is unknown; the caller must not retry
//!   and pretend (fsyncgate). A full disk is reported as [`std::io::ErrorKind::StorageFull`] (or
//!   `QuotaExceeded`) and leaves what was written before intact.
//! - *Cancellation*: every call blocks until it is done; there is nothing to cancel.
//! - Paths are relative to the disk's root, `/`-separated, without `.` or `..`.

use std::io;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

#[cfg(any(test, feature = "simulation"))]
pub mod conformance;
pub mod real;
#[cfg(any(test, feature = "simulation"))]
pub mod simulated;

/// How [`Disk::open`] treats a file that is or is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Open {
    /// The file must exist; opened for reading and writing.
    Existing,
    /// The file must not exist; it is created empty.
    New,
}

/// One entry of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The name alone, without the directory.
    pub name: String,
    /// The file's length in bytes; 0 for a directory.
    pub bytes: u64,
    /// Whether it is a directory.
    pub is_dir: bool,
}

/// A file system below one root.
pub trait Disk: Send + Sync + 'static {
    /// Opens or creates a file. Parent directories must exist.
    fn open(&self, path: &str, mode: Open) -> io::Result<Arc<dyn DiskFile>>;
    /// Renames a file within the disk, replacing the target if it exists.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file, or a directory with everything in it. Missing is not an error.
    fn remove(&self, path: &str) -> io::Result<()>;
    /// Creates a directory and its parents. Existing is not an error.
    fn create_dir(&self, path: &str) -> io::Result<()>;
    /// Lists a directory, sorted by name. A missing directory lists as empty.
    fn list(&self, path: &str) -> io::Result<Vec<Entry>>;
    /// Makes the names inside a directory durable.
    fn sync_dir(&self, path: &str) -> io::Result<()>;
}

/// An open file. Positions are absolute; there is no cursor, so readers and the writer share it.
#[expect(
    clippy::len_without_is_empty,
    reason = "nobody asks whether a file is empty"
)]
pub trait DiskFile: Send + Sync {
    /// Fills `buffer` from `offset`; returns how many bytes were there (less only at the end).
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Reads up to `bytes` from `offset`, fewer only at the end. The caller knows how much there may
    /// be: so much memory is taken at once.
    fn read(&self, bytes: usize, offset: u64) -> io::Result<Bytes> {
        let mut buffer = BytesMut::zeroed(bytes);
        let count = self.read_at(&mut buffer, offset)?;
        buffer.truncate(count);
        Ok(buffer.freeze())
    }
    /// Writes all of `bytes` at `offset`, extending the file when needed.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Makes everything written so far durable (`fdatasync`).
    fn sync(&self) -> io::Result<()>;
    /// Reserves and zero-fills the file up to `bytes`, so that later writes there cannot run out
    /// of space and need no metadata change when synced. Existing content is kept.
    fn preallocate(&self, bytes: u64) -> io::Result<()>;
    /// Cuts the file to `bytes`.
    fn truncate(&self, bytes: u64) -> io::Result<()>;
    /// The file's length in bytes.
    fn len(&self) -> io::Result<u64>;
}
