//! Who waits for which partition, and how the log's growth wakes them.
//!
//! Invariants: a waiter registers *before* it looks at the log for the last time, and a wake-up is
//! remembered until it is awaited, so growth in between is never missed. Only the waiters of the
//! partitions that grew are touched. A waiter leaves when it is dropped.

use std::collections::HashMap;
use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;

use futures_util::task::AtomicWaker;
use wharf_log::PartitionId;

use crate::sync;

/// Tasks waiting for partitions to grow.
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    /// How many are registered: lets the committer's thread pass without the lock when none is.
    count: AtomicUsize,
    by_partition: Mutex<HashMap<PartitionId, Vec<Arc<Signal>>>>,
}

#[derive(Debug, Default)]
struct Signal {
    raised: AtomicBool,
    waker: AtomicWaker,
}

impl Signal {
    fn raise(&self) {
        // One wake-up is enough until it is consumed.
        if !self.raised.swap(true, Ordering::AcqRel) {
            self.waker.wake();
        }
    }
}

impl Waiters {
    /// Wakes whoever waits for one of these partitions.
    pub(crate) fn appended(&self, partitions: &[PartitionId]) {
        if self.count.load(Ordering::SeqCst) == 0 {
            return;
        }
        let waiting = sync::lock(&self.by_partition);
        for partition in partitions {
            for signal in waiting.get(partition).into_iter().flatten() {
                signal.raise();
            }
        }
    }

    /// Registers for these partitions. Look at the log again after this, then wait.
    pub(crate) fn register(self: &Arc<Self>, partitions: Vec<PartitionId>) -> Waiter {
        let signal = Arc::new(Signal::default());
        // Counted first: from here on growth takes the lock and finds the signal.
        self.count.fetch_add(1, Ordering::SeqCst);
        let mut waiting = sync::lock(&self.by_partition);
        for partition in &partitions {
            waiting
                .entry(*partition)
                .or_default()
                .push(Arc::clone(&signal));
        }
        drop(waiting);
        Waiter {
            waiters: Arc::clone(self),
            partitions,
            signal,
        }
    }

    /// How many partitions have waiters.
    #[cfg(test)]
    fn partitions(&self) -> usize {
        sync::lock(&self.by_partition).len()
    }
}

/// A registration; dropping it ends it.
#[derive(Debug)]
pub(crate) struct Waiter {
    waiters: Arc<Waiters>,
    partitions: Vec<PartitionId>,
    signal: Arc<Signal>,
}

impl Waiter {
    /// Completes once one of the partitions grew since the last time.
    pub(crate) async fn grown(&self) {
        poll_fn(|cx| {
            self.signal.waker.register(cx.waker());
            if self.signal.raised.swap(false, Ordering::AcqRel) {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let mut waiting = sync::lock(&self.waiters.by_partition);
        for partition in &self.partitions {
            if let Some(signals) = waiting.get_mut(partition) {
                signals.retain(|signal| !Arc::ptr_eq(signal, &self.signal));
                if signals.is_empty() {
                    waiting.remove(partition);
                }
            }
        }
        drop(waiting);
        self.waiters.count.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    const ONE: PartitionId = PartitionId(1);
    const TWO: PartitionId = PartitionId(2);

    #[test]
    fn growth_between_registering_and_waiting_is_not_missed() {
        let waiters = Arc::new(Waiters::default());
        let waiter = waiters.register(vec![ONE, TWO]);
        waiters.appended(&[TWO]);
        assert!(waiter.grown().now_or_never().is_some());
        assert!(
            waiter.grown().now_or_never().is_none(),
            "one growth is announced once"
        );
    }

    #[test]
    fn only_the_waiters_of_the_partition_that_grew_are_woken() {
        let waiters = Arc::new(Waiters::default());
        let (one, two) = (waiters.register(vec![ONE]), waiters.register(vec![TWO]));
        waiters.appended(&[ONE]);
        assert!(two.grown().now_or_never().is_none());
        assert!(one.grown().now_or_never().is_some());
    }

    #[test]
    fn a_dropped_waiter_leaves_nothing_behind() {
        let waiters = Arc::new(Waiters::default());
        let first = waiters.register(vec![ONE, TWO]);
        let second = waiters.register(vec![ONE]);
        drop(first);
        assert_eq!(waiters.partitions(), 1);
        waiters.appended(&[ONE]);
        assert!(second.grown().now_or_never().is_some());
        drop(second);
        assert_eq!(
            (waiters.partitions(), waiters.count.load(Ordering::SeqCst)),
            (0, 0)
        );
    }

    #[test]
    fn a_waiting_task_is_woken_from_another_thread() {
        let waiters = Arc::new(Waiters::default());
        let waiter = waiters.register(vec![ONE]);
        let grown = std::thread::scope(|scope| {
            let waiting = scope.spawn(|| waiter.grown().now_or_never());
            waiting.join().unwrap()
        });
        assert!(grown.is_none());
        let (woken, mut cx) = flag_waker();
        let mut waiting = Box::pin(waiter.grown());
        assert!(
            waiting
                .as_mut()
                .poll_unpin(&mut std::task::Context::from_waker(&cx))
                .is_pending()
        );
        std::thread::scope(|scope| {
            scope.spawn(|| waiters.appended(&[ONE]));
        });
        assert!(woken.load(Ordering::SeqCst));
        cx.clone_from(&flag_waker().1);
        assert!(
            waiting
                .as_mut()
                .poll_unpin(&mut std::task::Context::from_waker(&cx))
                .is_ready()
        );
    }

    fn flag_waker() -> (Arc<AtomicBool>, std::task::Waker) {
        struct Flag(Arc<AtomicBool>);
        impl std::task::Wake for Flag {
            fn wake(self: Arc<Self>) {
                self.0.store(true, Ordering::SeqCst);
            }
        }
        let flag = Arc::new(AtomicBool::new(false));
        (Arc::clone(&flag), Arc::new(Flag(flag)).into())
    }
}
