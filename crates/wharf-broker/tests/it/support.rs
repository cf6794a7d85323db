//! A broker in one thread: simulated disk, virtual time, an executor that polls only what was woken.
//!
//! [`World::run`] drives a future to its end together with spawned tasks, blocking work and the
//! committer. Time moves only when nothing else can: to the next timer. A future that nothing can
//! wake any more fails the test at once, so a lost wake-up never looks like a slow test.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context as TaskContext, Poll, Wake, Waker};
use std::time::Duration;

use futures_util::future::BoxFuture;
use wharf_broker::{Broker, Context, CreateTopic, Options, Runtime, Topic, Wakeups};
use wharf_log::disk::simulated::{Faults, SimulatedDisk};
use wharf_log::{Appender, Committer, Log, Maintenance};
use wharf_message::{Principal, Timestamp};

/// When every test starts.
pub const START: Timestamp = Timestamp::from_millis(1_700_000_000_000);
/// More steps than any test needs; a livelock fails instead of hanging.
const STEPS_MAX: usize = 1_000_000;

/// Virtual time and a queue of tasks. Clones are the same.
#[derive(Clone)]
pub struct TestRuntime {
    state: Arc<Mutex<State>>,
}

struct State {
    now: Timestamp,
    /// How far the wall clock is ahead of the time that passes, in milliseconds.
    wall_ahead: i64,
    timers: BTreeMap<(Timestamp, u64), Waker>,
    tasks: Vec<Arc<Task>>,
    blocking: Vec<Box<dyn FnOnce() + Send>>,
    counter: u64,
}

struct Task {
    future: Mutex<Option<BoxFuture<'static, ()>>>,
    woken: AtomicBool,
}

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        self.woken.store(true, Ordering::SeqCst);
    }
}

impl fmt::Debug for TestRuntime {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("TestRuntime")
    }
}

impl TestRuntime {
    fn new(now: Timestamp, counter: u64) -> Self {
        let state = State {
            now,
            wall_ahead: 0,
            timers: BTreeMap::new(),
            tasks: Vec::new(),
            blocking: Vec::new(),
            counter,
        };
        Self {
            state: Arc::new(Mutex::new(state)),
        }
    }

    /// Polls the woken tasks and runs the blocking work once; whether there was any.
    fn step(&self) -> bool {
        let tasks = self.state.lock().unwrap().tasks.clone();
        let mut progressed = false;
        for task in tasks {
            if !task.woken.swap(false, Ordering::SeqCst) {
                continue;
            }
            progressed = true;
            let waker = Waker::from(Arc::clone(&task));
            let mut slot = task.future.lock().unwrap();
            if let Some(future) = slot.as_mut()
                && future
                    .as_mut()
                    .poll(&mut TaskContext::from_waker(&waker))
                    .is_ready()
            {
                *slot = None;
            }
        }
        let mut state = self.state.lock().unwrap();
        state
            .tasks
            .retain(|task| task.future.lock().unwrap().is_some());
        let blocking = std::mem::take(&mut state.blocking);
        drop(state);
        progressed |= !blocking.is_empty();
        for work in blocking {
            work();
        }
        progressed
    }

    /// Whether anything waits for a time to come.
    pub fn has_timers(&self) -> bool {
        self.next_timer().is_some()
    }

    fn next_timer(&self) -> Option<Timestamp> {
        self.state
            .lock()
            .unwrap()
            .timers
            .keys()
            .next()
            .map(|(deadline, _)| *deadline)
    }

    /// Moves time, waking the timers that are due.
    fn advance_to(&self, time: Timestamp) {
        let mut state = self.state.lock().unwrap();
        state.now = state.now.max(time);
        let first_later = Timestamp::from_millis(state.now.as_millis() + 1);
        let later = state.timers.split_off(&(first_later, 0));
        let due = std::mem::replace(&mut state.timers, later);
        drop(state);
        due.into_values().for_each(Waker::wake);
    }
}

impl Runtime for TestRuntime {
    fn now(&self) -> Timestamp {
        let state = self.state.lock().unwrap();
        Timestamp::from_millis(state.now.as_millis() + state.wall_ahead)
    }

    fn steady(&self) -> Timestamp {
        self.state.lock().unwrap().now
    }

