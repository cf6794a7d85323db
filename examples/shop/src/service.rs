//! A service between its topics: receive, tell repeats, handle, send, commit; poison set aside.
//!
//! The order matters: what a message caused is acknowledged by the broker before the message's
//! offset is committed. A crash in between repeats the work, with the same event ids, and the
//! readers' inboxes suppress the repeat. No message is dropped silently.

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::try_join_all;
use rdkafka::TopicPartitionList;
use rdkafka::consumer::{CommitMode, Consumer, StreamConsumer};
use tokio::sync::watch;

use crate::bus::{self, Bus};
use crate::event::{Delivery, Outgoing};
use crate::inbox::Inbox;
use crate::tally::ServiceTally;

/// Messages handled between two commits.
const BATCH_MAX: usize = 500;

/// A message that cannot be understood, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Malformed(pub(crate) String);

/// A service as a plain state machine.
pub(crate) trait Service: Send + 'static {
    /// Its name, which is its consumer group too.
    fn name(&self) -> &'static str;
    /// What it listens to.
    fn topics(&self) -> &'static [&'static str];
    /// Reacts to one message.
    fn handle(&mut self, delivery: &Delivery) -> Result<Vec<Outgoing>, Malformed>;
}

/// Runs a service until `stop` turns true; commits what it has handled before it returns.
pub(crate) async fn run(
    mut service: impl Service,
    bus: Bus,
    tally: Arc<ServiceTally>,
    mut stop: watch::Receiver<bool>,
) -> anyhow::Result<()> {
    let consumer = bus.consumer(service.name())?;
    consumer.subscribe(service.topics())?;
    let mut inbox = Inbox::default();
    let mut handled = TopicPartitionList::new();
    loop {
        // Cancel-safe: `receive` only waits for its first message, and takes nothing before.
        let batch = tokio::select! {
            batch = receive(&consumer) => batch?,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        let mut sends = Vec::new();
        for delivery in &batch {
            tally.received.add(1);
            react(&mut service, &bus, &tally, &mut inbox, delivery, &mut sends);
        }
        try_join_all(sends).await?;
        advance(&mut handled, &batch)?;
        consumer.commit(&handled, CommitMode::Async)?;
    }
    leave(consumer, handled).await
}

/// Commits and leaves the group. The client library blocks in both, so neither is done on a task:
/// a broker in the same process needs the tasks to answer.
async fn leave(consumer: StreamConsumer, handled: TopicPartitionList) -> anyhow::Result<()> {
    let work = move || {
        if handled.count() > 0 {
            consumer.commit(&handled, CommitMode::Sync)?;
        }
        drop(consumer);
        Ok(())
    };
    tokio::task::spawn_blocking(work).await?
}

/// The next messages: waits for one, then takes what is there.
async fn receive(consumer: &StreamConsumer) -> anyhow::Result<Vec<Delivery>> {
    let mut batch = vec![bus::delivery(&consumer.recv().await?)];
    while batch.len() < BATCH_MAX {
        match consumer.recv().now_or_never() {
            Some(message) => batch.push(bus::delivery(&message?)),
            None => break,
        }
    }
    Ok(batch)
}

fn react(
    service: &mut impl Service,
    bus: &Bus,
    tally: &ServiceTally,
    inbox: &mut Inbox,
    delivery: &Delivery,
    sends: &mut Vec<bus::Sending>,
) {
    if delivery.run != bus.run() {
        tally.leftover.add(1);
        return;
    }
    tally.arrived_after(bus::now_millis() - delivery.sent_millis);
    if !inbox.first_sight(&delivery.id) {
        tally.suppressed.add(1);
        return;
    }
    match service.handle(delivery) {
        Ok(outgoing) => {
            for event in outgoing {
                for _ in 0..event.times {
                    tally.sent.add(1);
                    sends.push(bus.send(service.name(), delivery, &event));
                }
            }
        }
        Err(Malformed(reason)) => {
            tally.set_aside.add(1);
            sends.push(bus.set_aside(service.name(), delivery, &reason));
        }
    }
}

/// Moves the positions to one past the last message of the batch, by partition.
fn advance(positions: &mut TopicPartitionList, batch: &[Delivery]) -> anyhow::Result<()> {
    for delivery in batch {
        let next = rdkafka::Offset::Offset(delivery.offset + 1);
        if positions
            .find_partition(&delivery.topic, delivery.partition)
            .is_some()
        {
            positions.set_partition_offset(&delivery.topic, delivery.partition, next)?;
        } else {
            positions.add_partition_offset(&delivery.topic, delivery.partition, next)?;
        }
    }
    Ok(())
}
