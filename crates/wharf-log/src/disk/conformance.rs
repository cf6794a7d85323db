//! The conformance suite of the [`Disk`] seam: every implementation runs it.
//!
//! Each case gets a fresh, empty disk. Cases about durability restart the disk as harshly as the
//! implementation can (power loss where it can be simulated, closing and reopening otherwise) and
//! only look at what was synced; what was not synced must never be relied upon here.

use std::io;
use std::sync::Arc;

use super::{Disk, DiskFile, Open};

/// A disk under test.
pub struct Subject {
    /// The disk, empty.
    pub disk: Arc<dyn Disk>,
    /// The same disk after the harshest restart there is.
    pub restart: Box<dyn FnOnce() -> Arc<dyn Disk>>,
}

impl std::fmt::Debug for Subject {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Subject")
    }
}

/// Runs every case against disks made by `fresh`.
///
/// # Panics
/// When the implementation breaks the contract; the message names what was expected.
pub fn run(mut fresh: impl FnMut() -> Subject) {
    let cases: [fn(&dyn Disk); 9] = [
        files_are_opened_as_asked,
        reads_see_what_was_written_through_any_handle,
        preallocation_zero_fills_and_keeps_content,
        truncation_cuts,
        names_change_as_asked,
        removal_takes_everything_below,
        listings_are_sorted_and_complete,
        unsafe_paths_are_refused,
        an_open_file_outlives_its_name,
    ];
    for case in cases {
        case(fresh().disk.as_ref());
    }
    let restarts: [fn(Subject); 2] = [synced_bytes_survive, synced_names_survive];
    for case in restarts {
        case(fresh());
    }
}

fn create(disk: &dyn Disk, path: &str) -> Arc<dyn DiskFile> {
    disk.open(path, Open::New).expect("a new file is created")
}

fn existing(disk: &dyn Disk, path: &str) -> Arc<dyn DiskFile> {
    disk.open(path, Open::Existing)
        .expect("an existing file is opened")
}

fn write(file: &dyn DiskFile, bytes: &[u8], offset: u64) {
    file.write_at(bytes, offset).expect("a write works");
}

fn content(file: &dyn DiskFile) -> Vec<u8> {
    let bytes = file.len().expect("the length is known");
    let mut buffer = vec![0xEE; usize::try_from(bytes).expect("test files are small")];
    let count = file.read_at(&mut buffer, 0).expect("a read works");
    assert_eq!(count, buffer.len(), "a read returns less only at the end");
    buffer
}

fn names(disk: &dyn Disk, path: &str) -> Vec<String> {
    let entries = disk.list(path).expect("a directory is listed");
    entries.into_iter().map(|entry| entry.name).collect()
}

fn kind(result: io::Result<Arc<dyn DiskFile>>) -> Option<io::ErrorKind> {
    result.err().map(|error| error.kind())
}

fn files_are_opened_as_asked(disk: &dyn Disk) {
    assert_eq!(
        kind(disk.open("a", Open::Existing)),
        Some(io::ErrorKind::NotFound)
    );
    assert_eq!(
        kind(disk.open("missing/a", Open::New)),
        Some(io::ErrorKind::NotFound)
    );
    let file = create(disk, "a");
    assert_eq!(file.len().expect("the length is known"), 0);
    assert_eq!(
        kind(disk.open("a", Open::New)),
        Some(io::ErrorKind::AlreadyExists)
    );
    existing(disk, "a");
}

fn reads_see_what_was_written_through_any_handle(disk: &dyn Disk) {
    let writer = create(disk, "a");
    let reader = existing(disk, "a");
    write(writer.as_ref(), b"hello", 0);
    write(writer.as_ref(), b"p!", 3);
    assert_eq!(content(reader.as_ref()), b"help!");
    write(writer.as_ref(), b"far", 2000);
    let mut expected = b"help!".to_vec();
    expected.resize(2000, 0);
    expected.extend_from_slice(b"far");
    assert_eq!(content(reader.as_ref()), expected, "a gap reads as zeros");
    let mut buffer = [0xEE; 8];
    assert_eq!(reader.read_at(&mut buffer, 2001).expect("a read works"), 2);
    assert_eq!(
        &buffer[..3],
        b"ar\xEE",
        "bytes beyond the end are left alone"
    );
    assert_eq!(reader.read_at(&mut buffer, 9999).expect("a read works"), 0);
    for (offset, bytes) in [(0, 2003), (1998, 4), (2001, 8), (9999, 8), (5, 0)] {
        let at = usize::try_from(offset)
            .expect("it is small")
            .min(expected.len());
        let end = (at + bytes).min(expected.len());
        let read = reader.read(bytes, offset).expect("a read works");
        assert_eq!(read, expected[at..end], "both ways to read see the same");
    }
    write(writer.as_ref(), b"", 5000);
    assert_eq!(
        reader.len().expect("the length is known"),
        2003,
        "an empty write does nothing"
    );
}

fn preallocation_zero_fills_and_keeps_content(disk: &dyn Disk) {
    let file = create(disk, "a");
    write(file.as_ref(), b"abc", 0);
    file.preallocate(4096).expect("there is space");
    let mut expected = b"abc".to_vec();
    expected.resize(4096, 0);
    assert_eq!(content(file.as_ref()), expected);
    file.preallocate(100).expect("there is space");
    assert_eq!(
        content(file.as_ref()),
        expected,
        "preallocation never shrinks"
    );
}

