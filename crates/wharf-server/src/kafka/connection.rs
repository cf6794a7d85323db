//! One connection: a reading and a writing half in one task, so that a panic ends both.
//!
//! The halves are joined by a queue of answers in request order. Its capacity and the node's byte
//! budget are what keeps a fast client from filling the memory. Work that was begun is finished
//! even when the peer is gone (only a waiting fetch is given up), because a broker call dropped
//! half-way may have changed the log already.
//!
//! A client that took more than its quota is answered first, and told how long to wait; until then
//! its connection is not read (KIP-219).

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout};
use wharf_broker::Context;
use wharf_kafka::{Disconnect, Outcome, Response, Service};

use super::frames::{FrameReader, ReadError, send, transfer_time};
use super::throttle::{Charged, Metering, Timed};
use crate::commits::Commits;
use crate::flag::raised;
use crate::metrics::{Counted, KafkaMetrics};

/// The name under which requests that are none are counted.
const UNKNOWN: &str = "unknown";
/// The only request that waits for others and changes nothing, so it may be dropped.
const FETCH: &str = "Fetch";
/// The only request whose units are queued by taking it.
const PRODUCE: &str = "Produce";
/// How many bytes of answers a connection may leave unsent before its next request is worked on. One
/// answer may be larger; it is then the only one.
const UNSENT_BYTES_MAX: usize = 1 << 20;
/// Larger requests are not worth waiting for in the connection's own thread.
const ALONE_BYTES_MAX: usize = 64 << 10;
/// Requests up to this size are decoded without asking: what they become is small, too.
const SMALL_FRAME_BYTES: usize = 1024;

/// The limits of every connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// The largest request.
    pub(crate) request_bytes_max: usize,
    /// How many requests may be in work or waiting to be answered.
    pub(crate) requests_max: usize,
    /// How long a connection may be silent, or refuse to take its answer (one second more for every
    /// MiB of it).
    pub(crate) idle: Duration,
    /// How long a request may take to arrive.
    pub(crate) receive: Duration,
}

/// Who gives meaning to frames: the protocol service, or a double in tests.
pub(crate) trait Handler: fmt::Debug + Send + Sync + 'static {
    /// Takes one frame; see [`Service::handle`].
    fn handle(&self, context: &Context, frame: Bytes) -> Result<Outcome, Disconnect>;

    /// The kind of request in a frame, if it is one.
    fn name(&self, frame: &[u8]) -> Option<&'static str>;

    /// How many bytes a frame's arrays take once it is decoded.
    fn decoded_bytes(&self, frame: &[u8]) -> usize;

    /// Told how many connections are open whenever that changes.
    fn connections(&self, open: usize);

    /// What counts the costs of a frame that is about to be handled, if anything is limited.
    fn meter(&self, context: &Context, frame: &[u8]) -> Option<Box<dyn Metering>>;

    /// How long a new connection from this address is kept waiting before it is closed again; zero
    /// when it is welcome.
    fn turned_away(&self, address: IpAddr) -> Duration;
}

impl Handler for Service {
    fn handle(&self, context: &Context, frame: Bytes) -> Result<Outcome, Disconnect> {
        self.handle(context, frame)
    }

    fn name(&self, frame: &[u8]) -> Option<&'static str> {
        Self::request_name(frame)
    }

    fn decoded_bytes(&self, frame: &[u8]) -> usize {
        Self::decoded_bytes(frame)
    }

    fn connections(&self, open: usize) {
        self.broker().share_fetches(open);
    }

    fn meter(&self, context: &Context, frame: &[u8]) -> Option<Box<dyn Metering>> {
        Some(Box::new(Self::meter(self, context, frame)?))
    }

    fn turned_away(&self, address: IpAddr) -> Duration {
        self.broker().charge_connection(address)
    }
}

/// What every connection of a node shares.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) handler: Box<dyn Handler>,
    pub(super) commits: Option<Arc<Commits>>,
    pub(super) limits: Limits,
    /// Bytes of requests the node may still take in.
    pub(super) budget: Arc<Semaphore>,
    /// Bytes that decoded requests may still take. Whoever waits for it holds some of `budget`;
    /// whoever holds it waits for neither, so the two cannot block each other.
    pub(super) decoded: Arc<Semaphore>,
    /// The size of `decoded` when nothing is decoded.
    pub(super) decoded_bytes: usize,
    pub(super) metrics: KafkaMetrics,
}

