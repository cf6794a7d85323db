//! The simulated disk: loses unsynced writes, tears them, corrupts, fills up, fails a sync.
//!
//! Everything it does follows from its seed and the calls made to it. It is as pessimistic as the
//! [`super::Disk`] contract allows: bytes survive only a sync of their file, names only a sync of
//! their directory, a directory only if its own name was synced in its parent. What was synced is
//! never lost here, unless a fault asked for by name ([`SimulatedDisk::corrupt`]) hits it.

mod content;
mod names;
mod random;

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Disk, DiskFile, Entry, Open};
use content::Content;
use names::{Names, Node, NodeId};
pub use random::Random;

/// What may go wrong while the machine runs. `one_in` of 0 means never.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// One sync of a file or directory in this many fails, and drops pages as Linux does.
    pub sync_failure_one_in: u32,
    /// One write in this many fails; part of it may have happened.
    pub write_failure_one_in: u32,
    /// One read in this many fails.
    pub read_failure_one_in: u32,
    /// How many bytes all files together may have.
    pub capacity_bytes: Option<u64>,
}

/// How often the disk was used since it was made, restarts included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Operations that change anything: writes, resizes, syncs and changes of names.
    pub operations: u64,
    /// Writes.
    pub writes: u64,
    /// Syncs of files and directories that worked.
    pub syncs: u64,
    /// Reads.
    pub reads: u64,
    /// Faults that were injected.
    pub faults: u64,
}

/// A disk in memory. Clones are the same disk.
#[derive(Clone, Debug)]
pub struct SimulatedDisk {
    machine: Arc<Mutex<Machine>>,
}

#[derive(Debug)]
struct Machine {
    random: Random,
    faults: Faults,
    counters: Counters,
    names: Names,
    files: BTreeMap<NodeId, Content>,
    power_off_at: Option<u64>,
    off: bool,
}

impl SimulatedDisk {
    /// An empty disk.
    pub fn new(seed: u64, faults: Faults) -> Self {
        Self::from_machine(Machine {
            random: Random::new(seed),
            faults,
            counters: Counters::default(),
            names: Names::default(),
            files: BTreeMap::new(),
            power_off_at: None,
            off: false,
        })
    }

    fn from_machine(machine: Machine) -> Self {
        Self {
            machine: Arc::new(Mutex::new(machine)),
        }
    }

    /// Power loss: what is on the platter afterwards, as a disk of a machine that runs again.
    /// Every handle of the old one fails from now on. Faults stay, a pending
    /// [`Self::power_off_at`] does not.
    #[must_use]
    pub fn crash(&self) -> Self {
        let mut machine = self.take();
        let Machine {
            random,
            names,
            files,
            ..
        } = &mut machine;
        names.lose_power(random);
        let kept: Vec<NodeId> = names.files().into_iter().map(|(_, id)| id).collect();
        files.retain(|id, _| kept.contains(id));
        for content in files.values_mut() {
            content.lose_power(random);
        }
        Self::from_machine(machine)
    }

    /// The process dies, the machine goes on: every write stays, synced or not, and unsynced ones
    /// may still be lost by a later [`Self::crash`]. Every handle of the old process fails.
    #[must_use]
    pub fn kill(&self) -> Self {
        Self::from_machine(self.take())
    }

    fn take(&self) -> Machine {
        let mut machine = self.lock();
        machine.off = true;
        Machine {
            random: machine.random.fork(),
            faults: machine.faults.clone(),
            counters: machine.counters,
            names: std::mem::take(&mut machine.names),
            files: std::mem::take(&mut machine.files),
            power_off_at: None,
            off: false,
        }
    }

    /// Lets the machine die during the `operation`-th changing operation (counted as
    /// [`Counters::operations`] is): that one may or may not have happened, and it and every later
    /// call fail.
    pub fn power_off_at(&self, operation: u64) {
        self.lock().power_off_at = Some(operation);
    }

    /// Whether the machine has died.
    pub fn is_off(&self) -> bool {
        self.lock().off
    }

    /// Other faults from now on.
    pub fn set_faults(&self, faults: Faults) {
        self.lock().faults = faults;
    }

