//! What can go wrong with a delivery, by name.

use std::fmt;

/// One kind of thing that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Fault {
    /// A message comes again from the same position.
    Repeat,
    /// It comes again as a producer's retry: the same ids, another position.
    Copy,
    /// The consumer is killed around a delivery, before it settles.
    Crash,
    /// The consumer is killed in the middle of a delivery.
    Midway,
    /// The consumer is killed while nothing is on the way.
    Restart,
    /// The consumer is killed and the commit of its last positions is lost.
    Rewind,
    /// Two instances get a message at the same time.
    Race,
    /// Messages of different keys come in another order.
    Reorder,
    /// Messages of one key do. Only for consumers that claim to take it.
    ReorderWithinKey,
    /// The time passes for which the consumer remembers what it has seen.
    Window,
}

impl Fault {
    /// All, in order.
    pub const ALL: [Self; 10] = [
        Self::Repeat,
        Self::Copy,
        Self::Crash,
        Self::Midway,
        Self::Restart,
        Self::Rewind,
        Self::Race,
        Self::Reorder,
        Self::ReorderWithinKey,
        Self::Window,
    ];

    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Repeat => "redelivery",
            Self::Copy => "producer's retry",
            Self::Crash => "crash before settling",
            Self::Midway => "crash in the middle",
            Self::Restart => "restart",
            Self::Rewind => "lost commit",
            Self::Race => "two instances",
            Self::Reorder => "reorder across keys",
            Self::ReorderWithinKey => "reorder within a key",
            Self::Window => "after the window",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// A set of faults.
///
/// ```
/// use wharf::testing::duplicates::{Fault, Faults};
///
/// let faults = Faults::all().without(Fault::Race);
/// assert!(faults.has(Fault::Crash) && !faults.has(Fault::Race));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Faults(u16);

impl Faults {
    /// None.
    pub const NONE: Self = Self(0);

    /// All there are.
    pub const fn all() -> Self {
        Self((1 << Fault::ALL.len()) - 1)
    }

    /// These and `fault`.
    #[must_use]
    pub const fn with(self, fault: Fault) -> Self {
        Self(self.0 | 1 << fault as u16)
    }

    /// These without `fault`.
    #[must_use]
    pub const fn without(self, fault: Fault) -> Self {
        Self(self.0 & !(1 << fault as u16))
    }

    /// Those that are in both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Whether `fault` is among them.
    pub const fn has(self, fault: Fault) -> bool {
        self.0 & 1 << fault as u16 != 0
    }
}

impl FromIterator<Fault> for Faults {
    fn from_iter<I: IntoIterator<Item = Fault>>(faults: I) -> Self {
        faults.into_iter().fold(Self::NONE, Self::with)
    }
}
