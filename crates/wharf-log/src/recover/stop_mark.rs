//! The mark of a graceful stop: it says that no frame follows the snapshot, so that the next start has
//! nothing to search.
//!
//! Invariant: the mark is durably gone before anything is written, so it is never believed twice.

use std::io;

use super::failed;
use crate::OpenError;
use crate::disk::{Disk, Open};

/// The file that a graceful stop leaves and the next start takes away.
const STOP_MARK: &str = "stopped";

/// Takes away the mark of a graceful stop and returns the sequence of the last frame, if the mark can
/// be read. It is gone for good before anything is written.
pub(super) fn take_stop_mark(disk: &dyn Disk) -> Result<Option<u64>, OpenError> {
    let failed = |source| failed(STOP_MARK, source);
    let file = match disk.open(STOP_MARK, Open::Existing) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(failed)?,
    };
    let mut text = [0; 16];
    let count = file.read_at(&mut text, 0).map_err(failed)?;
    disk.remove(STOP_MARK).map_err(failed)?;
    disk.sync_dir("").map_err(failed)?;
    let text = std::str::from_utf8(&text[..count])
        .ok()
        .filter(|text| text.len() == 16);
    Ok(text.and_then(|text| u64::from_str_radix(text, 16).ok()))
}

/// After the final snapshot: says that nothing follows the frame with this sequence, so that the next
/// start has nothing to look for.
pub(crate) fn leave_stop_mark(disk: &dyn Disk, sequence: u64) -> io::Result<()> {
    disk.remove(STOP_MARK)?;
    let file = disk.open(STOP_MARK, Open::New)?;
    file.write_at(format!("{sequence:016x}").as_bytes(), 0)?;
    file.sync()?;
    disk.sync_dir("")
}