    /// The bytes that all files together have.
    pub fn used_bytes(&self) -> u64 {
        self.lock().used_bytes()
    }

    /// How often the disk was used.
    pub fn counters(&self) -> Counters {
        self.lock().counters
    }

    /// Every file, sorted by path.
    pub fn paths(&self) -> Vec<String> {
        self.lock()
            .names
            .files()
            .into_iter()
            .map(|(path, _)| path)
            .collect()
    }

    /// Flips one bit of the byte at `position` of a file, as a failing medium does.
    pub fn corrupt(&self, path: &str, position: u64) -> io::Result<()> {
        let mut machine = self.lock();
        let bit = u8::try_from(machine.random.below(8)).expect("a number below 8 fits into u8");
        let id = machine.file_id(path)?;
        let content = machine.content(id);
        if content.flip_bit(to_usize(position)?, bit) {
            Ok(())
        } else {
            Err(io::ErrorKind::UnexpectedEof.into())
        }
    }

    fn lock(&self) -> MutexGuard<'_, Machine> {
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Machine {
    /// Runs a changing operation, unless the machine is dead or dies of it.
    fn change<T>(&mut self, work: impl FnOnce(&mut Self) -> io::Result<T>) -> io::Result<T> {
        self.check_power()?;
        self.counters.operations += 1;
        if self
            .power_off_at
            .is_some_and(|at| self.counters.operations >= at)
        {
            if self.random.coin() {
                drop(work(self));
            }
            self.off = true;
            return Err(power_is_off());
        }
        work(self)
    }

    fn check_power(&self) -> io::Result<()> {
        if self.off {
            Err(power_is_off())
        } else {
            Ok(())
        }
    }

    fn fault(&mut self, one_in: u32) -> bool {
        let strikes = self.random.one_in(one_in);
        self.counters.faults += u64::from(strikes);
        strikes
    }

    fn file_id(&self, path: &str) -> io::Result<NodeId> {
        match self.names.find(path)? {
            Some(Node::File(id)) => Ok(id),
            Some(Node::Directory(_)) => Err(io::ErrorKind::IsADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn content(&mut self, id: NodeId) -> &mut Content {
        self.files.entry(id).or_default()
    }

    fn used_bytes(&self) -> u64 {
        let bytes = |id| self.files.get(id).map_or(0, Content::len);
        let sum = self
            .names
            .files()
            .iter()
            .map(|(_, id)| bytes(id))
            .sum::<usize>();
        u64::try_from(sum).unwrap_or(u64::MAX)
    }

    /// Where a file that shall grow to `end` has to stop; `Err` with less when the disk is full.
    fn reserve(&mut self, id: NodeId, end: usize) -> Result<(), usize> {
        let length = self.content(id).len();
        let (Some(capacity), true) = (self.faults.capacity_bytes, end > length) else {
            return Ok(());
        };
        let free = capacity.saturating_sub(self.used_bytes());
        let free = usize::try_from(free).unwrap_or(usize::MAX);
        if end - length <= free {
            return Ok(());
        }
        self.counters.faults += 1;
        Err(length + self.random.index(free + 1))
    }

    fn write(&mut self, id: NodeId, bytes: &[u8], offset: usize) -> io::Result<()> {
        self.counters.writes += 1;
        if self.fault(self.faults.write_failure_one_in) {
            let part = self.random.index(bytes.len() + 1);
            let part = match self.reserve(id, offset + part) {
                Ok(()) => part,
                Err(stop) => stop.saturating_sub(offset),
            };
            self.content(id).write(&bytes[..part], offset);
            return Err(io::Error::other("simulated write failure"));
        }
        if let Err(stop) = self.reserve(id, offset + bytes.len()) {
            let part = stop.saturating_sub(offset).min(bytes.len());
            self.content(id).write(&bytes[..part], offset);
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.content(id).write(bytes, offset);
        Ok(())
    }

    fn sync(&mut self, id: NodeId) -> io::Result<()> {
        let fails = self.fault(self.faults.sync_failure_one_in);
        let content = self.files.entry(id).or_default();
        if fails {
            content.fail_sync(&mut self.random);
            return Err(io::Error::other("simulated sync failure"));
        }
        content.sync();
        self.counters.syncs += 1;
        Ok(())
    }

    fn preallocate(&mut self, id: NodeId, bytes: usize) -> io::Result<()> {
        match self.reserve(id, bytes) {
            Ok(()) if bytes > self.content(id).len() => self.content(id).resize(bytes),
            Ok(()) => {}
            Err(stop) => {
                self.content(id).resize(stop);
                return Err(io::ErrorKind::StorageFull.into());
            }
        }
        Ok(())
    }
}

impl Disk for SimulatedDisk {
    fn open(&self, path: &str, mode: Open) -> io::Result<Arc<dyn DiskFile>> {
        let mut machine = self.lock();
        machine.check_power()?;
        let node = match mode {
            Open::Existing => machine.file_id(path)?,
            Open::New => machine.change(|machine| {
                let full = machine.faults.capacity_bytes;
                if full.is_some_and(|capacity| machine.used_bytes() >= capacity) {
                    machine.counters.faults += 1;
                    return Err(io::ErrorKind::StorageFull.into());
                }
                machine.names.create_file(path)
            })?,
        };
        machine.content(node);
        Ok(Arc::new(SimulatedFile {
            disk: self.clone(),
            node,
        }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.lock().change(|machine| machine.names.rename(from, to))
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        self.lock().change(|machine| machine.names.remove(path))
    }

    fn create_dir(&self, path: &str) -> io::Result<()> {
        self.lock()
            .change(|machine| machine.names.create_directories(path))
    }

    fn list(&self, path: &str) -> io::Result<Vec<Entry>> {
        let machine = self.lock();
        machine.check_power()?;
        let entry = |(name, node)| match node {
            Node::Directory(_) => Entry {
                name,
                bytes: 0,
                is_dir: true,
            },
            Node::File(id) => {
                let bytes = machine.files.get(&id).map_or(0, Content::len);
                Entry {
                    name,
                    bytes: to_u64(bytes),
                    is_dir: false,
                }
            }
        };
        Ok(machine.names.list(path)?.into_iter().map(entry).collect())
    }

    fn sync_dir(&self, path: &str) -> io::Result<()> {
        self.lock().change(|machine| {
            if machine.fault(machine.faults.sync_failure_one_in) {
                return Err(io::Error::other("simulated sync failure"));
            }
            machine.names.sync(path)?;
            machine.counters.syncs += 1;
            Ok(())
        })
    }
}

/// An open file; it stays readable and writable when its name is removed.
#[derive(Debug)]
struct SimulatedFile {
    disk: SimulatedDisk,
    node: NodeId,
}

impl DiskFile for SimulatedFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut guard = self.disk.lock();
        let machine = &mut *guard;
        machine.check_power()?;
        machine.counters.reads += 1;
        if machine.fault(machine.faults.read_failure_one_in) {
            return Err(io::Error::other("simulated read failure"));
        }
        let offset = to_usize(offset)?;
        Ok(machine.content(self.node).read(buffer, offset))
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let offset = to_usize(offset)?;
        self.disk
            .lock()
            .change(|machine| machine.write(self.node, bytes, offset))
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.lock().change(|machine| machine.sync(self.node))
    }

    fn preallocate(&self, bytes: u64) -> io::Result<()> {
        let bytes = to_usize(bytes)?;
        self.disk
            .lock()
            .change(|machine| machine.preallocate(self.node, bytes))
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        let bytes = to_usize(bytes)?;
        self.disk.lock().change(|machine| {
            let content = machine.content(self.node);
            if bytes < content.len() {
                content.resize(bytes);
            }
            Ok(())
        })
    }

    fn len(&self) -> io::Result<u64> {
        let mut machine = self.disk.lock();
        machine.check_power()?;
        Ok(to_u64(machine.content(self.node).len()))
    }
}

fn power_is_off() -> io::Error {
    io::Error::other("the simulated machine is off")
}

fn to_usize(position: u64) -> io::Result<usize> {
    usize::try_from(position).map_err(|_too_large| io::ErrorKind::InvalidInput.into())
}

fn to_u64(bytes: usize) -> u64 {
    u64::try_from(bytes).expect("a length in memory fits into u64")
}

#[cfg(test)]
mod tests;
