//! Subscriptions: reading in the caller's task, everything else in a worker of their own.
//!
//! `next` fetches when there is nothing left to deliver; nothing is read ahead of it but the batches
//! of one fetch. The worker ([`worker`]) keeps the membership and carries out settlements, all that
//! have come up to then in one unit of the log.

mod fetch;
mod member;
mod part;
mod plan;
mod state;
mod whole;
mod work;
mod worker;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::{Notify, oneshot, watch};
use tokio::time::sleep;
use wharf_message::dead_letter;
use wharf_message::transport::{
    Audience, Deliveries, Delivery, Error, Settle, Settlement, Start, Subscription, Token,
};
use wharf_message::{GroupName, Message, TopicName};

use super::{Core, lock, scheduled};
use crate::log::detour;
use member::Reading;
use part::Kind;
use state::{Phase, State, Taken};
use work::Purpose;

/// How many messages a forwarder takes at once.
const FORWARDED_MAX: usize = 256;
/// How long a forwarder waits before it tries again.
const FORWARD_AGAIN: Duration = Duration::from_secs(1);

/// What a subscription's parts share.
pub(super) struct Shared {
    core: Arc<Core>,
    state: Mutex<State>,
    /// Wakes `next`.
    news: Notify,
    /// Wakes the worker.
    work: Notify,
    /// How it ended.
    ended: watch::Sender<Option<Result<(), Error>>>,
}

/// The deliveries of one subscription.
pub(super) struct EmbeddedDeliveries {
    shared: Arc<Shared>,
    settle: Arc<dyn Settle>,
}

/// Begins a subscription. When it returns, the group's positions are settled.
pub(super) async fn subscribe(
    core: &Arc<Core>,
    subscription: Subscription,
) -> Result<EmbeddedDeliveries, Error> {
    let topics = subscription.topics.clone();
    let deliveries = match &subscription.audience {
        Audience::Group(group) => {
            let reads = reads(core, group, &topics).await?;
            join(core, Some(group.clone()), reads, &subscription).await?
        }
        Audience::Everyone => {
            let mut reads = Vec::new();
            for topic in topics.clone() {
                core.find_or_create(&topic, None).await?;
                reads.push((topic, Kind::Direct));
            }
            join(core, None, reads, &subscription).await?
        }
    };
    for topic in topics {
        core.forward(&topic);
    }
    Ok(deliveries)
}

/// The topics a group reads: those it subscribes to, and its retries.
async fn reads(
    core: &Arc<Core>,
    group: &GroupName,
    topics: &[TopicName],
) -> Result<Vec<(TopicName, Kind)>, Error> {
    let refused = |error| Error::Refused(format!("a topic of the group's own: {error}"));
    let mut reads = Vec::new();
    for topic in topics {
        let retries = detour::retry_topic(topic, group).map_err(refused)?;
        dead_letter::topic(topic, group).map_err(refused)?;
        scheduled(topic)?;
        core.find_or_create(topic, None).await?;
        core.find_or_create(&retries, Some(topic)).await?;
        reads.push((topic.clone(), Kind::Direct));
        reads.push((retries, Kind::Retry(topic.clone())));
    }
    Ok(reads)
}

async fn join(
    core: &Arc<Core>,
    group: Option<GroupName>,
    reads: Vec<(TopicName, Kind)>,
    subscription: &Subscription,
) -> Result<EmbeddedDeliveries, Error> {
    core.check_open()?;
    let metadata_bytes_max = core.broker.options().offset_metadata_bytes_max;
    let state = State::new(
        group.clone(),
        subscription.in_flight_max,
        metadata_bytes_max,
    );
    let shared = Arc::new(Shared {
        core: Arc::clone(core),
        state: Mutex::new(state),
        news: Notify::new(),
        work: Notify::new(),
        ended: watch::Sender::new(None),
    });
    let reading = Reading {
        reads,
        is_latest: subscription.start == Start::Latest,
    };
    let mut worker = worker::Worker::new(Arc::clone(&shared), group, reading);
    worker.begin().await?;
    core.handle.spawn(worker.run());
    let mut subscriptions = lock(&core.subscriptions);
    subscriptions.retain(|known| known.strong_count() > 0);
    subscriptions.push(Arc::downgrade(&shared));
    drop(subscriptions);
    Ok(EmbeddedDeliveries {
        settle: Arc::clone(&shared) as Arc<dyn Settle>,
        shared,
    })
}

/// Publishes a topic's scheduled messages when they are due, until the transport is shut down. One that
/// its topic will never take is set aside as a dead letter, so that those behind it go on.
pub(super) async fn forward(core: Arc<Core>, topic: TopicName) {
    let mut refused = Vec::new();
    while core.check_open().is_ok() {
        if let Err(error) = forward_until_it_fails(&core, &topic, &mut refused).await
            && error != Error::Closed
        {
            tracing::warn!(%topic, %error, "the scheduled messages are not forwarded; trying again");
            sleep(FORWARD_AGAIN).await;
        }
    }
}

