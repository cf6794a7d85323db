//! What no client sends: frames that are cut, swollen, damaged or from another time.

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::{
    ApiVersionsRequest, ApiVersionsResponse, FetchRequest, MetadataRequest, ProduceRequest,
    TopicName,
};
use kafka_protocol::protocol::Decodable;
use proptest::prelude::*;

use crate::support::{Node, frame};

/// UNSUPPORTED_VERSION.
const UNSUPPORTED_VERSION: i16 = 35;
/// INVALID_REQUEST.
const INVALID_REQUEST: i16 = 42;

fn ranges(node: &Node) -> Vec<(i16, i16, i16)> {
    let answer = node.ask(0, &ApiVersionsRequest::default());
    assert_eq!(answer.error_code, 0);
    let ranges = answer.api_keys.iter();
    ranges
        .map(|key| (key.api_key, key.min_version, key.max_version))
        .collect()
}

fn raw(key: i16, version: i16, rest: &[u8]) -> Bytes {
    let mut out = BytesMut::new();
    out.put_i16(key);
    out.put_i16(version);
    out.put_i32(7);
    out.put_slice(rest);
    out.freeze()
}

/// No client id; no tagged fields.
const FLEXIBLE_HEADER: [u8; 3] = [0xff, 0xff, 0];
/// No client id.
const RIGID_HEADER: [u8; 2] = [0xff, 0xff];

#[test]
fn the_advertised_ranges_are_those_of_kafka() {
    let kafka = [
        (0, 0, 13),
        (1, 4, 18),
        (2, 1, 11),
        (3, 0, 13),
        (8, 2, 10),
        (9, 1, 10),
        (10, 0, 6),
        (11, 0, 9),
        (12, 0, 4),
        (13, 0, 5),
        (14, 0, 5),
        (15, 0, 6),
        (16, 0, 5),
        (18, 0, 4),
        (19, 2, 7),
        (20, 1, 6),
        (21, 0, 2),
        (22, 0, 5),
        (23, 2, 4),
        (24, 0, 5),
        (25, 0, 4),
        (26, 0, 5),
        (27, 1, 2),
        (28, 0, 5),
        (29, 1, 3),
        (30, 1, 3),
        (31, 1, 3),
        (32, 1, 4),
        (33, 0, 2),
        (35, 1, 5),
        (37, 0, 3),
        (42, 0, 2),
        (43, 0, 2),
        (44, 0, 1),
        (45, 0, 1),
        (46, 0, 0),
        (47, 0, 0),
        (48, 0, 1),
        (49, 0, 1),
        (50, 0, 0),
        (55, 0, 2),
        (57, 0, 2),
        (60, 0, 2),
        (61, 0, 0),
        (65, 0, 0),
        (66, 0, 2),
        (68, 0, 1),
        (69, 0, 1),
        (74, 0, 1),
        (75, 0, 0),
    ];
    assert_eq!(ranges(&Node::new()), kafka);
}

#[test]
fn api_versions_is_answered_in_every_version_and_tells_features_where_it_can() {
    let node = Node::new();
    for version in 0..=4 {
        let mut request = ApiVersionsRequest::default();
        if version >= 3 {
            request.client_software_name = "tester".to_owned().into();
            request.client_software_version = "1.0".to_owned().into();
        }
        let answer = node.ask(version, &request);
        assert_eq!(answer.error_code, 0, "v{version}");
        assert_eq!(answer.api_keys.len(), ranges(&node).len());
        let levels = answer.finalized_features.iter();
        let levels: Vec<_> = levels
            .map(|one| (one.name.as_str(), one.max_version_level))
            .collect();
        let told = version >= 3;
        assert_eq!(
            levels.contains(&("transaction.version", 2)),
            told,
            "v{version}"
        );
        assert_eq!(levels.contains(&("group.version", 1)), told, "v{version}");
        assert_eq!(answer.finalized_features_epoch, if told { 0 } else { -1 });
        // A supported level of 0 is told only to clients that can read it (KIP-584).
        let mut supported = answer.supported_features.iter();
        assert_eq!(
            supported.any(|one| one.min_version == 0),
            version >= 4,
            "v{version}"
        );
    }
}

#[test]
fn a_client_that_does_not_say_its_name_as_asked_is_told_so() {
    let node = Node::new();
    let answer = node.ask(3, &ApiVersionsRequest::default());
    assert_eq!(answer.error_code, INVALID_REQUEST);
    assert!(answer.api_keys.is_empty());
}

#[test]
fn an_unknown_version_of_api_versions_is_answered_in_version_zero_with_the_ranges() {
    let node = Node::new();
    for version in [5, 6, 100, i16::MAX, -1, i16::MIN] {
        let header: &[u8] = if version >= 3 {
            &FLEXIBLE_HEADER
        } else {
            &RIGID_HEADER
        };
        let body = [header, &[0xde, 0xad][..]].concat();
        let mut answer = node.send(raw(18, version, &body)).unwrap().unwrap();
        assert_eq!(answer.split_to(4)[..], 7_i32.to_be_bytes());
        let answer_read = ApiVersionsResponse::decode(&mut answer, 0).unwrap();
        assert!(answer.is_empty());
        assert_eq!(answer_read.error_code, UNSUPPORTED_VERSION, "v{version}");
        assert_eq!(answer_read.api_keys.len(), ranges(&node).len());
    }
}

