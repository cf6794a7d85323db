//! A transport that breaks one promise and keeps all others.

use std::collections::BTreeMap;
use std::mem;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use wharf_message::transport::memory::MemoryTransport;
use wharf_message::transport::{
    Audience, Capabilities, Deliveries, Delivery, Error, Position, Publish, Settle, Settlement,
    Start, Subscribe, Subscription, Token, Transport,
};
use wharf_message::{GroupName, Message, TopicName, dead_letter, header};

/// Which promise is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    None,
    LosesRetries,
    CountsNoAttempts,
    ForgetsWhereRetriesCameFrom,
    RetriesAtOnce,
    RetriesForEveryGroup,
    ForgetsDeadLetters,
    AcceptsBeforeTheDeadLetter,
    DeadLettersLoseHeaders,
    BreaksTheOrderOfKeys,
    IgnoresTheLimit,
    GivesMoreThanAskedFor,
    IgnoresSchedules,
    ForgetsEmptyHeaders,
    ForgetsKeys,
    MakesTombstonesEmpty,
    RedeliversWhatWasAccepted,
    LosesWhatWasDropped,
    CommitsWhatItDelivers,
    CommitsWhatIsBefore,
    GivesEveryMemberEverything,
    MixesGroups,
    BeginsAtTheBeginning,
    SharesBroadcasts,
    PublishesWhenPolled,
    PublishesOutputsOneByOne,
    PublishesForOthers,
    TellsTwice,
    HidesItsLimit,
    PretendsAfterTheEnd,
}

static MEMBERS: AtomicU64 = AtomicU64::new(0);

pub(crate) struct Sabotaged {
    shared: Arc<Shared>,
}

struct Shared {
    memory: MemoryTransport,
    flaw: Flaw,
    again: AtomicBool,
}

impl Sabotaged {
    pub(crate) fn new(memory: MemoryTransport, flaw: Flaw) -> Self {
        let shared = Shared {
            memory,
            flaw,
            again: AtomicBool::new(true),
        };
        Self {
            shared: Arc::new(shared),
        }
    }
}

impl Publish for Sabotaged {
    fn capabilities(&self) -> Capabilities {
        self.shared.memory.capabilities()
    }

    fn create_topic(&self, topic: &TopicName, count: u32) -> BoxFuture<'_, Result<(), Error>> {
        self.shared.memory.create_topic(topic, count)
    }

    fn publish(
        &self,
        topic: &TopicName,
        mut message: Message,
    ) -> BoxFuture<'_, Result<Option<Position>, Error>> {
        match self.shared.flaw {
            Flaw::IgnoresSchedules => message.headers.remove(header::DELIVER_AT),
            Flaw::ForgetsKeys => message.key = None,
            Flaw::MakesTombstonesEmpty => message.payload = message.payload.or(Some(Bytes::new())),
            Flaw::ForgetsEmptyHeaders => {
                let entries = message.headers.into_entries().into_iter();
                let kept =
                    entries.filter(|(_, value)| value.as_ref().is_some_and(|v| !v.is_empty()));
                message.headers = kept.collect();
            }
            Flaw::PublishesWhenPolled => {
                let (memory, topic) = (&self.shared.memory, topic.clone());
                return Box::pin(async move { memory.publish(&topic, message).await });
            }
            _ => {}
        }
        let published = self.shared.memory.publish(topic, message);
        let flaw = self.shared.flaw;
        Box::pin(published.map(move |published| match published {
            Err(Error::TooLarge { .. }) if flaw == Flaw::HidesItsLimit => {
                Err(Error::Refused("no".to_owned()))
            }
            Err(Error::Closed) if flaw == Flaw::PretendsAfterTheEnd => Ok(None),
            other => other,
        }))
    }
}

