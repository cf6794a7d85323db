//! How far a source is: what its checkpoints say.
//!
//! Two things are known at any time. *Where the log is*: everything up to a commit, and so many rows of
//! that commit, is delivered. *Which transactions are delivered*: all that a snapshot sees and some more,
//! by which the table can be read when the log cannot.
//!
//! Invariants: a checkpoint that is not whole holds only what changed; what was delivered is never
//! forgotten by taking a newer snapshot; bytes of any kind decode to a progress or to an error.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use bytes::Bytes;

use crate::Checkpoint;
use crate::polling::postgres::Batch;

/// The first byte of every checkpoint. The first version kept another place while the table was read.
const VERSION: u8 = 2;
const FIRST_VERSION: u8 = 1;

/// A snapshot of transactions, as Postgres writes it: `xmin:xmax:running,…`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Snapshot {
    /// Every transaction below is over.
    pub(crate) xmin: u64,
    /// No transaction from here on was over.
    pub(crate) xmax: u64,
    /// Those between that were not, ascending.
    running: Vec<u64>,
}

impl Snapshot {
    /// The snapshot that sees every transaction below `xid`, and no other.
    pub(crate) fn below(xid: u64) -> Self {
        let xid = xid.max(1);
        Self {
            xmin: xid,
            xmax: xid,
            running: Vec::new(),
        }
    }

    /// Those that were running though some with higher numbers were over, ascending.
    pub(crate) fn running(&self) -> &[u64] {
        &self.running
    }

    /// The same for the transactions up to this one; of the others none counts as over.
    pub(crate) fn up_to(mut self, xid: u64) -> Self {
        self.xmax = self.xmax.min(xid.saturating_add(1));
        self.xmin = self.xmin.min(self.xmax);
        self.running.retain(|&running| running < self.xmax);
        self
    }

    /// Whether a transaction was over.
    pub(crate) fn sees(&self, xid: u64) -> bool {
        xid < self.xmin || (xid < self.xmax && self.running.binary_search(&xid).is_err())
    }
}

impl fmt::Display for Snapshot {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}:", self.xmin, self.xmax)?;
        for (at, xid) in self.running.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            write!(formatter, "{comma}{xid}")?;
        }
        Ok(())
    }
}

impl FromStr for Snapshot {
    type Err = Damaged;

    fn from_str(text: &str) -> Result<Self, Damaged> {
        let mut parts = text.splitn(3, ':');
        let mut part = || parts.next().ok_or(Damaged);
        let number = |text: &str| text.parse().map_err(|_bad| Damaged);
        let (xmin, xmax) = (number(part()?)?, number(part()?)?);
        let running = part()?.split(',').filter(|text| !text.is_empty());
        let mut running = running.map(number).collect::<Result<Vec<_>, _>>()?;
        running.sort_unstable();
        Ok(Self {
            xmin,
            xmax,
            running,
        })
    }
}

/// What the source is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// It never had a slot, and reads the table until it has one.
    New,
    /// It had a slot that is gone or cannot be relied on, and reads the table.
    Table,
    /// It reads the log.
    Log,
}

/// A transaction of which only the first rows are delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Partial {
    /// Its id.
    pub(crate) xid: u64,
    /// How many of its rows in the table.
    pub(crate) rows: u64,
}

/// How far a source is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Progress {
    /// What it is about.
    pub(crate) phase: Phase,
    /// Which server this is about, as `IDENTIFY_SYSTEM` names it.
    pub(crate) system: u64,
    /// The server's timeline.
    pub(crate) timeline: u32,
    /// The last commit of which rows are delivered.
    pub(crate) commit: u64,
    /// How many rows of it are delivered.
    pub(crate) ordinal: u64,
    /// The transaction of that commit, if more rows may follow.
    pub(crate) partial: Option<Partial>,
    /// The greatest id of a transaction that was delivered.
    pub(crate) newest: u64,
    /// What the slot may be told: everything that was committed before is delivered. The slot is never
    /// told more than a durable checkpoint says; a slot that is further was moved by somebody else.
    pub(crate) confirm: u64,
    /// All transactions that it sees are delivered.
    pub(crate) seen: Snapshot,
    /// More transactions that are delivered.
    pub(crate) delivered: BTreeSet<u64>,
    /// When reading the table: what is delivered of the batch on its way.
    pub(crate) batch: Option<Batch>,
}

