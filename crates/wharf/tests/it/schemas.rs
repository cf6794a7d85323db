//! Events that bring their schema, over a registry in memory: what is published, what is read back,
//! and what a service says at its start.

use std::collections::BTreeMap;
use std::future::IntoFuture;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};
use wharf::schema::{Framing, Registry, RetainedCheck, SchemaError, Strategy};
use wharf::{
    Bus, BusError, Event, Message, Msg, Reason, Router, Schema, ServeError, Timestamp, TopicName,
    group, header,
};
use wharf_message::transport::Publish as _;
use wharf_message::transport::memory::MemoryTransport;
use wharf_server::config::Address;
use wharf_server::{Config, EmbeddedNode, Listeners};

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Schema)]
#[serde(rename_all = "camelCase")]
struct Line {
    article_number: String,
    count: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    gift_note: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Schema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum Channel {
    Web,
    InStore,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Schema)]
enum Payment {
    Cash,
    Voucher(String),
    Card { number: String, debit: bool },
}

/// An order was placed.
///
/// Told once for each order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Event)]
#[event(
    type = "shop.order.placed",
    topic = "shop.orders",
    key = "order",
    schema = "avro"
)]
struct Placed {
    order: String,
    /// In cents.
    total: i64,
    rate: f64,
    lines: Vec<Line>,
    notes: BTreeMap<String, Vec<i32>>,
    channel: Channel,
    payment: Payment,
    second: Option<Payment>,
    third: Option<Channel>,
    #[serde(default = "one")]
    attempts: u8,
}

fn one() -> u8 {
    1
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Event)]
#[event(
    type = "shop.order.priced",
    topic = "shop.priced",
    key = "order",
    schema = "json"
)]
struct Priced {
    order: String,
    lines: Vec<Line>,
    payment: Payment,
    channel: Option<Channel>,
}

#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
pub(super) struct Parcel {
    #[prost(string, tag = "1")]
    tracking: String,
    #[prost(uint32, tag = "2")]
    count: u32,
}

#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize, Event)]
#[event(
    type = "shop.order.shipped",
    topic = "shop.shipped",
    key = "order",
    proto = "tests/protos/shipping.proto",
    import = "parcel.proto",
    message = "shop.shipping.OrderShipped"
)]
pub(super) struct Shipped {
    #[prost(string, tag = "1")]
    order: String,
    #[prost(message, repeated, tag = "2")]
    pub(super) parcels: Vec<Parcel>,
    #[prost(int64, optional, tag = "3")]
    weight_grams: Option<i64>,
}

fn placed() -> Placed {
    let line = |note: Option<&str>| Line {
        article_number: "tea".to_owned(),
        count: 3,
        gift_note: note.map(str::to_owned),
    };
    Placed {
        order: "o-1".to_owned(),
        total: -1 << 40,
        rate: 0.1,
        lines: vec![line(None), line(Some("for you"))],
        notes: BTreeMap::from([("a".to_owned(), vec![1, -2]), ("b".to_owned(), vec![])]),
        channel: Channel::InStore,
        payment: Payment::Card {
            number: "4711".to_owned(),
            debit: true,
        },
        second: Some(Payment::Voucher("v".to_owned())),
        third: None,
        attempts: 9,
    }
}

pub(super) fn shipped() -> Shipped {
    Shipped {
        order: "o-1".to_owned(),
        parcels: vec![Parcel {
            tracking: "t".to_owned(),
            count: 2,
        }],
        weight_grams: Some(-5),
    }
}

/// A transport, and a bus on it with a registry.
pub(super) fn bus(registry: &Registry) -> (Arc<MemoryTransport>, Bus) {
    let transport = Arc::new(MemoryTransport::new(Timestamp::ZERO));
    let bus = Bus::new(Arc::clone(&transport) as _, "shop").with_registry(registry);
    (transport, bus)
}

pub(super) fn only(transport: &MemoryTransport, topic: &str) -> Message {
    let mut messages = transport.messages(TopicName::new(topic).unwrap());
    assert_eq!(messages.len(), 1);
    messages.remove(0)
}

