//! Reading a segment from its beginning, batch by batch, checked.
//!
//! Invariant: a batch is only given out when its checksum is right and it stands where it belongs;
//! anything else ends the scan as an error, and nothing of the segment is rewritten.

use std::io;
use std::sync::Arc;

use bytes::Bytes;

use crate::batch::{self, HEADER_BYTES, Header};
use crate::partition::Segment;
use crate::reader::intact;
use crate::segment::OpenSegment;
use crate::walk::read_up_to;

/// How much is read at once.
const SCAN_BYTES: usize = 1 << 20;

/// Why a scan ended early.
#[derive(Debug)]
pub(super) enum Flaw {
    /// There is no right batch with this offset at this position of the file.
    Damaged {
        offset: i64,
        position: u64,
    },
    Disk(io::Error),
}

impl From<io::Error> for Flaw {
    fn from(error: io::Error) -> Self {
        Self::Disk(error)
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Scan {
    open: Arc<OpenSegment>,
    segment: Segment,
    /// The partition's start: below it, offsets may be missing.
    start: i64,
    /// The offset that comes next.
    next: i64,
    /// Where `chunk` begins in the file.
    position: u64,
    chunk: Bytes,
}

impl Scan {
    pub(super) fn new(open: Arc<OpenSegment>, segment: Segment, start: i64) -> Self {
        Self {
            open,
            segment,
            start,
            next: segment.base_offset,
            position: 0,
            chunk: Bytes::new(),
        }
    }

    /// The next batch; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<(Header, Bytes)>, Flaw> {
        if self.position == self.segment.bytes {
            return Ok(None);
        }
        if self.chunk.len() < HEADER_BYTES {
            self.fill(HEADER_BYTES)?;
        }
        let header = batch::header(&self.chunk).map_err(|_error| self.damaged())?;
        let bytes = header.batch_bytes();
        if self.chunk.len() < bytes {
            self.fill(bytes)?;
        }
        if self.chunk.len() < bytes {
            return Err(self.damaged());
        }
        let base = header.base_offset;
        let in_place = base == self.next || (base > self.next && base <= self.start);
        let inside = (base..=self.segment.last_offset).contains(&header.last_offset());
        if !in_place || !inside || !intact(&self.chunk[..bytes], base) {
            return Err(self.damaged());
        }
        self.position += bytes as u64;
        self.next = header.last_offset() + 1;
        Ok(Some((header, self.chunk.split_to(bytes))))
    }

    fn damaged(&self) -> Flaw {
        Flaw::Damaged {
            offset: self.next,
            position: self.position,
        }
    }

    /// Reads on, at least `bytes` if there are so many.
    fn fill(&mut self, bytes: usize) -> io::Result<()> {
        let left = usize::try_from(self.segment.bytes - self.position).unwrap_or(usize::MAX);
        let bytes = bytes.max(SCAN_BYTES).min(left);
        self.chunk = read_up_to(&*self.open.file, self.position, bytes)?;
        Ok(())
    }
}
