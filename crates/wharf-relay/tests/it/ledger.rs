//! The target over a ledger: whatever is cut off between any two steps, every message is there once,
//! in order, and the checkpoints say exactly so.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use proptest::prelude::*;
use wharf_message::ledger::memory::MemoryLedger;
use wharf_message::ledger::{
    Commit, Committed, Due, Entry, Error, Ledger, Owner, Partition, TopicSpec,
};
use wharf_message::{Code, Message, Timestamp, TopicName, header, partitioner};
use wharf_relay::{
    Checkpoint, Delivered, LedgerSettings, LedgerTarget, Opened, Routed, Target, TopicForm, Topics,
    Trouble, TroubleKind,
};

const PARTITIONS: i32 = 3;
const MESSAGE_BYTES_MAX: usize = 1_000;

fn name(text: &str) -> TopicName {
    TopicName::new(text).unwrap()
}

fn now() -> Timestamp {
    Timestamp::from_millis(1_000)
}

/// Topics that are created through the ledger itself.
struct Created(Arc<dyn Ledger>);

impl Created {
    async fn create(&self, name: TopicName) -> Result<TopicForm, Trouble> {
        let spec = TopicSpec {
            name: name.clone(),
            partitions: PARTITIONS,
            compacted: false,
        };
        let trouble =
            |error: Error| Trouble::unavailable(Code::OUTBOX_TARGET_UNAVAILABLE, error.to_string());
        self.0.create_topic(spec).await.map_err(trouble)?;
        Ok(TopicForm {
            name,
            partitions: PARTITIONS as u32,
            message_bytes_max: MESSAGE_BYTES_MAX,
        })
    }
}

impl Topics for Created {
    fn ensure<'a>(&'a self, topic: &'a TopicName) -> BoxFuture<'a, Result<TopicForm, Trouble>> {
        self.create(topic.clone()).boxed()
    }

    fn ensure_scheduled<'a>(
        &'a self,
        topic: &'a TopicName,
    ) -> BoxFuture<'a, Result<TopicForm, Trouble>> {
        self.create(name(&format!("scheduled.{topic}"))).boxed()
    }

    fn refusal(&self, topic: &TopicName, message: &Message) -> Option<String> {
        let is_broken = message.headers.contains("breaks-the-contract");
        is_broken.then(|| format!("it breaks the contract of {topic}"))
    }
}

/// How a commit ends.
#[derive(Clone, Copy, Debug)]
enum End {
    /// As it should.
    Done,
    /// Before it happened.
    Lost,
    /// After it happened, and nobody was told.
    Unanswered,
    /// It is refused for itself alone; those behind it could happen.
    Refused,
}

/// A ledger whose commits end as they are told to, and then as they should.
struct Cut {
    ledger: MemoryLedger,
    ends: Mutex<VecDeque<End>>,
    commits: AtomicUsize,
}

impl Cut {
    fn new(ends: Vec<End>) -> Arc<Self> {
        Arc::new(Self {
            ledger: MemoryLedger::new(),
            ends: Mutex::new(ends.into()),
            commits: AtomicUsize::new(0),
        })
    }
}