/// A checkpoint that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a checkpoint of the relay cannot be read")]
pub(crate) struct Damaged;

impl Progress {
    /// Before the first row.
    pub(crate) fn new(system: u64, timeline: u32) -> Self {
        Self {
            phase: Phase::New,
            system,
            timeline,
            commit: 0,
            ordinal: 0,
            partial: None,
            newest: 0,
            confirm: 0,
            seen: Snapshot::below(1),
            delivered: BTreeSet::new(),
            batch: None,
        }
    }

    /// Whether all rows of a transaction are delivered.
    pub(crate) fn has(&self, xid: u64) -> bool {
        self.seen.sees(xid) || self.delivered.contains(&xid)
    }

    /// Takes a newer snapshot: all transactions that it sees must be delivered.
    pub(crate) fn take(&mut self, snapshot: Snapshot) {
        self.delivered.retain(|&xid| !snapshot.sees(xid));
        // What the older one saw and the newer one does not know of: none, since a transaction that was
        // over stays so.
        self.seen = snapshot;
    }

    /// The table was read so far: all rows that `seen` sees are delivered, and those of the batch up to
    /// its last one.
    pub(crate) fn read(&mut self, seen: Snapshot, batch: Option<Batch>) {
        self.take(seen);
        self.partial = self.partial.filter(|partial| !self.seen.sees(partial.xid));
        self.batch = batch;
    }

    /// Goes on with a server that was promoted when the log was at `position`. Ids of transactions that
    /// the old one gave and the new one never heard of may be given again: only those up to the newest
    /// that was delivered are sure to mean the same.
    pub(crate) fn follow(&mut self, timeline: u32, position: u64) {
        let newest = self.newest;
        self.timeline = timeline;
        self.confirm = self.confirm.min(position);
        self.seen = std::mem::replace(&mut self.seen, Snapshot::below(1)).up_to(newest);
        if let Some(batch) = self.batch.take() {
            let upto = batch.upto.up_to(newest);
            self.batch = Some(Batch { upto, ..batch });
        }
        self.delivered.retain(|&xid| xid <= newest);
    }

    /// All of it.
    pub(crate) fn whole(&self) -> Checkpoint {
        let mut out = Writer(vec![VERSION, b'W']);
        out.0.push(match self.phase {
            Phase::New => b'N',
            Phase::Table => b'T',
            Phase::Log => b'L',
        });
        out.number(self.system);
        out.number(self.timeline.into());
        self.log(&mut out);
        self.table(&mut out);
        out.ascending(self.delivered.iter().copied());
        Checkpoint {
            bytes: out.0.into(),
            whole: true,
        }
    }

    /// Where the log is, and the transactions that were completed since the last checkpoint, ascending.
    pub(crate) fn log_delta(&self, completed: &[u64]) -> Checkpoint {
        let mut out = Writer(vec![VERSION, b'L']);
        self.log(&mut out);
        out.ascending(completed.iter().copied());
        Checkpoint {
            bytes: out.0.into(),
            whole: false,
        }
    }

    /// Where the reading of the table is.
    pub(crate) fn table_delta(&self) -> Checkpoint {
        let mut out = Writer(vec![VERSION, b'T']);
        self.table(&mut out);
        Checkpoint {
            bytes: out.0.into(),
            whole: false,
        }
    }

    fn log(&self, out: &mut Writer) {
        out.number(self.commit);
        out.number(self.ordinal);
        out.number(self.newest);
        out.number(self.confirm);
        out.0.push(self.partial.is_some().into());
        if let Some(partial) = self.partial {
            out.number(partial.xid);
            out.number(partial.rows);
        }
    }