impl Subscribe for Sabotaged {
    fn subscribe(
        &self,
        mut subscription: Subscription,
    ) -> BoxFuture<'_, Result<Box<dyn Deliveries>, Error>> {
        let number = MEMBERS.fetch_add(1, Ordering::Relaxed);
        let of_its_own = || GroupName::new(&format!("all-{number}")).unwrap();
        let the_same = || GroupName::new("the-same").unwrap();
        let letters_of = match &subscription.audience {
            Audience::Group(group) => Some(group.clone()),
            Audience::Everyone => None,
        };
        match (self.shared.flaw, &subscription.audience) {
            (Flaw::IgnoresTheLimit, _) => subscription.in_flight_max = 1_000,
            (Flaw::GivesEveryMemberEverything, _) => {
                subscription.audience = Audience::Group(of_its_own());
            }
            (Flaw::MixesGroups, _) | (Flaw::SharesBroadcasts, Audience::Everyone) => {
                subscription.audience = Audience::Group(the_same());
            }
            (Flaw::BeginsAtTheBeginning, _) => subscription.start = Start::Earliest,
            _ => {}
        }
        let shared = Arc::clone(&self.shared);
        Box::pin(async move {
            let inner = shared.memory.subscribe(subscription).await?;
            let life = Arc::new(Life {
                shared,
                group: letters_of,
                held: Mutex::default(),
                late: Mutex::default(),
            });
            let told = None;
            let inner = Some(inner);
            Ok(Box::new(Member { inner, life, told }) as Box<dyn Deliveries>)
        })
    }
}

impl Transport for Sabotaged {
    fn name(&self) -> &'static str {
        "memory"
    }

    fn shutdown(&self) -> BoxFuture<'_, Result<(), Error>> {
        self.shared.memory.shutdown()
    }
}

struct Member {
    inner: Option<Box<dyn Deliveries>>,
    life: Arc<Life>,
    told: Option<Error>,
}

/// What one subscription has handed out.
struct Life {
    shared: Arc<Shared>,
    group: Option<GroupName>,
    held: Mutex<(Token, BTreeMap<Token, Delivery>)>,
    /// Dead letters that are published some time later.
    late: Mutex<Vec<(TopicName, Message)>>,
}

impl Member {
    async fn take(&mut self, max: usize) -> Result<Vec<Delivery>, Error> {
        let flaw = self.life.shared.flaw;
        let late = mem::take(&mut *self.life.late.lock().unwrap());
        for (topic, letter) in late {
            self.life.shared.memory.publish(&topic, letter).await?;
        }
        if flaw == Flaw::TellsTwice
            && let Some(error) = self.told.take()
        {
            return Err(error);
        }
        let inner = self.inner.as_mut().expect("open until it is closed");
        let more = usize::from(flaw == Flaw::GivesMoreThanAskedFor);
        let taken = inner.next(max + more).await;
        self.told = taken.as_ref().err().cloned();
        let mut taken = taken?;
        if flaw == Flaw::BreaksTheOrderOfKeys {
            taken.reverse();
        }
        if flaw == Flaw::CommitsWhatItDelivers {
            let settled = taken.iter_mut().map(|delivery| {
                let mut copy = self.life.stand_in(delivery);
                copy.message = mem::take(&mut delivery.message);
                copy
            });
            let copies = settled.collect();
            taken.into_iter().for_each(Delivery::accept);
            return Ok(copies);
        }
        Ok(taken.into_iter().map(|one| self.life.hold(one)).collect())
    }
}

impl Deliveries for Member {
    fn next(&mut self, max: usize) -> BoxFuture<'_, Result<Vec<Delivery>, Error>> {
        Box::pin(self.take(max))
    }

    fn close(mut self: Box<Self>) -> BoxFuture<'static, Result<(), Error>> {
        self.inner.take().expect("closed once").close()
    }
}

impl Life {
    /// A delivery that is settled by this, as `delivery` is, without its message.
    fn stand_in(self: &Arc<Self>, delivery: &Delivery) -> Delivery {
        let flaw = self.shared.flaw;
        let is_retry = delivery.attempt > 1;
        let position = match flaw {
            Flaw::ForgetsWhereRetriesCameFrom if is_retry => None,
            _ => delivery.position,
        };
        let attempt = match flaw {
            Flaw::CountsNoAttempts => 1,
            _ => delivery.attempt,
        };
        let mut held = self.held.lock().unwrap();
        held.0 += 1;
        let (topic, settle) = (delivery.topic.clone(), Arc::clone(self) as Arc<dyn Settle>);
        Delivery::new(topic, position, Message::default(), attempt, settle, held.0)
    }