impl Ledger for Cut {
    fn create_topic(&self, topic: TopicSpec) -> BoxFuture<'_, Result<(), Error>> {
        self.ledger.create_topic(topic)
    }

    fn own(&self, partition: Partition) -> BoxFuture<'_, Result<Owner, Error>> {
        self.ledger.own(partition)
    }

    fn commit(&self, owner: &Owner, commit: Commit) -> BoxFuture<'_, Result<Committed, Error>> {
        self.commits.fetch_add(1, Ordering::SeqCst);
        let lost = || Error::Unavailable("it was cut off".to_owned());
        let end = self.ends.lock().unwrap().pop_front().unwrap_or(End::Done);
        let committed = match end {
            End::Done => return self.ledger.commit(owner, commit),
            End::Lost => Err(lost()),
            End::Unanswered => {
                let committed = self.ledger.commit(owner, commit);
                return Box::pin(async move { committed.await.and_then(|_done| Err(lost())) });
            }
            End::Refused => Err(Error::Refused("not this one".to_owned())),
        };
        std::future::ready(committed).boxed()
    }

    fn follow(
        &self,
        partition: Partition,
        offset: i64,
        records_max: usize,
    ) -> BoxFuture<'_, Result<Vec<Entry>, Error>> {
        self.ledger.follow(partition, offset, records_max)
    }

    fn progress(
        &self,
        reader: &str,
        partition: Partition,
    ) -> BoxFuture<'_, Result<Option<i64>, Error>> {
        self.ledger.progress(reader, partition)
    }

    fn due(
        &self,
        owner: &Owner,
        now: Timestamp,
        timers_max: usize,
    ) -> BoxFuture<'_, Result<Due, Error>> {
        self.ledger.due(owner, now, timers_max)
    }
}

fn target(ledger: &Arc<Cut>) -> LedgerTarget {
    let ledger: Arc<dyn Ledger> = Arc::clone(ledger) as _;
    let topics = Arc::new(Created(Arc::clone(&ledger)));
    let settings = LedgerSettings {
        commit_bytes_max: 100_000,
        gather_bytes_max: 400,
    };
    LedgerTarget::new(ledger, topics, settings, now)
}

fn routed(topic: &str, number: usize) -> Routed {
    Routed {
        topic: name(topic),
        partition: None,
        message: Message::new(number.to_string()).with_key(format!("k{}", number % 5)),
    }
}

/// What is in a partition.
fn entries(ledger: &Cut, topic: &str, index: i32) -> Vec<Entry> {
    let partition = Partition {
        topic: name(topic),
        index,
    };
    let read = ledger.follow(partition, 0, usize::MAX);
    read.now_or_never().and_then(Result::ok).unwrap_or_default()
}

fn numbers(ledger: &Cut, topic: &str, index: i32) -> Vec<usize> {
    let entries = entries(ledger, topic, index).into_iter();
    let value = |entry: Entry| String::from_utf8(entry.record.value.unwrap().to_vec());
    entries
        .map(|entry| value(entry).unwrap().parse().unwrap())
        .collect()
}

/// A whole checkpoint is the number to go on with, another one how many numbers it adds.
fn position(history: &[Bytes]) -> usize {
    history.iter().fold(0, |position, bytes| {
        let text = std::str::from_utf8(bytes).unwrap();
        match text.strip_prefix('+') {
            Some(more) => position + more.parse::<usize>().unwrap(),
            None => text.parse().unwrap(),
        }
    })
}

fn checkpoint(next: usize, count: usize, whole: bool) -> Checkpoint {
    let bytes = match whole {
        true => next.to_string(),
        false => format!("+{count}"),
    };
    Checkpoint {
        bytes: bytes.into(),
        whole,
    }
}

/// Delivers the numbers below `total` in batches, several under way, and starts again after each
/// failure. How many times it was opened.
async fn deliver_all(
    ledger: &Arc<Cut>,
    total: usize,
    batches: &[(usize, bool)],
    under_way_max: usize,
) -> usize {
    let target = target(ledger);
    let mut batches = batches.iter().cycle();
    let mut opened_times = 0;
    'open: loop {
        opened_times += 1;
        assert!(opened_times < 1_000, "it makes no headway");
        let Ok(Opened { mut sink, history }) = target.open("orders").await else {
            continue;
        };
        let mut next = position(&history);
        let mut under_way = VecDeque::new();
        while next < total || !under_way.is_empty() {
            if next < total && under_way.len() < under_way_max {
                let (count, whole) = *batches.next().unwrap();
                let end = (next + count).min(total);
                let topic = |number| if number % 7 == 0 { "b" } else { "a" };
                let messages = (next..end).map(|number| routed(topic(number), number));
                let checkpoint = checkpoint(end, end - next, whole);
                under_way.push_back(sink.deliver(messages.collect(), checkpoint));
                next = end;
            } else if let Some(oldest) = under_way.pop_front()
                && oldest.await.is_err()
            {
                continue 'open;
            }
        }
        return opened_times;
    }
}

