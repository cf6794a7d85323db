//! A node in one thread: the protocol over a real broker over a log on the simulated disk, under
//! virtual time. Time moves only when nothing else can.

use std::collections::BTreeMap;
use std::fmt;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context as TaskContext, Poll, Wake, Waker};

use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use kafka_protocol::messages::{RequestHeader, ResponseHeader};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};
use wharf_broker::{Broker, Context, Options, Runtime, Wakeups};
use wharf_kafka::{Disconnect, Endpoint, Outcome, Service};
use wharf_log::disk::simulated::{Faults, SimulatedDisk};
use wharf_log::{Committer, Log, Maintenance, PartitionId, Policy, Retention};
use wharf_message::{Principal, Timestamp};

/// When the tests begin, in milliseconds.
pub(crate) const START: i64 = 1_700_000_000_000;
/// What a test may wait for at most, in virtual milliseconds.
const PATIENCE_MS: i64 = 3_600_000;
const CORRELATION: i32 = 0x0102_0304;

/// The world outside of the broker.
pub(crate) struct World {
    now: AtomicI64,
    random: AtomicU64,
    timers: Mutex<BTreeMap<i64, Vec<Waker>>>,
    tasks: Mutex<Vec<BoxFuture<'static, ()>>>,
    work: Mutex<Vec<Box<dyn FnOnce() + Send>>>,
}

impl fmt::Debug for World {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("World")
    }
}

/// Runs tests against the world; the runtime that the broker sees.
#[derive(Clone, Debug)]
struct Shared(Arc<World>);

impl Runtime for Shared {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.0.now.load(Ordering::Relaxed))
    }

    fn steady(&self) -> Timestamp {
        self.now()
    }

    fn sleep_until(&self, deadline: Timestamp) -> BoxFuture<'static, ()> {
        let world = Arc::clone(&self.0);
        Box::pin(std::future::poll_fn(move |cx| {
            if world.now.load(Ordering::Relaxed) >= deadline.as_millis() {
                return Poll::Ready(());
            }
            let mut timers = world.timers.lock().unwrap();
            timers
                .entry(deadline.as_millis())
                .or_default()
                .push(cx.waker().clone());
            Poll::Pending
        }))
    }

    fn spawn(&self, task: BoxFuture<'static, ()>) {
        self.0.tasks.lock().unwrap().push(task);
    }

    fn run_blocking(&self, work: Box<dyn FnOnce() + Send>) {
        self.0.work.lock().unwrap().push(work);
    }

    fn random(&self) -> [u8; 16] {
        let number = self.0.random.fetch_add(1, Ordering::Relaxed);
        let mixed = u128::from(number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
        mixed.to_be_bytes()
    }
}

#[derive(Default)]
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

struct KeepAll;

impl Policy for KeepAll {
    fn retention(&self, _partition: PartitionId) -> Option<Retention> {
        None
    }
}

/// A node and one connection to it.
pub(crate) struct Node {
    pub(crate) service: Service,
    pub(crate) broker: Broker,
    pub(crate) cx: Context,
    world: Arc<World>,
    log: Mutex<(Committer, Maintenance)>,
}

impl Node {
    /// A fresh node; groups do not wait for more members.
    pub(crate) fn new() -> Self {
        Self::with(|_| ())
    }

    /// A fresh node with other options.
    pub(crate) fn with(change: impl FnOnce(&mut Options)) -> Self {
        let mut options = Options {
            group_initial_rebalance_delay: std::time::Duration::ZERO,
            ..Options::default()
        };
        change(&mut options);
        let world = Arc::new(World {
            now: AtomicI64::new(START),
            random: AtomicU64::new(0),
            timers: Mutex::default(),
            tasks: Mutex::default(),
            work: Mutex::default(),
        });
        let wakeups = Wakeups::default();
        let disk = Arc::new(SimulatedDisk::new(1, Faults::default()));
        let sizes = wharf_log::Options {
            journal_file_bytes: 1 << 20,
            ..Default::default()
        };
        let now = Timestamp::from_millis(START);
        let log = Log::open(disk, sizes, Arc::new(wakeups.clone()), now).unwrap();
        let runtime = Arc::new(Shared(Arc::clone(&world)));
        let broker = Broker::open(options, log.appender, log.reader, &wakeups, runtime).unwrap();
        let endpoint = Endpoint {
            host: "broker.test".to_owned(),
            port: 9092,
        };
        let cx = Context {
            principal: Principal::anonymous(),
            client_id: "".into(),
            client_host: "/127.0.0.1".into(),
            connection: 1,
        };
        let service = Service::new(broker.clone(), endpoint);
        let log = Mutex::new((log.committer, log.maintenance));
        Self {
            service,
            broker,
            cx,
            world,
            log,
        }
    }

    /// The virtual time in milliseconds.
    pub(crate) fn now(&self) -> i64 {
        self.world.now.load(Ordering::Relaxed)
    }

    /// Lets time pass.
    pub(crate) fn pass(&self, time: std::time::Duration) {
        let millis = i64::try_from(time.as_millis()).unwrap();
        self.world.now.fetch_add(millis, Ordering::Relaxed);
    }

