//! The desk between a subscription's task and the service: deliveries wait here until they are asked
//! for, and are remembered until they are settled.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, ready};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::AbortHandle;
use wharf_message::transport::{
    Capability, Deliveries, Delivery, Error, Position, Settle, Settlement, Token,
};
use wharf_message::{Message, TopicName};

/// A message that came from the broker; `R` is what it is settled by there.
#[derive(Debug)]
pub(crate) struct Arrival<R> {
    pub(crate) topic: TopicName,
    pub(crate) position: Option<Position>,
    pub(crate) message: Message,
    pub(crate) attempt: u32,
    pub(crate) receipt: R,
}

/// A delivery that the service has settled. While this lives it counts as in flight.
#[derive(Debug)]
pub(crate) struct Settled<R> {
    pub(crate) topic: TopicName,
    pub(crate) position: Option<Position>,
    pub(crate) attempt: u32,
    pub(crate) receipt: R,
    settlement: Settlement,
    _slot: Slot,
}

impl<R> Settled<R> {
    /// How it is settled; asked for once.
    pub(crate) fn take_settlement(&mut self) -> Settlement {
        std::mem::replace(&mut self.settlement, Settlement::Release)
    }

    /// Carries it out with its receipt; until that has ended it counts as in flight.
    #[cfg(feature = "nats")]
    pub(crate) async fn carry_out<F: Future<Output = ()>>(self, how: impl FnOnce(R) -> F) {
        let _slot = self._slot;
        how(self.receipt).await;
    }
}

/// The shared part.
#[derive(Debug)]
pub(crate) struct Desk<R> {
    state: Mutex<State<R>>,
    count: Arc<Count>,
    settled: mpsc::UnboundedSender<Settled<R>>,
    /// How many the service has asked for, whenever it waits for them.
    asked: watch::Sender<usize>,
    transport: &'static str,
}

#[derive(Debug)]
struct State<R> {
    waiting: VecDeque<Arrival<R>>,
    held: HashMap<Token, Held<R>>,
    token: Token,
    outage: Option<String>,
    is_closed: bool,
}

#[derive(Debug)]
struct Held<R> {
    topic: TopicName,
    position: Option<Position>,
    attempt: u32,
    receipt: R,
    slot: Slot,
}

/// How many are in flight, and the call for whoever waits for a change.
#[derive(Debug)]
struct Count {
    in_flight: Mutex<usize>,
    in_flight_max: usize,
    changed: Notify,
}

/// One delivery in flight.
#[derive(Debug)]
struct Slot(Arc<Count>);

impl Count {
    fn lock(&self) -> MutexGuard<'_, usize> {
        self.in_flight
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn room(&self) -> usize {
        self.in_flight_max.saturating_sub(*self.lock())
    }

    fn take(self: &Arc<Self>) -> Option<Slot> {
        let mut in_flight = self.lock();
        (*in_flight < self.in_flight_max).then(|| {
            *in_flight += 1;
            Slot(Arc::clone(self))
        })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        *self.0.lock() -= 1;
        self.0.changed.notify_one();
    }
}

