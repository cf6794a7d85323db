//! Which fault comes when. Pure counting and a seeded generator: the same plan does the same.

use std::collections::HashSet;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::transport::Delivery;

/// Every fault that the conformance suite runs its cases under.
pub const FAULTS: &[Fault] = &[
    Fault::Duplicates,
    Fault::Reorder,
    Fault::CrashBeforeSettle,
    Fault::CrashAfterSettle,
    Fault::ConnectionLoss,
];

/// A kind of fault, as the conformance suite names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// Messages that were accepted come again.
    Duplicates,
    /// Messages of different keys overtake each other.
    Reorder,
    /// The consumer crashes with deliveries that it has not settled.
    CrashBeforeSettle,
    /// The consumer crashes right after it settled.
    CrashAfterSettle,
    /// Publishing and receiving fail, and it is unknown what happened.
    ConnectionLoss,
}

impl Fault {
    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Duplicates => "duplicates",
            Self::Reorder => "reorder",
            Self::CrashBeforeSettle => "crash-before-settle",
            Self::CrashAfterSettle => "crash-after-settle",
            Self::ConnectionLoss => "connection-loss",
        }
    }

    /// This kind of fault at places that depend on `seed` alone.
    ///
    /// ```
    /// use wharf_message::transport::faults::Fault;
    ///
    /// let plan = Fault::CrashBeforeSettle.faults("a case");
    /// assert_eq!(plan, Fault::CrashBeforeSettle.faults("a case"));
    /// ```
    pub fn faults(self, seed: &str) -> Faults {
        let seed = hash(&(seed, self));
        let soon = 1 + u32::try_from(seed % 5).unwrap_or_default();
        match self {
            Self::Duplicates => Faults::none().duplicate_every(1 + soon % 3),
            Self::Reorder => Faults::none().reorder(seed),
            Self::CrashBeforeSettle => Faults::none().crash_after(soon).crash_after(soon + 9),
            Self::CrashAfterSettle => Faults::none()
                .crash_after_settling(soon)
                .crash_after_settling(soon + 9),
            Self::ConnectionLoss => Faults::none().lose_connection_every(3 + soon, seed),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// What goes wrong, and when. Faults add up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    duplicate_every: Option<u32>,
    pub(super) reorder: Option<u64>,
    crash_after: Vec<u32>,
    crash_after_settling: Vec<u32>,
    lose_connection: Option<(u32, u64)>,
}

impl Faults {
    /// None.
    pub fn none() -> Self {
        Self::default()
    }

    /// Every `n`-th message that is accepted comes once more, as after a lost settlement. With 1,
    /// every message comes twice. `n` is at least 1.
    ///
    /// ```
    /// # use wharf_message::transport::faults::Faults;
    /// let faults = Faults::none().duplicate_every(2).reorder(42);
    /// assert_ne!(faults, Faults::none());
    /// ```
    #[must_use]
    pub fn duplicate_every(mut self, n: u32) -> Self {
        self.duplicate_every = Some(n.max(1));
        self
    }

    /// What is there at the same time is handed over in another order; messages of one key keep
    /// theirs.
    ///
    /// ```
    /// # use wharf_message::transport::faults::Faults;
    /// assert_ne!(Faults::none().reorder(1), Faults::none().reorder(2));
    /// ```
    #[must_use]
    pub fn reorder(mut self, seed: u64) -> Self {
        self.reorder = Some(seed);
        self
    }

    /// The consumer crashes once, right after it got its `n`-th delivery: all that it has not settled
    /// comes again, and what it still settles comes too late. It begins again by itself.
    ///
    /// ```
    /// # use wharf_message::transport::faults::Faults;
    /// // With the third delivery, and with the tenth.
    /// let faults = Faults::none().crash_after(3).crash_after(10);
    /// ```
    #[must_use]
    pub fn crash_after(mut self, n: u32) -> Self {
        self.crash_after.push(n.max(1));
        self
    }

    /// The consumer crashes once, right after it handed over its `n`-th settlement.
    ///
    /// ```
    /// # use wharf_message::transport::faults::Faults;
    /// let faults = Faults::none().crash_after_settling(3);
    /// ```
    #[must_use]
    pub fn crash_after_settling(mut self, n: u32) -> Self {
        self.crash_after_settling.push(n.max(1));
        self
    }

    /// Every `n`-th publish fails, and it depends on the seed whether the message arrived; every
    /// `n`-th delivery is the last before the connection is lost, at most three times. `n` is at
    /// least 2, so that trying again succeeds.
    ///
    /// ```
    /// # use wharf_message::transport::faults::Faults;
    /// let faults = Faults::none().lose_connection_every(5, 42);
    /// ```
    #[must_use]
    pub fn lose_connection_every(mut self, n: u32, seed: u64) -> Self {
        self.lose_connection = Some((n.max(2), seed));
        self
    }
}

/// How often a consumer loses its connection, so that every test comes to an end.
const LOSSES_MAX: u32 = 3;

/// When the connection was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Loss {
    BeforeItHappened,
    AfterItHappened,
}

