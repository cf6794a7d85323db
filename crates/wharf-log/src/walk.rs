//! Walking over the batches of a segment by their headers.
//!
//! Invariant: the base offset, which a batch's checksum leaves out, counts only where the place of the
//! batch confirms it. Content is never checked here: that is for whoever returns it.

use std::io;

use bytes::Bytes;

use crate::batch::{self, HEADER_BYTES, Header};
use crate::disk::DiskFile;
use crate::partition::Segment;
use crate::segment::IndexEntry;

/// How much is read at once, at first: one header is often all that is looked for.
const WALK_BYTES_MIN: usize = 4 << 10;
/// How much is read at once while batches turn out to be small.
const WALK_BYTES_MAX: usize = 64 << 10;

/// Where offsets may be missing in a segment.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Gaps<'a> {
    Nowhere,
    /// Nothing confirms base offsets: for searches whose finds are read again.
    Anywhere,
    /// Only where batches were left out when they were settled.
    Known {
        /// The partition's start: below it, batches may have been deleted before they were settled.
        start: i64,
        /// Ranges of damaged batches, which are not settled, in offset order.
        left_out: &'a [(i64, i64)],
    },
}

impl Gaps<'_> {
    /// Whether all offsets from `next` up to `base` may be missing.
    fn explain(&self, next: i64, base: i64) -> bool {
        match self {
            Self::Nowhere => false,
            Self::Anywhere => true,
            Self::Known { start, left_out } => {
                let mut at = next.max(*start);
                for (first, last) in *left_out {
                    if (*first..=*last).contains(&at) {
                        at = last + 1;
                    }
                }
                base <= *start || at == base
            }
        }
    }
}

/// Walks over the headers of a segment's batches, reading ahead in bounded pieces.
///
/// A batch whose base offset does not follow from the batch before it is broken: a flipped one must
/// neither hide the batch nor let it pass for another.
pub(crate) struct Walk<'a> {
    file: &'a dyn DiskFile,
    pub(crate) position: u64,
    end: u64,
    /// The last offset of the segment.
    last_offset: i64,
    /// The base offset of the batch at `position`, unless offsets are missing before it.
    next: i64,
    /// Where they may be missing.
    gaps: Gaps<'a>,
    /// Whether the batch before was broken, so that any later offset may follow.
    after_broken: bool,
    chunk: Bytes,
    chunk_at: u64,
    /// How much to read next.
    chunk_bytes: usize,
}

/// What a walk meets.
pub(crate) enum Step {
    Batch(u64, Header),
    /// What is at this position is no batch, or none that belongs there.
    Broken(u64),
    End,
}

impl<'a> Walk<'a> {
    pub(crate) fn new(
        file: &'a dyn DiskFile,
        segment: &Segment,
        from: Option<&IndexEntry>,
        gaps: Gaps<'a>,
    ) -> Self {
        let (position, next) = from.map_or((0, segment.base_offset), |from| {
            (from.position, from.offset)
        });
        Self {
            file,
            position,
            end: segment.bytes,
            last_offset: segment.last_offset,
            next,
            gaps,
            after_broken: false,
            chunk: Bytes::new(),
            chunk_at: position,
            chunk_bytes: WALK_BYTES_MIN,
        }
    }

    /// The next batch that is not broken.
    pub(crate) fn next_batch(&mut self) -> io::Result<Option<(u64, Header)>> {
        loop {
            match self.next()? {
                Step::Batch(position, header) => return Ok(Some((position, header))),
                Step::Broken(_) => {}
                Step::End => return Ok(None),
            }
        }
    }

    pub(crate) fn next(&mut self) -> io::Result<Step> {
        let position = self.position;
        if position >= self.end {
            return Ok(Step::End);
        }
        let have = self.chunk_at + self.chunk.len() as u64;
        if position + HEADER_BYTES as u64 > have {
            if position < have + self.chunk.len() as u64 {
                self.chunk_bytes = (2 * self.chunk_bytes).min(WALK_BYTES_MAX);
            }
            let bytes = self.end.saturating_sub(position);
            let bytes = bytes.min(self.chunk_bytes as u64);
            self.chunk = read_up_to(self.file, position, usize::try_from(bytes).unwrap_or(0))?;
            self.chunk_at = position;
        }
        let at = usize::try_from(position - self.chunk_at).unwrap_or(usize::MAX);
        let header = self
            .chunk
            .get(at..)
            .and_then(|bytes| batch::header(bytes).ok());
        match header {
            Some(header) if position + header.batch_bytes() as u64 <= self.end => {
                self.position += header.batch_bytes() as u64;
                self.after_broken = !self.in_place(&header);
                if self.after_broken {
                    return Ok(Step::Broken(position));
                }
                self.next = header.last_offset() + 1;
                Ok(Step::Batch(position, header))
            }
            _ => {
                // Where the next batch starts is not known.
                self.position = self.end;
                Ok(Step::Broken(position))
            }
        }
    }

    fn in_place(&self, header: &Header) -> bool {
        let base = header.base_offset;
        let follows = match self.gaps {
            Gaps::Anywhere => true,
            _ if base <= self.next => base == self.next,
            _ => self.after_broken || self.gaps.explain(self.next, base),
        };
        follows && (base..=self.last_offset).contains(&header.last_offset())
    }
}

/// The bytes from `position` on, fewer at the end of the file.
pub(crate) fn read_up_to(file: &dyn DiskFile, position: u64, bytes: usize) -> io::Result<Bytes> {
    file.read(bytes, position)
}