impl<R: Send + 'static> Desk<R> {
    fn lock(&self) -> MutexGuard<'_, State<R>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts down what came. The broker sends no more than it was allowed to, which bounds this.
    pub(crate) fn arrive(&self, arrival: Arrival<R>) {
        self.lock().waiting.push_back(arrival);
        self.count.changed.notify_one();
    }

    /// Tells how many the service waits for, each time it begins to. A task that fetches no more than
    /// that gives nothing back at the end that was not handled.
    #[cfg(feature = "nats")]
    pub(crate) fn asks(&self) -> watch::Receiver<usize> {
        self.asked.subscribe()
    }

    /// Takes back what was not handed out yet.
    pub(crate) fn take_waiting(&self) -> VecDeque<Arrival<R>> {
        std::mem::take(&mut self.lock().waiting)
    }

    /// Tells of an outage, once.
    pub(crate) fn outage(&self, why: String) {
        self.lock().outage = Some(why);
        self.count.changed.notify_one();
    }

    /// From now on everything is over.
    pub(crate) fn close(&self) {
        self.lock().is_closed = true;
        self.count.changed.notify_one();
    }

    /// What there is to hand out now; none while there is nothing or too much is in flight.
    fn poll(self: &Arc<Self>, max: usize) -> Result<Vec<Delivery>, Error> {
        let mut state = self.lock();
        if state.is_closed {
            return Err(Error::Closed);
        }
        if let Some(why) = state.outage.take() {
            return Err(Error::Unavailable(why));
        }
        let mut deliveries = Vec::new();
        while deliveries.len() < max && !state.waiting.is_empty() {
            let Some(slot) = self.count.take() else { break };
            let Some(arrival) = state.waiting.pop_front() else {
                break;
            };
            deliveries.push(self.hand_out(&mut state, arrival, slot));
        }
        Ok(deliveries)
    }

    fn hand_out(
        self: &Arc<Self>,
        state: &mut State<R>,
        arrival: Arrival<R>,
        slot: Slot,
    ) -> Delivery {
        let Arrival {
            topic,
            position,
            message,
            attempt,
            receipt,
        } = arrival;
        state.token += 1;
        let token = state.token;
        let held = Held {
            topic: topic.clone(),
            position,
            attempt,
            receipt,
            slot,
        };
        state.held.insert(token, held);
        let settle: Arc<dyn Settle> = Arc::<Self>::clone(self);
        Delivery::new(topic, position, message, attempt, settle, token)
    }
}

impl<R: Send + 'static> Settle for Desk<R> {
    fn settle(&self, token: Token, settlement: Settlement) {
        let Some(held) = self.lock().held.remove(&token) else {
            return;
        };
        let settled = Settled {
            topic: held.topic,
            position: held.position,
            attempt: held.attempt,
            receipt: held.receipt,
            settlement,
            _slot: held.slot,
        };
        // Without the task the subscription is over, and the broker delivers it again.
        self.settled.send(settled).ok();
    }

    fn accept_with(
        &self,
        token: Token,
        _outputs: Vec<(TopicName, Message)>,
    ) -> BoxFuture<'_, Result<(), Error>> {
        self.settle(token, Settlement::Release);
        let error = Error::Unsupported {
            transport: self.transport,
            capability: Capability::AtomicOutputs,
            hint: ": publish the outputs first and accept then".to_owned(),
        };
        ready(Err(error)).boxed()
    }
}

/// The task's end.
#[derive(Debug)]
pub(crate) struct Driver<R> {
    pub(crate) desk: Arc<Desk<R>>,
    /// What the service has settled.
    pub(crate) settled: mpsc::UnboundedReceiver<Settled<R>>,
    /// Resolves when the subscription is to end, with whom to tell; an error when it was dropped.
    pub(crate) close: oneshot::Receiver<Answer>,
}

/// Whoever waits for the end.
pub(crate) type Answer = oneshot::Sender<Result<(), Error>>;

/// The service's end.
#[derive(Debug)]
pub(crate) struct Subscriber<R> {
    desk: Arc<Desk<R>>,
    close: Option<oneshot::Sender<Answer>>,
    task: Option<AbortHandle>,
}

