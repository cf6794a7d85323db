//! Which numbers of a sequence are still to come, when numbers are taken at the insert and not at the
//! commit: a pure state machine.
//!
//! Every number up to the highest one seen was handed over, will never be a row, or is in a *hole*:
//! a range that is read again with every page. A hole may be a transaction that is still open, or one
//! that was rolled back. It is closed only when it is certain that nobody can fill it any more:
//!
//! 1. It has been there for a while (`settle`), so that whoever took a number in it has begun the
//!    transaction that the number is for, as the database sees it.
//! 2. Every transaction that was open then has ended. A number that is taken and not yet inserted
//!    (in the middle of a statement of many rows) has no lock on it, so that only this tells.
//! 3. After that, no lock is on it, and no row in it.
//!
//! Invariants: a number is handed over at most once; a hole that anybody may still fill is never
//! closed; there are at most [`HOLES_MAX`] holes, and what lies behind a further one waits; what is
//! read back from a checkpoint begins with step 1 again.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};

/// The most holes that are kept open at once.
pub(super) const HOLES_MAX: usize = 10_000;

/// Numbers from the first to the last one.
pub(super) type Range = (u64, u64);

/// Where a hole stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Seen at this time, of a clock that never goes back.
    Fresh(Duration),
    /// Waits for the transactions of this round.
    Watched(u64),
    /// Nobody who was there is left: closed if it has neither lock nor row.
    Quiet,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Hole {
    last: u64,
    stage: Stage,
}

/// The transactions that holes of one moment wait for.
#[derive(Clone, Debug)]
struct Round<T> {
    number: u64,
    open: BTreeSet<T>,
}

/// What was read of a sequence. `T` names a transaction.
#[derive(Clone, Debug)]
pub(super) struct Holes<T> {
    high: u64,
    /// By their first numbers; they neither touch nor overlap what was handed over.
    holes: BTreeMap<u64, Hole>,
    rounds: VecDeque<Round<T>>,
    next_round: u64,
    settle: Duration,
}

impl<T: Ord + Clone> Holes<T> {
    /// Nothing read yet.
    pub(super) fn new(settle: Duration) -> Self {
        Self {
            high: 0,
            holes: BTreeMap::new(),
            rounds: VecDeque::new(),
            next_round: 0,
            settle,
        }
    }

    /// The highest number that was handed over.
    pub(super) fn high(&self) -> u64 {
        self.high
    }

    /// The number up to which everything is handed over or will never be.
    pub(super) fn complete(&self) -> u64 {
        match self.holes.first_key_value() {
            Some((first, _)) => first - 1,
            None => self.high,
        }
    }

    /// What is to be read again, in order.
    pub(super) fn ranges(&self) -> impl ExactSizeIterator<Item = Range> {
        self.holes.iter().map(|(&first, hole)| (first, hole.last))
    }

    /// Takes the numbers of a page, which grow, of rows in holes and beyond the highest number; the
    /// page has to have all committed rows up to its last one. Says how many of them are taken: those
    /// behind are to be read again once there are fewer holes.
    pub(super) fn take(&mut self, numbers: &[u64], now: Duration) -> usize {
        for (at, &number) in numbers.iter().enumerate() {
            if number <= self.high {
                self.fill(number);
                continue;
            }
            if number > self.high + 1 {
                if self.holes.len() >= HOLES_MAX {
                    return at;
                }
                let (last, stage) = (number - 1, Stage::Fresh(now));
                self.holes.insert(self.high + 1, Hole { last, stage });
            }
            self.high = number;
        }
        numbers.len()
    }

    /// The number is no hole any more.
    fn fill(&mut self, number: u64) {
        let found = self.holes.range(..=number).next_back();
        let Some((first, hole)) = found.map(|(&first, &hole)| (first, hole)) else {
            return;
        };
        if hole.last < number {
            return;
        }
        self.holes.remove(&first);
        if first < number {
            let last = number - 1;
            self.holes.insert(first, Hole { last, ..hole });
        }
        if number < hole.last {
            self.holes.insert(number + 1, hole);
        }
    }

