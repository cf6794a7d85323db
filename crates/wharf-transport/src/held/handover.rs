//! Messages handed over to be published: in the order of the calls, without waiting, within a bound.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, ready};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use wharf_message::transport::Error;

/// How many bytes may wait for the broker's confirmation; a single larger message may, alone.
const BYTES_MAX: usize = 64 << 20;
/// What a message counts beyond its bytes.
const OVERHEAD_BYTES: usize = 512;

/// The near end of the way to the task that publishes.
#[derive(Debug)]
pub(crate) struct Handover<T, R> {
    sender: mpsc::UnboundedSender<Handed<T, R>>,
    waiting: Arc<AtomicUsize>,
}

/// A message on its way.
#[derive(Debug)]
pub(crate) struct Handed<T, R> {
    pub(crate) item: T,
    /// When it was handed over.
    pub(crate) at: Instant,
    reply: oneshot::Sender<Result<R, Error>>,
    _share: Share,
}

/// A part of the bound, given back when dropped.
#[derive(Debug)]
struct Share {
    bytes: usize,
    waiting: Arc<AtomicUsize>,
}

impl Drop for Share {
    fn drop(&mut self) {
        self.waiting.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl<T, R> Handed<T, R> {
    /// Tells how it went.
    pub(crate) fn answer(self, answer: Result<R, Error>) {
        // Whoever published may not be waiting any more.
        self.reply.send(answer).ok();
    }
}

impl<T: Send + 'static, R: Send + 'static> Handover<T, R> {
    /// A way and its far end.
    pub(crate) fn new() -> (Self, mpsc::UnboundedReceiver<Handed<T, R>>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        let waiting = Arc::default();
        (Self { sender, waiting }, receiver)
    }

    /// Hands over `item` of so many bytes at once. The answer is [`Error::Unavailable`] when too much
    /// waits already, and [`Error::Closed`] when there is no far end any more.
    pub(crate) fn hand_over(&self, item: T, bytes: usize) -> BoxFuture<'static, Result<R, Error>> {
        let bytes = bytes + OVERHEAD_BYTES;
        let before = self.waiting.fetch_add(bytes, Ordering::Relaxed);
        let share = Share {
            bytes,
            waiting: Arc::clone(&self.waiting),
        };
        if before > 0 && before + bytes > BYTES_MAX {
            let full = format!("{before} bytes wait for its confirmation already; publish slower");
            return ready(Err(Error::Unavailable(full))).boxed();
        }
        let (reply, answer) = oneshot::channel();
        let handed = Handed {
            item,
            at: Instant::now(),
            reply,
            _share: share,
        };
        if self.sender.send(handed).is_err() {
            return ready(Err(Error::Closed)).boxed();
        }
        async move { answer.await.unwrap_or(Err(Error::Closed)) }.boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_is_bounded_and_gives_its_share_back() {
        let (handover, mut far) = Handover::<u8, ()>::new();
        let first = handover.hand_over(1, BYTES_MAX);
        let refused = handover.hand_over(2, 1).now_or_never();
        assert!(matches!(refused, Some(Err(Error::Unavailable(_)))));
        let handed = far.try_recv().expect("the first was handed over");
        assert_eq!(handed.item, 1);
        handed.answer(Ok(()));
        assert_eq!(first.now_or_never(), Some(Ok(())));
        let third = handover.hand_over(3, 1);
        assert_eq!(far.try_recv().map(|handed| handed.item).ok(), Some(3));
        // Its far end dropped it unanswered.
        assert_eq!(third.now_or_never(), Some(Err(Error::Closed)));
        drop(far);
        let gone = handover.hand_over(4, 1).now_or_never();
        assert_eq!(gone, Some(Err(Error::Closed)));
    }
}
