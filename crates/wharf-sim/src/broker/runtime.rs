//! The broker's world in virtual time: one thread, tasks polled when woken, timers that fire when
//! the simulation moves time.
//!
//! Invariant: tasks run in the order in which they were spawned, and nothing runs by itself, so a
//! seed always gives the same run. Blocking work runs between the tasks.

use std::collections::BTreeMap;
use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::future::BoxFuture;
use wharf_broker::Runtime;
use wharf_log::disk::simulated::Random;
use wharf_message::Timestamp;

type Work = Box<dyn FnOnce() + Send>;

/// Virtual time and its tasks. Clones are the same.
#[derive(Clone)]
pub(crate) struct VirtualRuntime {
    world: Arc<Mutex<World>>,
}

struct World {
    now: Timestamp,
    /// How far the wall clock is ahead of the time that passes, in milliseconds.
    wall_ahead: i64,
    random: Random,
    tasks: Vec<Task>,
    spawned: Vec<BoxFuture<'static, ()>>,
    blocking: Vec<Work>,
    timers: BTreeMap<(Timestamp, u64), Waker>,
    next_timer: u64,
}

struct Task {
    future: BoxFuture<'static, ()>,
    wake: Arc<Flag>,
}

struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl fmt::Debug for VirtualRuntime {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("VirtualRuntime")
    }
}

impl VirtualRuntime {
    pub(crate) fn new(now: Timestamp, random: Random) -> Self {
        let world = World {
            now,
            wall_ahead: 0,
            random,
            tasks: Vec::new(),
            spawned: Vec::new(),
            blocking: Vec::new(),
            timers: BTreeMap::new(),
            next_timer: 0,
        };
        Self {
            world: Arc::new(Mutex::new(world)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Polls what was woken and runs the blocking work, once. Returns whether there was any.
    pub(crate) fn step(&self) -> bool {
        let mut tasks = {
            let mut world = self.lock();
            let spawned = std::mem::take(&mut world.spawned);
            let woken = || Arc::new(Flag(AtomicBool::new(true)));
            let spawned = spawned.into_iter().map(|future| Task {
                future,
                wake: woken(),
            });
            let mut tasks = std::mem::take(&mut world.tasks);
            tasks.extend(spawned);
            tasks
        };
        let mut progressed = false;
        tasks.retain_mut(|task| {
            if !task.wake.0.swap(false, Ordering::Relaxed) {
                return true;
            }
            progressed = true;
            let waker = Waker::from(Arc::clone(&task.wake));
            task.future
                .as_mut()
                .poll(&mut Context::from_waker(&waker))
                .is_pending()
        });
        let blocking = {
            let mut world = self.lock();
            world.tasks = tasks;
            progressed |= !world.spawned.is_empty();
            std::mem::take(&mut world.blocking)
        };
        progressed |= !blocking.is_empty();
        blocking.into_iter().for_each(|work| work());
        progressed
    }

    /// Moves time, waking the timers that are due.
    pub(crate) fn advance_to(&self, time: Timestamp) {
        let due = {
            let mut world = self.lock();
            world.now = world.now.max(time);
            let later = Timestamp::from_millis(world.now.as_millis() + 1);
            let later = world.timers.split_off(&(later, 0));
            std::mem::replace(&mut world.timers, later)
        };
        due.into_values().for_each(Waker::wake);
    }

    /// Somebody sets the machine's clock; no time passes.
    pub(crate) fn jump_clock(&self, millis: i64) {
        self.lock().wall_ahead += millis;
    }

    /// Drops every task: the process is gone.
    pub(crate) fn stop(&self) {
        let (tasks, spawned, blocking) = {
            let mut world = self.lock();
            let World {
                tasks,
                spawned,
                blocking,
                ..
            } = &mut *world;
            (
                std::mem::take(tasks),
                std::mem::take(spawned),
                std::mem::take(blocking),
            )
        };
        drop((tasks, spawned, blocking));
    }
}

impl Runtime for VirtualRuntime {
    fn now(&self) -> Timestamp {
        let world = self.lock();
        Timestamp::from_millis(world.now.as_millis() + world.wall_ahead)
    }

    fn steady(&self) -> Timestamp {
        self.lock().now
    }

    fn sleep_until(&self, deadline: Timestamp) -> BoxFuture<'static, ()> {
        let mut world = self.lock();
        world.next_timer += 1;
        let key = (deadline, world.next_timer);
        Box::pin(Sleep {
            runtime: self.clone(),
            key,
        })
    }

    fn spawn(&self, task: BoxFuture<'static, ()>) {
        self.lock().spawned.push(task);
    }

    fn run_blocking(&self, work: Work) {
        self.lock().blocking.push(work);
    }

    fn random(&self) -> [u8; 16] {
        let mut world = self.lock();
        let halves = [world.random.next_u64(), world.random.next_u64()];
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&halves[0].to_be_bytes());
        bytes[8..].copy_from_slice(&halves[1].to_be_bytes());
        bytes
    }
}

/// A timer; dropping it cancels.
struct Sleep {
    runtime: VirtualRuntime,
    key: (Timestamp, u64),
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut world = self.runtime.lock();
        if world.now >= self.key.0 {
            return Poll::Ready(());
        }
        world.timers.insert(self.key, cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        let waker = self.runtime.lock().timers.remove(&self.key);
        drop(waker);
    }
}
