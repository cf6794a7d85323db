//! A load of requests: the same ones to everybody who is compared, over connections that stay open.
//!
//! The client is one thread, so that it takes no more than one core from the server beside it.

use std::cell::Cell;
use std::future::Future;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use futures_util::future::try_join_all;
use hdrhistogram::Histogram;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Method, Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use tokio::net::TcpStream;
use tokio::runtime::Runtime;

/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// How late a timer of tokio's may be.
const TIMER: Duration = Duration::from_millis(2);

/// Where a server is.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// `host:port`.
    pub(crate) address: String,
    /// What its paths begin with.
    pub(crate) prefix: &'static str,
    /// The content type that its clients ask for and send.
    pub(crate) media: &'static str,
}

/// A request.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    method: Method,
    path: String,
    body: Bytes,
}

impl Call {
    pub(crate) fn get(path: impl Into<String>) -> Self {
        Self {
            method: Method::GET,
            path: path.into(),
            body: Bytes::new(),
        }
    }

    pub(crate) fn post(path: impl Into<String>, body: impl Into<Bytes>) -> Self {
        Self {
            method: Method::POST,
            path: path.into(),
            body: body.into(),
        }
    }

    pub(crate) fn put(path: impl Into<String>, body: impl Into<Bytes>) -> Self {
        Self {
            method: Method::PUT,
            ..Self::post(path, body)
        }
    }
}

/// One open connection.
pub(crate) struct Connection<'a> {
    target: &'a Target,
    sender: SendRequest<Full<Bytes>>,
}

impl<'a> Connection<'a> {
    pub(crate) async fn open(target: &'a Target) -> Result<Self> {
        let stream = TcpStream::connect(&target.address).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Self { target, sender })
    }

    /// The status and the body of the answer.
    pub(crate) async fn send(&mut self, call: Call) -> Result<(StatusCode, Bytes)> {
        let request = Request::builder()
            .method(call.method)
            .uri(format!("{}{}", self.target.prefix, call.path))
            .header(header::HOST, &self.target.address)
            .header(header::ACCEPT, self.target.media)
            .header(header::CONTENT_TYPE, self.target.media)
            .body(Full::new(call.body))?;
        let answer = async {
            self.sender.ready().await?;
            let answer = self.sender.send_request(request).await?;
            let status = answer.status();
            anyhow::Ok((status, answer.into_body().collect().await?.to_bytes()))
        };
        tokio::time::timeout(PATIENCE, answer)
            .await
            .with_context(|| format!("no answer within {PATIENCE:?}"))?
    }

    /// The body of an answer that must be good.
    pub(crate) async fn good(&mut self, call: Call) -> Result<Bytes> {
        let path = call.path.clone();
        let (status, body) = self.send(call).await?;
        if !status.is_success() {
            bail!("{path}: {status} {}", String::from_utf8_lossy(&body));
        }
        Ok(body)
    }
}

/// How fast requests were answered.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Speed {
    /// Requests per second.
    pub(crate) rate: f64,
    /// From when a request was due, or sent where none is due, until it was answered, in milliseconds.
    pub(crate) p50: f64,
    pub(crate) p99: f64,
}

/// How requests follow each other.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pace {
    /// The next one when the one before it is answered, until the time is over.
    For(Duration),
    /// The same, but so many at most.
    Count(u64, Duration),
    /// So many a second on all connections together, whether those before are answered or not.
    At(u32, Duration),
}

/// Drives one server.
pub(crate) struct Load<'a> {
    runtime: Runtime,
    target: &'a Target,
}

impl<'a> Load<'a> {
    pub(crate) fn new(target: &'a Target) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        Ok(Self { runtime, target })
    }

    /// Runs what opens its own connections.
    pub(crate) fn block_on<T>(&self, run: impl Future<Output = T>) -> T {
        self.runtime.block_on(run)
    }

    /// Runs something on one connection.
    pub(crate) fn on_one<T, F, R>(&self, run: F) -> Result<T>
    where
        F: FnOnce(Connection<'a>) -> R,
        R: Future<Output = Result<T>>,
    {
        let target = self.target;
        self.runtime
            .block_on(async { run(Connection::open(target).await?).await })
    }

    /// One request after another on each of so many connections. `call` makes the request of a number;
    /// every answer must be good.
    pub(crate) fn run(
        &self,
        connections: usize,
        pace: Pace,
        call: impl Fn(u64) -> Call,
    ) -> Result<Speed> {
        self.runtime.block_on(async {
            let opened = (0..connections).map(|_| Connection::open(self.target));
            let opened = try_join_all(opened).await?;
            let (next, began) = (Cell::new(0), Instant::now());
            let shared = (&next, began, pace, &call);
            let workers = opened.into_iter().map(|one| work(one, shared));
            let histograms = try_join_all(workers).await?;
            let took = began.elapsed().as_secs_f64();
            let mut all = Histogram::<u64>::new(3)?;
            for one in &histograms {
                all.add(one)?;
            }
            ensure!(!all.is_empty(), "nothing was answered");
            let millis = |quantile| all.value_at_quantile(quantile) as f64 / 1e6;
            Ok(Speed {
                rate: all.len() as f64 / took,
                p50: millis(0.5),
                p99: millis(0.99),
            })
        })
    }
}

/// What the connections of a run share: the next request's number, when it began, its pace, and what
/// makes a request.
type Shared<'a, F> = (&'a Cell<u64>, Instant, Pace, &'a F);

/// Waits to the microsecond: tokio's timers count milliseconds, so the rest of one is spent in giving way
/// to the other connections.
pub(crate) async fn wait_until(due: Instant) {
    if let Some(early) = due.checked_sub(TIMER) {
        tokio::time::sleep_until(early.into()).await;
    }
    while Instant::now() < due {
        tokio::task::yield_now().await;
    }
}

async fn work<F: Fn(u64) -> Call>(
    mut connection: Connection<'_>,
    (next, began, pace, call): Shared<'_, F>,
) -> Result<Histogram<u64>> {
    let mut durations = Histogram::new(3)?;
    loop {
        let number = next.get();
        let (length, most) = match pace {
            Pace::For(length) | Pace::At(_, length) => (length, u64::MAX),
            Pace::Count(most, length) => (length, most),
        };
        let due = match pace {
            Pace::At(rate, _) => began + Duration::from_secs_f64(number as f64 / f64::from(rate)),
            _ => Instant::now(),
        };
        if number >= most || due.saturating_duration_since(began) > length {
            return Ok(durations);
        }
        next.set(number + 1);
        wait_until(due).await;
        connection.good(call(number)).await?;
        durations.record(u64::try_from(due.elapsed().as_nanos())?)?;
    }
}
