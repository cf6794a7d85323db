//! Promise: a read anywhere returns the batch that holds the offset and those after it; a search by
//! time finds the first batch that is new enough, and the newest one.

use wharf_log::disk::simulated::Random;
use wharf_log::{PartitionId, ReadError, Reader, TimedBatch};
use wharf_message::Timestamp;

use super::{Broken, Judge, Written, broken, difference};
use crate::model::{Batch, Model, Partition};
use crate::view::{Cut, Stored, read_batches};

const PROMISE: &str = "a read returns what was asked for";

/// Reads at a random place and searches for a random time, at `now`.
pub fn check(
    model: &Model,
    written: &Written,
    reader: &Reader,
    random: &mut Random,
    now: Timestamp,
) -> Result<(), Broken> {
    let Some((id, partition)) = model
        .partitions
        .iter()
        .nth(random.index(model.partitions.len()))
    else {
        return Ok(());
    };
    let Partition { start, end, .. } = *partition;
    let judge = written.judge(*id, start, end, now);
    read_at(*id, partition, judge.as_ref(), reader, random)?;
    match judge {
        // What is left cannot be told without reading all of it.
        Some(_) if random.one_in(4) => search_what_is_left(*id, reader, random),
        Some(_) => Ok(()),
        None => search(*id, partition, reader, random),
    }
}

fn read_at(
    id: PartitionId,
    partition: &Partition,
    judge: Option<&Judge<'_>>,
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
    let mut found = Cut::of(judge.is_some()).split(&slice, offset, bytes_max)?;
    if let Some(judge) = judge {
        let until = found.last().map(|last| last.header.last_offset() + 1);
        found.retain(Stored::has_records);
        match judge.restore(offset, until.unwrap_or(offset), found.into_iter()) {
            Ok((whole, _gone)) => found = whole,
            Err(wrong) => return broken(PROMISE, format!("{id:?} at {offset}: {wrong}")),
        }
    }
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

/// As [`search`], in a partition that is compacted.
fn search_what_is_left(
    id: PartitionId,
    reader: &Reader,
    random: &mut Random,
) -> Result<(), Broken> {
    let Some(bounds) = reader.bounds(id) else {
        return broken(PROMISE, format!("{id:?} is gone"));
    };
    let left = read_batches(reader, id, bounds, random, Cut::Compacted)?;
    let newest = left.iter().map(|one| one.header.max_timestamp).max();
    let at_least = |time: i64| left.iter().find(|one| one.header.max_timestamp >= time);
    let first = newest.and_then(at_least);
    let found = timed(reader.batch_of_max_time(id))?;
    let mut searches = vec![(newest, first, found)];
    if let Some(some) = left.get(random.index(left.len().max(1))) {
        let time = some.header.max_timestamp + i64::try_from(random.below(3)).unwrap_or(0) - 1;
        let found = timed(reader.batch_at_time(id, Timestamp::from_millis(time)))?;
        searches.push((Some(time), at_least(time), found));
    }
    for (time, first, found) in searches {
        if first != found.as_ref() {
            let base = |one: &Stored| one.header.base_offset;
            let (due, found) = (first.map(base), found.as_ref().map(base));
            let detail = format!("{id:?}: a search for {time:?} found {found:?}, not {due:?}");
            return broken(PROMISE, detail);
        }
    }
    Ok(())
}

fn timed(found: Result<Option<TimedBatch>, ReadError>) -> Result<Option<Stored>, Broken> {
    match found {
        Ok(None) => Ok(None),
        Ok(Some(TimedBatch { batch: bytes })) => match wharf_log::batch::verify_stored(&bytes) {
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
