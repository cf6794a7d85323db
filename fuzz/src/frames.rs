//! One frame as it comes from a socket: header, shape guard, decoder. Nothing is carried out, so
//! the same node takes every frame.

use std::cell::OnceCell;

use bytes::Bytes;
use wharf_kafka::Service;

use crate::requests;
use crate::support::Node;

/// Produce queues its work before anybody polls it; it belongs to the target `requests`.
const PRODUCE: [u8; 2] = [0, 0];

thread_local! {
    static NODE: OnceCell<Node> = const { OnceCell::new() };
}

pub(crate) fn run(data: &[u8]) {
    let known = Service::request_name(data).is_some();
    let decoded = Service::decoded_bytes(data);
    assert!(known || decoded == 0, "an unknown request becomes nothing");
    // An element takes at least a byte on the wire, and a small multiple of it in memory.
    assert!(decoded <= data.len() * 256, "{decoded} for {}", data.len());
    if data.starts_with(&PRODUCE) {
        return;
    }
    NODE.with(|node| {
        let node = node.get_or_init(Node::new);
        let outcome = node.service.handle(&node.cx, Bytes::copy_from_slice(data));
        assert!(known || outcome.is_err(), "an unknown request is answered");
    });
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    requests::frames()
}
