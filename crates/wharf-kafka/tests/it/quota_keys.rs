//! Client quotas (48, 49): what can be set and asked for, and what clients then see. Time is
//! virtual, so rates are exact.

use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::error::ResponseError as E;
use kafka_protocol::messages::alter_client_quotas_request::{EntityData, EntryData, OpData};
use kafka_protocol::messages::describe_client_quotas_request::ComponentData;
use kafka_protocol::messages::{
    AlterClientQuotasRequest, DescribeClientQuotasRequest, DescribeClientQuotasResponse,
    FetchRequest, FetchResponse, MetadataRequest, ProduceRequest, ProduceResponse,
};
use kafka_protocol::protocol::{Request, StrBytes};
use wharf_kafka::{Outcome, Response};

use crate::records::{batch_of, create, fetch_request, produce, produce_request};
use crate::support::{Node, frame, read};

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

/// An entity's parts; `None` is the default.
type Entity<'a> = &'a [(&'a str, Option<&'a str>)];

fn entry(entity: Entity<'_>, changes: &[(&str, Option<f64>)]) -> EntryData {
    let entity = entity.iter().map(|(kind, name)| {
        EntityData::default()
            .with_entity_type(text(kind))
            .with_entity_name(name.map(text))
    });
    let ops = changes.iter().map(|(key, value)| {
        OpData::default()
            .with_key(text(key))
            .with_value(value.unwrap_or_default())
            .with_remove(value.is_none())
    });
    EntryData::default()
        .with_entity(entity.collect())
        .with_ops(ops.collect())
}

fn alter(node: &Node, version: i16, entries: Vec<EntryData>, validate_only: bool) -> Vec<i16> {
    let request = AlterClientQuotasRequest::default()
        .with_entries(entries)
        .with_validate_only(validate_only);
    let answer = node.ask(version, &request);
    for entry in &answer.entries {
        assert_eq!(entry.error_code != 0, entry.error_message.is_some());
    }
    answer
        .entries
        .iter()
        .map(|entry| entry.error_code)
        .collect()
}

fn set(node: &Node, entity: Entity<'_>, key: &str, value: f64) {
    assert_eq!(
        alter(node, 1, vec![entry(entity, &[(key, Some(value))])], false),
        [0]
    );
}

fn component(kind: &str, match_type: i8, name: Option<&str>) -> ComponentData {
    ComponentData::default()
        .with_entity_type(text(kind))
        .with_match_type(match_type)
        .with_match(name.map(text))
}

fn ask(
    node: &Node,
    version: i16,
    components: Vec<ComponentData>,
    strict: bool,
) -> DescribeClientQuotasResponse {
    let request = DescribeClientQuotasRequest::default()
        .with_components(components)
        .with_strict(strict);
    node.ask(version, &request)
}

/// The entities that match, each as `kind=name` with its quotas.
fn described(node: &Node, components: Vec<ComponentData>, strict: bool) -> Vec<String> {
    let answer = ask(node, 1, components, strict);
    assert_eq!(answer.error_code, 0);
    let entries = answer.entries.unwrap().into_iter().map(|entry| {
        let names = entry.entity.iter().map(|part| {
            let name = part.entity_name.as_ref().map_or("*", |name| name.as_str());
            format!("{}={name}", part.entity_type.as_str())
        });
        let values = entry
            .values
            .iter()
            .map(|one| format!("{}:{}", one.key.as_str(), one.value));
        names.chain(values).collect::<Vec<_>>().join(" ")
    });
    entries.collect()
}