    fn sleep_until(&self, deadline: Timestamp) -> BoxFuture<'static, ()> {
        let mut state = self.state.lock().unwrap();
        state.counter += 1;
        let id = state.counter;
        drop(state);
        Box::pin(Timer {
            state: Arc::clone(&self.state),
            deadline,
            id,
        })
    }

    fn spawn(&self, task: BoxFuture<'static, ()>) {
        let task = Arc::new(Task {
            future: Mutex::new(Some(task)),
            woken: AtomicBool::new(true),
        });
        self.state.lock().unwrap().tasks.push(task);
    }

    fn run_blocking(&self, work: Box<dyn FnOnce() + Send>) {
        self.state.lock().unwrap().blocking.push(work);
    }

    fn random(&self) -> [u8; 16] {
        let mut state = self.state.lock().unwrap();
        state.counter += 1;
        let mixed = |salt: u64| {
            let mut word = state
                .counter
                .wrapping_mul(0x9E37_79B9_7F4A_7C15)
                .wrapping_add(salt);
            word = (word ^ (word >> 31)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            (word ^ (word >> 29)).to_be_bytes()
        };
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&mixed(1));
        bytes[8..].copy_from_slice(&mixed(2));
        bytes
    }
}

/// A virtual sleep; forgotten when dropped.
struct Timer {
    state: Arc<Mutex<State>>,
    deadline: Timestamp,
    id: u64,
}

impl Future for Timer {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<()> {
        let mut state = self.state.lock().unwrap();
        if state.now >= self.deadline {
            return Poll::Ready(());
        }
        state
            .timers
            .insert((self.deadline, self.id), cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.state
            .lock()
            .unwrap()
            .timers
            .remove(&(self.deadline, self.id));
    }
}

/// A running future of the test; dropping it cancels.
pub struct Running<T> {
    task: Arc<Task>,
    output: Arc<Mutex<Option<T>>>,
}

impl<T> Running<T> {
    /// Whether it has come to its end.
    pub fn is_done(&self) -> bool {
        self.output.lock().unwrap().is_some()
    }
}

impl<T> Drop for Running<T> {
    fn drop(&mut self) {
        *self.task.future.lock().unwrap() = None;
    }
}

/// A node: disk, log, broker, time.
pub struct World {
    /// Change it with [`World::restart`] or [`World::lose_power`] only.
    pub disk: SimulatedDisk,
    pub broker: Broker,
    pub runtime: TestRuntime,
    options: Options,
    log_options: wharf_log::Options,
    appender: Appender,
    committer: RefCell<Committer>,
    maintenance: RefCell<Maintenance>,
    /// While set, nothing is committed.
    held: Cell<bool>,
}

/// A log small enough that a test settles journal files.
fn small_log() -> wharf_log::Options {
    wharf_log::Options {
        journal_file_bytes: 6 << 20,
        journal_files_max: 2,
        ..wharf_log::Options::default()
    }
}

impl World {
    /// A new node with default settings.
    pub fn new() -> Self {
        Self::with(Options::default())
    }

    /// A new node.
    pub fn with(options: Options) -> Self {
        Self::with_log(options, small_log())
    }

    /// A new node over a log of these sizes.
    pub fn with_log(options: Options, log_options: wharf_log::Options) -> Self {
        let disk = SimulatedDisk::new(1, Faults::default());
        Self::open(disk, options, log_options, START, 0)
    }

    fn open(
        disk: SimulatedDisk,
        options: Options,
        log_options: wharf_log::Options,
        now: Timestamp,
        counter: u64,
    ) -> Self {
        let wakeups = Wakeups::default();
        let observer = Arc::new(wakeups.clone());
        let log = Log::open(Arc::new(disk.clone()), log_options.clone(), observer, now).unwrap();
        let runtime = TestRuntime::new(now, counter);
        let broker = Broker::open(
            options.clone(),
            log.appender.clone(),
            log.reader,
            &wakeups,
            Arc::new(runtime.clone()),
        )
        .unwrap();
        Self {
            disk,
            broker,
            runtime,
            options,
            log_options,
            appender: log.appender,
            committer: RefCell::new(log.committer),
            maintenance: RefCell::new(log.maintenance),
            held: Cell::new(false),
        }
    }

    /// The process dies and starts again.
    #[must_use]
    pub fn restart(self) -> Self {
        let disk = self.disk.kill();
        self.reopen(disk)
    }

    /// The machine loses power and starts again.
    #[must_use]
    pub fn lose_power(self) -> Self {
        let disk = self.disk.crash();
        self.reopen(disk)
    }

