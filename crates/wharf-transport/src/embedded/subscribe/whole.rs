//! What was accepted together with outputs before everything in front of it was settled.
//!
//! A group's offset says that everything before it is done; of what is done beyond it, it says
//! nothing. So the offset's metadata names those whose outputs are in the log: whoever reads on from
//! there passes them by, and no output is made twice. There are few of them at a time; when there is
//! no room for more, an acceptance waits until the offset can say it.
//!
//! Members over the wire read on without that: to them, these are messages that come again.

use std::collections::BTreeSet;
use std::fmt::Write as _;

/// How our metadata begins; what others write means nothing here.
const PREFIX: &str = "wharf-accepted:";
/// The most that one offset takes.
const OFFSET_BYTES_MAX: usize = 20;

/// How many offsets fit into metadata of this size.
pub(super) fn count_max(metadata_bytes_max: usize) -> usize {
    metadata_bytes_max.saturating_sub(PREFIX.len()) / OFFSET_BYTES_MAX
}

/// The metadata of the offset `watermark` that names these, which are not before it.
pub(super) fn write(watermark: i64, accepted: &BTreeSet<i64>) -> Option<String> {
    let mut metadata = String::new();
    let mut last = watermark;
    for offset in accepted.range(watermark..) {
        let separator = if metadata.is_empty() { PREFIX } else { "," };
        // Writing to a string never fails.
        write!(metadata, "{separator}{}", offset - last).ok()?;
        last = *offset;
    }
    (!metadata.is_empty()).then_some(metadata)
}

/// What the metadata of the offset `watermark` names.
pub(super) fn read(watermark: i64, metadata: &str) -> BTreeSet<i64> {
    let mut accepted = BTreeSet::new();
    let Some(list) = metadata.strip_prefix(PREFIX) else {
        return accepted;
    };
    let mut last = watermark;
    for distance in list.split(',') {
        let distance = distance.parse::<u32>().ok();
        let Some(offset) = distance.and_then(|distance| last.checked_add(distance.into())) else {
            // Not what was written here; whatever it says after this would be a guess.
            return BTreeSet::new();
        };
        accepted.insert(offset);
        last = offset;
    }
    accepted
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_is_read_back_without_what_is_before_the_offset(
            accepted in prop::collection::btree_set(0..1_000_000_i64, 0..200),
            watermark in 0..1_000_000_i64,
        ) {
            let metadata = write(watermark, &accepted).unwrap_or_default();
            prop_assert!(metadata.len() <= 4096 && accepted.len() <= count_max(4096));
            let expected: BTreeSet<i64> = accepted.range(watermark..).copied().collect();
            prop_assert_eq!(read(watermark, &metadata), expected);
        }

        #[test]
        fn foreign_metadata_names_nothing(text in ".{0,40}") {
            prop_assert!(read(5, &text).is_empty());
            let damaged = format!("{PREFIX}3,x{text}");
            prop_assert!(read(5, &damaged).is_empty());
        }
    }
}
