//! The arithmetic of a quota: a bucket that fills at the quota's rate and may be overdrawn.
//!
//! Whatever is taken is taken at once, also when the bucket does not hold it; then it owes, and the
//! wait is the time in which it fills up to zero again. So over any stretch of time no more leaves
//! than the rate allows, plus one bucket, plus what was asked for last. No input makes a number
//! that is none, and a clock that goes back neither fills the bucket nor empties it.

use std::time::Duration;

use wharf_message::Timestamp;

/// A bucket holds what the rate gives in this time, so that short bursts pass.
const BURST: Duration = Duration::from_secs(1);
/// The most that a bucket owes, in seconds of its rate: keeps sums finite.
const DEBT_SECONDS_MAX: f64 = 1e9;

/// A bucket. The rate is an argument: it may change at any time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Bucket {
    /// What may be taken; negative when it owes.
    left: f64,
    at: Timestamp,
}

/// What a bucket of this rate holds, as a number of bytes; at least one.
pub(super) fn burst(rate: f64) -> usize {
    let bytes = capacity(rate).clamp(1.0, 1e15);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "within the limits of the line above"
    )]
    let bytes = bytes as usize;
    bytes
}

fn capacity(rate: f64) -> f64 {
    rate * BURST.as_secs_f64()
}

/// Up to whole milliseconds: what is told to a client is what it has to wait.
pub(super) fn ms(wait: Duration) -> Duration {
    let whole = wait.as_millis() + u128::from(!wait.subsec_nanos().is_multiple_of(1_000_000));
    Duration::from_millis(u64::try_from(whole).unwrap_or(u64::MAX))
}

impl Bucket {
    /// A full bucket.
    pub(super) fn full(rate: f64, now: Timestamp) -> Self {
        Self {
            left: capacity(rate),
            at: now,
        }
    }

    fn fill(&mut self, rate: f64, now: Timestamp, capacity: f64) {
        let gained = now.since(self.at).as_secs_f64() * rate;
        self.left = (self.left + gained).clamp(-rate * DEBT_SECONDS_MAX, capacity);
        self.at = now;
    }

    /// Takes `amount`; returns how long to wait before more may be taken.
    pub(super) fn charge(&mut self, amount: f64, rate: f64, now: Timestamp) -> Duration {
        self.fill(rate, now, capacity(rate));
        self.left = (self.left - amount).max(-rate * DEBT_SECONDS_MAX);
        wait(-self.left, rate)
    }

    /// Takes one if there is one; else takes nothing and returns how long until there is.
    pub(super) fn take_one(&mut self, rate: f64, now: Timestamp) -> Duration {
        // A rate below one a second must be able to gather one.
        self.fill(rate, now, capacity(rate).max(1.0));
        let wait = wait(1.0 - self.left, rate);
        if wait.is_zero() {
            self.left -= 1.0;
        }
        wait
    }

    /// Whether it is as if it had never been used.
    pub(super) fn is_full(&self, rate: f64, now: Timestamp) -> bool {
        let mut filled = *self;
        filled.fill(rate, now, capacity(rate));
        filled.left >= capacity(rate)
    }
}

/// How long `lacking` takes to come in, in whole milliseconds; zero when nothing is lacking.
fn wait(lacking: f64, rate: f64) -> Duration {
    if lacking <= 0.0 {
        return Duration::ZERO;
    }
    let wait = Duration::try_from_secs_f64(lacking / rate).unwrap_or(Duration::MAX);
    ms(wait)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const START: i64 = 1_700_000_000_000;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(START + millis)
    }

    fn millis(duration: Duration) -> i64 {
        i64::try_from(duration.as_millis()).unwrap()
    }

    #[test]
    fn what_is_owed_is_waited_for_and_no_more() {
        let mut bucket = Bucket::full(1000.0, at(0));
        assert_eq!(bucket.charge(1000.0, 1000.0, at(0)), Duration::ZERO);
        assert_eq!(
            bucket.charge(500.0, 1000.0, at(0)),
            Duration::from_millis(500)
        );
        assert_eq!(
            bucket.charge(0.0, 1000.0, at(499)),
            Duration::from_millis(1)
        );
        assert_eq!(bucket.charge(0.0, 1000.0, at(500)), Duration::ZERO);
        assert!(!bucket.is_full(1000.0, at(500)) && bucket.is_full(1000.0, at(1500)));
    }

    #[test]
    fn a_rate_below_one_a_second_still_lets_one_through_at_a_time() {
        let mut bucket = Bucket::full(0.5, at(0));
        assert_eq!(bucket.take_one(0.5, at(0)), Duration::from_secs(1));
        assert_eq!(bucket.take_one(0.5, at(1000)), Duration::ZERO);
        assert_eq!(bucket.take_one(0.5, at(1000)), Duration::from_secs(2));
        assert_eq!(bucket.take_one(0.5, at(3000)), Duration::ZERO);
    }

    proptest! {
        #[test]
        fn who_waits_as_told_takes_no_more_than_the_rate_a_bucket_and_the_last(
            rate in 1.0..1e7_f64,
            takings in prop::collection::vec((0.0..1e7_f64, 0..3000_i64), 1..50),
        ) {
            let mut bucket = Bucket::full(rate, at(0));
            let (mut now, mut taken, mut last) = (0, 0.0, 0.0);
            for (amount, pause) in takings {
                let wait = bucket.charge(amount, rate, at(now));
                taken += amount;
                last = amount;
                let seconds = Duration::from_millis(u64::try_from(now).unwrap()).as_secs_f64();
                let allowed = rate * seconds + capacity(rate) + last;
                prop_assert!(taken <= allowed * 1.000_001, "{taken} of {allowed}");
                now += millis(wait) + pause;
            }
            prop_assert!(last >= 0.0);
        }

        #[test]
        fn who_keeps_below_the_rate_never_waits(
            rate in 10.0..1e7_f64,
            shares in prop::collection::vec(0.0..1.0_f64, 1..50),
        ) {
            let mut bucket = Bucket::full(rate, at(0));
            for (second, share) in (0_i64..).zip(shares) {
                let wait = bucket.charge(rate * share, rate, at(second * 1000));
                prop_assert_eq!(wait, Duration::ZERO);
            }
        }

        #[test]
        fn no_jump_of_the_clock_and_no_amount_gives_more_than_a_bucket_or_a_number_that_is_none(
            steps in prop::collection::vec(
                (any::<i64>(), 0.0..f64::MAX, 1e-9..1e300_f64),
                1..50,
            ),
        ) {
            let mut bucket = Bucket::full(1.0, at(0));
            for (time, amount, rate) in steps {
                let time = Timestamp::from_millis(time);
                let first = bucket.charge(amount, rate, time);
                let back = bucket.charge(0.0, rate, Timestamp::from_millis(i64::MIN));
                prop_assert!(back >= first || bucket.left <= capacity(rate));
                bucket.take_one(rate, time);
                prop_assert!(bucket.left.is_finite(), "{bucket:?}");
                prop_assert!(bucket.left <= capacity(rate).max(1.0), "{bucket:?}");
                prop_assert!(burst(rate) >= 1);
            }
        }
    }
}
