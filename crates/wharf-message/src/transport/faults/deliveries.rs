//! A subscription with faults: it holds the true deliveries, hands out its own, and carries out
//! their settlements unless the plan says that they are lost.

use std::collections::{HashMap, VecDeque};
use std::mem;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};

use super::plan::{self, End, Loss};
use super::{Shared, lost};
use crate::transport::{Deliveries, Delivery, Error, Settle, Settlement, Subscription, Token};
use crate::{Message, TopicName};

/// How many messages change places with each other at most.
const WINDOW: usize = 16;

pub(super) struct FaultyDeliveries {
    shared: Arc<Shared>,
    subscription: Subscription,
    /// `None` after a crash, until it has begun again.
    inner: Option<Box<dyn Deliveries>>,
    /// The new beginning, kept here so that a dropped call does not break it off.
    beginning: Option<BoxFuture<'static, Result<Box<dyn Deliveries>, Error>>>,
    life: Arc<Life>,
    /// Received and not yet handed out.
    waiting: VecDeque<Delivery>,
    /// What was met while there were deliveries to hand out.
    error: Option<Error>,
}

/// One life of the consumer, from its subscription to its crash.
struct Life {
    shared: Arc<Shared>,
    held: Mutex<Held>,
    crashed: AtomicBool,
}

/// The true deliveries whose stand-ins are with the consumer. Their messages are with those.
#[derive(Default)]
struct Held {
    next: Token,
    deliveries: HashMap<Token, (Delivery, u64)>,
}

impl FaultyDeliveries {
    pub(super) fn new(
        shared: Arc<Shared>,
        subscription: Subscription,
        inner: Box<dyn Deliveries>,
    ) -> Self {
        Self {
            life: Life::begin(&shared),
            shared,
            subscription,
            inner: Some(inner),
            beginning: None,
            waiting: VecDeque::new(),
            error: None,
        }
    }

    /// As a process that dies: nothing is closed, nothing that it holds is settled.
    fn crash(&mut self) {
        self.inner = None;
        self.waiting.clear();
        self.error = None;
        self.life = Life::begin(&self.shared);
    }

    async fn begin_again(&mut self) -> Result<Box<dyn Deliveries>, Error> {
        let beginning = self.beginning.get_or_insert_with(|| {
            let (shared, subscription) = (Arc::clone(&self.shared), self.subscription.clone());
            Box::pin(async move { shared.inner.subscribe(subscription).await })
        });
        let begun = beginning.await;
        self.beginning = None;
        begun
    }

    async fn deliver(&mut self, max: usize) -> Result<Vec<Delivery>, Error> {
        if self.life.crashed.load(Ordering::Relaxed) {
            self.crash();
        }
        if self.waiting.is_empty() {
            if let Some(error) = self.error.take() {
                return Err(error);
            }
            if self.inner.is_none() {
                let inner = self.begin_again().await?;
                self.inner = Some(inner);
            }
            let inner = self.inner.as_mut().ok_or(Error::Closed)?;
            self.waiting.extend(inner.next(max).await?);
        }
        self.reorder();
        let count = self.waiting.len().min(max.max(1));
        let (count, end) = self.shared.plan.deliver(count);
        let life = &self.life;
        let handed = self
            .waiting
            .drain(..count)
            .map(|true_one| life.hold(true_one));
        let handed: Vec<Delivery> = handed.collect();
        if let Some(end) = end {
            self.crash();
            self.error = (end == End::Outage).then(lost);
        }
        Ok(handed)
    }

    /// Takes what else is there, and shuffles it so that each key keeps its order.
    fn reorder(&mut self) {
        let Some(seed) = self.shared.plan.faults.reorder else {
            return;
        };
        while let Some(inner) = &mut self.inner
            && self.waiting.len() < WINDOW
            && let Some(more) = inner.next(WINDOW - self.waiting.len()).now_or_never()
        {
            match more {
                Ok(more) => self.waiting.extend(more),
                Err(error) => {
                    self.error = Some(error);
                    break;
                }
            }
        }
        let mut left = mem::take(&mut self.waiting);
        for step in 0.. {
            let Some(random) = plan::hash(&(seed, step)).checked_rem(left.len() as u64) else {
                break;
            };
            let chosen = usize::try_from(random).unwrap_or_default();
            let lane = |delivery: &Delivery| (delivery.topic.clone(), delivery.message.key.clone());
            let is_keyed = left[chosen].message.key.is_some();
            let of_chosen = lane(&left[chosen]);
            let first = left
                .iter()
                .position(|one| is_keyed && lane(one) == of_chosen);
            self.waiting.extend(left.remove(first.unwrap_or(chosen)));
        }
    }
}

impl Deliveries for FaultyDeliveries {
    fn next(&mut self, max: usize) -> BoxFuture<'_, Result<Vec<Delivery>, Error>> {
        Box::pin(self.deliver(max))
    }

    fn close(mut self: Box<Self>) -> BoxFuture<'static, Result<(), Error>> {
        self.waiting.clear();
        match self.inner.take() {
            Some(inner) => inner.close(),
            None => Box::pin(ready(Ok(()))),
        }
    }
}

impl Life {
    fn begin(shared: &Arc<Shared>) -> Arc<Self> {
        Arc::new(Self {
            shared: Arc::clone(shared),
            held: Mutex::new(Held::default()),
            crashed: AtomicBool::new(false),
        })
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        // Nothing under this lock panics half-way.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps the true delivery; the stand-in has its message.
    fn hold(self: &Arc<Self>, mut delivery: Delivery) -> Delivery {
        let identity = plan::identity(&delivery);
        let message = mem::take(&mut delivery.message);
        let (topic, position) = (delivery.topic.clone(), delivery.position);
        let attempt = delivery.attempt;
        let mut held = self.held();
        let token = held.next;
        held.next += 1;
        held.deliveries.insert(token, (delivery, identity));
        drop(held);
        let settle = Arc::clone(self) as Arc<dyn Settle>;
        Delivery::new(topic, position, message, attempt, settle, token)
    }

    fn release(&self, token: Token) -> Option<(Delivery, u64)> {
        self.held().deliveries.remove(&token)
    }

    fn settled(&self) {
        if self.shared.plan.settle() {
            self.crashed.store(true, Ordering::Relaxed);
        }
    }
}

impl Settle for Life {
    fn settle(&self, token: Token, settlement: Settlement) {
        let Some((mut delivery, identity)) = self.release(token) else {
            return;
        };
        match settlement {
            Settlement::Accept if self.shared.plan.accept(identity) => drop(delivery),
            Settlement::Accept => delivery.accept(),
            Settlement::Retry { message, after } => {
                delivery.message = message;
                delivery.retry(after);
            }
            Settlement::Reject { message, failure } => {
                delivery.message = message;
                delivery.reject(*failure);
            }
            Settlement::Release => return drop(delivery),
        }
        self.settled();
    }

    fn accept_with(
        &self,
        token: Token,
        outputs: Vec<(TopicName, Message)>,
    ) -> BoxFuture<'_, Result<(), Error>> {
        let Some((delivery, _)) = self.release(token) else {
            return Box::pin(ready(Err(Error::Closed)));
        };
        let loss = self.shared.plan.publish();
        if loss == Some(Loss::BeforeItHappened) {
            return Box::pin(ready(Err(lost())));
        }
        Box::pin(async move {
            delivery.accept_with(outputs).await?;
            self.settled();
            match loss {
                Some(_) => Err(lost()),
                None => Ok(()),
            }
        })
    }
}