    fn table(&self, out: &mut Writer) {
        out.snapshot(&self.seen);
        out.0.push(self.batch.is_some().into());
        if let Some(batch) = &self.batch {
            out.snapshot(&batch.upto);
            out.0.extend(batch.after.to_be_bytes());
            out.number(batch.highest);
        }
    }

    /// From checkpoints, the oldest first; `None` when there are none.
    pub(crate) fn fold(history: &[Bytes]) -> Result<Option<Self>, Damaged> {
        let mut progress = None;
        for checkpoint in history {
            Self::apply(&mut progress, checkpoint)?;
        }
        Ok(progress)
    }

    /// Takes a checkpoint that was made after this progress.
    pub(crate) fn apply(progress: &mut Option<Self>, checkpoint: &[u8]) -> Result<(), Damaged> {
        let mut reader = Reader(checkpoint);
        let version = reader.byte()?;
        match (version, reader.byte()?, &mut *progress) {
            (FIRST_VERSION | VERSION, b'W', _) => {
                *progress = Some(Self::read_whole(&mut reader, version)?);
            }
            (FIRST_VERSION | VERSION, b'L', Some(progress)) => {
                progress.read_log(&mut reader)?;
                progress.delivered.extend(reader.ascending()?);
            }
            (VERSION, b'T', Some(progress)) => {
                let (seen, batch) = read_table(&mut reader)?;
                progress.read(seen, batch);
            }
            _ => return Err(Damaged),
        }
        match reader.0 {
            [] => Ok(()),
            _ => Err(Damaged),
        }
    }

    fn read_whole(reader: &mut Reader<'_>, version: u8) -> Result<Self, Damaged> {
        let phase = match reader.byte()? {
            b'N' => Phase::New,
            b'T' => Phase::Table,
            b'L' => Phase::Log,
            _ => return Err(Damaged),
        };
        let system = reader.number()?;
        let timeline = u32::try_from(reader.number()?).map_err(|_large| Damaged)?;
        let mut progress = Self {
            phase,
            ..Self::new(system, timeline)
        };
        progress.read_log(reader)?;
        if version == FIRST_VERSION {
            progress.seen = reader.snapshot()?;
        } else {
            (progress.seen, progress.batch) = read_table(reader)?;
        }
        progress.delivered = reader.ascending()?.into_iter().collect();
        if version == FIRST_VERSION && reader.flag()? {
            // In the middle of the table, by an order that is none any more.
            return Err(Damaged);
        }
        Ok(progress)
    }

    fn read_log(&mut self, reader: &mut Reader<'_>) -> Result<(), Damaged> {
        self.commit = reader.number()?;
        self.ordinal = reader.number()?;
        self.newest = reader.number()?;
        self.confirm = reader.number()?;
        self.partial = match reader.flag()? {
            false => None,
            true => Some(Partial {
                xid: reader.number()?,
                rows: reader.number()?,
            }),
        };
        Ok(())
    }
}

fn read_table(reader: &mut Reader<'_>) -> Result<(Snapshot, Option<Batch>), Damaged> {
    let seen = reader.snapshot()?;
    let batch = match reader.flag()? {
        false => None,
        true => Some(Batch {
            upto: reader.snapshot()?,
            after: reader.sequence()?,
            highest: reader.number()?,
        }),
    };
    Ok((seen, batch))
}

struct Writer(Vec<u8>);

impl Writer {
    fn snapshot(&mut self, snapshot: &Snapshot) {
        self.number(snapshot.xmin);
        self.number(snapshot.xmax);
        self.ascending(snapshot.running.iter().copied());
    }