#[test]
fn an_unknown_key_or_version_ends_the_connection() {
    let node = Node::new();
    for key in [-1, 4, 5, 6, 7, 17, 24, 36, 68, 76, 1000, i16::MIN, i16::MAX] {
        assert!(
            node.send(raw(key, 0, &FLEXIBLE_HEADER)).is_err(),
            "key {key}"
        );
    }
    for (key, first, last) in ranges(&node) {
        for version in [first - 1, last + 1, i16::MIN, i16::MAX] {
            if key != 18 {
                let sent = node.send(raw(key, version, &FLEXIBLE_HEADER));
                assert!(sent.is_err(), "key {key} version {version}");
            }
        }
    }
    for version in 0..3 {
        let refused = node.send(raw(0, version, &RIGID_HEADER)).unwrap_err();
        assert_eq!(
            refused.0,
            format!("Produce version {version} is not supported")
        );
    }
}

#[test]
fn a_frame_without_a_whole_header_ends_the_connection() {
    let node = Node::new();
    let whole = frame(4, &named_metadata());
    for end in 0..whole.len() {
        assert!(node.send(whole.slice(..end)).is_err(), "cut at {end}");
    }
    assert!(node.send(whole).unwrap().is_some());
}

fn named_metadata() -> MetadataRequest {
    use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
    let name = TopicName("a-topic".to_owned().into());
    MetadataRequest::default().with_topics(Some(vec![
        MetadataRequestTopic::default().with_name(Some(name)),
    ]))
}

#[test]
fn counts_beyond_the_frame_end_the_connection_before_anything_is_allocated() {
    let node = Node::new();
    for (key, version, rest) in [
        (3, 0, &[0x7f, 0xff, 0xff, 0xff][..]),
        (3, 0, &[0x80, 0, 0, 0]),
        (3, 9, &[0xff, 0xff, 0xff, 0xff, 0x0f]),
        (3, 12, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
        (18, 3, &[0xff, 0xff, 0xff, 0xff, 0x0f]),
        (42, 0, &[0x7f, 0xff, 0xff, 0xff]),
    ] {
        let flexible = version >= 3;
        let header: &[u8] = if flexible {
            &FLEXIBLE_HEADER
        } else {
            &RIGID_HEADER
        };
        let sent = node.send(raw(key, version, &[header, rest].concat()));
        assert!(sent.is_err(), "key {key} version {version} {rest:?}");
    }
}

#[test]
fn bytes_behind_a_request_are_ignored_as_in_kafka() {
    let node = Node::new();
    for version in [4, 12] {
        let mut swollen = BytesMut::from(&frame(version, &named_metadata())[..]);
        swollen.put_slice(b"and more");
        assert!(node.send(swollen.freeze()).unwrap().is_some());
    }
}

#[test]
fn the_names_of_requests_are_known_without_reading_them() {
    assert_eq!(
        wharf_kafka::Service::request_name(&raw(0, 9, &[])),
        Some("Produce")
    );
    assert_eq!(
        wharf_kafka::Service::request_name(&raw(1, -1, &[])),
        Some("Fetch")
    );
    assert_eq!(wharf_kafka::Service::request_name(&raw(999, 0, &[])), None);
    assert_eq!(wharf_kafka::Service::request_name(&[0, 0, 0]), None);
}

#[test]
fn what_a_request_becomes_when_decoded_is_known_before() {
    use wharf_kafka::Service;
    let one = Service::decoded_bytes(&frame(12, &named_metadata()));
    let many = vec![named_metadata().topics.unwrap()[0].clone(); 1000];
    let many = MetadataRequest::default().with_topics(Some(many));
    let size = size_of_val(&many.topics.as_ref().unwrap()[..]);
    let decoded = Service::decoded_bytes(&frame(12, &many));
    assert_eq!(decoded, 1000 * one);
    assert!(decoded >= size, "{decoded} for {size}");
    let cut = frame(12, &many);
    assert_eq!(Service::decoded_bytes(&cut[..cut.len() / 2]), 0);
    for noise in [&[][..], &[0, 3], &[0, 3, 0, 12, 0, 0, 0, 0], &[9, 9, 9, 9]] {
        assert_eq!(Service::decoded_bytes(noise), 0);
    }
}

#[test]
fn no_frame_of_noise_panics() {
    let node = Node::new();
    let noise = prop::collection::vec(any::<u8>(), 0..200);
    proptest!(|(key in 0..80_i16, version in -1..20_i16, rest in noise)| {
        let _answered_or_refused = node.send(raw(key, version, &rest));
    });
}

#[test]
fn no_damage_to_a_true_frame_panics() {
    let node = Node::new();
    let frames = [
        frame(12, &named_metadata()),
        frame(12, &FetchRequest::default()),
        frame(9, &ProduceRequest::default()),
    ];
    let damage = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4);
    proptest!(|(which in 0..3_usize, damage in damage)| {
        let mut bytes = frames[which].to_vec();
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let _answered_or_refused = node.send(bytes.into());
    });
}
