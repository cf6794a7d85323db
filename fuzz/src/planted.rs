//! A reader with a planted bug: it shows that the search finds what is there to be found.
//!
//! The bug lies behind a mark, a version, a kind and two counts that must contradict each other, so
//! bytes that are merely random do not get there; following the coverage does.

/// The mark of the format that only exists here.
const MARK: &[u8; 4] = b"HARB";
/// The version that has the bug.
const VERSION: u8 = 3;
/// The kind of entry that has it.
const KIND_TABLE: u8 = 0x5a;

pub(crate) fn run(data: &[u8]) {
    let sum = read(data).unwrap_or(0);
    assert!(
        sum <= u32::from(u8::MAX) * 16,
        "at most sixteen cells are added"
    );
}

/// Adds up the cells of a table: mark, version, kind, how many cells, which is the last, the cells.
fn read(data: &[u8]) -> Option<u32> {
    let rest = strip_mark(data)?;
    let (version, rest) = rest.split_first()?;
    let (kind, rest) = rest.split_first()?;
    if *version != VERSION || *kind != KIND_TABLE {
        return None;
    }
    let (count, rest) = rest.split_first()?;
    let (last, cells) = rest.split_first()?;
    if usize::from(*count) > cells.len() || *count > 16 || *last < 2 {
        return None;
    }
    // The planted bug: `last` is believed although `count` says how many cells there are.
    let upto = &cells[..=usize::from(*last)];
    Some(upto.iter().map(|cell| u32::from(*cell)).sum())
}

/// One byte after the other, as a hand-written parser would.
fn strip_mark(data: &[u8]) -> Option<&[u8]> {
    let mut rest = data;
    for expected in MARK {
        let (first, after) = rest.split_first()?;
        if first != expected {
            return None;
        }
        rest = after;
    }
    Some(rest)
}

/// Nothing of the format: the search has to come upon it by itself.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    vec![b"nothing of it".to_vec()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_right_table_is_read_and_the_bug_is_there() {
        assert_eq!(read(b"HARB\x03\x5a\x03\x02\x01\x02\x03"), Some(6));
        let bug = std::panic::catch_unwind(|| read(b"HARB\x03\x5a\x01\x09\x01"));
        assert!(bug.is_err());
    }
}
