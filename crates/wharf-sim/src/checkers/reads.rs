//! Promise: a read anywhere returns the batch that holds the offset and those after it; a search by
//! time finds the first batch that is new enough, and the newest one.

use wharf_log::disk::simulated::Random;
use wharf_log::{PartitionId, ReadError, Reader, TimedBatch};
use wharf_message::Timestamp;

use super::{Broken, broken, difference};
use crate::model::{Batch, Model, Partition};
use crate::view::{Stored, split};

const PROMISE: &str = "a read returns what was asked for";

/// Reads at a random place and searches for a random time.
pub fn check(model: &Model, reader: &Reader, random: &mut Random) -> Result<(), Broken> {
    let Some((id, partition)) = model
        .partitions
        .iter()
        .nth(random.index(model.partitions.len()))
    else {
        return Ok(());
    };
    read_at(*id, partition, reader, random)?;
    search(*id, partition, reader, random)
}

fn read_at(
    id: PartitionId,
    partition: &Partition,
    reader: &Reader,
    random: &mut Random,
) -> Result<(), Broken> {
    let Partition { start, end, .. } = *partition;
    let span = u64::try_from(end - start + 4).unwrap_or(4);
    let offset = start - 2 + i64::try_from(random.below(span + 1)).unwrap_or(0);
    let (bytes_max, may_block) = (random.index(9_000), random.coin());
    let slice = match reader.read(id, offset, bytes_max, may_block) {
        Ok(slice) => slice,
        Err(ReadError::NeedsDisk) if !may_block => return Ok(()),
        Err(ReadError::OffsetOutOfRange { .. }) if offset < start || offset > end => return Ok(()),
        Err(error) => return broken(PROMISE, format!("{id:?} at {offset}: {error:?}")),
    };
    if offset < start || offset > end {
        return broken(
            PROMISE,
            format!("{id:?}: {offset} was read, outside {start}..={end}"),
        );
    }
    let found = split(&slice, offset, bytes_max)?;
    let mut expected = partition
        .batches
        .iter()
        .skip_while(|batch| batch.last < offset);
    if found.is_empty() != (offset == end) {
        return broken(
            PROMISE,
            format!("{id:?} at {offset} of {end}: {} batches", found.len()),
        );
    }
    for stored in &found {
        same("a read", id, expected.next(), Some(stored))?;
    }
    Ok(())
}

fn search(
    id: PartitionId,
    partition: &Partition,
    reader: &Reader,
    random: &mut Random,
) -> Result<(), Broken> {
    let newest = partition.batches.iter().map(|batch| batch.max_time).max();
    let newest_first = partition
        .batches
        .iter()
        .find(|batch| Some(batch.max_time) == newest);
    same(
        "a search",
        id,
        newest_first,
        timed(reader.batch_of_max_time(id))?.as_ref(),
    )?;
    let Some(some) = partition.batches.get(random.index(partition.batches.len())) else {
        return Ok(());
    };
    let time = some.max_time.as_millis() + i64::try_from(random.below(3)).unwrap_or(0) - 1;
    let time = Timestamp::from_millis(time);
    let first = partition
        .batches
        .iter()
        .find(|batch| batch.max_time >= time);
    same(
        "a search",
        id,
        first,
        timed(reader.batch_at_time(id, time))?.as_ref(),
    )
}

fn timed(found: Result<Option<TimedBatch>, ReadError>) -> Result<Option<Stored>, Broken> {
    match found {
        Ok(None) => Ok(None),
        Ok(Some(TimedBatch { batch: bytes })) => match wharf_log::batch::verify(&bytes) {
            Ok(header) => Ok(Some(Stored { header, bytes })),
            Err(error) => broken(PROMISE, format!("a search found a bad batch: {error}")),
        },
        Err(error) => broken(PROMISE, format!("a search failed: {error:?}")),
    }
}

fn same(
    what: &str,
    id: PartitionId,
    expected: Option<&Batch>,
    found: Option<&Stored>,
) -> Result<(), Broken> {
    let difference = match (expected, found) {
        (None, None) => return Ok(()),
        (Some(expected), Some(found)) => match difference(expected, found) {
            None => return Ok(()),
            Some(difference) => difference,
        },
        (Some(_), None) => "nothing".to_owned(),
        (None, Some(found)) => format!("the batch at {}", found.header.base_offset),
    };
    let due = expected.map(|batch| batch.base);
    broken(
        PROMISE,
        format!("{id:?}: {what} found {difference}, not the batch at {due:?}"),
    )
}
