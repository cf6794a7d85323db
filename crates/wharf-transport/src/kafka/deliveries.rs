//! The reader's side of a subscription: deliveries out of what has come for it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::task::yield_now;
use wharf_message::transport::{Deliveries, Delivery, Error, Settle};

use super::now;
use super::outbox::lock;
use super::readings::{Reading, Readings};
use super::state::{ERRANDS_MAX, Ready, Shared, State};

/// A running subscription; its thread ends when this is dropped.
pub(super) struct Running(pub(super) Arc<Shared>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.current().abandoned = true;
        self.0.wake_reader();
    }
}

/// See the module.
pub(super) struct Subscribed {
    pub(super) running: Running,
    /// They publish the scheduled messages of the topics while somebody receives them.
    pub(super) forwarders: Vec<Arc<Running>>,
}

/// What there is at the moment.
enum Look {
    Found(Result<Vec<Delivery>, Error>),
    Nothing,
    /// There may be something, but there is no room for it.
    NoRoom,
}

impl Subscribed {
    /// Up to `max` deliveries: those whose time has come, and then new ones.
    fn look(&self, max: usize) -> Look {
        let shared = &self.running.0;
        let mut readings = lock(&shared.readings);
        let mut state = shared.current();
        if let Some(error) = state.failure.take() {
            return Look::Found(Err(error));
        }
        if let Some(error) = &state.ended {
            return Look::Found(Err(error.clone()));
        }
        let mut room = shared.in_flight_max.saturating_sub(state.out());
        let is_full = room == 0;
        room = room.min(max.max(1));
        let mut found = Vec::new();
        while found.len() < room
            && let Some(ready) = state.take_ready()
        {
            found.push(self.delivery(ready));
        }
        room -= found.len();
        let goes_on = state.full && !state.is_full();
        let may = may_read(&state, &readings);
        drop(state);
        if goes_on {
            shared.wake_reader();
        }
        if room > 0 && may.contains(&true) {
            self.read(&mut readings, room, &may, &mut found);
        }
        match found.is_empty() {
            false => Look::Found(Ok(found)),
            true if is_full || may.contains(&false) => Look::NoRoom,
            true => Look::Nothing,
        }
    }

    fn read(&self, readings: &mut Readings, room: usize, may: &[bool], found: &mut Vec<Delivery>) {
        let shared = &self.running.0;
        let count = readings.read(room, may, |error| shared.report(&error, ""));
        if count == 0 {
            return;
        }
        found.reserve(count);
        let mut state = shared.current();
        readings.deliver(&mut state, now(), |_, ready| {
            found.push(self.delivery(ready));
        });
        let has_errands = !state.pending.is_empty();
        drop(state);
        if has_errands {
            shared.wake_reader();
        }
    }

    fn delivery(&self, ready: Ready) -> Delivery {
        let Ready {
            topic,
            position,
            message,
            attempt,
            token,
            ..
        } = ready;
        let settle: Arc<dyn Settle> = Arc::clone(&self.running.0) as Arc<dyn Settle>;
        Delivery::new(topic, position, message, attempt, settle, token)
    }
}

/// Which partitions may be read.
fn may_read(state: &State, readings: &Readings) -> Vec<bool> {
    let has_room = state.errands() < ERRANDS_MAX;
    let may = |reading: &Reading| has_room && state.tracker.has_room(reading.slot);
    readings.iter().map(may).collect()
}

impl Deliveries for Subscribed {
    fn next(&mut self, max: usize) -> BoxFuture<'_, Result<Vec<Delivery>, Error>> {
        async move {
            let shared = &self.running.0;
            loop {
                // One who waits: a notice that comes between the look and the wait is kept.
                let mut look = self.look(max);
                let is_full = matches!(look, Look::NoRoom);
                if is_full {
                    // Said before the look: an acceptance is either seen or told.
                    shared.next_awaits.store(true, Ordering::Relaxed);
                    look = self.look(max);
                }
                if let Look::Found(result) = look {
                    shared.next_awaits.store(false, Ordering::Relaxed);
                    return result;
                }
                shared.arrived.notified().await;
                if is_full {
                    // One acceptance came; more of them are about to.
                    yield_now().await;
                }
            }
        }
        .boxed()
    }

    fn close(self: Box<Self>) -> BoxFuture<'static, Result<(), Error>> {
        async move {
            let Self {
                running,
                forwarders,
            } = *self;
            let result = running.0.close().await;
            drop(forwarders);
            result
        }
        .boxed()
    }
}
