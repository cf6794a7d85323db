//! Transactional clients: one that writes to several partitions and commits or aborts, one that
//! consumes, transforms and produces, and one that reads what is committed.
//!
//! Invariant: a commit is noted as attempted before it is asked for. After any error the client starts
//! anew with its transactional id, which settles what was open before it goes on.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Offset, TopicPartitionList};

use super::{Shared, payload, places, stamp_of};
use crate::history::{Place, Stamp};
use crate::random::Random;
use crate::transactions::{Ending, Input, TransactionId, sequence};

/// The topic that transactions write to.
pub(crate) const LEDGER: (&str, i32) = ("ledger", 3);
/// Consumes, transforms and produces.
pub(crate) const TRANSFORMER: &str = "kill-transformer";
/// The topic that it reads.
const SOURCE: &str = super::TOPICS[0].0;
/// The longest one step of a transaction may take before the client starts anew.
const STEP_WITHIN: Duration = Duration::from_secs(10);
/// After the load has stopped the last transaction must come to its end within this many tries.
const TRIES_MAX: u32 = 30;

pub(crate) fn ledger_places() -> impl Iterator<Item = Place> {
    (0..LEDGER.1).map(|partition| (LEDGER.0, partition))
}

/// What the transformer reads.
fn source_places() -> impl Iterator<Item = Place> {
    places().filter(|place| place.0 == SOURCE)
}

fn connect(shared: &Shared, id: usize) -> KafkaResult<BaseProducer> {
    let producer: BaseProducer = shared
        .config()
        .set("transactional.id", format!("kill-{id}"))
        .set("transaction.timeout.ms", "20000")
        .set("linger.ms", "2")
        .create()?;
    loop {
        match producer.init_transactions(STEP_WITHIN) {
            Err(KafkaError::Transaction(error)) if error.is_retriable() && !shared.stopped() => {}
            other => return other.map(|()| producer),
        }
    }
}

/// Runs `client` until the load has stopped, anew after every error.
fn keep_at_it(shared: &Shared, mut client: impl FnMut() -> KafkaResult<()>) -> Result<()> {
    while !shared.stopped() {
        // What went wrong passes with the restart; what was open is settled by starting anew.
        client().ok();
    }
    // The last transaction must be settled before everything is compared.
    for _ in 0..TRIES_MAX {
        if client().is_ok() {
            return Ok(());
        }
    }
    client().context("a transactional client could not settle its last transaction")
}

/// Queues a transaction's next message.
fn send(
    shared: &Shared,
    producer: &BaseProducer,
    id: TransactionId,
    place: Place,
) -> KafkaResult<()> {
    let stamp = {
        let mut facts = shared.history.lock();
        let messages = &mut facts.transactions.entry(id).or_default().messages;
        let stamp = Stamp {
            producer: id.0,
            sequence: sequence(id.1, messages.len()),
        };
        messages.push((place, stamp));
        stamp
    };
    let payload = payload(place, stamp);
    let record = BaseRecord::<(), str>::to(place.0)
        .partition(place.1)
        .payload(payload.as_str());
    producer.send(record).map_err(|(error, _)| error)
}

fn note(shared: &Shared, id: TransactionId, ending: Ending) {
    let mut facts = shared.history.lock();
    facts.transactions.entry(id).or_default().ending = ending;
}

/// Commits; notes the offsets that come with it as attempted and acknowledged.
fn commit(shared: &Shared, producer: &BaseProducer, id: TransactionId) -> KafkaResult<()> {
    let inputs = {
        let mut facts = shared.history.lock();
        let transaction = facts.transactions.entry(id).or_default();
        transaction.ending = Ending::CommitAttempted;
        let inputs = transaction.inputs.clone();
        for input in &inputs {
            facts.committed(TRANSFORMER, input.place).attempt(input.to);
        }
        inputs
    };
    // The reports of its messages must be taken before it can end.
    producer.flush(STEP_WITHIN)?;
    loop {
        match producer.commit_transaction(STEP_WITHIN) {
            Err(KafkaError::Transaction(error)) if error.is_retriable() => {}
            other => break other?,
        }
    }
    let mut facts = shared.history.lock();
    facts.transactions.entry(id).or_default().ending = Ending::Committed;
    for input in &inputs {
        facts
            .committed(TRANSFORMER, input.place)
            .acknowledge(input.to);
    }
    Ok(())
}

/// Writes to several partitions in each transaction; aborts every fourth.
pub(super) fn write(shared: &Shared, id: usize, mut random: Random) -> Result<()> {
    let ledger: Vec<Place> = ledger_places().collect();
    let mut number = 0;
    keep_at_it(shared, || {
        let producer = connect(shared, id)?;
        while !shared.stopped() {
            number += 1;
            let transaction = (id, number);
            producer.begin_transaction()?;
            for _ in 0..=random.below(8) {
                send(shared, &producer, transaction, *random.pick(&ledger))?;
            }
            producer.poll(Duration::from_millis(random.below(15)));
            if random.below(4) == 0 {
                note(shared, transaction, Ending::Aborted);
                producer.flush(STEP_WITHIN)?;
                producer.abort_transaction(STEP_WITHIN)?;
            } else {
                commit(shared, &producer, transaction)?;
            }
        }
        Ok(())
    })
}