/// What a handler of `T` in another service gets.
pub(super) async fn handled<T: Event + Clone>(bus: &Bus) -> T {
    let (sender, mut handled) = mpsc::unbounded_channel();
    let handle = move |Msg(event): Msg<T>| {
        let sender = sender.clone();
        async move { drop(sender.send(event)) }
    };
    let router = Router::new().topic(T::TOPIC, group("reader").on(handle));
    let serving = tokio::spawn(bus.serve(router).into_future());
    let event = tokio::time::timeout(PATIENCE, handled.recv()).await;
    serving.abort();
    event.unwrap().unwrap()
}

#[tokio::test]
async fn avro_events_go_round_with_everything_that_a_type_may_have() {
    let registry = Registry::in_memory();
    let (transport, bus) = bus(&registry);
    bus.publish(&placed()).await.unwrap();
    let message = only(&transport, "shop.orders");
    let payload = message.payload.clone().unwrap();
    assert_eq!(payload[..5], [0, 0, 0, 0, 1]);
    assert!(
        message
            .headers
            .iter()
            .all(|(name, _)| name != "wharf-contract")
    );
    assert_eq!(
        message.headers.text(header::CONTENT_TYPE),
        Ok(Some("application/octet-stream"))
    );
    // A reader that knows nothing of the writer but the registry.
    assert_eq!(handled::<Placed>(&bus).await, placed());
}

#[tokio::test]
async fn json_events_go_round_and_are_valid_by_their_schema() {
    let registry = Registry::in_memory();
    let (transport, bus) = bus(&registry);
    let Placed {
        order,
        lines,
        payment,
        ..
    } = placed();
    let priced = Priced {
        order,
        lines,
        payment,
        channel: Some(Channel::Web),
    };
    bus.publish(&priced).await.unwrap();
    let payload = only(&transport, "shop.priced").payload.unwrap();
    assert_eq!(payload[..5], [0, 0, 0, 0, 1]);
    let plain: Value = serde_json::from_slice(&payload[5..]).unwrap();
    assert_eq!(plain["lines"][1]["giftNote"], "for you");
    assert_eq!(handled::<Priced>(&bus).await, priced);
}

#[tokio::test]
async fn protobuf_events_go_round_with_the_path_of_their_message() {
    let registry = Registry::in_memory();
    let (transport, bus) = bus(&registry);
    bus.publish(&shipped()).await.unwrap();
    let payload = only(&transport, "shop.shipped").payload.unwrap();
    // The import has the first id; the message is the second of its file.
    assert_eq!(payload[..7], [0, 0, 0, 0, 2, 2, 2]);
    assert_eq!(payload[7..], prost::Message::encode_to_vec(&shipped()));
    assert_eq!(handled::<Shipped>(&bus).await, shipped());
}

#[tokio::test]
async fn a_guid_in_a_header_leaves_the_payload_alone() {
    for registry in [
        Registry::in_memory().framing(Framing::Header),
        Registry::in_memory()
            .framing(Framing::Header)
            .subjects(Strategy::TopicRecord),
    ] {
        let (transport, bus) = bus(&registry);
        bus.publish(&shipped()).await.unwrap();
        let message = only(&transport, "shop.shipped");
        let header = message.headers.get("__value_schema_id").unwrap();
        assert_eq!((header.len(), header[0]), (1 + 16 + 2, 1));
        assert_eq!(
            message.payload.unwrap(),
            prost::Message::encode_to_vec(&shipped())
        );
        // Who writes prefixes reads headers.
        let prefixes = bus.with_registry(&registry.clone().framing(Framing::Prefix));
        assert_eq!(handled::<Shipped>(&prefixes).await, shipped());
    }
}

fn schema<T: Event>() -> Value {
    serde_json::from_str(T::contract().unwrap().unwrap().text()).unwrap()
}

