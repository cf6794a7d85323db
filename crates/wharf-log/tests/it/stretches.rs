//! Stretches: measured before they are read, they have that size or an error says so.

use bytes::Bytes;
use wharf_log::disk::simulated::SimulatedDisk;
use wharf_log::{Options, PartitionId, ReadError, Retention, Stretch, Want};

use crate::harness::{Keep, Node, advance, append, keep_all, small};

const ID: PartitionId = PartitionId(1);
const BATCHES: usize = 150;

/// Segments of several index entries.
fn large_segments() -> Keep {
    Keep(Retention {
        segment_bytes: 1 << 20,
        ..keep_all().0
    })
}

/// Batches of different sizes in two partitions; the older ones are settled if `settled`.
fn filled(settled: bool) -> (SimulatedDisk, Node) {
    let options = Options {
        journal_files_max: 8,
        ..small()
    };
    let (disk, mut node) = Node::simulated(1, options);
    node.create(1);
    node.create(2);
    for number in 0..BATCHES {
        let value = "x".repeat(500 + 7_919 * number % 20_000);
        node.commit(append(1, &[&value, "second"])).unwrap();
        node.commit(append(2, &["between"])).unwrap();
    }
    if settled {
        node.maintain(&large_segments());
    }
    (disk, node)
}

fn want(bytes_max: usize, at_least_one: bool) -> Want {
    Want {
        bytes_max,
        at_least_one,
        committed: false,
        may_block: true,
    }
}

fn stretch(node: &Node, offset: i64, want: Want) -> Option<Stretch> {
    let found = node.log.reader.stretch(ID, offset, 1, want).unwrap();
    found.map(|(stretch, slice)| {
        assert_eq!(stretch.bytes(), slice.bytes);
        assert!(slice.batches.is_empty());
        stretch
    })
}

fn rest(stretch: &mut Stretch) -> Result<Vec<u8>, (Vec<u8>, ReadError)> {
    let mut bytes = Vec::new();
    while stretch.bytes() > 0 {
        match stretch.read() {
            Ok(batches) => bytes.extend(batches.concat()),
            Err(error) => return Err((bytes, error)),
        }
    }
    Ok(bytes)
}

/// What reads of one batch each return from `offset` on.
fn one_by_one(node: &Node, offset: i64) -> Vec<Bytes> {
    let end = node.log.reader.bounds(ID).unwrap().end;
    let mut at = offset & !1;
    let mut batches = Vec::new();
    while at < end {
        let slice = node.log.reader.read(ID, at, 1, true).unwrap();
        batches.push(slice.batches.concat().into());
        at += 2;
    }
    batches
}

#[test]
fn a_stretch_has_the_size_that_was_measured_and_the_bytes_of_a_read() {
    let (_disk, node) = filled(true);
    let settled = node.log.reader.statistics().settled_bytes;
    assert!(settled > 300_000, "{settled}");
    let (mut stretches, mut longest) = (0, 0);
    for offset in (0..300).step_by(3) {
        let batches = one_by_one(&node, offset);
        for bytes_max in [0, 1_000, 30_000, 150_000, 10_000_000] {
            for at_least_one in [false, true] {
                let Some(mut stretch) = stretch(&node, offset, want(bytes_max, at_least_one))
                else {
                    continue;
                };
                let (bytes, end) = (stretch.bytes(), stretch.end());
                let count = usize::try_from((end - offset + 1) / 2).unwrap();
                let fits = bytes <= bytes_max || (at_least_one && count == 1);
                assert!(fits, "{bytes} of {bytes_max} from {offset} to {end}");
                let read = rest(&mut stretch).unwrap();
                assert_eq!(read.len(), bytes, "from {offset} to {end}");
                assert_eq!(read, batches[..count].concat(), "from {offset} to {end}");
                stretches += 1;
                longest = longest.max(bytes);
            }
        }
    }
    assert!(stretches > 200, "{stretches}");
    assert!(longest > 300_000, "{longest}");
}

#[test]
fn what_is_settled_while_it_is_sent_arrives_whole() {
    let (_disk, mut node) = filled(false);
    let expected = one_by_one(&node, 0);
    let mut stretch = stretch(&node, 0, want(900_000, true)).unwrap();
    let bytes = stretch.bytes();
    assert!(bytes > 600_000, "{bytes}");
    let mut read = stretch.read().unwrap().concat();
    assert!(read.len() < bytes);
    node.maintain(&large_segments());
    assert!(node.log.reader.statistics().settled_bytes > 0);
    read.extend(rest(&mut stretch).unwrap());
    assert_eq!(read.len(), bytes);
    assert_eq!(read, expected.concat()[..bytes]);
}

#[test]
fn damage_ends_a_stretch_before_it_leaves_and_is_told_by_the_next_read() {
    let (disk, node) = filled(true);
    let expected = one_by_one(&node, 0).concat();
    let path = disk.paths().into_iter();
    let mut path = path.filter(|path| path.contains("0001/") && path.ends_with(".log"));
    let path = path.next().unwrap();
    disk.corrupt(&path, 70_000).unwrap();
    let mut stretch = stretch(&node, 0, want(10_000_000, true)).unwrap();
    let (read, error) = rest(&mut stretch).unwrap_err();
    assert!(matches!(error, ReadError::Damaged(_)), "{error:?}");
    assert!(read.len() <= 70_000);
    assert_eq!(read, expected[..read.len()]);
    let [damage] = &node.log.reader.damaged()[..] else {
        panic!("one range is damaged");
    };
    let next = node.log.reader.stretch(ID, damage.first, 1, want(1, true));
    assert!(next.unwrap().is_none(), "reading tells");
    let told = node.log.reader.read(ID, damage.first, 1, true);
    assert!(matches!(told, Err(ReadError::Damaged(_))), "{told:?}");
}

#[test]
fn a_stretch_whose_batches_are_gone_says_so() {
    let (_disk, mut node) = filled(true);
    let mut stretch = stretch(&node, 0, want(90_000, true)).unwrap();
    node.commit(advance(1, 100)).unwrap();
    let (read, error) = rest(&mut stretch).unwrap_err();
    assert!(read.is_empty());
    let is_out = matches!(error, ReadError::OffsetOutOfRange { start: 100, .. });
    assert!(is_out, "{error:?}");
}

#[test]
fn what_is_in_memory_or_out_of_range_is_not_measured() {
    let (_disk, node) = filled(true);
    let end = node.log.reader.bounds(ID).unwrap().end;
    for offset in [-1, end - 1, end, end + 1] {
        assert!(
            stretch(&node, offset, want(10_000, true)).is_none(),
            "{offset}"
        );
    }
}
