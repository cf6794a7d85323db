//! Reading a little of a partition at once, without waiting for what is not there yet.
//!
//! Only what readers of committed records may see is read, and every read gets on: over batches that
//! hold no records, records that do not count, and batches that cannot be opened.

use wharf_broker::Broker;
use wharf_broker::records::{Batch, Content, Record as Stored};
use wharf_log::{Aborted, PartitionId, ReadError, Slice};
use wharf_message::ledger::{Entry, Record};

/// How many bytes are read at once, as they are stored; at least one batch.
const BYTES_MAX: usize = 1 << 20;

/// What was read.
#[derive(Debug, Default)]
pub(super) struct Read {
    pub(super) entries: Vec<Entry>,
    /// The size of what they were in.
    pub(super) bytes: usize,
    /// Everything before was read.
    pub(super) next: i64,
}

/// Reads records from `offset` on, at most `records_max`.
pub(super) async fn read(
    broker: &Broker,
    partition: PartitionId,
    offset: i64,
    records_max: usize,
) -> Result<Read, String> {
    let slice = match broker
        .reader()
        .read_committed(partition, offset, BYTES_MAX, false)
    {
        Err(ReadError::NeedsDisk) => {
            let reader = broker.reader().clone();
            let reading = tokio::task::spawn_blocking(move || {
                reader.read_committed(partition, offset, BYTES_MAX, true)
            });
            reading.await.map_err(|error| error.to_string())?
        }
        slice => slice,
    };
    match slice {
        Ok(slice) => opened(&slice, offset, records_max),
        // Deleted meanwhile, or its beginning: whoever looks again sees it.
        Err(ReadError::UnknownPartition(_) | ReadError::OffsetOutOfRange { .. }) => Ok(Read {
            next: offset,
            ..Read::default()
        }),
        Err(error) => Err(error.to_string()),
    }
}

fn opened(slice: &Slice, offset: i64, records_max: usize) -> Result<Read, String> {
    // Where no batch is left up to the end, that was all.
    let next = match slice.bounds {
        Some(bounds) if slice.batches.is_empty() => offset.max(bounds.stable_end),
        _ => offset,
    };
    let mut read = Read {
        entries: Vec::new(),
        bytes: slice.bytes,
        next,
    };
    for neighbours in &slice.batches {
        let mut rest = neighbours.clone();
        while !rest.is_empty() {
            let (batch, after) = Batch::split(&rest).map_err(|error| error.to_string())?;
            let (_, end) = Batch::span(&batch).map_err(|error| error.to_string())?;
            match Batch::open(&batch).map(|batch| batch.content) {
                Ok(Content::Records {
                    transaction,
                    records,
                }) if !is_aborted(&slice.aborted, transaction, end) => {
                    for record in records {
                        let Ok(record) = record else {
                            skipped(end);
                            break;
                        };
                        if record.offset < offset {
                            continue;
                        }
                        if read.entries.len() >= records_max {
                            return Ok(read);
                        }
                        read.next = record.offset.saturating_add(1);
                        read.entries.push(entry(record));
                    }
                }
                Ok(_) => {}
                Err(_unreadable) => skipped(end),
            }
            read.next = read.next.max(end);
            rest = after;
        }
    }
    Ok(read)
}

/// A batch that no consumer can read either.
fn skipped(end: i64) {
    tracing::debug!(end, "a batch cannot be read, and is passed over");
}

fn is_aborted(aborted: &[Aborted], transaction: Option<i64>, end: i64) -> bool {
    transaction.is_some_and(|producer| {
        aborted
            .iter()
            .filter(|one| one.producer_id == producer)
            .any(|one| one.first_offset < end && end <= one.last_offset.saturating_add(1))
    })
}

fn entry(record: Stored) -> Entry {
    Entry {
        offset: record.offset,
        record: Record {
            timestamp: record.timestamp,
            key: record.key,
            value: record.value,
            headers: record.headers,
        },
    }
}