#[test]
fn an_avro_schema_is_made_from_the_type() {
    let variant =
        |name: &str, fields: Value| json!({ "type": "record", "name": name, "fields": fields });
    let line = json!({ "type": "record", "name": "Line", "fields": [
        { "name": "articleNumber", "type": "string" },
        { "name": "count", "type": "long" },
        { "name": "giftNote", "type": ["null", "string"], "default": null },
    ]});
    let channel = json!({
        "type": "enum", "name": "Channel", "symbols": ["WEB", "IN_STORE"],
    });
    let payment = json!([
        variant("PaymentCash", json!([])),
        variant(
            "PaymentVoucher",
            json!([{ "name": "value", "type": "string" }])
        ),
        variant(
            "PaymentCard",
            json!([
                { "name": "number", "type": "string" },
                { "name": "debit", "type": "boolean" },
            ])
        ),
    ]);
    let again = |name: &str| json!(format!("shop.order.{name}"));
    let expected = json!({
        "type": "record", "name": "Placed", "namespace": "shop.order",
        "doc": "An order was placed.",
        "fields": [
            { "name": "order", "type": "string" },
            { "name": "total", "type": "long", "doc": "In cents." },
            { "name": "rate", "type": "double" },
            { "name": "lines", "type": { "type": "array", "items": line } },
            { "name": "notes", "type": {
                "type": "map", "values": { "type": "array", "items": "int" },
            }},
            { "name": "channel", "type": channel },
            { "name": "payment", "type": payment },
            { "name": "second", "type": [
                "null", again("PaymentCash"), again("PaymentVoucher"), again("PaymentCard"),
            ], "default": null },
            { "name": "third", "type": ["null", again("Channel")], "default": null },
            { "name": "attempts", "type": "int", "default": 1 },
        ],
    });
    assert_eq!(schema::<Placed>(), expected);
}

#[test]
fn a_json_schema_is_made_from_the_type() {
    let expected = json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Priced",
        "type": "object",
        "properties": {
            "order": { "type": "string" },
            "lines": { "type": "array", "items": { "$ref": "#/definitions/Line" } },
            "payment": { "$ref": "#/definitions/Payment" },
            "channel": {
                "oneOf": [{ "type": "null" }, { "$ref": "#/definitions/Channel" }],
                "default": null,
            },
        },
        "required": ["order", "lines", "payment"],
        "additionalProperties": false,
        "definitions": {
            "Channel": { "type": "string", "enum": ["WEB", "IN_STORE"] },
            "Line": {
                "type": "object",
                "properties": {
                    "articleNumber": { "type": "string" },
                    "count": { "type": "integer" },
                    "giftNote": {
                        "oneOf": [{ "type": "null" }, { "type": "string" }],
                        "default": null,
                    },
                },
                "required": ["articleNumber", "count"],
                "additionalProperties": false,
            },
            "Payment": { "oneOf": [
                { "type": "string", "enum": ["Cash"] },
                {
                    "type": "object",
                    "properties": { "Voucher": { "type": "string" } },
                    "required": ["Voucher"],
                    "additionalProperties": false,
                },
                {
                    "type": "object",
                    "properties": { "Card": {
                        "type": "object",
                        "properties": {
                            "number": { "type": "string" },
                            "debit": { "type": "boolean" },
                        },
                        "required": ["number", "debit"],
                        "additionalProperties": false,
                    }},
                    "required": ["Card"],
                    "additionalProperties": false,
                },
            ]},
        },
    });
    assert_eq!(schema::<Priced>(), expected);
}

/// Another version of the order, as another service has it.
mod later {
    use super::*;

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Event)]
    #[event(
        type = "shop.order.placed",
        topic = "shop.orders",
        key = "order",
        schema = "avro"
    )]
    pub(super) struct Placed {
        pub(super) order: String,
        #[serde(default)]
        pub(super) currency: Option<String>,
        pub(super) total: f64,
    }
}

/// And one that asks for what the first never had.
mod demanding {
    use super::*;

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Event)]
    #[event(
        type = "shop.order.placed",
        topic = "shop.orders",
        key = "order",
        schema = "avro"
    )]
    pub(super) struct Placed {
        pub(super) order: String,
        pub(super) customer: String,
    }
}