    /// Time and randomness go on.
    fn reopen(self, disk: SimulatedDisk) -> Self {
        let counter = self.runtime.state.lock().unwrap().counter;
        Self::open(
            disk,
            self.options,
            self.log_options,
            self.runtime.now(),
            counter,
        )
    }

    /// Starts a future; it advances in [`World::run`], [`World::settle`] and [`World::advance`].
    pub fn start<T: Send + 'static>(
        &self,
        future: impl Future<Output = T> + Send + 'static,
    ) -> Running<T> {
        let output = Arc::new(Mutex::new(None));
        let slot = Arc::clone(&output);
        let future: BoxFuture<'static, ()> = Box::pin(async move {
            let value = future.await;
            *slot.lock().unwrap() = Some(value);
        });
        let task = Arc::new(Task {
            future: Mutex::new(Some(future)),
            woken: AtomicBool::new(true),
        });
        self.runtime
            .state
            .lock()
            .unwrap()
            .tasks
            .push(Arc::clone(&task));
        Running { task, output }
    }

    /// Drives `running` to its end; time moves when nothing else can.
    pub fn finish<T>(&self, running: &Running<T>) -> T {
        for _ in 0..STEPS_MAX {
            if let Some(value) = running.output.lock().unwrap().take() {
                return value;
            }
            if self.step() {
                continue;
            }
            let timer = self.runtime.next_timer();
            self.runtime
                .advance_to(timer.expect("nothing can wake the future any more"));
        }
        panic!("the future does not come to an end");
    }

    /// Starts a future and drives it to its end.
    pub fn run<T: Send + 'static>(&self, future: impl Future<Output = T> + Send + 'static) -> T {
        self.finish(&self.start(future))
    }

    /// Runs everything that can run without time moving.
    pub fn settle(&self) {
        for _ in 0..STEPS_MAX {
            if !self.step() {
                return;
            }
        }
        panic!("the node never comes to rest");
    }

    /// Moves time, running what becomes due in order.
    pub fn advance(&self, duration: Duration) {
        let end = self.runtime.steady().after(duration);
        self.settle();
        while let Some(timer) = self.runtime.next_timer().filter(|timer| *timer <= end) {
            self.runtime.advance_to(timer);
            self.settle();
        }
        self.runtime.advance_to(end);
        self.settle();
    }

    /// Somebody sets the machine's clock: it jumps by this much, and no time passes.
    pub fn jump_clock(&self, millis: i64) {
        self.runtime.state.lock().unwrap().wall_ahead += millis;
    }

    /// The virtual time.
    pub fn runtime_now(&self) -> Timestamp {
        self.runtime.now()
    }

    /// Keeps the committer from committing (or lets it again).
    pub fn hold_commits(&self, held: bool) {
        self.held.set(held);
    }

    /// The log takes nothing more, as when the node stops.
    pub fn close_log(&self) {
        self.appender.close();
    }

    /// Lets the log's background work run until nothing is due.
    pub fn maintain(&self) {
        let policy = self.broker.retention_policy();
        let now = self.runtime.now();
        for _ in 0..STEPS_MAX {
            if !self.maintenance.borrow_mut().run(&policy, now) {
                return;
            }
        }
        panic!("maintenance never comes to rest");
    }

    fn step(&self) -> bool {
        let progressed = self.runtime.step();
        if self.held.get() {
            return progressed;
        }
        let answered = self.committer.borrow_mut().run_pending(self.runtime.now());
        progressed || answered > 0
    }

    /// Creates a topic with settings.
    pub fn topic(&self, name: &str, partitions: i32, configs: &[(&str, &str)]) -> Arc<Topic> {
        let (broker, create) = (self.broker.clone(), creation(name, partitions, configs));
        self.run(async move { broker.create_topic(&client(), create, false).await })
            .unwrap()
    }
}

/// A request to create a topic.
pub fn creation(name: &str, partitions: i32, configs: &[(&str, &str)]) -> CreateTopic {
    let own = |(name, value): &(&str, &str)| ((*name).to_owned(), Some((*value).to_owned()));
    CreateTopic {
        name: name.to_owned(),
        partitions: Some(partitions),
        replication: None,
        assignment: Vec::new(),
        configs: configs.iter().map(own).collect(),
    }
}

/// An ordinary client.
pub fn client() -> Context {
    Context {
        principal: Principal::anonymous(),
        client_id: "test".into(),
        client_host: "/127.0.0.1".into(),
        connection: 1,
    }
}
