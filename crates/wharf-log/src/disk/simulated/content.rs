//! One simulated file: what readers see, what the platter holds, and the changes in between.
//!
//! Invariants: `cache` is `durable` plus every pending change, except after a failed sync, when the
//! changes that were dropped stay in `cache` (or vanish from it, as after an eviction) and never
//! become durable by themselves. A sector is never torn; anything larger may be. A change that was
//! synced must never be lost here.

use super::Random;

/// What a disk writes whole or not at all.
pub(super) const SECTOR_BYTES: usize = 512;

/// An unsynced change, in the order it was made.
#[derive(Clone, Debug)]
enum Change {
    /// Whole sectors (the last one may end with the file).
    Write { offset: usize, bytes: Vec<u8> },
    /// The file's new length; growth is zero-filled.
    Resize(usize),
}

/// A file's content.
#[derive(Clone, Debug, Default)]
pub(super) struct Content {
    cache: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<Change>,
}

impl Content {
    pub(super) fn len(&self) -> usize {
        self.cache.len()
    }

    pub(super) fn read(&self, buffer: &mut [u8], offset: usize) -> usize {
        let there = self.cache.get(offset..).unwrap_or_default();
        let count = there.len().min(buffer.len());
        buffer[..count].copy_from_slice(&there[..count]);
        count
    }

    pub(super) fn write(&mut self, bytes: &[u8], offset: usize) {
        if bytes.is_empty() {
            return;
        }
        let end = offset + bytes.len();
        if end > self.cache.len() {
            self.cache.resize(end, 0);
        }
        self.cache[offset..end].copy_from_slice(bytes);
        let first = offset - offset % SECTOR_BYTES;
        let last = end.next_multiple_of(SECTOR_BYTES).min(self.cache.len());
        let bytes = self.cache[first..last].to_vec();
        self.pending.push(Change::Write {
            offset: first,
            bytes,
        });
    }

    pub(super) fn resize(&mut self, bytes: usize) {
        self.cache.resize(bytes, 0);
        self.pending.push(Change::Resize(bytes));
    }

    /// A sync that works.
    pub(super) fn sync(&mut self) {
        for change in self.pending.drain(..) {
            apply(&mut self.durable, &change);
        }
    }

    /// A sync that fails, as Linux does it: some pages reached the disk, the others are marked
    /// clean all the same, so that no later sync writes them; the cache may still show them.
    pub(super) fn fail_sync(&mut self, random: &mut Random) {
        self.durable = self.survivors(random);
        self.pending.clear();
        if random.coin() {
            self.cache.clone_from(&self.durable);
        }
    }

    /// Power loss: the cache is gone, unsynced changes reached the platter in part.
    pub(super) fn lose_power(&mut self, random: &mut Random) {
        self.durable = self.survivors(random);
        self.pending.clear();
        self.cache.clone_from(&self.durable);
    }

    /// Flips one bit of the byte at `position`, on the platter and in the cache.
    /// Returns false when the file is shorter.
    pub(super) fn flip_bit(&mut self, position: usize, bit: u8) -> bool {
        let mut found = false;
        for copy in [&mut self.cache, &mut self.durable] {
            if let Some(byte) = copy.get_mut(position) {
                *byte ^= 1 << (bit % 8);
                found = true;
            }
        }
        found
    }

    /// One of the contents the platter may have when power goes now. Lengths change in the order
    /// they were made (file systems journal them); sectors reach the platter in any order.
    fn survivors(&self, random: &mut Random) -> Vec<u8> {
        let count = self.pending.len();
        let fate = Fate::draw(count, random);
        let lengths_kept = match fate {
            Fate::Prefix(whole) => (whole + usize::from(random.coin())).min(count),
            Fate::Changes(_) | Fate::Sectors if random.coin() => random.index(count + 1),
            Fate::Changes(_) | Fate::Sectors => count,
        };
        let mut latest = self.durable.clone();
        let mut result = self.durable.clone();
        let mut length = self.durable.len();
        for (number, change) in self.pending.iter().enumerate() {
            let shrinks_to = match change {
                Change::Resize(bytes) if *bytes < latest.len() => Some(*bytes),
                _ => None,
            };
            if shrinks_to.is_some() && number >= lengths_kept {
                break;
            }
            apply(&mut latest, change);
            if let Some(bytes) = shrinks_to {
                result.truncate(bytes);
            }
            if let Change::Write { offset, bytes } = change {
                keep_sectors(&latest, &mut result, *offset, bytes.len(), || {
                    fate.keeps(number, random)
                });
            }
            if number < lengths_kept {
                length = latest.len();
            }
        }
        result.resize(length, 0);
        result
    }
}