#[test]
fn quotas_are_set_described_and_removed_in_every_version() {
    let node = Node::new();
    for version in 0..=1 {
        let both: Entity<'_> = &[("user", Some("alice")), ("client-id", None)];
        let changes = [
            ("producer_byte_rate", Some(1024.0)),
            ("request_percentage", Some(12.5)),
        ];
        assert_eq!(
            alter(&node, version, vec![entry(both, &changes)], true),
            [0]
        );
        assert!(
            ask(&node, version, vec![], false)
                .entries
                .unwrap()
                .is_empty(),
            "only checked"
        );
        assert_eq!(
            alter(&node, version, vec![entry(both, &changes)], false),
            [0]
        );
        let expected = "user=alice client-id=* producer_byte_rate:1024 request_percentage:12.5";
        assert_eq!(described(&node, vec![], false), [expected]);
        let less = [("request_percentage", None), ("consumer_byte_rate", None)];
        assert_eq!(alter(&node, version, vec![entry(both, &less)], false), [0]);
        assert_eq!(
            described(&node, vec![], false),
            ["user=alice client-id=* producer_byte_rate:1024"]
        );
        let nothing = [("producer_byte_rate", None)];
        assert_eq!(
            alter(&node, version, vec![entry(both, &nothing)], false),
            [0]
        );
        assert_eq!(described(&node, vec![], false), [""; 0]);
    }
}

#[test]
fn entities_are_found_by_name_by_default_by_kind_and_strictly() {
    let node = Node::new();
    let entities: [Entity<'_>; 5] = [
        &[("user", Some("alice"))],
        &[("user", None)],
        &[("user", Some("alice")), ("client-id", Some("app"))],
        &[("client-id", Some("app"))],
        &[("client-id", None)],
    ];
    for entity in entities {
        set(&node, entity, "consumer_byte_rate", 5.0);
    }
    set(
        &node,
        &[("ip", Some("127.0.0.1"))],
        "connection_creation_rate",
        5.0,
    );
    let find = |components: Vec<ComponentData>, strict| -> Vec<String> {
        let found = described(&node, components, strict);
        found
            .iter()
            .map(|one| one.rsplit_once(' ').unwrap().0.to_owned())
            .collect()
    };
    assert_eq!(find(vec![], false).len(), 6);
    assert_eq!(find(vec![], true), [""; 0]);
    let alice = || component("user", 0, Some("alice"));
    assert_eq!(
        find(vec![alice()], false),
        ["user=alice", "user=alice client-id=app"]
    );
    assert_eq!(find(vec![alice()], true), ["user=alice"]);
    assert_eq!(find(vec![component("user", 1, None)], false), ["user=*"]);
    assert_eq!(
        find(vec![component("user", 2, None)], true),
        ["user=*", "user=alice"]
    );
    let any_client = component("client-id", 2, None);
    assert_eq!(
        find(vec![alice(), any_client], true),
        ["user=alice client-id=app"]
    );
    assert_eq!(find(vec![component("ip", 2, None)], true), ["ip=127.0.0.1"]);
}

#[test]
fn questions_that_mean_nothing_are_refused() {
    let node = Node::new();
    let invalid = E::InvalidRequest.code();
    for (components, code) in [
        (
            vec![component("group", 0, Some("a"))],
            E::UnsupportedVersion.code(),
        ),
        (vec![component("user", 0, None)], invalid),
        (vec![component("user", 1, Some("a"))], invalid),
        (vec![component("user", 2, Some("a"))], invalid),
        (vec![component("user", 3, None)], invalid),
        (
            vec![component("user", 2, None), component("user", 1, None)],
            invalid,
        ),
        (
            vec![component("user", 2, None), component("ip", 2, None)],
            invalid,
        ),
    ] {
        for version in 0..=1 {
            let answer = ask(&node, version, components.clone(), false);
            assert_eq!(answer.error_code, code, "{components:?}");
            assert!(answer.entries.is_none() && answer.error_message.is_some());
        }
    }
}