    fn hold(self: &Arc<Self>, mut delivery: Delivery) -> Delivery {
        let mut copy = self.stand_in(&delivery);
        copy.message = mem::take(&mut delivery.message);
        let mut held = self.held.lock().unwrap();
        let token = held.0;
        held.1.insert(token, delivery);
        copy
    }

    fn retry(&self, delivery: Delivery, after: Duration) {
        match self.shared.flaw {
            Flaw::LosesRetries => delivery.accept(),
            Flaw::RetriesAtOnce => delivery.retry(Duration::ZERO),
            Flaw::RetriesForEveryGroup => {
                let (topic, message) = (delivery.topic.clone(), delivery.message.clone());
                drop(self.shared.memory.publish(&topic, message));
                delivery.retry(after);
            }
            _ => delivery.retry(after),
        }
    }

    fn reject(&self, mut delivery: Delivery, failure: dead_letter::Failure) {
        match self.shared.flaw {
            Flaw::ForgetsDeadLetters => delivery.accept(),
            Flaw::AcceptsBeforeTheDeadLetter => {
                let group = self.group.as_ref().expect("of a group");
                let letters = dead_letter::topic(&delivery.topic, group).unwrap();
                let message = delivery.message.clone();
                let topic = &delivery.topic;
                let letter =
                    dead_letter::dead_letter(message, topic, delivery.position, group, &failure);
                self.late.lock().unwrap().push((letters, letter));
                delivery.accept();
            }
            Flaw::DeadLettersLoseHeaders => {
                delivery.message.headers.remove("unicode");
                delivery.reject(failure);
            }
            _ => delivery.reject(failure),
        }
    }

    /// The true delivery of a token, with its message back.
    fn release(&self, token: Token) -> Option<Delivery> {
        self.held.lock().unwrap().1.remove(&token)
    }

    fn accept(&self, token: Token, delivery: Delivery) {
        let is_redelivering = self.shared.flaw == Flaw::RedeliversWhatWasAccepted;
        if is_redelivering && self.shared.again.swap(false, Ordering::Relaxed) {
            return;
        }
        delivery.accept();
        if self.shared.flaw == Flaw::CommitsWhatIsBefore {
            let held = &mut self.held.lock().unwrap().1;
            let later = held.split_off(&token);
            mem::replace(held, later)
                .into_values()
                .for_each(Delivery::accept);
        }
    }
}

impl Settle for Life {
    fn settle(&self, token: Token, settlement: Settlement) {
        let Some(mut delivery) = self.release(token) else {
            return;
        };
        match settlement {
            Settlement::Retry { message, after } => {
                delivery.message = message;
                self.retry(delivery, after);
            }
            Settlement::Reject { message, failure } => {
                delivery.message = message;
                self.reject(delivery, *failure);
            }
            Settlement::Release if self.shared.flaw == Flaw::LosesWhatWasDropped => {
                delivery.accept();
            }
            Settlement::Release => drop(delivery),
            _ => self.accept(token, delivery),
        }
    }

    fn accept_with(
        &self,
        token: Token,
        outputs: Vec<(TopicName, Message)>,
    ) -> BoxFuture<'_, Result<(), Error>> {
        let Some(delivery) = self.release(token) else {
            return Box::pin(ready(Err(Error::Closed)));
        };
        let memory = &self.shared.memory;
        let one_by_one = Flaw::PublishesOutputsOneByOne;
        if ![one_by_one, Flaw::PublishesForOthers].contains(&self.shared.flaw) {
            return Box::pin(delivery.accept_with(outputs));
        }
        Box::pin(async move {
            if self.shared.flaw == Flaw::PublishesForOthers {
                for (topic, message) in &outputs {
                    // Nobody looks whether the delivery is still its own.
                    drop(memory.publish(topic, message.clone()).await);
                }
                return delivery.accept_with(Vec::new()).await;
            }
            for (topic, message) in outputs {
                memory.publish(&topic, message).await?;
            }
            delivery.accept();
            Ok(())
        })
    }
}