/// Why a connection was ended by this side.
#[derive(Debug, thiserror::Error)]
pub(super) enum Ended {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("a request cannot be answered: {0}")]
    Disconnect(#[from] Disconnect),
    #[error("its answers were not taken in time")]
    Unread,
    #[error("its answer could not be sent: {0}")]
    Write(io::Error),
}

/// A request on its way to its answer. Holds its part of the byte budget until it is answered.
struct Pending {
    work: Work,
    request: &'static str,
    since: Instant,
    _in_flight: Counted,
    _bytes: OwnedSemaphorePermit,
    /// Its part of what its connection may leave unsent.
    _unsent: OwnedSemaphorePermit,
    _decoded: Option<OwnedSemaphorePermit>,
}

enum Work {
    Answered(Response),
    Answering(BoxFuture<'static, Result<Response, Disconnect>>, Charged),
    Silent(BoxFuture<'static, Result<(), Disconnect>>),
}

impl Work {
    /// What it holds in memory until it is sent.
    fn bytes(&self) -> usize {
        match self {
            Self::Answered(response) => response.bytes(),
            Self::Answering(..) | Self::Silent(_) => 0,
        }
    }
}

/// Serves a connection until either side ends it or the node stops.
pub(super) async fn run(
    shared: &Shared,
    stream: TcpStream,
    context: Context,
    stop: watch::Receiver<bool>,
) -> Result<(), Ended> {
    stream.set_nodelay(true).map_err(ReadError::Socket)?;
    let (read, mut write) = stream.into_split();
    let (answers, mut queue) = mpsc::channel(shared.limits.requests_max);
    let reading = read_all(shared, FrameReader::new(read), &context, answers, stop);
    let writing = async {
        let written = write_all(shared, &mut write, &mut queue).await;
        // From here on the reading half finds nobody to give an answer to, and ends.
        drop(queue);
        written
    };
    let (read, written) = tokio::join!(reading, writing);
    written.and(read)
}

/// Reads and hands over requests until the peer has finished, the node stops, or nobody writes.
async fn read_all(
    shared: &Shared,
    mut frames: FrameReader,
    context: &Context,
    answers: mpsc::Sender<Pending>,
    mut stop: watch::Receiver<bool>,
) -> Result<(), Ended> {
    let unsent = Arc::new(Semaphore::new(UNSENT_BYTES_MAX));
    let mut muted: Option<Instant> = None;
    loop {
        if let Some(until) = muted.take()
            && !pause(until, &mut stop, &answers, &mut frames).await
        {
            return Ok(());
        }
        let received = tokio::select! {
            biased;
            () = raised(&mut stop) => return Ok(()),
            () = answers.closed() => return Ok(()),
            received = receive(shared, &mut frames) => received?,
        };
        let Some((frame, bytes)) = received else {
            return Ok(());
        };
        let request = shared.handler.name(&frame).unwrap_or(UNKNOWN);
        let decoded = decoding(shared, &frame).await;
        let since = Instant::now();
        let in_flight = shared.metrics.received(request, frame.len());
        let meter = shared.handler.meter(context, &frame);
        let nothing_else = frames.is_drained() && answers.capacity() == answers.max_capacity();
        let alone = request == PRODUCE && nothing_else;
        let outcome = handle(shared, context, frame, alone)?;
        let (work, wait) = match outcome {
            Outcome::Answer(answer) => {
                let answer = Timed::new(answer, since.elapsed());
                let (answer, spent) = if request == FETCH {
                    tokio::select! {
                        biased;
                        answer = answer => answer,
                        () = given_up(&mut stop, &answers, &mut frames) => return Ok(()),
                    }
                } else {
                    answer.await
                };
                let mut answer = answer?;
                let charged = Charged::charge(meter, spent, Some(&answer));
                charged.tell(&mut answer);
                (Work::Answered(answer), charged.wait)
            }
            Outcome::Queued(answer) => {
                let charged = Charged::charge(meter, since.elapsed(), None);
                let wait = charged.wait;
                (Work::Answering(answer, charged), wait)
            }
            Outcome::Silent(work) => {
                let charged = Charged::charge(meter, since.elapsed(), None);
                (Work::Silent(work), charged.wait)
            }
        };
        if !wait.is_zero() {
            shared.metrics.throttled(wait);
            muted = Some(Instant::now() + wait);
        }
        let bytes_made = work.bytes();
        let unsent = tokio::select! {
            biased;
            () = answers.closed() => return Ok(()),
            room = room(&unsent, bytes_made) => room,
        };
        let pending = Pending {
            work,
            request,
            since,
            _in_flight: in_flight,
            _bytes: bytes,
            _unsent: unsent,
            _decoded: decoded,
        };
        if answers.send(pending).await.is_err() {
            return Ok(());
        }
    }
}

/// Takes one frame. When the peer waits for nothing else, what it appends is committed here and now
/// if that is worth it: the answer is then ready before anybody asks for it.
fn handle(
    shared: &Shared,
    context: &Context,
    frame: Bytes,
    alone: bool,
) -> Result<Outcome, Disconnect> {
    let worth_it = alone && frame.len() <= ALONE_BYTES_MAX;
    let commits = shared.commits.as_ref().filter(|_| worth_it);
    let attended = commits.and_then(|commits| commits.attend());
    let outcome = shared.handler.handle(context, frame);
    if let Some(attended) = attended {
        attended.commit();
    }
    outcome
}

/// Waits until `until`; false when there is no use in going on.
async fn pause(
    until: Instant,
    stop: &mut watch::Receiver<bool>,
    answers: &mpsc::Sender<Pending>,
    frames: &mut FrameReader,
) -> bool {
    tokio::select! {
        biased;
        () = given_up(stop, answers, frames) => false,
        () = sleep_until(until) => true,
    }
}

/// Completes when there is no use in waiting: the node stops, nobody writes, or the peer is gone.
async fn given_up(
    stop: &mut watch::Receiver<bool>,
    answers: &mpsc::Sender<Pending>,
    frames: &mut FrameReader,
) {
    tokio::select! {
        () = raised(stop) => {}
        () = answers.closed() => {}
        () = frames.peer_gone() => {}
    }
}

/// The next frame with its part of the byte budget, which is taken before the memory is.
async fn receive(
    shared: &Shared,
    frames: &mut FrameReader,
) -> Result<Option<(Bytes, OwnedSemaphorePermit)>, ReadError> {
    let limits = &shared.limits;
    let Some(length) = frames.length(limits.request_bytes_max, limits.idle).await? else {
        return Ok(None);
    };
    let permits = u32::try_from(length).expect("a frame's length is a positive i32");
    let bytes = Arc::clone(&shared.budget).acquire_many_owned(permits).await;
    let bytes = bytes.expect("the budget's semaphore is never closed");
    let frame = frames.frame(length, limits.receive).await?;
    Ok(Some((frame, bytes)))
}

/// Takes what a frame's arrays will need in memory from the node's budget. One request never needs
/// more than all of it.
async fn decoding(shared: &Shared, frame: &[u8]) -> Option<OwnedSemaphorePermit> {
    if frame.len() <= SMALL_FRAME_BYTES {
        return None;
    }
    let bytes = shared
        .handler
        .decoded_bytes(frame)
        .min(shared.decoded_bytes);
    let permits = u32::try_from(bytes).unwrap_or(u32::MAX);
    let taken = Arc::clone(&shared.decoded)
        .acquire_many_owned(permits)
        .await;
    Some(taken.expect("the budget's semaphore is never closed"))
}

/// Waits for room among the unsent answers of a connection: whoever does not read its answers does
/// not get more of them made. Answers still to come are those of produce requests, which are small.
async fn room(unsent: &Arc<Semaphore>, bytes: usize) -> OwnedSemaphorePermit {
    let permits = u32::try_from(bytes.min(UNSENT_BYTES_MAX)).expect("the limit is below 4 GiB");
    let room = Arc::clone(unsent).acquire_many_owned(permits).await;
    room.expect("the semaphore is never closed")
}

/// Sends the answers in order until there are no more, or the peer does not take them.
async fn write_all(
    shared: &Shared,
    stream: &mut OwnedWriteHalf,
    queue: &mut mpsc::Receiver<Pending>,
) -> Result<(), Ended> {
    while let Some(pending) = queue.recv().await {
        let sent = match pending.work {
            Work::Silent(work) => {
                work.await?;
                0
            }
            Work::Answered(response) => answer(shared, stream, response).await?,
            Work::Answering(response, charged) => {
                let mut response = response.await?;
                charged.tell(&mut response);
                answer(shared, stream, response).await?
            }
        };
        shared
            .metrics
            .answered(pending.request, sent, pending.since.elapsed());
    }
    Ok(())
}

async fn answer(
    shared: &Shared,
    stream: &mut OwnedWriteHalf,
    response: Response,
) -> Result<usize, Ended> {
    let limit = shared.limits.idle + transfer_time(response.bytes());
    match timeout(limit, send(stream, response)).await {
        Ok(sent) => sent.map_err(Ended::Write),
        Err(_) => Err(Ended::Unread),
    }
}