    /// Runs everything until `future` is done.
    pub(crate) fn run<F: Future>(&self, future: F) -> F::Output {
        self.run_for(future, PATIENCE_MS)
            .expect("the future takes longer than a test waits")
    }

    /// Runs everything until `future` is done or so many virtual milliseconds have passed.
    pub(crate) fn run_for<F: Future>(&self, future: F, patience_ms: i64) -> Option<F::Output> {
        let mut future = pin!(future);
        let flag = Arc::new(Flag::default());
        let waker = Waker::from(Arc::clone(&flag));
        let mut cx = TaskContext::from_waker(&waker);
        let give_up = self.now() + patience_ms;
        loop {
            if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
                return Some(output);
            }
            let worked = self.step(&mut cx);
            let woken = flag.0.swap(false, Ordering::Relaxed);
            if !worked && !woken {
                assert!(
                    self.advance(),
                    "nothing is left that could finish the future"
                );
                if self.now() > give_up {
                    return None;
                }
            }
        }
    }

    /// One round of everything in the background; whether something happened.
    fn step(&self, cx: &mut TaskContext<'_>) -> bool {
        let tasks = std::mem::take(&mut *self.world.tasks.lock().unwrap());
        let before = tasks.len();
        let mut waiting: Vec<_> = tasks
            .into_iter()
            .filter_map(|task| poll_once(task, cx))
            .collect();
        let mut worked = waiting.len() < before;
        let mut tasks = self.world.tasks.lock().unwrap();
        worked |= !tasks.is_empty();
        waiting.append(&mut tasks);
        *tasks = waiting;
        drop(tasks);
        let work = std::mem::take(&mut *self.world.work.lock().unwrap());
        worked |= !work.is_empty();
        work.into_iter().for_each(|work| work());
        let now = Timestamp::from_millis(self.now());
        let (committer, maintenance) = &mut *self.log.lock().unwrap();
        if committer.run_pending(now) > 0 {
            worked = true;
            maintenance.run(&KeepAll, now);
        }
        worked
    }

    /// Moves time to the next timer, if there is one.
    fn advance(&self) -> bool {
        let next = self.world.timers.lock().unwrap().pop_first();
        let Some((next, wakers)) = next else {
            return false;
        };
        self.world.now.fetch_max(next, Ordering::Relaxed);
        wakers.into_iter().for_each(Waker::wake);
        true
    }

    /// Sends a frame and waits for its answer; `None` when nothing is answered.
    pub(crate) fn send(&self, frame: Bytes) -> Result<Option<Bytes>, Disconnect> {
        self.finish(self.service.handle(&self.cx, frame)?)
    }

    /// Waits for an outcome.
    pub(crate) fn finish(&self, outcome: Outcome) -> Result<Option<Bytes>, Disconnect> {
        match outcome {
            Outcome::Answer(answer) | Outcome::Queued(answer) => {
                let response = self.run(answer)?;
                Ok(Some(response.joined().expect("the disk can be read")))
            }
            Outcome::Silent(work) => {
                self.run(work)?;
                Ok(None)
            }
        }
    }

    /// Asks and decodes the answer, all in `version`.
    pub(crate) fn ask<Q: Request>(&self, version: i16, request: &Q) -> Q::Response {
        self.ask_as(version, version, request)
    }

    /// The same with bodies in another version than the one on the wire.
    pub(crate) fn ask_as<Q: Request>(&self, version: i16, codec: i16, request: &Q) -> Q::Response {
        let answer = self.send(frame_as(version, codec, request)).unwrap();
        read::<Q>(version, codec, answer.expect("an answer"))
    }
}

fn poll_once(
    mut task: BoxFuture<'static, ()>,
    cx: &mut TaskContext<'_>,
) -> Option<BoxFuture<'static, ()>> {
    task.as_mut().poll(cx).is_pending().then_some(task)
}

/// A request as a client sends it.
pub(crate) fn frame<Q: Request>(version: i16, request: &Q) -> Bytes {
    frame_as(version, version, request)
}

/// The same with a body in another version than the one on the wire.
pub(crate) fn frame_as<Q: Request>(version: i16, codec: i16, request: &Q) -> Bytes {
    let mut out = BytesMut::new();
    RequestHeader::default()
        .with_request_api_key(Q::KEY)
        .with_request_api_version(version)
        .with_correlation_id(CORRELATION)
        .with_client_id(Some(StrBytes::from_static_str("tester")))
        .encode(&mut out, Q::header_version(version))
        .unwrap();
    request.encode(&mut out, codec).unwrap();
    out.freeze()
}

/// An answer as a client reads it; nothing may be left over.
pub(crate) fn read<Q: Request>(version: i16, codec: i16, mut answer: Bytes) -> Q::Response {
    let header_version = <Q::Response as HeaderVersion>::header_version(version);
    let header = ResponseHeader::decode(&mut answer, header_version).unwrap();
    assert_eq!(header.correlation_id, CORRELATION);
    let response = Q::Response::decode(&mut answer, codec).unwrap();
    assert!(answer.is_empty(), "bytes are left behind the answer");
    response
}