/// What ends a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// It begins again by itself.
    Crash,
    /// It begins again after an error.
    Outage,
}

/// The faults, and how far they have come.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) faults: Faults,
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    published: u32,
    delivered: u32,
    settled: u32,
    accepted: u32,
    losses: u32,
    /// What was made to come again and has not done so yet.
    doubled: HashSet<u64>,
}

impl Plan {
    pub(super) fn new(faults: Faults) -> Self {
        let counts = Mutex::new(Counts::default());
        Self { faults, counts }
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        // Nothing under this lock panics half-way.
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What happens to the next publish, or the next step of acceptance and outputs.
    pub(super) fn publish(&self) -> Option<Loss> {
        let (every, seed) = self.faults.lose_connection?;
        let mut counts = self.counts();
        counts.published += 1;
        let is_lost = counts.published.is_multiple_of(every);
        let arrived = hash(&(seed, counts.published)).is_multiple_of(2);
        is_lost.then_some(match arrived {
            true => Loss::AfterItHappened,
            false => Loss::BeforeItHappened,
        })
    }

    /// How many of `count` deliveries can be handed over before the subscription ends, and how.
    pub(super) fn deliver(&self, count: usize) -> (usize, Option<End>) {
        let mut counts = self.counts();
        for handed in 1..=count {
            counts.delivered += 1;
            if self.faults.crash_after.contains(&counts.delivered) {
                return (handed, Some(End::Crash));
            }
            if let Some((every, _)) = self.faults.lose_connection
                && counts.delivered.is_multiple_of(every)
                && counts.losses < LOSSES_MAX
            {
                counts.losses += 1;
                return (handed, Some(End::Outage));
            }
        }
        (count, None)
    }

    /// Whether the consumer crashes after this settlement.
    pub(super) fn settle(&self) -> bool {
        let mut counts = self.counts();
        counts.settled += 1;
        self.faults.crash_after_settling.contains(&counts.settled)
    }

    /// Whether this acceptance is lost, so that the message comes again.
    pub(super) fn accept(&self, message: u64) -> bool {
        let Some(every) = self.faults.duplicate_every else {
            return false;
        };
        let mut counts = self.counts();
        if counts.doubled.remove(&message) {
            return false;
        }
        counts.accepted += 1;
        counts.accepted.is_multiple_of(every) && counts.doubled.insert(message)
    }
}

/// What a message is known by when it comes again.
pub(super) fn identity(delivery: &Delivery) -> u64 {
    match delivery.position {
        Some(position) => hash(&(&delivery.topic, position)),
        None => hash(&(
            &delivery.topic,
            &delivery.message.key,
            &delivery.message.payload,
        )),
    }
}

/// A number that looks random and depends on `what` alone.
pub(super) fn hash(what: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    hasher.finish()
}
