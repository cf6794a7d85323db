//! Relays under test: the router, a target that keeps no checkpoints, and what is asserted of messages.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use sqlx::Pool;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use wharf_message::{Message, Timestamp, TopicName};
use wharf_relay::polling::Settings;
use wharf_relay::target::memory::MemoryTarget;
use wharf_relay::{
    Checkpoint, Delivered, Opened, Relay, Routed, Router, Row, Sink, Source, Status, Target,
    Trouble, Unroutable,
};

use super::databases::{Server, texts};

/// The name of the sources of the cases.
pub(super) const SOURCE: &str = "shop";

/// The settings of the cases.
pub(super) fn settings() -> Settings {
    Settings::new(SOURCE, "wharf_outbox").unwrap()
}

/// A row's aggregate and payload.
struct ToOutbox;

impl Router for ToOutbox {
    fn route(&self, row: &Row) -> Result<Option<Routed>, Unroutable> {
        let value = |name: &str| row.get(name).unwrap().1.cloned().unwrap_or_default();
        Ok(Some(Routed {
            topic: TopicName::new("outbox").unwrap(),
            partition: None,
            message: Message::new(value("payload")).with_key(value("aggregateid")),
        }))
    }

    fn set_aside(&self, _source: &str, row: &Row, reason: &Unroutable) -> Routed {
        unreachable!("{} {reason}", row.place)
    }
}

/// A relay that runs.
pub(super) struct Running {
    pub(super) status: Arc<Status>,
    stop: watch::Sender<bool>,
    pub(super) task: JoinHandle<()>,
}

impl Running {
    /// Until it has ended.
    pub(super) async fn stop(self) {
        self.stop.send_replace(true);
        self.task.await.unwrap();
    }
}

/// A relay between the two.
pub(super) fn relay(source: Arc<dyn Source>, target: impl Target + 'static) -> Relay {
    routed(source, Arc::new(ToOutbox), target)
}

fn routed(
    source: Arc<dyn Source>,
    router: Arc<dyn Router>,
    target: impl Target + 'static,
) -> Relay {
    Relay::new(SOURCE, source, router, Arc::new(target), || Timestamp::ZERO)
}

/// Starts it.
pub(super) fn start(source: Arc<dyn Source>, target: impl Target + 'static) -> Running {
    run(relay(source, target))
}

/// Starts one with a router of the case's own, and a target that nothing is asked of.
pub(super) fn start_routing(source: Arc<dyn Source>, router: Arc<dyn Router>) -> Running {
    run(routed(source, router, MemoryTarget::default()))
}

fn run(relay: Relay) -> Running {
    let (stop, stopped) = watch::channel(false);
    Running {
        status: relay.status(),
        stop,
        task: tokio::spawn(relay.run(stopped)),
    }
}

/// Until a condition holds.
pub(super) async fn until(mut holds: impl FnMut() -> bool) {
    while !holds() {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
}

/// The payloads in a target, in order.
pub(super) fn payloads(target: &MemoryTarget) -> Vec<String> {
    let messages = target.messages();
    let payloads = messages
        .iter()
        .map(|routed| text(routed.message.payload.as_ref()));
    payloads.collect()
}

fn text(bytes: Option<&Bytes>) -> String {
    String::from_utf8(bytes.unwrap().to_vec()).unwrap()
}

/// Until everything that is committed is in the target; then that each of it is there exactly once and
/// nothing else, and the payloads of each aggregate, `a1:17`, in the order of their numbers.
pub(super) async fn exactly_the_committed_rows<D: Server>(pool: &Pool<D>, target: &MemoryTarget) {
    let payload = match D::BEGIN {
        _ if D::NAME == "PostgreSQL" => "convert_from(payload, 'UTF8')",
        _ => "CAST(payload AS CHAR)",
    };
    let mut committed = texts(pool, &format!("SELECT {payload} FROM wharf_outbox")).await;
    until(|| target.messages().len() >= committed.len()).await;
    let arrived = payloads(target);
    in_order(&arrived);
    let mut arrived = arrived;
    arrived.sort_unstable();
    committed.sort_unstable();
    assert!(
        arrived == committed,
        "{:?}",
        difference(&arrived, &committed)
    );
}

/// The payloads of each aggregate come in the order of their numbers, each once.
pub(super) fn in_order(payloads: &[String]) {
    let mut last: HashMap<&str, u32> = HashMap::new();
    for payload in payloads {
        let (aggregate, number) = payload.split_once(':').unwrap();
        let number = number.parse().unwrap();
        let before = last.insert(aggregate, number);
        assert!(
            before.is_none_or(|before| before < number),
            "{payload} comes behind {before:?}"
        );
    }
}

/// What is in one and not in the other, as often as it is.
fn difference(arrived: &[String], committed: &[String]) -> HashMap<String, i32> {
    let mut counts = HashMap::new();
    for payload in arrived {
        *counts.entry(payload.clone()).or_default() += 1;
    }
    for payload in committed {
        *counts.entry(payload.clone()).or_default() -= 1;
    }
    counts.retain(|_, count| *count != 0);
    counts
}

/// A target that keeps messages and no checkpoints.
pub(super) struct Forgetful(pub(super) MemoryTarget);

impl Target for Forgetful {
    fn keeps_checkpoints(&self) -> bool {
        false
    }

    fn open(&self, source: &str) -> BoxFuture<'_, Result<Opened, Trouble>> {
        let opened = self.0.open(source);
        async move {
            let opened = opened.await?;
            let sink = Box::new(ForgetfulSink(opened.sink));
            let history = Vec::new();
            Ok(Opened { sink, history })
        }
        .boxed()
    }
}

struct ForgetfulSink(Box<dyn Sink>);

impl Sink for ForgetfulSink {
    fn deliver(
        &mut self,
        messages: Vec<Routed>,
        checkpoint: Checkpoint,
    ) -> BoxFuture<'static, Result<Delivered, Trouble>> {
        self.0.deliver(messages, checkpoint)
    }
}
