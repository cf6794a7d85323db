//! Offsets beyond a watermark that are settled already, as the text that is committed beside it.
//!
//! A group commits watermarks. What is accepted out of order together with its outputs must not be
//! handled again after a crash, so it is noted in the commit's metadata: `wharf1:` and then pairs of
//! how many offsets to skip and how many are settled, from the watermark on. Text of others, or with
//! more than is sensible, notes nothing.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::TopicPartition;

/// The longest text; brokers take 4,096 bytes unless told otherwise.
const TEXT_BYTES_MAX: usize = 3_000;
/// The most offsets that are read from a text.
const OFFSETS_MAX: i64 = 100_000;
const PREFIX: &str = "wharf1:";

/// What is committed of one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// The partition.
    pub partition: TopicPartition,
    /// Everything before it is settled.
    pub watermark: i64,
    /// Offsets from there on that are settled too and must not be forgotten, in order.
    pub noted: Vec<i64>,
}

impl Commit {
    /// The metadata; empty when nothing is noted, `None` when it is more than fits.
    pub fn metadata(&self) -> Option<String> {
        if self.noted.is_empty() {
            return Some(String::new());
        }
        let mut text = PREFIX.to_owned();
        let (mut from, mut rest) = (self.watermark, self.noted.as_slice());
        while let [first, ..] = rest {
            let run = rest
                .iter()
                .zip(*first..)
                .take_while(|(one, next)| *one == next);
            let run = run.count();
            let (skip, next) = (first - from, first + run as i64);
            write!(text, "{skip}+{run},").ok()?;
            from = next;
            rest = &rest[run..];
            if text.len() > TEXT_BYTES_MAX {
                return None;
            }
        }
        Some(text)
    }
}

/// The offsets that a metadata text notes beside `watermark`.
pub fn noted(watermark: i64, text: &str) -> BTreeSet<i64> {
    read(watermark, text).unwrap_or_default()
}

fn read(watermark: i64, text: &str) -> Option<BTreeSet<i64>> {
    let mut offsets = BTreeSet::new();
    let (mut from, mut count) = (watermark, 0_i64);
    let pairs = text.strip_prefix(PREFIX)?;
    for pair in pairs.split_terminator(',') {
        let (skip, run) = pair.split_once('+')?;
        let (skip, run): (u32, u32) = (skip.parse().ok()?, run.parse().ok()?);
        count += i64::from(run);
        let first = from.checked_add(i64::from(skip))?;
        from = first.checked_add(i64::from(run))?;
        if count > OFFSETS_MAX {
            return None;
        }
        offsets.extend(first..from);
    }
    Some(offsets)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use wharf_message::TopicName;

    use super::*;

    fn commit(watermark: i64, noted: Vec<i64>) -> Commit {
        let topic = TopicName::new("orders").expect("valid");
        let partition = TopicPartition {
            topic,
            partition: 0,
        };
        Commit {
            partition,
            watermark,
            noted,
        }
    }

    #[test]
    fn runs_are_written_short_and_too_many_are_refused() {
        let text = commit(10, vec![12, 13, 14, 20]).metadata();
        assert_eq!(text.as_deref(), Some("wharf1:2+3,5+1,"));
        assert_eq!(commit(10, Vec::new()).metadata().as_deref(), Some(""));
        let scattered = (0..5_000).map(|number| 2 * number).collect();
        assert_eq!(commit(0, scattered).metadata(), None);
    }

    #[test]
    fn the_text_of_others_notes_nothing() {
        for text in [
            "",
            "checkpoint 7",
            "wharf1:x",
            "wharf1:1+4294967295,",
            "wharf1:4294967295+99999999999,",
        ] {
            assert!(noted(i64::MAX - 5, text).is_empty(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_noted_is_read_again(
            watermark in 0..1_000_000_i64,
            offsets in prop::collection::btree_set(0..5_000_i64, 0..300),
        ) {
            let offsets: Vec<i64> = offsets.into_iter().map(|offset| watermark + offset).collect();
            let text = commit(watermark, offsets.clone()).metadata();
            let read = noted(watermark, &text.expect("it fits"));
            prop_assert_eq!(read.into_iter().collect::<Vec<_>>(), offsets);
        }

        #[test]
        fn no_text_makes_it_panic(watermark in any::<i64>(), text in "(wharf1:)?[0-9+,-]{0,40}") {
            let _read = noted(watermark, &text);
        }
    }
}