/// Consumes, and produces what it made of it together with how far it came.
pub(super) fn transform(shared: &Shared, id: usize) -> Result<()> {
    let ledger: Vec<Place> = ledger_places().collect();
    let mut number = 0;
    keep_at_it(shared, || {
        // First the producer: it settles what the one before it left, offsets included.
        let producer = connect(shared, id)?;
        let (consumer, mut next) = source(shared)?;
        while !shared.stopped() {
            number += 1;
            let inputs = poll(&consumer, &mut next);
            if inputs.is_empty() {
                continue;
            }
            let transaction = (id, number);
            producer.begin_transaction()?;
            for (index, _) in inputs.iter().enumerate() {
                send(shared, &producer, transaction, ledger[index % ledger.len()])?;
            }
            let mut facts = shared.history.lock();
            facts
                .transactions
                .entry(transaction)
                .or_default()
                .inputs
                .clone_from(&inputs);
            drop(facts);
            let group = consumer.group_metadata().ok_or(KafkaError::Canceled)?;
            producer.send_offsets_to_transaction(&offsets(&inputs)?, &group, STEP_WITHIN)?;
            commit(shared, &producer, transaction)?;
        }
        Ok(())
    })
}

/// A reader of the source from where the group stands, and where that is.
fn source(shared: &Shared) -> KafkaResult<(BaseConsumer, BTreeMap<Place, i64>)> {
    let consumer: BaseConsumer = shared
        .config()
        .set("group.id", TRANSFORMER)
        .set("enable.auto.commit", "false")
        .set("fetch.wait.max.ms", "50")
        .create()?;
    let mut list = TopicPartitionList::new();
    for (topic, partition) in source_places() {
        list.add_partition(topic, partition);
    }
    let committed = consumer.committed_offsets(list, STEP_WITHIN)?;
    let (mut list, mut next) = (TopicPartitionList::new(), BTreeMap::new());
    for place in source_places() {
        let found = committed
            .find_partition(place.0, place.1)
            .ok_or(KafkaError::Canceled)?;
        found.error()?;
        let offset = match found.offset() {
            Offset::Offset(offset) => offset,
            _ => 0,
        };
        list.add_partition_offset(place.0, place.1, Offset::Offset(offset))?;
        next.insert(place, offset);
    }
    consumer.assign(&list)?;
    Ok((consumer, next))
}

/// Some messages of the source, as the ranges that they make up.
fn poll(consumer: &BaseConsumer, next: &mut BTreeMap<Place, i64>) -> Vec<Input> {
    let mut inputs: BTreeMap<Place, Input> = BTreeMap::new();
    for _ in 0..20 {
        let Some(Ok(message)) = consumer.poll(Duration::from_millis(20)) else {
            break;
        };
        let Some(place) = super::place_of(&message) else {
            continue;
        };
        let from = next.insert(place, message.offset() + 1);
        let input = inputs.entry(place).or_insert(Input {
            place,
            from: from.unwrap_or(0),
            to: 0,
        });
        input.to = message.offset() + 1;
    }
    inputs.into_values().collect()
}

fn offsets(inputs: &[Input]) -> KafkaResult<TopicPartitionList> {
    let mut list = TopicPartitionList::new();
    for Input { place, to, .. } in inputs {
        list.add_partition_offset(place.0, place.1, Offset::Offset(*to))?;
    }
    Ok(list)
}

/// Reads what is committed while it is being written.
pub(super) fn watch(shared: &Shared) -> Result<()> {
    let consumer: BaseConsumer = shared
        .config()
        .set("group.id", "kill-watcher")
        .set("enable.auto.commit", "false")
        .set("isolation.level", "read_committed")
        .set("fetch.wait.max.ms", "50")
        .create()?;
    let mut list = TopicPartitionList::new();
    for (topic, partition) in ledger_places() {
        list.add_partition_offset(topic, partition, Offset::Beginning)?;
    }
    consumer.assign(&list)?;
    while !shared.stopped() {
        let Some(Ok(message)) = consumer.poll(Duration::from_millis(50)) else {
            continue;
        };
        let place = (LEDGER.0, message.partition());
        let stamp = stamp_of(place, message.payload().unwrap_or_default());
        let mut facts = shared.history.lock();
        ensure!(message.topic() == LEDGER.0, "another topic was read");
        match stamp {
            Some(stamp) => facts.see_committed(place, message.offset(), stamp),
            None => facts.see_damaged(place, message.offset()),
        }
    }
    Ok(())
}