    /// Seven bits in each byte, the lowest first; the highest bit says that more follow.
    fn number(&mut self, mut number: u64) {
        while number > 0x7f {
            self.0.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.0.push(number as u8);
    }

    /// Ascending numbers, by their differences.
    fn ascending(&mut self, numbers: impl ExactSizeIterator<Item = u64>) {
        self.number(numbers.len() as u64);
        let mut last = 0;
        for number in numbers {
            self.number(number.wrapping_sub(last));
            last = number;
        }
    }
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn byte(&mut self) -> Result<u8, Damaged> {
        let (&byte, rest) = self.0.split_first().ok_or(Damaged)?;
        self.0 = rest;
        Ok(byte)
    }

    fn flag(&mut self) -> Result<bool, Damaged> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Damaged),
        }
    }

    fn number(&mut self) -> Result<u64, Damaged> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(Damaged)
    }

    fn snapshot(&mut self) -> Result<Snapshot, Damaged> {
        Ok(Snapshot {
            xmin: self.number()?,
            xmax: self.number()?,
            running: self.ascending()?,
        })
    }

    fn sequence(&mut self) -> Result<i64, Damaged> {
        let (bytes, rest) = self.0.split_first_chunk().ok_or(Damaged)?;
        self.0 = rest;
        Ok(i64::from_be_bytes(*bytes))
    }

    fn ascending(&mut self) -> Result<Vec<u64>, Damaged> {
        let count = usize::try_from(self.number()?).map_err(|_large| Damaged)?;
        // Each takes at least one byte.
        if count > self.0.len() {
            return Err(Damaged);
        }
        let mut last = 0_u64;
        let mut next = || -> Result<u64, Damaged> {
            last = last.wrapping_add(self.number()?);
            Ok(last)
        };
        (0..count).map(|_| next()).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn snapshot() -> impl Strategy<Value = Snapshot> {
        let running = prop::collection::btree_set(any::<u64>(), 0..9);
        (any::<u64>(), any::<u64>(), running).prop_map(|(xmin, xmax, running)| Snapshot {
            xmin,
            xmax,
            running: running.into_iter().collect(),
        })
    }

    fn batch() -> impl Strategy<Value = Batch> {
        let of = (snapshot(), any::<i64>(), any::<u64>());
        of.prop_map(|(upto, after, highest)| Batch {
            upto,
            after,
            highest,
        })
    }

    fn progress() -> impl Strategy<Value = Progress> {
        let place = (any::<u64>(), any::<u64>(), any::<u64>(), any::<u64>());
        let log = (place, any::<Option<(u64, u64)>>());
        let delivered = prop::collection::btree_set(any::<u64>(), 0..9);
        let phase = prop::sample::select(&[Phase::New, Phase::Table, Phase::Log][..]);
        let of = (phase, any::<u64>(), any::<u32>());
        let table = (snapshot(), prop::option::of(batch()));
        (of, log, table, delivered).prop_map(
            |((phase, system, timeline), log, (seen, batch), delivered)| Progress {
                phase,
                system,
                timeline,
                commit: log.0.0,
                ordinal: log.0.1,
                newest: log.0.2,
                confirm: log.0.3,
                partial: log.1.map(|(xid, rows)| Partial { xid, rows }),
                seen,
                delivered,
                batch,
            },
        )
    }

    #[test]
    fn a_snapshot_sees_what_postgres_says_it_sees() {
        let snapshot: Snapshot = "10:20:10,14,15".parse().unwrap();
        let seen: Vec<_> = (8..22).filter(|&xid| snapshot.sees(xid)).collect();
        assert_eq!(seen, [8, 9, 11, 12, 13, 16, 17, 18, 19]);
        assert_eq!(snapshot.to_string(), "10:20:10,14,15");
        let none: Snapshot = "3:3:".parse().unwrap();
        assert_eq!(none, Snapshot::below(3));
        assert_eq!(none.to_string(), "3:3:");
        for bad in ["", "1", "1:2", "a:1:", "1:2:x"] {
            assert_eq!(bad.parse::<Snapshot>(), Err(Damaged), "{bad}");
        }
    }

    #[test]
    fn a_newer_snapshot_forgets_only_the_transactions_that_it_sees() {
        let mut progress = Progress::new(1, 1);
        progress.delivered = [11, 14, 25].into();
        progress.take("10:20:10,14".parse().unwrap());
        assert_eq!(progress.delivered, [14, 25].into());
        let has: Vec<_> = (9..27).filter(|&xid| progress.has(xid)).collect();
        assert_eq!(has, [9, 11, 12, 13, 14, 15, 16, 17, 18, 19, 25]);
    }

    #[test]
    fn a_batch_of_the_table_on_its_way_forgets_nothing_and_its_end_what_it_saw() {
        let mut progress = Progress::new(1, 1);
        progress.take("10:20:10,14".parse().unwrap());
        progress.delivered = [14, 25].into();
        progress.partial = Some(Partial { xid: 14, rows: 2 });
        let before = progress.clone();
        let batch = Batch {
            upto: "14:30:14".parse().unwrap(),
            after: 7,
            highest: 22,
        };
        progress.read(before.seen.clone(), Some(batch.clone()));
        let batch = Some(batch);
        assert_eq!(progress, Progress { batch, ..before });
        progress.read("23:23:".parse().unwrap(), None);
        assert_eq!((progress.partial, progress.batch.take()), (None, None));
        assert_eq!(progress.delivered, [25].into());
        let has: Vec<_> = (21..27).filter(|&xid| progress.has(xid)).collect();
        assert_eq!(has, [21, 22, 25]);
    }

    #[test]
    fn what_the_first_version_wrote_is_read_but_for_a_place_in_the_table() {
        let log = [1, b'W', b'L', 9, 1, 5, 2, 4, 3, 0];
        let transactions = [3, 6, 1, 4, 1, 7];
        let written = |after: u8| Bytes::from([&log[..], &transactions, &[after]].concat());
        let expected = Progress {
            phase: Phase::Log,
            commit: 5,
            ordinal: 2,
            newest: 4,
            confirm: 3,
            seen: "3:6:4".parse().unwrap(),
            delivered: [7].into(),
            ..Progress::new(9, 1)
        };
        assert_eq!(Progress::fold(&[written(0)]), Ok(Some(expected)));
        assert_eq!(Progress::fold(&[written(1)]), Err(Damaged));
    }

    #[test]
    fn on_a_promoted_server_only_ids_that_it_must_have_heard_of_count_as_delivered() {
        let mut progress = Progress::new(1, 1);
        progress.take("10:20:10,14,18".parse().unwrap());
        progress.delivered = [14].into();
        (progress.newest, progress.confirm) = (15, 900);
        progress.follow(2, 800);
        let has: Vec<_> = (9..22).filter(|&xid| progress.has(xid)).collect();
        assert_eq!(has, [9, 11, 12, 13, 14, 15]);
        assert_eq!((progress.timeline, progress.confirm), (2, 800));
    }

    proptest! {
        #[test]
        fn checkpoints_say_everything_again(whole in progress(), later in progress()) {
            let mut expected = whole.clone();
            let mut history = vec![whole.whole().bytes];
            prop_assert_eq!(Progress::fold(&history), Ok(Some(whole)));
            let completed: Vec<_> = later.delivered.iter().copied().collect();
            history.push(later.log_delta(&completed).bytes);
            history.push(later.table_delta().bytes);
            expected.delivered.extend(completed);
            let delivered = &mut expected.delivered;
            delivered.retain(|&xid| !later.seen.sees(xid));
            let partial = later.partial.filter(|partial| !later.seen.sees(partial.xid));
            for history in &mut history {
                let cut = history.slice(..history.len() - 1);
                prop_assert!(Progress::fold(&[cut]).is_err());
            }
            let expected = Progress {
                phase: expected.phase,
                system: expected.system,
                timeline: expected.timeline,
                delivered: expected.delivered,
                partial,
                ..later
            };
            prop_assert_eq!(Progress::fold(&history), Ok(Some(expected)));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..99)) {
            let bytes = [&[VERSION, b'W'][..], &bytes].concat();
            drop(Progress::fold(&[bytes.into()]));
        }
    }
}