fn ends() -> impl Strategy<Value = Vec<End>> {
    let end = prop_oneof![
        3 => Just(End::Done),
        1 => Just(End::Lost),
        1 => Just(End::Unanswered),
        1 => Just(End::Refused),
    ];
    prop::collection::vec(end, 0..20)
}

proptest! {
    #[test]
    fn nothing_is_lost_or_twice_whichever_commits_are_cut_off(
        ends in ends(),
        batches in prop::collection::vec((0..9_usize, any::<bool>()), 1..6)
            .prop_filter("one of them has numbers", |batches| batches.iter().any(|(count, _)| *count > 0)),
        under_way_max in 1..8_usize,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let total = 100;
            let ledger = Cut::new(ends);
            deliver_all(&ledger, total, &batches, under_way_max).await;
            let mut all = Vec::new();
            for topic in ["a", "b"] {
                for index in 0..PARTITIONS {
                    let numbers = numbers(&ledger, topic, index);
                    prop_assert!(numbers.is_sorted(), "in order: {numbers:?}");
                    for number in &numbers {
                        let key = format!("k{}", number % 5);
                        let home = partitioner::partition(key.as_bytes(), PARTITIONS as usize);
                        prop_assert_eq!(home, index as usize);
                    }
                    all.extend(numbers);
                }
            }
            all.sort_unstable();
            prop_assert_eq!(all, (0..total).collect::<Vec<_>>());
            let Opened { history, .. } = target(&ledger).open("orders").await.unwrap();
            prop_assert_eq!(position(&history), total);
            Ok(())
        })?;
    }
}

#[tokio::test]
async fn what_waits_becomes_one_commit_and_checkpoints_keep_a_ring_of_keys() {
    let ledger = Cut::new(Vec::new());
    let sent = [(2, true), (2, false), (2, false), (2, false)];
    deliver_all(&ledger, 64, &sent, 32).await;
    let commits = ledger.commits.load(Ordering::SeqCst);
    assert!(commits < 20, "{commits} commits for 32 deliveries");
    let entries = entries(&ledger, "_wharf.relay.orders", 0);
    for entry in &entries {
        let value = entry.record.value.clone().unwrap();
        let is_whole = !value.starts_with(b"+");
        assert_eq!(
            entry.record.key.as_deref() == Some(b"0"),
            is_whole,
            "{entry:?}"
        );
    }
    let keys: std::collections::HashSet<_> =
        entries.iter().map(|entry| &entry.record.key).collect();
    assert!(keys.len() <= 4, "compaction keeps so many: {keys:?}");
    let Opened { history, .. } = target(&ledger).open("orders").await.unwrap();
    assert_eq!(
        history,
        ["58", "+2", "+2", "+2"],
        "from the last whole one on"
    );
}

#[tokio::test]
async fn a_later_relay_fences_the_one_before() {
    let ledger = Cut::new(Vec::new());
    let target = target(&ledger);
    let mut earlier = target.open("orders").await.unwrap();
    let mut later = target.open("orders").await.unwrap();
    let late = earlier
        .sink
        .deliver(vec![routed("a", 1)], checkpoint(1, 1, true));
    let Trouble { kind, code, .. } = late.await.unwrap_err();
    assert_eq!((kind, code), (TroubleKind::Standby, Code::OUTBOX_TAKEN));
    let good = later
        .sink
        .deliver(vec![routed("a", 2)], checkpoint(1, 1, true));
    assert_eq!(good.await, Ok(Delivered::default()));
    let mut all = Vec::new();
    for index in 0..PARTITIONS {
        all.extend(numbers(&ledger, "a", index));
    }
    assert_eq!(all, [2]);
}