#[test]
fn a_bad_quota_is_refused_with_its_entity_and_the_others_are_set() {
    let node = Node::new();
    let alice: Entity<'_> = &[("user", Some("alice"))];
    let bob: Entity<'_> = &[("user", Some("bob"))];
    let good = [("producer_byte_rate", Some(10.0))];
    let entries = vec![
        entry(alice, &[good[0], ("controller_mutation_rate", Some(1.0))]),
        entry(bob, &good),
        entry(&[("user", Some("a")), ("user", Some("b"))], &good),
        entry(&[("team", Some("a"))], &good),
        entry(&[("ip", Some("127.0.0.1"))], &good),
        entry(&[("user", Some("twice"))], &good),
        entry(&[("user", Some("twice"))], &good),
        entry(&[], &good),
    ];
    let invalid = E::InvalidRequest.code();
    let mut expected = [invalid; 8];
    expected[1] = 0;
    assert_eq!(alter(&node, 1, entries, false), expected);
    assert_eq!(
        described(&node, vec![], false),
        ["user=bob producer_byte_rate:10"]
    );
}

/// Sends a request as the server does: charged, told, and the answer with the time to wait.
fn send<Q: Request>(node: &Node, version: i16, request: &Q) -> (Q::Response, Duration) {
    let frame = frame(version, request);
    let meter = node
        .service
        .meter(&node.cx, &frame)
        .expect("quotas are set");
    let (answer, wait) = match node.service.handle(&node.cx, frame).unwrap() {
        Outcome::Answer(answer) => {
            let answer = node.run(answer).unwrap();
            let wait = meter.charge(Duration::ZERO, Some(&answer));
            (answer, wait)
        }
        Outcome::Queued(answer) => {
            let wait = meter.charge(Duration::ZERO, None);
            (node.run(answer).unwrap(), wait)
        }
        Outcome::Silent(_) => panic!("an answer was asked for"),
    };
    let mut answer: Response = answer;
    meter.tell(&mut answer, wait);
    (
        read::<Q>(version, version, Bytes::from(answer.parts.concat())),
        wait,
    )
}

const EVERYBODY: Entity<'static> = &[("user", None)];

#[test]
fn a_producer_that_waits_as_told_keeps_to_its_rate_and_is_told_in_every_version() {
    let node = Node::new();
    let topic = create(&node, "orders", &[]);
    let rate = 1000.0;
    set(&node, EVERYBODY, "producer_byte_rate", rate);
    let begun = node.now();
    let mut sent = 0.0;
    let mut told = 0;
    for version in (3..=13).cycle().take(110) {
        let records = batch_of(&["0123456789012345678901234567890123456789"; 4], None);
        let request = produce_request(version, topic, 0, records);
        let bytes = 4 + frame(version, &request).len();
        let (answer, wait): (ProduceResponse, _) = send::<ProduceRequest>(&node, version, &request);
        assert_eq!(
            answer.responses[0].partition_responses[0].error_code, 0,
            "never refused"
        );
        assert_eq!(
            u128::try_from(answer.throttle_time_ms).unwrap(),
            wait.as_millis()
        );
        told += usize::from(!wait.is_zero());
        sent += f64::from(u32::try_from(bytes).unwrap());
        node.pass(wait);
    }
    let elapsed = f64::from(u32::try_from(node.now() - begun).unwrap()) / 1000.0;
    // A bucket of one second may have left besides; what was sent last has been waited for.
    assert!(
        sent <= rate * (elapsed + 1.0) + 1.0,
        "{sent} bytes in {elapsed} s"
    );
    assert!(
        sent >= rate * elapsed,
        "no slower than allowed: {sent} bytes in {elapsed} s"
    );
    assert!(told > 90, "{told}");
}

fn of_session(request: FetchRequest, id: i32, epoch: i32) -> FetchRequest {
    request.with_session_id(id).with_session_epoch(epoch)
}

