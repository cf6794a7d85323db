//! Events of Protobuf that bring their schema out of a compiled descriptor set.

use serde::{Deserialize, Serialize};
use wharf::Event;
use wharf::schema::Registry;

use crate::schemas::{Parcel, Shipped, bus, handled, only, shipped};

/// The same message, out of what protoc made of the same files.
#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize, Event)]
#[event(
    type = "shop.order.shipped",
    topic = "shop.shipped",
    key = "order",
    proto_set = "tests/protos/shipping.bin",
    message = "shop.shipping.OrderShipped"
)]
struct ShippedOfSet {
    #[prost(string, tag = "1")]
    order: String,
    #[prost(message, repeated, tag = "2")]
    parcels: Vec<Parcel>,
}

#[tokio::test]
async fn an_event_of_a_compiled_set_is_read_with_its_files_and_is_compatible_with_them() {
    let registry = Registry::in_memory();
    let (transport, bus) = bus(&registry);
    let event = ShippedOfSet {
        order: "o-1".to_owned(),
        parcels: shipped().parcels,
    };
    bus.publish(&event).await.unwrap();
    let payload = only(&transport, "shop.shipped").payload.unwrap();
    assert_eq!(payload[..7], [0, 0, 0, 0, 2, 2, 2]);
    // Whoever has the files reads it.
    assert_eq!(handled::<Shipped>(&bus).await.parcels, event.parcels);
    // The files themselves are a compatible version, which whoever has the set reads.
    let (_, later) = crate::schemas::bus(&registry);
    later.publish(&shipped()).await.unwrap();
    assert_eq!(handled::<ShippedOfSet>(&later).await, event);
}