#[tokio::test]
async fn what_a_topic_does_not_take_is_set_aside_with_its_checkpoint() {
    let ledger = Cut::new(Vec::new());
    let mut opened = target(&ledger).open("orders").await.unwrap();
    let mut large = routed("a", 1);
    large.message = Message::new(vec![b'x'; MESSAGE_BYTES_MAX + 1]).with_header("id", "1");
    let mut huge = routed("a", 2);
    huge.message = Message::new(vec![b'x'; 90_000]).with_header("id", "2");
    let mut elsewhere = routed("a", 3);
    elsewhere.partition = Some(PARTITIONS);
    let mut broken = routed("a", 9);
    broken.message = Message::new("9")
        .with_header("id", "3")
        .with_header("breaks-the-contract", "yes");
    let placed = Routed {
        partition: Some(1),
        ..routed("a", 4)
    };
    let messages = vec![large, huge, elsewhere, broken, placed];
    let delivered = opened.sink.deliver(messages, checkpoint(5, 5, true)).await;
    assert_eq!(delivered, Ok(Delivered { set_aside: 4 }));
    assert_eq!(numbers(&ledger, "a", 1), [4]);
    let mut letters = Vec::new();
    for index in 0..PARTITIONS {
        letters.extend(entries(&ledger, "dlq.outbox.orders.relay", index));
    }
    let header = |entry: &Entry, name: &str| {
        let headers = entry.record.headers.iter();
        let mut found = headers.filter(|(known, _)| known == name);
        let value = found.next().and_then(|(_, value)| value.clone());
        String::from_utf8(value.unwrap_or_default().to_vec()).unwrap()
    };
    let mut told: Vec<_> = letters
        .iter()
        .map(|entry| {
            let kept = entry.record.value.as_ref().map_or(0, Bytes::len);
            (header(entry, "id"), kept, header(entry, header::DLQ_ERROR))
        })
        .collect();
    told.sort();
    let texts: Vec<_> = told
        .iter()
        .map(|(id, kept, _)| (id.as_str(), *kept))
        .collect();
    assert_eq!(
        texts,
        [("", 1), ("1", MESSAGE_BYTES_MAX + 1), ("2", 0), ("3", 1)]
    );
    assert!(told[3].2.contains("breaks the contract of a"), "{told:?}");
    assert!(told[0].2.contains("no partition 3"), "{told:?}");
    assert!(told[1].2.contains("max.message.bytes"), "{told:?}");
    assert!(
        told[2].2.contains("its payload is in the table"),
        "{told:?}"
    );
}

#[tokio::test]
async fn a_message_for_later_goes_to_the_scheduled_ones_of_its_topic() {
    let ledger = Cut::new(Vec::new());
    let mut opened = target(&ledger).open("orders").await.unwrap();
    let at = |millis| {
        let time = Timestamp::from_millis(millis).to_rfc3339();
        let mut routed = routed("a", 1);
        routed.message.headers.push(header::DELIVER_AT, time);
        routed
    };
    let delivered = opened
        .sink
        .deliver(vec![at(1_001), at(1_000)], checkpoint(1, 1, true));
    delivered.await.unwrap();
    let home = partitioner::partition(b"k1", PARTITIONS as usize) as i32;
    assert_eq!(numbers(&ledger, "scheduled.a", home), [1]);
    assert_eq!(numbers(&ledger, "a", home), [1], "its time has come");
}

#[tokio::test]
async fn rows_that_belong_together_and_are_too_many_say_which_setting_helps() {
    let ledger = Cut::new(Vec::new());
    let mut opened = target(&ledger).open("orders").await.unwrap();
    let messages = (0..5_000).map(|number| routed("a", number)).collect();
    let trouble = opened
        .sink
        .deliver(messages, checkpoint(5_000, 5_000, true))
        .await
        .unwrap_err();
    assert_eq!(trouble.kind, TroubleKind::Refused);
    assert!(
        trouble.to_string().contains("log.journal-file-size"),
        "{trouble}"
    );
    let next = opened
        .sink
        .deliver(vec![routed("a", 1)], checkpoint(1, 1, true));
    assert!(next.await.is_err(), "it is to be opened anew");
}