#[test]
fn a_fetch_beyond_the_quota_is_answered_empty_and_its_session_goes_on() {
    let node = Node::new();
    let topic = create(&node, "orders", &[]);
    for _ in 0..20 {
        produce(
            &node,
            9,
            topic,
            batch_of(&["0123456789012345678901234567890123456789"; 4], None),
        );
    }
    set(&node, EVERYBODY, "consumer_byte_rate", 700.0);
    let version = 12;
    let opening = of_session(fetch_request(version, topic, 0, 0), 0, 0);
    let (first, wait): (FetchResponse, _) = send::<FetchRequest>(&node, version, &opening);
    let id = first.session_id;
    let got = first.responses[0].partitions[0]
        .records
        .as_ref()
        .unwrap()
        .len();
    assert!(got > 0 && got <= 700 && id != 0, "{got} bytes");
    assert!(wait.is_zero(), "within the burst");
    // Another batch overdraws the bucket: it comes, and the wait with it.
    let next = of_session(fetch_request(version, topic, 0, 2), id, 1);
    let (second, wait) = send::<FetchRequest>(&node, version, &next);
    assert!(!second.responses.is_empty() && !wait.is_zero());
    // Whoever does not wait gets nothing, now and in a session to be begun.
    let nothing = of_session(FetchRequest::default().with_max_bytes(1 << 20), id, 2);
    let (throttled, wait) = send::<FetchRequest>(&node, version, &nothing);
    assert_eq!((throttled.error_code, throttled.session_id), (0, id));
    assert!(throttled.responses.is_empty() && throttled.throttle_time_ms > 0);
    let (begun, _) = send::<FetchRequest>(&node, version, &opening);
    assert_eq!(
        (begun.error_code, begun.session_id),
        (0, 0),
        "no session without a first answer"
    );
    assert!(begun.responses.is_empty() && begun.throttle_time_ms > 0);
    // After the wait the session goes on where it was: with the next epoch and its partition.
    node.pass(wait);
    let (after, _) = send::<FetchRequest>(&node, version, &of_session(nothing, id, 3));
    assert_eq!((after.error_code, after.session_id), (0, id));
    assert!(
        !after.responses[0].partitions[0]
            .records
            .as_ref()
            .unwrap()
            .is_empty()
    );
}

#[test]
fn time_spent_on_requests_is_limited_for_every_kind_of_request() {
    let node = Node::new();
    set(&node, EVERYBODY, "request_percentage", 10.0);
    let frame = frame(12, &MetadataRequest::default());
    let meter = node.service.meter(&node.cx, &frame).unwrap();
    assert_eq!(
        meter.charge(Duration::from_millis(100), None),
        Duration::ZERO
    );
    assert_eq!(
        meter.charge(Duration::from_millis(5), None),
        Duration::from_millis(50)
    );
    assert_eq!(
        meter.charge(Duration::from_secs(9), None),
        Duration::from_secs(1),
        "at most"
    );
}

#[test]
fn other_clients_are_not_held_up_by_one_that_took_too_much() {
    let node = Node::new();
    let topic = create(&node, "orders", &[]);
    set(
        &node,
        &[("client-id", Some("tester"))],
        "producer_byte_rate",
        10.0,
    );
    let request = produce_request(9, topic, 0, batch_of(&["0123456789"], None));
    let (_, wait) = send::<ProduceRequest>(&node, 9, &request);
    assert!(!wait.is_zero());
    let mut other = BytesOf(frame(9, &request)).with_client("other!");
    let meter = node.service.meter(&node.cx, &other.0).unwrap();
    assert_eq!(meter.charge(Duration::ZERO, None), Duration::ZERO);
    other = other.with_client("tester");
    let meter = node.service.meter(&node.cx, &other.0).unwrap();
    assert!(!meter.charge(Duration::ZERO, None).is_zero());
}

/// A frame whose client id of six letters can be changed.
struct BytesOf(Bytes);

impl BytesOf {
    fn with_client(self, name: &str) -> Self {
        let mut bytes = self.0.to_vec();
        assert_eq!(bytes[8..10], 6_i16.to_be_bytes());
        bytes[10..16].copy_from_slice(name.as_bytes());
        Self(bytes.into())
    }
}