impl<R: Send + 'static> Subscriber<R> {
    /// A desk's two ends.
    pub(crate) fn new(transport: &'static str, in_flight_max: usize) -> (Self, Driver<R>) {
        let (sender, settled) = mpsc::unbounded_channel();
        let (close, closing) = oneshot::channel();
        let count = Count {
            in_flight: Mutex::new(0),
            in_flight_max: in_flight_max.max(1),
            changed: Notify::new(),
        };
        let desk = Arc::new(Desk {
            state: Mutex::new(State {
                waiting: VecDeque::new(),
                held: HashMap::new(),
                token: 0,
                outage: None,
                is_closed: false,
            }),
            count: Arc::new(count),
            settled: sender,
            asked: watch::Sender::new(0),
            transport,
        });
        let subscriber = Self {
            desk: Arc::clone(&desk),
            close: Some(close),
            task: None,
        };
        let driver = Driver {
            desk,
            settled,
            close: closing,
        };
        (subscriber, driver)
    }

    /// The same with the task that ends when this is dropped.
    pub(crate) fn with_task(mut self, task: AbortHandle) -> Self {
        self.task = Some(task);
        self
    }
}

impl<R: Send + 'static> Deliveries for Subscriber<R> {
    fn next(&mut self, max: usize) -> BoxFuture<'_, Result<Vec<Delivery>, Error>> {
        let desk = &self.desk;
        async move {
            loop {
                let deliveries = desk.poll(max.max(1))?;
                if !deliveries.is_empty() {
                    return Ok(deliveries);
                }
                let asked = max.max(1).min(desk.count.room());
                if asked > 0 {
                    desk.asked.send_replace(asked);
                }
                // A change after the look above has left its mark here already.
                desk.count.changed.notified().await;
            }
        }
        .boxed()
    }

    fn close(mut self: Box<Self>) -> BoxFuture<'static, Result<(), Error>> {
        let (answer, closed) = oneshot::channel();
        let asked = self.close.take().map(|close| close.send(answer));
        async move {
            let ended = match asked {
                Some(Ok(())) => closed.await.unwrap_or(Err(Error::Closed)),
                // The task is over: the transport was shut down.
                _ => Ok(()),
            };
            drop(self);
            ended
        }
        .boxed()
    }
}

impl<R> Drop for Subscriber<R> {
    fn drop(&mut self) {
        {
            // What is settled from now on comes too late. Carrying out some of it before the task has
            // ended would bring the others back after it, out of order.
            let state = self.desk.state.lock();
            let mut state = state.unwrap_or_else(PoisonError::into_inner);
            state.held.clear();
            state.waiting.clear();
        }
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrival(receipt: u32) -> Arrival<u32> {
        Arrival {
            topic: TopicName::new("t").expect("valid"),
            position: None,
            message: Message::new("p"),
            attempt: 1,
            receipt,
        }
    }

    #[tokio::test]
    async fn no_more_than_allowed_are_in_flight_until_a_settlement_was_carried_out() {
        let (mut near, mut far) = Subscriber::new("test", 2);
        for receipt in 0..3 {
            far.desk.arrive(arrival(receipt));
        }
        let mut first = near.next(10).await.expect("two");
        assert_eq!(first.len(), 2);
        assert!(near.next(10).now_or_never().is_none());
        first.remove(0).accept();
        // It was settled, but not carried out: it still counts.
        assert!(near.next(10).now_or_never().is_none());
        let settled = far.settled.recv().await.expect("the settlement");
        assert_eq!(
            (settled.receipt, &settled.settlement),
            (0, &Settlement::Accept)
        );
        drop(settled);
        let rest = near.next(10).await.expect("one");
        assert_eq!(rest.len(), 1);
        drop(rest);
        let released = far.settled.recv().await.expect("the settlement");
        assert_eq!(released.settlement, Settlement::Release);
    }

    #[tokio::test]
    async fn an_outage_is_told_once_and_an_end_for_ever() {
        let (mut near, far) = Subscriber::<u32>::new("test", 2);
        far.desk.outage("gone".to_owned());
        let told = near.next(1).await.map(|it| it.len());
        assert_eq!(told, Err(Error::Unavailable("gone".to_owned())));
        assert!(near.next(1).now_or_never().is_none());
        far.desk.close();
        for _ in 0..2 {
            assert_eq!(near.next(1).await.map(|it| it.len()), Err(Error::Closed));
        }
    }
}
