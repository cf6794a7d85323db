//! Writing segments: batches in offset order, the sparse index beside them.
//!
//! Invariant: what is written lies beyond the valid length that partitions know, until the caller
//! tells them of it after [`Writer::finish`], which syncs the batches.

use std::ops::RangeInclusive;
use std::sync::Arc;

use bytes::{BufMut, BytesMut};

use crate::disk::DiskFile;
use crate::partition::Segment;
use crate::segment::{self, Indexer};
use crate::settle::Trouble;

/// How much is written at once.
pub(crate) const COPY_BYTES: usize = 1 << 20;

/// Writes one segment.
pub(crate) struct Writer {
    pub(crate) segment: Segment,
    indexer: Indexer,
    file: Arc<dyn DiskFile>,
    index: Arc<dyn DiskFile>,
    /// Where the index goes on.
    index_bytes: u64,
    buffer: BytesMut,
    /// Where the buffer goes.
    buffer_at: u64,
    index_buffer: BytesMut,
}

impl Writer {
    pub(crate) fn new(
        segment: Segment,
        indexer: Indexer,
        file: Arc<dyn DiskFile>,
        index: Arc<dyn DiskFile>,
    ) -> Self {
        Self {
            segment,
            indexer,
            file,
            index,
            index_bytes: 0,
            buffer: BytesMut::new(),
            buffer_at: segment.bytes,
            index_buffer: BytesMut::new(),
        }
    }

    /// Goes on with the index behind the entries that are right on the disk.
    pub(crate) fn resume_index(&mut self, open: &segment::OpenSegment) {
        self.index_bytes = (open.loaded * segment::ENTRY_BYTES) as u64;
        for entry in &open.index[open.loaded..] {
            entry.encode(&mut self.index_buffer);
        }
    }

    /// Adds the batch that holds these offsets, with its newest time.
    pub(crate) fn add(
        &mut self,
        offsets: RangeInclusive<i64>,
        max_timestamp: i64,
        content: &[u8],
    ) -> Result<(), Trouble> {
        let position = self.segment.bytes;
        let entry = self.indexer.next(*offsets.start(), position, max_timestamp);
        if let Some(entry) = entry {
            entry.encode(&mut self.index_buffer);
        }
        self.buffer.put_slice(content);
        self.segment.bytes += content.len() as u64;
        self.segment.last_offset = *offsets.end();
        self.segment.max_timestamp = self.segment.max_timestamp.max(max_timestamp);
        if self.buffer.len() >= COPY_BYTES {
            self.flush()
        } else {
            Ok(())
        }
    }

    fn flush(&mut self) -> Result<(), Trouble> {
        self.file
            .write_at(&self.buffer, self.buffer_at)
            .map_err(Trouble::write)?;
        self.buffer_at += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// Writes what is left and syncs the batches. The index is not synced: what a power loss takes
    /// of it is found by its checksums and made again from the batches.
    pub(crate) fn finish(mut self) -> Result<Segment, Trouble> {
        self.flush()?;
        self.index
            .write_at(&self.index_buffer, self.index_bytes)
            .map_err(Trouble::write)?;
        self.file.sync().map_err(Trouble::write)?;
        Ok(self.segment)
    }
}
