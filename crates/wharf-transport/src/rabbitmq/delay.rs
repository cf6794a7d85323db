//! How long a message waits, as a way through a bounded set of queues.
//!
//! Each level is one queue in which every message waits for the same time, a power of two, so nobody
//! waits behind somebody else's longer delay. A delay is a sum of such times: its bits, in the
//! routing key, say at which levels a message stops on its way down.

use std::time::Duration;

/// The lowest level waits for 2^4 = 16 ms: less is lost in what a hop takes.
pub(super) const LEVEL_MIN: u32 = 4;
/// The highest level waits for 2^31 ms, about 25 days; the broker takes no longer times.
pub(super) const LEVEL_MAX: u32 = 31;
/// How many bits of a rounded delay count, and so how many hops it takes at most.
const ROUNDED_BITS: u32 = 4;

/// A wait: a multiple of 16 ms, between 16 ms and almost 50 days.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Delay(u32);

impl Delay {
    /// The longest there is. Who has to wait longer is sent round again.
    pub(super) const MAX: Self = Self(u32::MAX << LEVEL_MIN);

    /// The least delay that is not shorter than `wait`, as far as there is one.
    pub(super) fn exact(wait: Duration) -> Self {
        let step = 1 << LEVEL_MIN;
        let millis = wait.as_nanos().div_ceil(1_000_000).max(1);
        let rounded = millis.next_multiple_of(step);
        u32::try_from(rounded).map_or(Self::MAX, Self)
    }

    /// A delay that is not shorter than `wait` and longer by an eighth at most, over few levels: for
    /// retries, where less work for the broker is worth more than the exact time.
    pub(super) fn rounded(wait: Duration) -> Self {
        let Self(exact) = Self::exact(wait);
        let bits = u32::BITS - exact.leading_zeros();
        let step = 1_u32 << bits.saturating_sub(ROUNDED_BITS).max(LEVEL_MIN);
        exact.checked_next_multiple_of(step).map_or(Self::MAX, Self)
    }

    /// The highest level on the way, where it begins.
    pub(super) fn level(self) -> u32 {
        self.0.ilog2()
    }

    /// The routing key: a word for each level, from the highest, `1` where the message waits.
    pub(super) fn routing_key(self) -> String {
        let words: Vec<&str> = (LEVEL_MIN..=LEVEL_MAX)
            .rev()
            .map(|level| ["0", "1"][usize::from(self.0 >> level & 1 == 1)])
            .collect();
        words.join(".")
    }
}

/// Which routing keys stop at `level` (`waits`), or pass it by.
pub(super) fn binding_key(level: u32, waits: bool) -> String {
    let above = "*.".repeat((LEVEL_MAX - level) as usize);
    format!("{above}{}.#", u8::from(waits))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A topic exchange's rule for the keys used here: `*` is one word, a final `#` any number.
    fn matches(binding: &str, key: &str) -> bool {
        let mut words = key.split('.');
        for pattern in binding.split('.') {
            match (pattern, words.next()) {
                ("#", _) => return true,
                ("*", Some(_)) => {}
                (pattern, Some(word)) if pattern == word => {}
                _ => return false,
            }
        }
        words.next().is_none()
    }

    /// Follows a message down the levels and adds up where it waits.
    fn waited(delay: Delay) -> u64 {
        let key = delay.routing_key();
        (LEVEL_MIN..=delay.level())
            .rev()
            .map(|level| {
                let stops = matches(&binding_key(level, true), &key);
                assert_ne!(stops, matches(&binding_key(level, false), &key));
                u64::from(stops) << level
            })
            .sum()
    }

    proptest! {
        #[test]
        fn the_levels_add_up_to_no_less_than_was_asked_for(millis in 0_u64..u64::from(u32::MAX) - 15) {
            let wait = Duration::from_millis(millis);
            let exact = waited(Delay::exact(wait));
            prop_assert!(exact >= millis && exact <= millis + 16, "{exact}");
            if millis < 1 << 31 {
                let rounded = waited(Delay::rounded(wait));
                prop_assert!(rounded >= exact && rounded <= exact + exact / 7 + 16, "{rounded}");
            }
        }
    }

    #[test]
    fn a_wait_that_is_too_long_is_the_longest_there_is() {
        for delay in [Delay::exact(Duration::MAX), Delay::rounded(Duration::MAX)] {
            assert_eq!(delay, Delay::MAX);
        }
        assert_eq!(waited(Delay::MAX), (1 << 32) - 16);
        assert_eq!(waited(Delay::exact(Duration::from_micros(1))), 16);
    }
}
