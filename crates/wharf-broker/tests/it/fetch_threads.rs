//! Long polls in several threads, with the log's committer in a thread of its own and no timers:
//! a single wake-up that gets lost leaves its reader waiting for ever.

use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use wharf_broker::{Broker, Fetch, FetchPartition, FetchSession, Options, Produce, Wakeups};
use wharf_log::Log;
use wharf_log::batch::header;
use wharf_log::disk::simulated::{Faults, SimulatedDisk};

use crate::fetching::{from, name, request};
use crate::group_threads::{LIMIT, Still, block_on};
use crate::producing::batch;
use crate::support::{START, client, creation};

const PARTITIONS: i32 = 3;
const PRODUCERS: i64 = 2;
const CONSUMERS: usize = 3;
const ROUNDS: i64 = 300;

fn produce(broker: &Broker) {
    for round in 0..ROUNDS {
        let partition = i32::try_from(round).unwrap() % PARTITIONS;
        let produce = Produce {
            topic: name("t"),
            partition,
            records: Some(batch(&["x"])),
        };
        block_on(broker.produce(&client(), vec![produce]))
            .remove(0)
            .unwrap();
    }
}

/// Follows every partition to its end in one session; one record at a time arrives or many.
fn consume(broker: &Broker) {
    let ends = PRODUCERS * ROUNDS / i64::from(PARTITIONS);
    let mut offsets = vec![0; usize::try_from(PARTITIONS).unwrap()];
    let mut session = FetchSession { id: 0, epoch: 0 };
    let mut changes: Vec<FetchPartition> = (0..PARTITIONS)
        .map(|partition| from("t", partition, 0))
        .collect();
    while offsets.iter().any(|offset| *offset < ends) {
        let fetch = Fetch {
            session,
            wait_max: Duration::from_secs(1),
            ..request(std::mem::take(&mut changes))
        };
        let fetched = block_on(broker.fetch(&client(), fetch));
        assert_eq!(fetched.error, None);
        session = FetchSession {
            id: fetched.session_id,
            epoch: session.epoch + 1,
        };
        for one in fetched
            .partitions
            .iter()
            .filter(|one| !one.batches.is_empty())
        {
            let offset = &mut offsets[usize::try_from(one.partition).unwrap()];
            for bytes in &one.batches {
                let mut rest = bytes.clone();
                while !rest.is_empty() {
                    let header = header(&rest).unwrap();
                    assert_eq!(
                        header.base_offset, *offset,
                        "nothing skipped, nothing twice"
                    );
                    *offset = header.last_offset() + 1;
                    rest = rest.split_off(header.batch_bytes());
                }
            }
            changes.push(from("t", one.partition, *offset));
        }
    }
}

#[test]
fn no_wake_up_of_a_long_poll_is_lost() {
    let wakeups = Wakeups::default();
    let disk = Arc::new(SimulatedDisk::new(1, Faults::default()));
    let observer = Arc::new(wakeups.clone());
    let log = Log::open(disk, wharf_log::Options::default(), observer, START).unwrap();
    let appender = log.appender.clone();
    let runtime = Arc::new(Still::default());
    let options = Options::default();
    let broker = Broker::open(options, log.appender, log.reader, &wakeups, runtime).unwrap();
    let mut committer = log.committer;
    let commits = thread::spawn(move || {
        while committer.waiter().wait() {
            committer.run_pending(START);
        }
    });
    block_on(broker.create_topic(&client(), creation("t", PARTITIONS, &[]), false)).unwrap();
    let (sender, done) = mpsc::channel();
    let work = |work: fn(&Broker)| {
        let (broker, sender) = (broker.clone(), sender.clone());
        thread::spawn(move || {
            work(&broker);
            sender.send(()).unwrap();
        });
    };
    let producers = usize::try_from(PRODUCERS).unwrap();
    (0..CONSUMERS).for_each(|_| work(consume));
    (0..producers).for_each(|_| work(produce));
    for _ in 0..CONSUMERS + producers {
        done.recv_timeout(LIMIT)
            .expect("every thread comes to its end");
    }
    appender.close();
    commits.join().unwrap();
}
