//! The transport in memory as a fixture of the conformance suite, and an executor on which time
//! passes only when nothing else can happen: the whole suite takes no time, and is the same in
//! every run.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use futures_util::future::{BoxFuture, ready};
use wharf_message::Timestamp;
use wharf_message::transport::conformance::Fixture;
use wharf_message::transport::memory::MemoryTransport;
use wharf_message::transport::{Capabilities, Transport};

/// More waiting without time passing is a case that will never end.
const BUSY_MAX: u64 = 100_000;

/// Makes what a case gets as a client, out of a client of the broker.
type Wrap = Box<dyn Fn(MemoryTransport) -> Arc<dyn Transport> + Send + Sync>;

/// A broker in memory and its time.
pub(crate) struct Simulated {
    pub(crate) broker: MemoryTransport,
    bytes_max: usize,
    wrap: Wrap,
    sleeping: Arc<Mutex<Sleeping>>,
}

#[derive(Default)]
struct Sleeping {
    ids: u64,
    /// How many began to sleep since time passed.
    begun: u64,
    until: BTreeMap<(Timestamp, u64), Option<Waker>>,
}

impl Simulated {
    pub(crate) fn new(
        wrap: impl Fn(MemoryTransport) -> Arc<dyn Transport> + Send + Sync + 'static,
    ) -> Self {
        let bytes_max = 2 << 20;
        let start = Timestamp::from_millis(1_800_000_000_000);
        Self {
            broker: MemoryTransport::new(start).with_bytes_max(bytes_max),
            bytes_max,
            wrap: Box::new(wrap),
            sleeping: Arc::default(),
        }
    }

    /// The same broker with these capabilities only.
    pub(crate) fn with_capabilities(mut self, capabilities: Capabilities) -> Self {
        self.broker = self.broker.with_capabilities(capabilities);
        self
    }

    /// Runs a future to its end; time passes when it can do nothing else.
    pub(crate) fn run<F: Future>(&self, future: F) -> F::Output {
        let woken = Arc::new(Woken(AtomicBool::new(true)));
        let waker = Waker::from(Arc::clone(&woken));
        let mut future = pin!(future);
        loop {
            while woken.0.swap(false, Ordering::SeqCst) {
                if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker))
                {
                    return output;
                }
            }
            self.next_moment();
        }
    }

    fn next_moment(&self) {
        let sleeper = self.sleeping.lock().unwrap().until.keys().next().copied();
        let due = [sleeper.map(|(until, _)| until), self.broker.next_due()];
        let next = due.into_iter().flatten().min();
        self.broker
            .advance_to(next.expect("somebody waits with a deadline"));
        let mut sleeping = self.sleeping.lock().unwrap();
        sleeping.begun = 0;
        for ((until, _), waker) in &mut sleeping.until {
            if *until <= self.broker.now() {
                waker.take().into_iter().for_each(Waker::wake);
            }
        }
    }
}

struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// One who sleeps; gone when dropped.
struct Sleep {
    key: (Timestamp, u64),
    sleeping: Arc<Mutex<Sleeping>>,
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.sleeping.lock().unwrap().until.remove(&self.key);
    }
}

impl Fixture for Simulated {
    fn name(&self) -> &str {
        "memory"
    }

    fn title(&self) -> String {
        "Memory (tests)".to_owned()
    }

    fn connect(&self) -> BoxFuture<'_, Arc<dyn Transport>> {
        Box::pin(ready((self.wrap)(self.broker.client())))
    }

    fn now(&self) -> Timestamp {
        self.broker.now()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        let until = self.broker.now().after(duration);
        let clock = self.broker.client();
        let mut sleeping = self.sleeping.lock().unwrap();
        sleeping.ids += 1;
        sleeping.begun += 1;
        let is_busy = sleeping.begun == BUSY_MAX;
        sleeping.begun %= BUSY_MAX;
        let key = (until, sleeping.ids);
        sleeping.until.insert(key, None);
        drop(sleeping);
        assert!(!is_busy, "busy for ever, without waiting for anything");
        let sleeping = Arc::clone(&self.sleeping);
        let sleep = Sleep { key, sleeping };
        Box::pin(poll_fn(move |cx| {
            if clock.now() >= until {
                return Poll::Ready(());
            }
            let mut sleeping = sleep.sleeping.lock().unwrap();
            sleeping.until.insert(sleep.key, Some(cx.waker().clone()));
            Poll::Pending
        }))
    }

    fn bytes_max(&self) -> Option<usize> {
        Some(self.bytes_max)
    }

    fn many(&self) -> usize {
        800
    }

    /// Cases do not share the broker's time.
    fn concurrency(&self) -> usize {
        1
    }

    fn restart_broker(&self) -> BoxFuture<'_, Result<(), &'static str>> {
        self.broker.cut();
        self.broker.heal();
        Box::pin(ready(Ok(())))
    }

    fn cut_network(&self) -> BoxFuture<'_, Result<(), &'static str>> {
        self.broker.cut();
        Box::pin(ready(Ok(())))
    }

    fn heal_network(&self) -> BoxFuture<'_, Result<(), &'static str>> {
        self.broker.heal();
        Box::pin(ready(Ok(())))
    }
}
