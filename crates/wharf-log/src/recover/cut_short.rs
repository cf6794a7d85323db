//! Journal files that lost their end: frames that were acknowledged may have been there.
//!
//! A file is made with its full size before anything is written into it, so a shorter one was changed
//! by somebody else. Invariant: the end of the log is not decided by such a file; where no later frame
//! tells what is missing, the log is not opened, and nothing is changed.

use std::io;

use super::Files;
use crate::OpenError;
use crate::journal::{self, Found, JournalFile, read_frame};
use crate::shared::Cut;

/// Looks at the files that could hold the frame after `cut`, once none was found.
pub(super) fn check(files: &Files, cut: Cut, secret: Option<u64>) -> Result<(), OpenError> {
    let mut candidates = files.range(cut.file..).map(|(_, file)| &**file).peekable();
    let Some(mut first) = candidates.next() else {
        return Ok(());
    };
    if first.number == cut.file {
        refuse(first, made_by_frames(first, secret)?.max(cut.position))?;
        let Some(second) = candidates.next() else {
            return Ok(());
        };
        first = second;
    }
    let mut made = made_by_frames(first, secret)?;
    if made == 0 {
        // It holds no frame. Files are made one after the other, so only the last may be half made.
        made = candidates.peek().map_or(0, |after| after.bytes);
    }
    refuse(first, made)
}

/// The size that the first frame of a file tells; 0 when there is none.
fn made_by_frames(file: &JournalFile, secret: Option<u64>) -> Result<u64, OpenError> {
    let failed = |source: io::Error| super::failed(&journal::path(file.number), source);
    match read_frame(file, 0, secret).map_err(failed)? {
        Found::Frame(frame) => Ok(frame.header.file_bytes()),
        Found::Nothing | Found::OtherVersion(_) => Ok(0),
    }
}

fn refuse(file: &JournalFile, made: u64) -> Result<(), OpenError> {
    if file.bytes >= made {
        return Ok(());
    }
    Err(OpenError::CutShort {
        path: journal::path(file.number),
        found: file.bytes,
        made,
    })
}