#[tokio::test]
async fn a_reader_with_a_later_schema_reads_by_avros_resolution() {
    let registry = Registry::in_memory();
    let (_transport, bus) = bus(&registry);
    bus.publish(&placed()).await.unwrap();
    let read = handled::<later::Placed>(&bus).await;
    let expected = later::Placed {
        order: "o-1".to_owned(),
        currency: None,
        #[expect(clippy::cast_precision_loss, reason = "a power of two")]
        total: (-1_i64 << 40) as f64,
    };
    assert_eq!(read, expected);
}

#[tokio::test]
async fn an_incompatible_version_is_refused_before_anything_is_published() {
    let registry = Registry::in_memory();
    let (transport, bus) = bus(&registry);
    bus.publish(&placed()).await.unwrap();
    let demanding = demanding::Placed {
        order: "o-2".to_owned(),
        customer: "c".to_owned(),
    };
    let error = bus.publish(&demanding).await.unwrap_err();
    let BusError::Schema(SchemaError::Refused { what, why }) = &error else {
        panic!("{error}");
    };
    assert!(what.contains("shop.orders-value"), "{what}");
    assert!(why.contains("customer"), "{why}");
    only(&transport, "shop.orders");
}

#[tokio::test]
async fn what_is_not_registered_is_refused_where_a_pipeline_registers() {
    let registry = Registry::in_memory();
    let (transport, bus) = bus(&registry.clone().auto_register(false));
    let error = bus.publish(&placed()).await.unwrap_err();
    assert!(matches!(
        error,
        BusError::Schema(SchemaError::Refused { .. })
    ));
    let topic = TopicName::new("shop.orders").unwrap();
    assert!(transport.messages(&topic).is_empty());
    let registering = bus.with_registry(&registry);
    registering.publish(&placed()).await.unwrap();
    bus.publish(&placed()).await.unwrap();
    assert_eq!(transport.messages(&topic).len(), 2);
}

#[tokio::test]
async fn without_a_registry_events_are_plain_json_and_are_read_with_one_too() {
    let registry = Registry::in_memory();
    let (transport, with) = bus(&registry);
    let without = Bus::new(Arc::clone(&transport) as _, "shop");
    without.publish(&placed()).await.unwrap();
    let message = only(&transport, "shop.orders");
    let plain: Placed = serde_json::from_slice(&message.payload.unwrap()).unwrap();
    assert_eq!(plain, placed());
    assert!(!message.headers.contains("wharf-contract"));
    assert_eq!(handled::<Placed>(&with).await, placed());
}

#[tokio::test]
async fn what_names_a_schema_that_there_is_not_is_a_dead_letter_that_says_so() {
    let registry = Registry::in_memory();
    let (transport, bus) = bus(&registry);
    let topic = TopicName::new("shop.orders").unwrap();
    for payload in [&[0, 0, 0, 0, 99, 1][..], &[0, 0], &[1, 2, 3]] {
        let message = Message::new(payload.to_vec()).with_header(header::CE_TYPE, Placed::TYPE);
        transport.publish(&topic, message).await.unwrap();
    }
    let router = Router::new().topic("shop.orders", group("reader").on(async |_: Msg<Placed>| ()));
    let serving = tokio::spawn(bus.serve(router).into_future());
    let letters = TopicName::new("dlq.shop.orders.reader").unwrap();
    let came = async {
        while transport.messages(&letters).len() < 3 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, came).await.unwrap();
    serving.abort();
    for letter in transport.messages(&letters) {
        let reason = letter.headers.text(header::DLQ_REASON).unwrap();
        assert_eq!(reason, Some(Reason::Undecodable.name()));
    }
}