fn truncation_cuts(disk: &dyn Disk) {
    let file = create(disk, "a");
    write(file.as_ref(), &[7; 1000], 0);
    file.truncate(10).expect("truncation works");
    assert_eq!(content(file.as_ref()), [7; 10]);
    write(file.as_ref(), b"x", 20);
    assert_eq!(
        content(file.as_ref())[10..],
        *b"\0\0\0\0\0\0\0\0\0\0x",
        "what was cut is gone"
    );
}

fn names_change_as_asked(disk: &dyn Disk) {
    write(create(disk, "a").as_ref(), b"a", 0);
    write(create(disk, "b").as_ref(), b"b", 0);
    disk.rename("a", "b").expect("a rename replaces its target");
    assert_eq!(names(disk, ""), ["b"]);
    assert_eq!(content(existing(disk, "b").as_ref()), b"a");
    let missing = disk.rename("a", "c").expect_err("the source is gone");
    assert_eq!(missing.kind(), io::ErrorKind::NotFound);
    disk.create_dir("d/e").expect("parents are created");
    disk.create_dir("d/e")
        .expect("an existing directory is no error");
    disk.rename("b", "d/e/b")
        .expect("a rename crosses directories");
    disk.rename("d", "f").expect("a directory is renamed");
    assert_eq!(content(existing(disk, "f/e/b").as_ref()), b"a");
}

fn removal_takes_everything_below(disk: &dyn Disk) {
    disk.create_dir("d/e").expect("parents are created");
    create(disk, "d/e/a");
    create(disk, "d/b");
    create(disk, "c");
    disk.remove("d").expect("a directory is removed");
    disk.remove("d").expect("a missing directory is no error");
    disk.remove("d/e/a").expect("a missing file is no error");
    assert_eq!(names(disk, ""), ["c"]);
    assert_eq!(names(disk, "d"), [""; 0]);
    disk.remove("c").expect("a file is removed");
    assert_eq!(names(disk, ""), [""; 0]);
}

fn listings_are_sorted_and_complete(disk: &dyn Disk) {
    disk.create_dir("d/inner").expect("parents are created");
    write(create(disk, "d/b").as_ref(), &[1; 300], 0);
    create(disk, "d/a");
    let entries = disk.list("d").expect("a directory is listed");
    let found: Vec<_> = entries
        .iter()
        .map(|e| (e.name.as_str(), e.bytes, e.is_dir))
        .collect();
    assert_eq!(
        found,
        [("a", 0, false), ("b", 300, false), ("inner", 0, true)]
    );
    assert_eq!(
        names(disk, "nothing/here"),
        [""; 0],
        "a missing directory lists as empty"
    );
}

fn unsafe_paths_are_refused(disk: &dyn Disk) {
    for path in ["..", "/a", "a/../b", "./a", "a//b", "a/", ""] {
        assert!(disk.open(path, Open::New).is_err(), "{path:?} was opened");
    }
    assert!(disk.remove("").is_err(), "the root was removed");
    assert!(disk.remove("../a").is_err(), "a path outside was removed");
}

fn synced_bytes_survive(subject: Subject) {
    let disk = subject.disk;
    let file = create(disk.as_ref(), "a");
    disk.sync_dir("").expect("a directory is synced");
    file.preallocate(8192).expect("there is space");
    write(file.as_ref(), &[3; 700], 100);
    file.sync().expect("a file is synced");
    write(file.as_ref(), &[4; 700], 2048);
    let mut expected = vec![0; 2048];
    expected[100..800].fill(3);
    drop((disk, file));
    let after = (subject.restart)();
    let bytes = content(existing(after.as_ref(), "a").as_ref());
    assert_eq!(bytes.len(), 8192, "the synced length survives");
    assert_eq!(bytes[..2048], expected, "synced bytes survive");
}

fn synced_names_survive(subject: Subject) {
    let disk = subject.disk;
    disk.create_dir("d").expect("a directory is created");
    for path in ["d/a", "d/b", "d/c"] {
        let file = create(disk.as_ref(), path);
        write(file.as_ref(), path.as_bytes(), 0);
        file.sync().expect("a file is synced");
    }
    disk.sync_dir("").expect("a directory is synced");
    disk.sync_dir("d").expect("a directory is synced");
    disk.rename("d/a", "d/renamed").expect("a rename works");
    disk.remove("d/b").expect("a file is removed");
    disk.sync_dir("d").expect("a directory is synced");
    let missing = disk.sync_dir("nothing/here");
    assert!(missing.is_err(), "a missing directory was synced");
    drop(disk);
    let after = (subject.restart)();
    assert_eq!(names(after.as_ref(), "d"), ["c", "renamed"]);
    assert_eq!(
        content(existing(after.as_ref(), "d/renamed").as_ref()),
        b"d/a"
    );
}

fn an_open_file_outlives_its_name(disk: &dyn Disk) {
    let file = create(disk, "a");
    write(file.as_ref(), b"old", 0);
    disk.remove("a").expect("a file is removed");
    write(create(disk, "a").as_ref(), b"new", 0);
    assert_eq!(
        content(file.as_ref()),
        b"old",
        "readers keep what they opened"
    );
    assert_eq!(content(existing(disk, "a").as_ref()), b"new");
}