/// `refused` are those which their topic refused for good when they were last tried: they are delivered
/// again after a failure, and are known by what they are, as a scheduled message has no position yet.
async fn forward_until_it_fails(
    core: &Arc<Core>,
    topic: &TopicName,
    refused: &mut Vec<(Message, Error)>,
) -> Result<(), Error> {
    let group = GroupName::new(detour::SCHEDULER_GROUP).expect("a constant that is valid");
    let reads = vec![(scheduled(topic)?, Kind::Scheduled(topic.clone()))];
    let subscription = Subscription::group(group.clone(), Vec::new());
    let mut deliveries = join(core, Some(group), reads, &subscription).await?;
    loop {
        let mut forwarded = Vec::new();
        for mut delivery in deliveries.next(FORWARDED_MAX).await? {
            let known = refused.iter().position(|(it, _)| *it == delivery.message);
            if let Some(at) = known {
                let (_, error) = refused.swap_remove(at);
                delivery.reject(detour::refused(&error, core.now()));
                continue;
            }
            let message = std::mem::take(&mut delivery.message);
            forwarded.push(async {
                let outputs = vec![(topic.clone(), message.clone())];
                let outcome = delivery.accept_with(outputs).await;
                outcome.map_err(|error| (message, error))
            });
        }
        let outcomes = futures_util::future::join_all(forwarded).await;
        let failed: Vec<_> = outcomes.into_iter().filter_map(Result::err).collect();
        let Some((_, first)) = failed.first() else {
            continue;
        };
        let first = first.clone();
        refused.clear();
        refused.extend(
            failed
                .into_iter()
                .filter(|(_, error)| detour::is_final(error)),
        );
        return Err(first);
    }
}

impl Shared {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Waits until the worker has ended.
    async fn ended(&self) -> Result<(), Error> {
        let mut ended = self.ended.subscribe();
        match ended.wait_for(Option::is_some).await {
            Ok(outcome) => outcome.clone().unwrap_or(Ok(())),
            Err(_gone) => Ok(()),
        }
    }

    fn enter(&self, phase: Phase) {
        let mut state = self.state();
        if state.phase == Phase::Running {
            state.phase = phase;
        }
        drop(state);
        self.work.notify_one();
        self.news.notify_one();
    }

    /// Ends the subscription after what was settled is carried out.
    pub(super) async fn shut_down(&self) -> Result<(), Error> {
        self.enter(Phase::Closing);
        self.ended().await
    }

    fn wake(&self, (next, worker): (bool, bool)) {
        if next {
            self.news.notify_one();
        }
        if worker {
            self.work.notify_one();
        }
    }
}

impl Settle for Shared {
    fn settle(&self, token: Token, settlement: Settlement) {
        let now = self.core.now();
        let woken = self.state().settle(token, settlement, now);
        self.wake(woken);
    }

    fn accept_with(
        &self,
        token: Token,
        outputs: Vec<(TopicName, Message)>,
    ) -> BoxFuture<'_, Result<(), Error>> {
        let outputs = outputs.into_iter();
        let outputs = outputs.map(|(topic, message)| self.core.output(topic, message));
        match outputs.collect() {
            Ok(outputs) => {
                let (sender, receiver) = oneshot::channel();
                self.state()
                    .accept_with(token, outputs, Purpose::Accept(sender));
                self.work.notify_one();
                Box::pin(async move { receiver.await.unwrap_or(Err(Error::Closed)) })
            }
            Err(error) => {
                self.settle(token, Settlement::Release);
                Box::pin(std::future::ready(Err(error)))
            }
        }
    }
}

impl EmbeddedDeliveries {
    fn delivery(&self, taken: Taken) -> Delivery {
        let Taken {
            token,
            topic,
            position,
            message,
            attempt,
        } = taken;
        let settle = Arc::clone(&self.settle);
        Delivery::new(topic, position, message, attempt, settle, token)
    }

    async fn next_deliveries(&mut self, max: usize) -> Result<Vec<Delivery>, Error> {
        loop {
            let shared = &self.shared;
            let (plan, pause) = {
                let now = shared.core.now();
                let mut state = shared.state();
                if state.phase != Phase::Running {
                    return Err(Error::Closed);
                }
                if let Some(outage) = state.outage.take() {
                    return Err(outage);
                }
                let plan = match state.has_room() {
                    true => {
                        let taken = state.take(max, now);
                        // Unreadable records become settlements.
                        if state.has_work {
                            shared.work.notify_one();
                        }
                        if !taken.is_empty() {
                            drop(state);
                            return Ok(taken.into_iter().map(|one| self.delivery(one)).collect());
                        }
                        state.to_fetch()
                    }
                    false => Vec::new(),
                };
                let due = state.next_due().map(|due| due.since(now));
                let patience = state.patience();
                (plan, due.map_or(patience, |due| due.min(patience)))
            };
            tokio::select! {
                () = shared.news.notified() => {}
                () = shared.fetch(plan, pause) => {}
                () = sleep(pause) => {}
            }
        }
    }
}

impl Deliveries for EmbeddedDeliveries {
    fn next(&mut self, max: usize) -> BoxFuture<'_, Result<Vec<Delivery>, Error>> {
        Box::pin(self.next_deliveries(max))
    }

    fn close(self: Box<Self>) -> BoxFuture<'static, Result<(), Error>> {
        let shared = Arc::clone(&self.shared);
        shared.enter(Phase::Closing);
        Box::pin(async move { shared.ended().await })
    }
}

impl Drop for EmbeddedDeliveries {
    fn drop(&mut self) {
        self.shared.enter(Phase::Dropped);
    }
}