/// Starts a service that handles `T`, and ends it once it takes messages.
async fn start<T: Event>(bus: &Bus) -> Result<(), ServeError> {
    let router = Router::new().topic(T::TOPIC, group("reader").on(async |_: Msg<T>| ()));
    let (ready, is_ready) = oneshot::channel();
    let stop = async move { drop(is_ready.await) };
    let serve = bus.serve(router).with_graceful_shutdown(stop);
    tokio::time::timeout(PATIENCE, serve.tell_when_ready(ready).into_future())
        .await
        .unwrap()
}

#[tokio::test]
async fn a_service_that_cannot_read_what_is_retained_says_what_where_and_why() {
    let registry = Registry::in_memory();
    let (_transport, bus) = bus(&registry);
    bus.publish(&placed()).await.unwrap();
    bus.publish(&placed()).await.unwrap();
    let refusing = bus.with_registry(&registry.clone().check_retained(RetainedCheck::Refuse));
    start::<Placed>(&refusing).await.unwrap();
    start::<later::Placed>(&refusing).await.unwrap();
    let Err(ServeError::Retained { why }) = start::<demanding::Placed>(&refusing).await else {
        panic!("it cannot be read");
    };
    for part in [
        "shop.order.placed cannot read the schema of id 1 (version 1 of shop.orders-value)",
        "retained in shop.orders: 2 records in partition 0, offsets 0 to 1;",
        "customer",
        ", as in {",
    ] {
        assert!(why.contains(part), "{part} is not in {why}");
    }
    // A warning lets it start.
    start::<demanding::Placed>(&bus).await.unwrap();
    let off = bus.with_registry(&registry.check_retained(RetainedCheck::Off));
    start::<demanding::Placed>(&off).await.unwrap();
}

/// A node in this process that has nothing but a registry.
async fn node(data: &std::path::Path) -> (EmbeddedNode, String) {
    let mut config = Config::default();
    config.node.data = data.to_owned();
    config.registry.listen = Address::new("127.0.0.1", 0);
    config.log.journal_file_size.0 = 8 << 20;
    let listeners = Listeners {
        registry: true,
        ..Listeners::default()
    };
    let node = EmbeddedNode::start(config, listeners).await.unwrap();
    let address = format!("http://{}", node.registry_address().unwrap());
    (node, address)
}

#[tokio::test]
async fn a_registry_behind_an_address_serves_writers_and_readers_that_share_nothing() {
    let data = tempfile::tempdir().unwrap();
    let (node, address) = node(data.path()).await;
    let connect = || Registry::connect(&address).unwrap();
    for framing in [Framing::Prefix, Framing::Header] {
        let (_transport, writing) = bus(&connect().framing(framing));
        writing.publish(&placed()).await.unwrap();
        writing.publish(&shipped()).await.unwrap();
        let reading = writing.with_registry(&connect().check_retained(RetainedCheck::Refuse));
        assert_eq!(handled::<Placed>(&reading).await, placed());
        assert_eq!(handled::<Shipped>(&reading).await, shipped());
    }
    let (transport, writing) = bus(&connect());
    let demanding = demanding::Placed {
        order: "o-2".to_owned(),
        customer: "c".to_owned(),
    };
    let refused = writing.publish(&demanding).await.unwrap_err();
    assert!(refused.to_string().contains("409"), "{refused}");
    assert!(refused.to_string().contains("customer"), "{refused}");
    node.shutdown().await.unwrap();
    let (_, alone) = bus(&connect());
    let BusError::Schema(unreachable) = alone.publish(&placed()).await.unwrap_err() else {
        panic!("there is no registry any more")
    };
    assert!(unreachable.is_transient(), "{unreachable}");
    let topic = TopicName::new("shop.orders").unwrap();
    assert!(transport.messages(&topic).is_empty());
}

#[test]
fn an_address_that_is_none_is_refused_at_once() {
    for wrong in ["127.0.0.1:8081", "kafka://host", "http://", "nonsense"] {
        assert!(Registry::connect(wrong).is_err(), "{wrong}");
    }
    let registry = Registry::connect("http://me:secret@host:1").unwrap();
    assert!(!format!("{registry:?}").contains("secret"));
}
