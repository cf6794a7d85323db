//! Groups used by several threads at once, with the log's committer in a thread of its own: no
//! order of locks may end in a standstill, and no acknowledged offset may get lost on the way.

use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::task::{Context as TaskContext, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use futures_util::future::{self, BoxFuture, FutureExt};
use wharf_broker::group::{CommitCall, CommitOffset, ConsumerHeartbeat};
use wharf_broker::{Broker, Options, Runtime, TopicRef, Wakeups};
use wharf_log::Log;
use wharf_log::disk::simulated::{Faults, SimulatedDisk};
use wharf_message::Timestamp;

use super::groups::simple;
use super::support::{START, client, creation};

/// Far more than the work takes; only a standstill takes longer.
pub const LIMIT: Duration = Duration::from_secs(60);
const THREADS: i64 = 4;
const ROUNDS: i64 = 150;

/// Time stands still, so that nothing here depends on timers.
#[derive(Debug, Default)]
pub struct Still(AtomicU64);

impl Runtime for Still {
    fn now(&self) -> Timestamp {
        START
    }

    fn steady(&self) -> Timestamp {
        START
    }

    fn sleep_until(&self, _deadline: Timestamp) -> BoxFuture<'static, ()> {
        future::pending().boxed()
    }

    fn spawn(&self, task: BoxFuture<'static, ()>) {
        drop(task);
    }

    fn run_blocking(&self, work: Box<dyn FnOnce() + Send>) {
        work();
    }

    fn random(&self) -> [u8; 16] {
        let number = self.0.fetch_add(1, Ordering::Relaxed);
        u128::from(number).to_be_bytes()
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Runs a future in this thread.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut TaskContext::from_waker(&waker)) {
            Poll::Ready(value) => return value,
            Poll::Pending => thread::park(),
        }
    }
}

fn offset(topic: &str, partition: i64, offset: i64) -> CommitOffset {
    CommitOffset {
        topic: TopicRef::Name(topic.to_owned()),
        partition: i32::try_from(partition).unwrap(),
        offset,
        leader_epoch: -1,
        metadata: None,
        retention: None,
    }
}

/// A member of a group of the consumer protocol that follows all topics joins (0) or leaves (-1).
fn heartbeat(thread: i64, epoch: i32) -> ConsumerHeartbeat {
    ConsumerHeartbeat {
        group: "by pattern".to_owned(),
        member: format!("m{thread}"),
        brings_id: true,
        epoch,
        rebalance_timeout: Some(LIMIT),
        pattern: Some("t|topic-.*".to_owned()),
        owned: Some(Vec::new()),
        ..ConsumerHeartbeat::default()
    }
}

/// What one thread does: its own partition of a group all share, a group that comes and goes, a
/// topic that comes and goes, a membership that comes and goes, and looks at everything.
fn work(broker: &Broker, thread: i64) {
    let cx = client();
    let (own_group, own_topic) = (format!("own-{thread}"), format!("topic-{thread}"));
    let (all, own) = (simple("shared"), simple(&own_group));
    for round in 0..ROUNDS {
        let shared =
            broker.commit_offsets(&cx, &all, CommitCall::New, vec![offset("t", thread, round)]);
        assert_eq!(block_on(shared).unwrap(), [Ok(())]);
        let asked = [(
            TopicRef::Name("t".to_owned()),
            i32::try_from(thread).unwrap(),
        )];
        let found = broker
            .committed_offsets(&cx, "shared", None, Some(&asked))
            .unwrap();
        assert_eq!(found[0].as_ref().unwrap().offset, round);

        block_on(broker.create_topic(&cx, creation(&own_topic, 1, &[]), false)).unwrap();
        let committed = broker.commit_offsets(
            &cx,
            &own,
            CommitCall::New,
            vec![offset(&own_topic, 0, round)],
        );
        assert_eq!(block_on(committed).unwrap(), [Ok(())]);
        block_on(broker.delete_topic(&cx, &TopicRef::Name(own_topic.clone()))).unwrap();
        broker.heartbeat(&cx, &all).unwrap_err();
        for epoch in [0, -1] {
            let heartbeat = heartbeat(thread, epoch);
            block_on(broker.consumer_heartbeat(&cx, heartbeat)).unwrap();
            broker.describe_consumer_group(&cx, "by pattern").unwrap();
        }
        broker.list_groups(&cx);
        broker.group_counts();
        // The topic took its offsets with it, and the group with the last of them, perhaps.
        block_on(broker.delete_group(&cx, &own_group)).ok();
    }
}

#[test]
fn groups_used_by_many_threads_come_to_no_standstill() {
    let wakeups = Wakeups::default();
    let disk = Arc::new(SimulatedDisk::new(1, Faults::default()));
    let observer = Arc::new(wakeups.clone());
    let log = Log::open(disk, wharf_log::Options::default(), observer, START).unwrap();
    let appender = log.appender.clone();
    let runtime = Arc::new(Still::default());
    let broker = Broker::open(
        Options::default(),
        log.appender,
        log.reader,
        &wakeups,
        runtime,
    )
    .unwrap();
    let mut committer = log.committer;
    let commits = thread::spawn(move || {
        while committer.waiter().wait() {
            committer.run_pending(START);
        }
    });
    let partitions = i32::try_from(THREADS).unwrap();
    block_on(broker.create_topic(&client(), creation("t", partitions, &[]), false)).unwrap();
    let (sender, done) = mpsc::channel();
    for thread in 0..THREADS {
        let (broker, sender) = (broker.clone(), sender.clone());
        thread::spawn(move || {
            work(&broker, thread);
            sender.send(thread).unwrap();
        });
    }
    for _ in 0..THREADS {
        done.recv_timeout(LIMIT)
            .expect("every thread comes to its end");
    }
    let counts = broker.group_counts();
    assert_eq!(
        (counts.by_state.len(), counts.offsets),
        (1, usize::try_from(THREADS).unwrap())
    );
    appender.close();
    commits.join().unwrap();
}