/// How unsynced changes fare in one power loss.
#[derive(Debug)]
enum Fate {
    /// The first ones arrived whole, the next one in part.
    Prefix(usize),
    /// Each one arrived whole or not at all, in any order.
    Changes(Vec<bool>),
    /// Each sector of each one on its own.
    Sectors,
}

impl Fate {
    fn draw(count: usize, random: &mut Random) -> Self {
        match random.below(6) {
            0 => Self::Prefix(count),
            1 => Self::Changes(vec![false; count]),
            2 | 3 => Self::Prefix(random.index(count + 1)),
            4 => Self::Changes((0..count).map(|_| random.coin()).collect()),
            _ => Self::Sectors,
        }
    }

    fn keeps(&self, number: usize, random: &mut Random) -> bool {
        match self {
            Self::Prefix(whole) => number < *whole || (number == *whole && random.coin()),
            Self::Changes(kept) => kept[number],
            Self::Sectors => random.coin(),
        }
    }
}

fn apply(target: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Write { offset, bytes } => {
            let end = offset + bytes.len();
            if end > target.len() {
                target.resize(end, 0);
            }
            target[*offset..end].copy_from_slice(bytes);
        }
        Change::Resize(bytes) => target.resize(*bytes, 0),
    }
}

/// Copies those sectors of `from` within the range that `keeps` chooses.
fn keep_sectors(
    from: &[u8],
    to: &mut Vec<u8>,
    offset: usize,
    bytes: usize,
    mut keeps: impl FnMut() -> bool,
) {
    let end = offset + bytes;
    for first in (offset..end).step_by(SECTOR_BYTES) {
        if !keeps() {
            continue;
        }
        let last = (first + SECTOR_BYTES).min(end);
        if last > to.len() {
            to.resize(last, 0);
        }
        to[first..last].copy_from_slice(&from[first..last]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(bytes: &[u8]) -> Content {
        let mut content = Content::default();
        content.write(bytes, 0);
        content
    }

    #[test]
    fn synced_bytes_survive_every_power_loss() {
        for seed in 0..200 {
            let mut content = written(&[1; 2000]);
            content.sync();
            content.write(&[2; 600], 1024);
            content.lose_power(&mut Random::new(seed));
            assert_eq!(content.cache[..1024], [1; 1024]);
            assert_eq!(content.cache[1640..2000], [1; 360]);
            assert_eq!(content.cache.len(), 2000);
        }
    }

    #[test]
    fn unsynced_bytes_are_lost_kept_torn_and_reordered() {
        let (mut lost, mut kept, mut torn, mut reordered) = (0, 0, 0, 0);
        for seed in 0..500 {
            let mut content = written(&[0; 2048]);
            content.sync();
            content.write(&[1; 1024], 0);
            content.write(&[2; 1024], 1024);
            content.lose_power(&mut Random::new(seed));
            let firsts: Vec<u8> = content.cache.chunks(SECTOR_BYTES).map(|s| s[0]).collect();
            match firsts[..] {
                [0, 0, 0, 0] => lost += 1,
                [1, 1, 2, 2] => kept += 1,
                [0, 0, 2, 2] => reordered += 1,
                _ => torn += 1,
            }
            for sector in content.cache.chunks(SECTOR_BYTES) {
                assert!(
                    sector.iter().all(|byte| *byte == sector[0]),
                    "a sector was torn"
                );
            }
        }
        assert!(lost > 0 && kept > 0 && torn > 0 && reordered > 0);
    }

    #[test]
    fn a_failed_sync_drops_pages_that_no_later_sync_writes() {
        let mut dropped = 0;
        for seed in 0..100 {
            let mut content = written(&[0; 1024]);
            content.sync();
            content.write(&[1; 1024], 0);
            let mut random = Random::new(seed);
            content.fail_sync(&mut random);
            content.sync();
            content.lose_power(&mut random);
            dropped += usize::from(content.cache.contains(&0));
        }
        assert!(dropped > 20, "dropped {dropped}");
    }

    #[test]
    fn a_lost_truncation_never_mixes_old_bytes_into_the_new_file() {
        for seed in 0..300 {
            let mut content = written(&[1; 2048]);
            content.sync();
            content.resize(0);
            content.write(&[2; 512], 1536);
            content.lose_power(&mut Random::new(seed));
            let old = content.cache.contains(&1);
            let new = content.cache.contains(&2);
            assert!(!(old && new), "seed {seed}");
        }
    }
}
