//! A small histogram of milliseconds: sixteen buckets for every doubling, so a quantile is right to
//! about three parts in a hundred. What was added can be taken out again, and two can be merged.

use std::collections::BTreeMap;

/// Buckets for every doubling.
const PARTS: u64 = 16;

/// How often which latency was seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sketch {
    buckets: BTreeMap<u16, u64>,
    total: u64,
}

impl Sketch {
    /// How many values it has.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Adds a value.
    pub fn add(&mut self, value: u64) {
        *self.buckets.entry(bucket(value)).or_default() += 1;
        self.total += 1;
    }

    /// Takes a value out that was added before.
    pub fn remove(&mut self, value: u64) {
        let bucket = bucket(value);
        if let Some(count) = self.buckets.get_mut(&bucket) {
            *count -= 1;
            if *count == 0 {
                self.buckets.remove(&bucket);
            }
            self.total -= 1;
        }
    }

    /// Adds everything that another one has.
    pub fn merge(&mut self, other: &Self) {
        for (bucket, count) in &other.buckets {
            *self.buckets.entry(*bucket).or_default() += count;
        }
        self.total += other.total;
    }

    /// The value that `share` of all values do not exceed, to the middle of its bucket; 0 when there
    /// are none.
    pub fn quantile(&self, share: f64) -> u64 {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "a rank need not be exact beyond 2^52 values"
        )]
        let rank = ((self.total as f64 * share.clamp(0.0, 1.0)).ceil() as u64).max(1);
        let mut passed = 0;
        for (bucket, count) in &self.buckets {
            passed += count;
            if passed >= rank {
                return middle(*bucket);
            }
        }
        0
    }
}

fn bucket(value: u64) -> u16 {
    let index = if value < PARTS {
        value
    } else {
        let doublings = u64::from(value.ilog2()) - 4;
        PARTS + doublings * PARTS + ((value >> doublings) - PARTS)
    };
    u16::try_from(index).unwrap_or(u16::MAX)
}

fn middle(bucket: u16) -> u64 {
    let bucket = u64::from(bucket);
    if bucket < PARTS {
        return bucket;
    }
    let (doublings, part) = ((bucket - PARTS) / PARTS, (bucket - PARTS) % PARTS);
    ((PARTS + part) << doublings) + ((1 << doublings) >> 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_quantile_is_near_the_true_one(mut values in prop::collection::vec(0_u64..1 << 40, 1..300), share in 0.0..1.0_f64) {
            let mut sketch = Sketch::default();
            for value in &values {
                sketch.add(*value);
            }
            values.sort_unstable();
            let rank = ((values.len() as f64 * share).ceil() as usize).clamp(1, values.len());
            let (truth, told) = (values[rank - 1], sketch.quantile(share));
            prop_assert!(truth.abs_diff(told) <= truth / 30 + 1, "{} for {}", told, truth);
        }

        #[test]
        fn what_is_taken_out_was_never_there_and_merging_is_adding(values in prop::collection::vec(any::<u64>(), 0..50), others in prop::collection::vec(any::<u64>(), 0..50)) {
            let of = |values: &[u64]| {
                let mut sketch = Sketch::default();
                values.iter().for_each(|value| sketch.add(*value));
                sketch
            };
            let both: Vec<u64> = values.iter().chain(&others).copied().collect();
            let mut merged = of(&values);
            merged.merge(&of(&others));
            prop_assert_eq!(&merged, &of(&both));
            others.iter().for_each(|value| merged.remove(*value));
            prop_assert_eq!(merged, of(&values));
        }
    }
}