    /// Whether [`Self::observe`] would help at this time.
    pub(super) fn wants_observation(&self, now: Duration) -> bool {
        self.holes.values().any(|hole| match hole.stage {
            Stage::Fresh(seen) => seen + self.settle <= now,
            Stage::Watched(_) => true,
            Stage::Quiet => false,
        })
    }

    /// Learns which transactions are open: all that were at some moment after `now`.
    pub(super) fn observe(&mut self, now: Duration, open: &BTreeSet<T>) {
        for round in &mut self.rounds {
            round.open.retain(|transaction| open.contains(transaction));
        }
        self.rounds.retain(|round| !round.open.is_empty());
        let watched = Round {
            number: self.next_round,
            open: open.clone(),
        };
        self.next_round += 1;
        let mut used = false;
        for hole in self.holes.values_mut() {
            match hole.stage {
                Stage::Fresh(seen) if seen + self.settle <= now => {
                    hole.stage = match open.is_empty() {
                        true => Stage::Quiet,
                        false => Stage::Watched(watched.number),
                    };
                    used |= !open.is_empty();
                }
                Stage::Watched(number)
                    if !self.rounds.iter().any(|round| round.number == number) =>
                {
                    hole.stage = Stage::Quiet;
                }
                _ => {}
            }
        }
        if used {
            self.rounds.push_back(watched);
        }
    }

    /// What may be closed if there is neither lock nor row in it.
    pub(super) fn quiet(&self) -> Vec<Range> {
        let quiet = self
            .holes
            .iter()
            .filter(|(_, hole)| hole.stage == Stage::Quiet);
        quiet.map(|(&first, hole)| (first, hole.last)).collect()
    }

    /// Closes what is in quiet holes of this range, on which there is no lock, but for the numbers of
    /// rows that were found: those are read with the next page.
    pub(super) fn close(&mut self, (first, last): Range, found: &BTreeSet<u64>) {
        let within = self.holes.range(first..=last);
        let within = within.filter(|(_, hole)| hole.stage == Stage::Quiet && hole.last <= last);
        let closed: Vec<u64> = within.map(|(&first, _)| first).collect();
        for first in closed {
            let Some(Hole { last, stage }) = self.holes.remove(&first) else {
                continue;
            };
            for &number in found.range(first..=last) {
                let last = number;
                self.holes.insert(number, Hole { last, stage });
            }
        }
    }

    /// What a later start goes on from: `M`, the version, and then numbers, each in groups of seven
    /// bits with the lowest first: the highest number, how many holes there are, and of each how far
    /// it begins behind the end of the one before and how many numbers follow its first.
    pub(super) fn encode(&self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(16 + 4 * self.holes.len());
        bytes.put_slice(b"M\x01");
        put(&mut bytes, self.high);
        put(&mut bytes, self.holes.len() as u64);
        let mut end = 0;
        for (first, last) in self.ranges() {
            put(&mut bytes, first - end);
            put(&mut bytes, last - first);
            end = last;
        }
        bytes.freeze()
    }

    /// Reads what any earlier version wrote; `None` when it is something else.
    pub(super) fn decode(bytes: &[u8], settle: Duration, now: Duration) -> Option<Self> {
        let mut rest = bytes.strip_prefix(b"M\x01")?;
        let (high, count) = (get(&mut rest)?, get(&mut rest)?);
        if count > HOLES_MAX as u64 {
            return None;
        }
        let (mut holes, mut end) = (BTreeMap::new(), 0_u64);
        for _ in 0..count {
            let first = end.checked_add(get(&mut rest)?)?;
            let last = first.checked_add(get(&mut rest)?)?;
            if first <= end || last >= high {
                return None;
            }
            let stage = Stage::Fresh(now);
            holes.insert(first, Hole { last, stage });
            end = last;
        }
        rest.is_empty().then(|| Self {
            high,
            holes,
            ..Self::new(settle)
        })
    }
}

fn put(bytes: &mut BytesMut, mut number: u64) {
    while number >= 0x80 {
        bytes.put_u8(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    bytes.put_u8(number.to_le_bytes()[0]);
}

fn get(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        let bits = u64::from(byte & 0x7f);
        if bits << shift >> shift != bits {
            return None;
        }
        number |= bits << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
#[path = "holes_tests.rs"]
mod tests;
