//! DeleteTopics: each topic on its own, by name, or from version 6 on by name or id.
//!
//! What stands twice in a request, also once by name and once by id, is refused and stays.

use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::delete_topics_response::DeletableTopicResult;
use kafka_protocol::messages::{DeleteTopicsRequest, DeleteTopicsResponse};
use uuid::Uuid;
use wharf_broker::{Broker, Context, Error, ErrorKind, TopicRef};

use super::Card;
use super::in_order::in_order;
use super::repeated::repeated;
use crate::error::error_code;
use crate::frame::Call;
use crate::shape::{INT32, Shape, TEXT, UUID, array, items};
use crate::wire::{message, topic_name};
use crate::{Disconnect, Outcome};

/// The first version that names topics by id too.
const BY_ID: i16 = 6;

pub(super) static CARD: Card = Card {
    key: 20,
    name: "DeleteTopics",
    advertised: 1..=6,
    answered: 1..=6,
    kips: &[4, 516],
    shape: Shape::new(
        4,
        &[array(&[TEXT, UUID]).from(6), items(&TEXT).to(5), INT32],
    ),
    notes: "The time-out is not needed: nothing waits for other nodes.",
};

pub(super) fn handle(call: Call) -> Result<Outcome, Disconnect> {
    call.answer(answer)
}

async fn answer(call: Call, request: DeleteTopicsRequest) -> DeleteTopicsResponse {
    let (broker, cx) = (&call.broker, &call.cx);
    let version = call.version();
    let topics: Vec<_> = if version >= BY_ID {
        request.topics
    } else {
        let names = request.topic_names.into_iter();
        names
            .map(|name| DeleteTopicState::default().with_name(Some(name)))
            .collect()
    };
    let wanted: Vec<_> = topics.iter().map(|topic| wanted(broker, topic)).collect();
    let repeated = &repeated(wanted.iter().flatten().cloned());
    let work = topics
        .into_iter()
        .zip(wanted)
        .map(|(topic, wanted)| async move {
            let deleted = match &wanted {
                Ok(one) if repeated.contains(one) => {
                    Err(invalid("the topic is named more than once"))
                }
                Ok(one) => delete(broker, cx, one).await,
                Err(error) => Err(error.clone()),
            };
            response(topic, deleted)
        });
    DeleteTopicsResponse::default().with_responses(in_order(work).await)
}

/// The topic a line of the request means.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Wanted {
    /// One that exists.
    Known(Uuid),
    /// One that does not.
    Unknown(TopicRef),
}

fn wanted(broker: &Broker, topic: &DeleteTopicState) -> Result<Wanted, Error> {
    let reference = match (&topic.name, topic.topic_id) {
        (Some(name), id) if id.is_nil() => TopicRef::Name(name.to_string()),
        (None, id) if !id.is_nil() => TopicRef::Id(id),
        (Some(_), _) => {
            return Err(invalid(
                "a topic is named by its name or by its id, not by both",
            ));
        }
        (None, _) => return Err(invalid("a topic to delete needs its name or its id")),
    };
    Ok(broker
        .topic(&reference)
        .map_or(Wanted::Unknown(reference), |topic| Wanted::Known(topic.id)))
}

fn invalid(message: &str) -> Error {
    Error::new(ErrorKind::InvalidRequest, message)
}

async fn delete(broker: &Broker, cx: &Context, wanted: &Wanted) -> Result<(String, Uuid), Error> {
    let deleted = match wanted {
        Wanted::Known(id) => broker.delete_topic(cx, &TopicRef::Id(*id)).await?,
        Wanted::Unknown(reference) => broker.delete_topic(cx, reference).await?,
    };
    Ok((deleted.name.to_string(), deleted.id))
}

fn response(
    topic: DeleteTopicState,
    deleted: Result<(String, Uuid), Error>,
) -> DeletableTopicResult {
    let result = DeletableTopicResult::default();
    match deleted {
        Ok((name, id)) => result.with_name(Some(topic_name(name))).with_topic_id(id),
        Err(error) => result
            .with_name(topic.name)
            .with_topic_id(topic.topic_id)
            .with_error_code(error_code(error.kind))
            .with_error_message(Some(message(&error))),
    }
}
