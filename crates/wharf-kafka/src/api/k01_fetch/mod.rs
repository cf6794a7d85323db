//! Fetch: long polls and sessions (KIP-74, KIP-227). The response is written by hand so that
//! record batches travel from the log to the socket without being copied.
//!
//! There are no followers: a request that names a replica is answered like a consumer's.

mod writer;

use std::time::Duration;

use futures_util::FutureExt;
use kafka_protocol::messages::FetchRequest;
use wharf_broker::{Error, ErrorKind, Fetch, FetchPartition, FetchSession, Fetched, TopicRef};

use super::Card;
use crate::frame::Call;
use crate::shape::{INT8, INT32, INT64, Shape, TEXT, UUID, array, items, structure};
use crate::wire::topic_ref;
use crate::{Disconnect, Outcome, Response};

pub(super) static CARD: Card = Card {
    key: 1,
    name: "Fetch",
    advertised: 4..=18,
    answered: 4..=18,
    kips: &[74, 227, 320, 516],
    shape: Shape::new(
        12,
        &[
            INT32.to(14),
            INT32,
            INT32,
            INT32,
            INT8,
            INT32.from(7),
            INT32.from(7),
            array(&[
                TEXT.to(12),
                UUID.from(13),
                array(&[
                    INT32,
                    INT32.from(9),
                    INT64,
                    INT32.from(12),
                    INT64.from(5),
                    INT32,
                    UUID.from(17).tag(0),
                    INT64.from(18).tag(1),
                ]),
            ]),
            array(&[TEXT.to(12), UUID.from(13), items(&INT32)]).from(7),
            TEXT.from(11),
            TEXT.from(12).tag(0),
            structure(&[INT32, INT64]).from(15).tag(1),
        ],
    ),
    notes: "The preferred replica is never another one.",
};

/// The first version that names topics by id.
const BY_ID_FROM: i16 = 13;
/// The isolation level that sees only committed transactions.
const READ_COMMITTED: i8 = 1;

pub(super) fn handle(call: Call) -> Result<Outcome, Disconnect> {
    let request: FetchRequest = call.decode()?;
    Ok(Outcome::Answer(
        async move {
            let fetch = fetch(&request, call.version());
            let read_committed = fetch.read_committed;
            let mut fetched = call.broker.fetch(&call.cx, fetch).await;
            check_names(&mut fetched, call.version());
            let throttle = fetched.throttle;
            let response = writer::write(call.reply, fetched, read_committed);
            Ok(Response {
                throttle,
                ..response
            })
        }
        .boxed(),
    ))
}

fn fetch(request: &FetchRequest, version: i16) -> Fetch {
    let by_id = version >= BY_ID_FROM;
    let mut partitions = Vec::new();
    for topic in &request.topics {
        let name = topic_ref(by_id, &topic.topic, topic.topic_id);
        partitions.extend(topic.partitions.iter().map(|partition| FetchPartition {
            topic: name.clone(),
            partition: partition.partition,
            offset: partition.fetch_offset,
            bytes_max: partition.partition_max_bytes,
            current_leader_epoch: partition.current_leader_epoch,
            last_fetched_epoch: partition.last_fetched_epoch,
            log_start: partition.log_start_offset,
        }));
    }
    let mut forgotten = Vec::new();
    for topic in &request.forgotten_topics_data {
        let name = topic_ref(by_id, &topic.topic, topic.topic_id);
        forgotten.extend(topic.partitions.iter().map(|index| (name.clone(), *index)));
    }
    Fetch {
        wait_max: Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0)),
        bytes_min: request.min_bytes,
        bytes_max: request.max_bytes,
        read_committed: request.isolation_level == READ_COMMITTED,
        session: FetchSession {
            id: request.session_id,
            epoch: request.session_epoch,
        },
        partitions,
        forgotten,
    }
}

/// A session begun with names cannot go on with ids, nor the other way round: what was asked for
/// cannot be written in this version.
fn check_names(fetched: &mut Fetched, version: i16) {
    let by_id = version >= BY_ID_FROM;
    let fits = |topic: &TopicRef| matches!(topic, TopicRef::Id(_)) == by_id;
    if fetched
        .partitions
        .iter()
        .all(|partition| fits(&partition.topic))
    {
        return;
    }
    let sentence = "the session was begun with topics named in another way";
    fetched.error = Some(Error::new(ErrorKind::FetchSessionTopicIdError, sentence));
    fetched.session_id = 0;
    fetched.partitions.clear();
}
