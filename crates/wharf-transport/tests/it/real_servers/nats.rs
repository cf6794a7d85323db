//! NATS JetStream.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use harness::servers::{Protocol, nats};
use wharf_message::transport::conformance::{CASES, CaseReport, Verdict, run_those};
use wharf_message::transport::{Error, Subscription, Transport};
use wharf_message::{GroupName, Message, TopicName, header};
use wharf_transport::nats::{NatsTransport, Options};

use super::support::{Kind, Server, connected, keep, program};

/// The case that NATS cannot keep, since it syncs its consumers' state in the background.
const FORGOTTEN: &str = "settlements_outlive_a_restart_of_the_broker";
/// Short, so that a consumer that died is not waited for.
const OPTIONS: Options = Options {
    ack_wait: Duration::from_secs(2),
};

const NATS: Kind = Kind {
    name: "nats",
    title: "NATS JetStream 2.15",
    protocol: Protocol::Nats,
    plan: |site| nats::plan(site, None),
    connect: |address| {
        async move {
            let address = format!("nats://{address}");
            let transport = connected(|| NatsTransport::connect_with(&address, OPTIONS)).await;
            Arc::new(transport) as Arc<dyn Transport>
        }
        .boxed()
    },
    // The server's default, less what the transport keeps for its own headers.
    bytes_max: Some((1 << 20) - 256),
    no_restart: None,
};

fn server() -> Server {
    Server::start(NATS, &program("WHARF_NATS_SERVER"))
}

fn names(topic: &str, group: &str) -> (TopicName, GroupName) {
    (
        TopicName::new(topic).unwrap(),
        GroupName::new(group).unwrap(),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn it_passes_the_conformance_suite() {
    let server = server();
    let mut report = run_those(&server, |case| case.name != FORGOTTEN).await;
    let at = CASES
        .iter()
        .position(|case| case.name == FORGOTTEN)
        .unwrap();
    let reason = "NATS writes down a moment later what was acknowledged: after a crash of the server, the last acknowledgements are forgotten and their messages come again";
    let skipped = CaseReport {
        name: FORGOTTEN.to_owned(),
        group: CASES[at].group,
        faults: Vec::new(),
        verdict: Verdict::Skipped {
            reason: reason.to_owned(),
        },
    };
    report.cases.insert(at, skipped);
    keep(&report);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_handler_gets_no_double_and_a_repeated_publish_is_dropped_by_its_identity() {
    let server = server();
    let nonsense = NatsTransport::connect("nats://:::").await.err();
    assert!(matches!(nonsense, Some(Error::Refused(_))), "{nonsense:?}");
    let client = server.client().await;
    let (topic, group) = names("orders..v1_x-", "billing.eu");
    let subscription = || Subscription::group(group.clone(), vec![topic.clone()]);
    let mut deliveries = client.subscribe(subscription()).await.unwrap();
    let mut others = client.subscribe(subscription()).await.unwrap();
    let message = Message::new("once")
        .with_header(header::CE_SOURCE, "shop")
        .with_header(header::CE_ID, "1");
    let first = client.publish(&topic, message.clone()).await.unwrap();
    let second = client.publish(&topic, message).await.unwrap();
    assert_eq!(first, second);

    // The members compete; whoever has it keeps it for longer than the server would wait.
    let began = Instant::now();
    let delivery = tokio::select! {
        mine = deliveries.next(1) => mine.unwrap().remove(0),
        theirs = others.next(1) => theirs.unwrap().remove(0),
    };
    assert_eq!(delivery.position, first);
    let again = async {
        tokio::select! {
            _ = deliveries.next(1) => (),
            _ = others.next(1) => (),
        }
    };
    let twice = OPTIONS.ack_wait * 2;
    assert!(tokio::time::timeout(twice, again).await.is_err());
    assert!(began.elapsed() >= twice);
    delivery.accept();
    deliveries.close().await.unwrap();
    others.close().await.unwrap();
    client.shutdown().await.unwrap();
}
