//! A registry over a store that holds what a test wants.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use wharf_message::Message;
use wharf_schema::model::SchemaType;
use wharf_schema::wire::{self, SchemaId};
use wharf_schema::{Parsed, avro};

use super::registry::Registry;
use super::store::{Kept, Named, Sent, Store};
use super::{Contract, Definition, Definitions, Field, Schema, SchemaError, Shape};
use crate::Event;

#[derive(Serialize, Deserialize)]
struct Counted {
    count: i64,
}

impl Event for Counted {
    const TYPE: &'static str = "shop.Counted";
    const TOPIC: &'static str = "shop.counted";
}

impl Schema for Counted {
    fn shape(definitions: &mut Definitions) -> Shape {
        definitions.define::<Self>("Counted", |_| Definition::Record {
            doc: None,
            fields: vec![Field {
                name: "count".to_owned(),
                doc: None,
                shape: Shape::Long,
                default: None,
            }],
        })
    }
}

/// Has one schema, whatever it is asked for.
#[derive(Debug)]
struct Older {
    text: &'static str,
    asked: AtomicUsize,
}

impl Store for Older {
    fn register<'a>(
        &'a self,
        subject: &'a str,
        sent: &'a Sent,
    ) -> BoxFuture<'a, Result<Named, SchemaError>> {
        self.find(subject, sent)
    }

    fn find<'a>(
        &'a self,
        subject: &'a str,
        _: &'a Sent,
    ) -> BoxFuture<'a, Result<Named, SchemaError>> {
        let refused = SchemaError::Refused {
            what: subject.to_owned(),
            why: "it takes nothing new".to_owned(),
        };
        Box::pin(std::future::ready(Err(refused)))
    }

    fn get(&self, _: SchemaId) -> BoxFuture<'_, Result<Kept, SchemaError>> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        Box::pin(std::future::ready(Ok(Kept {
            kind: SchemaType::Avro,
            text: self.text.to_owned(),
            dependencies: Vec::new(),
            place: None,
        })))
    }
}

fn over(text: &'static str) -> (Arc<Older>, Registry) {
    let store = Arc::new(Older {
        text,
        asked: AtomicUsize::new(0),
    });
    (Arc::clone(&store), Registry::of(store))
}

/// The number 21 as Avro's `int`, in a record of schema 7.
fn twenty_one() -> Message {
    let mut payload = Vec::new();
    wire::write(SchemaId::Id(7), None, &mut payload);
    payload.push(42);
    Message {
        payload: Some(payload.into()),
        ..Message::default()
    }
}

/// A default that is no `int`, which older versions of Java's Avro let pass.
const UNSOUND: &str = r#"{"type":"record","name":"Counted","namespace":"shop","fields":[{"name":"count","type":"int","default":"none"}]}"#;

#[tokio::test]
async fn what_an_older_registry_let_pass_is_readable() {
    let (_, registry) = over(UNSOUND);
    let (contract, message) = (Contract::avro::<Counted>().unwrap(), twenty_one());
    registry.fetch(&message).await.unwrap();
    let read = registry.read(&contract, &message).unwrap().unwrap();
    assert_eq!(read, serde_json::json!({ "count": 21 }));
}

#[tokio::test]
async fn two_schemas_are_compared_once_for_all_the_records_of_a_reader() {
    let (store, registry) = over(UNSOUND);
    let (contract, message) = (Contract::avro::<Counted>().unwrap(), twenty_one());
    let prepared = || {
        let Parsed::Avro(reader) = contract.parsed() else {
            panic!("it is Avro")
        };
        let unrelated = avro::Schema::parse(r#""string""#, &[], &wharf_schema::Limits::default());
        registry.prepared(&contract, SchemaId::Id(7), reader, &unrelated.unwrap())
    };
    for _ in 0..3 {
        registry.fetch(&message).await.unwrap();
        assert!(registry.read(&contract, &message).unwrap().is_some());
    }
    assert_eq!(store.asked.load(Ordering::Relaxed), 1);
    // Were it not kept, this would be a comparison with a string.
    let (one, other) = (prepared().unwrap(), prepared().unwrap());
    assert!(Arc::ptr_eq(&one, &other));
    assert!(one.read(&[42]).is_ok());
    // Another contract is another reader.
    let second = Contract::avro::<Counted>().unwrap();
    let read = registry.read(&second, &message).unwrap();
    assert_eq!(read, Some(serde_json::json!({ "count": 21 })));
}
