//! Writers, readers, the committer and maintenance at once, on a real disk.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use wharf_log::{Appender, Committer, Done, Log, Options, PartitionId, Reader, Unit};

use crate::harness::{Node, append, keep_all, small, split, temporary};

const PARTITIONS: u64 = 4;
const UNITS: i64 = 400;
/// How long anything may take.
const LIMIT: Duration = Duration::from_secs(30);

/// Reads a partition to `end`, checking that offsets follow each other.
fn follow(reader: &Reader, partition: u64, end: i64) {
    let mut next = 0;
    while next < end {
        let slice = reader
            .read(PartitionId(partition), next, 32 << 10, true)
            .unwrap();
        for batch in split(&slice.batches) {
            let header = wharf_log::batch::verify(&batch).unwrap();
            assert_eq!(header.base_offset, next);
            next = header.last_offset() + 1;
        }
        if slice.batches.is_empty() {
            thread::yield_now();
        }
    }
}

#[test]
fn everything_runs_at_once_and_every_unit_is_answered_in_order() {
    let (_directory, disk) = temporary();
    let mut node = Node::open(
        &disk,
        Options {
            journal_files_max: 2,
            ..small()
        },
    );
    for partition in 0..PARTITIONS {
        node.create(partition);
    }
    let now = node.now;
    let Log {
        appender,
        mut committer,
        reader,
        mut maintenance,
        ..
    } = node.log;
    let stopped = AtomicBool::new(false);
    thread::scope(|scope| {
        let committing = scope.spawn(|| {
            while committer.waiter().wait() {
                committer.run_pending(now);
            }
        });
        scope.spawn(|| {
            while !stopped.load(Ordering::Acquire) {
                maintenance.run(&keep_all(), now);
                maintenance.wait(Duration::from_millis(5));
            }
        });
        let followers: Vec<_> = (0..PARTITIONS)
            .map(|partition| {
                let reader = &reader;
                scope.spawn(move || follow(reader, partition, 2 * UNITS))
            })
            .collect();
        let writers: Vec<_> = (0..PARTITIONS)
            .map(|partition| {
                let appender = appender.clone();
                scope.spawn(move || {
                    let (sender, receiver) = mpsc::channel();
                    let sender = Arc::new(Mutex::new(sender));
                    for index in 0..UNITS {
                        let value = format!("{index}-{}", "t".repeat(1_000));
                        let sender = Arc::clone(&sender);
                        let done: Done = Box::new(move |outcome| {
                            sender.lock().unwrap().send(outcome).unwrap();
                        });
                        appender.submit(vec![(append(partition, &[&value, "second"]), done)]);
                        if index % 8 == 7 {
                            for back in (0..8).rev() {
                                let committed = receiver.recv().unwrap().unwrap();
                                assert_eq!(committed.appends[0].base_offset, 2 * (index - back));
                            }
                        }
                    }
                })
            })
            .collect();
        for thread in writers.into_iter().chain(followers) {
            thread.join().unwrap();
        }
        appender.close();
        committing.join().unwrap();
        stopped.store(true, Ordering::Release);
    });
    maintenance.finish(now).unwrap();
    let node = Node::open(&disk, small());
    assert_eq!(node.log.recovery.frames_replayed, 0);
    for partition in 0..PARTITIONS {
        follow(&node.log.reader, partition, 2 * UNITS);
    }
}

/// A log whose journal has grown far beyond what may wait for settling, with a unit queued.
fn lagging() -> Node {
    let (_, mut node) = Node::simulated(1, small());
    node.create(1);
    let files = |node: &Node| node.log.reader.statistics().journal_files;
    while files(&node) <= 12 {
        node.commit(append(1, &[&"x".repeat(20_000)])).unwrap();
    }
    let done: Done = Box::new(drop);
    node.log.appender.submit(vec![(append(1, &["next"]), done)]);
    node
}

#[test]
fn the_committer_waits_for_a_settling_that_lags_behind() {
    let mut node = lagging();
    let (committer, maintenance) = (&node.log.committer, &mut node.log.maintenance);
    let (sender, returned) = mpsc::channel();
    thread::scope(|scope| {
        scope.spawn(move || sender.send(committer.waiter().wait()).unwrap());
        let early = returned.recv_timeout(Duration::from_millis(100));
        early.unwrap_err();
        while maintenance.run(&keep_all(), node.now) {}
        assert!(returned.recv_timeout(Duration::from_secs(60)).unwrap());
    });
    assert!(node.log.reader.statistics().journal_files <= 8);
}

#[test]
fn the_committer_goes_on_when_settling_does_not_or_the_log_is_closed() {
    let node = lagging();
    assert!(node.log.committer.waiter().wait(), "slowly, but it goes on");
    node.log.appender.close();
    assert!(node.log.committer.waiter().wait());
}

/// Runs the committer in a thread of its own, shared as a server shares it, while `work` runs.
fn beside_a_waiting_thread(node: Node, work: impl FnOnce(&Appender, &Mutex<Committer>)) {
    let now = node.now;
    let committer = Mutex::new(node.log.committer);
    let appender = node.log.appender;
    thread::scope(|scope| {
        scope.spawn(|| {
            let waiter = committer.lock().unwrap().waiter();
            while waiter.wait() {
                committer.lock().unwrap().run_pending(now);
            }
        });
        work(&appender, &committer);
        appender.close();
    });
}

/// A unit that appends to the first partition, and the thread in which it is answered.
fn traced() -> ((Unit, Done), mpsc::Receiver<thread::ThreadId>) {
    let (sender, answered) = mpsc::channel();
    let done: Done = Box::new(move |outcome| {
        outcome.unwrap();
        sender.send(thread::current().id()).unwrap();
    });
    ((append(0, &["one"]), done), answered)
}

#[test]
fn whoever_attends_commits_what_it_submits_in_its_own_thread() {
    let (_directory, disk) = temporary();
    let mut node = Node::open(&disk, small());
    node.create(0);
    let now = node.now;
    beside_a_waiting_thread(node, |appender, committer| {
        let attendance = appender.attend();
        let (unit, answered) = traced();
        appender.submit(vec![unit]);
        assert_eq!(committer.lock().unwrap().run_attended(attendance, now), 1);
        assert_eq!(answered.recv_timeout(LIMIT), Ok(thread::current().id()));
        // The waiting thread is woken as before.
        let (unit, answered) = traced();
        appender.submit(vec![unit]);
        assert_ne!(answered.recv_timeout(LIMIT), Ok(thread::current().id()));
    });
}

#[test]
fn what_is_submitted_under_an_attendance_that_is_given_up_is_committed_by_the_waiting_thread() {
    let (_directory, disk) = temporary();
    let mut node = Node::open(&disk, small());
    node.create(0);
    beside_a_waiting_thread(node, |appender, _committer| {
        let (first, second) = (appender.attend(), appender.attend());
        let (unit, answered) = traced();
        appender.submit(vec![unit]);
        drop(first);
        drop(second);
        let thread = answered.recv_timeout(LIMIT).unwrap();
        assert_ne!(thread, thread::current().id());
    });
}
