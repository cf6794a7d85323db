//! The cases: what a service in Rust does with the crate.

use anyhow::{Context, Result, ensure};
use apache_avro::types::Value;
use futures_util::future::BoxFuture;
use schema_registry_converter::async_impl::avro::{AvroDecoder, AvroEncoder};
use schema_registry_converter::async_impl::proto_decoder::ProtoDecoder;
use schema_registry_converter::async_impl::proto_encoder::ProtoEncoder;
use schema_registry_converter::async_impl::schema_registry::{
    SrSettings, get_all_subjects, get_all_versions, get_schema_by_guid, get_schema_by_id,
    get_schema_by_subject, get_schema_by_subject_and_version, is_compatible_schema, post_schema,
};
use schema_registry_converter::schema_registry_common::{
    SchemaType, SubjectNameStrategy, SuppliedReference, SuppliedSchema,
};
use serde_json::json;

use crate::broker::Record;
use crate::{Servers, fresh};

/// One case.
pub(crate) type Case = fn(Servers) -> BoxFuture<'static, Result<()>>;

/// All cases by their names.
pub(crate) const ALL: &[(&str, Case)] = &[
    (
        "Avro records register their schema and are read back",
        |servers| Box::pin(avro_records(servers)),
    ),
    (
        "Avro records of a schema that is already there",
        |servers| Box::pin(avro_latest(servers)),
    ),
    ("the header carries the GUID of Avro", |servers| {
        Box::pin(avro_header(servers))
    }),
    ("Avro schemas refer to those of other subjects", |servers| {
        Box::pin(avro_references(servers))
    }),
    (
        "Protobuf records register their schema and are read back",
        |servers| Box::pin(protobuf_records(servers)),
    ),
    ("Protobuf imports are registered as references", |servers| {
        Box::pin(protobuf_references(servers))
    }),
    (
        "a schema is found by its id, its GUID, its subject and its version",
        |servers| Box::pin(found(servers)),
    ),
    ("what would break is refused", |servers| {
        Box::pin(incompatible(servers))
    }),
    ("metadata is stored with a schema", |servers| {
        Box::pin(metadata(servers))
    }),
    ("what is not there is not found", |servers| {
        Box::pin(missing(servers))
    }),
];

const ORDER: &str = r#"{"type":"record","name":"Order","namespace":"shop","fields":[
    {"name":"id","type":"string"},{"name":"total","type":"long"}]}"#;
const TWO: &str = r#"{"type":"record","name":"Order","namespace":"shop","fields":[
    {"name":"id","type":"string"},{"name":"total","type":"long"},{"name":"note","type":"string","default":""}]}"#;
const BROKEN: &str = r#"{"type":"record","name":"Order","namespace":"shop","fields":[
    {"name":"id","type":"string"},{"name":"currency","type":"string"}]}"#;
const PROTO: &str = "syntax = \"proto3\";\npackage shop;\n\nmessage Order {\n  string id = 1;\n  int32 total = 2;\n}\n";

fn settings(servers: &Servers) -> SrSettings {
    SrSettings::new(servers.registry.clone())
}

fn avro(text: &str) -> SuppliedSchema {
    let name = Some("shop.Order".to_owned());
    SuppliedSchema::new(name, SchemaType::Avro, text.to_owned())
}

fn order(id: &str, total: i64) -> Vec<(&'static str, Value)> {
    let id = Value::String(id.to_owned());
    vec![("id", id), ("total", Value::Long(total))]
}

fn record(fields: Vec<(&str, Value)>) -> Value {
    let named = fields
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value));
    Value::Record(named.collect())
}

/// The strategy that registers a schema for a topic's values.
fn values_of(topic: &str, schema: SuppliedSchema) -> SubjectNameStrategy {
    SubjectNameStrategy::TopicNameStrategyWithSchema(topic.to_owned(), false, schema)
}

fn prefixed(value: &[u8], id: u32) -> bool {
    value.starts_with(&[&[0], &id.to_be_bytes()[..]].concat())
}

async fn avro_records(servers: Servers) -> Result<()> {
    let topic = servers.broker.topic().await?;
    let strategy = values_of(&topic, avro(ORDER));
    let encoder = AvroEncoder::new(settings(&servers));
    let mut sent = Vec::new();
    for total in 0..5 {
        let value = encoder.encode(order("a", total), strategy.clone()).await?;
        sent.push(Record {
            value,
            header: None,
        });
    }
    let came = servers.broker.through(&topic, &sent).await?;
    let latest = get_schema_by_subject(
        &settings(&servers),
        &SubjectNameStrategy::TopicNameStrategy(topic, false),
    )
    .await?;
    let decoder = AvroDecoder::new(settings(&servers));
    for (total, one) in (0..).zip(&came) {
        ensure!(prefixed(&one.value, latest.id), "the prefix: {one:?}");
        let read = decoder.decode(Some(&one.value)).await?.value;
        ensure!(read == record(order("a", total)), "{read:?}");
    }
    Ok(())
}

async fn avro_latest(servers: Servers) -> Result<()> {
    let topic = servers.broker.topic().await?;
    let subject = format!("{topic}-value");
    let registered = post_schema(&settings(&servers), subject, avro(ORDER)).await?;
    let strategy = SubjectNameStrategy::TopicNameStrategy(topic, false);
    let encoder = AvroEncoder::new(settings(&servers));
    let value = encoder.encode(order("a", 1), strategy).await?;
    ensure!(prefixed(&value, registered.id), "{value:?}");
    Ok(())
}

async fn avro_header(servers: Servers) -> Result<()> {
    let topic = servers.broker.topic().await?;
    let encoder = AvroEncoder::new(settings(&servers));
    let strategy = values_of(&topic, avro(ORDER));
    let (value, header) = encoder
        .encode_with_header_id(order("a", 7), strategy, false)
        .await?;
    let header = Some((header.name.to_owned(), header.value));
    let came = servers
        .broker
        .through(&topic, &[Record { value, header }])
        .await?;
    let header = came.first().and_then(|one| one.header.clone());
    let (name, id) = header.context("no header came")?;
    ensure!(
        name == "__value_schema_id" && id.len() == 17,
        "{name} {id:?}"
    );
    let decoder = AvroDecoder::new(settings(&servers));
    let payload = came.first().map(|one| one.value.as_slice());
    let read = decoder.decode_with_header_id(Some(&id), payload).await?;
    ensure!(read.value == record(order("a", 7)), "{read:?}");
    Ok(())
}

async fn avro_references(servers: Servers) -> Result<()> {
    let registry = settings(&servers);
    let money = r#"{"type":"record","name":"Money","namespace":"shop","fields":[{"name":"cents","type":"long"}]}"#;
    let subject = fresh("money");
    let part = SuppliedReference::new("shop.Money".to_owned(), subject.clone(), money.to_owned());
    let whole = r#"{"type":"record","name":"Order","namespace":"shop","fields":[{"name":"total","type":"shop.Money"}]}"#;
    let schema = avro(whole).with_references(vec![part]);
    let registered = post_schema(&registry, fresh("order"), schema).await?;
    let kept = get_schema_by_id(registered.id, &registry).await?.references;
    let kept: Vec<_> = kept
        .iter()
        .map(|one| (one.name.as_str(), one.subject.as_str(), one.version))
        .collect();
    ensure!(kept == [("shop.Money", subject.as_str(), 1)], "{kept:?}");
    let versions = get_all_versions(&registry, subject).await?;
    ensure!(versions == [1], "the part's versions: {versions:?}");
    Ok(())
}

fn protobuf(text: &str) -> SuppliedSchema {
    let name = Some("shop.Order".to_owned());
    SuppliedSchema::new(name, SchemaType::Protobuf, text.to_owned())
}

/// The full name of a message, and its content as Protobuf's JSON.
async fn read_protobuf(
    servers: &Servers,
    payload: Option<&[u8]>,
) -> Result<(String, serde_json::Value)> {
    let decoder = ProtoDecoder::new(settings(servers));
    let read = decoder.decode_with_context(payload).await?;
    let read = read.context("it is read as null")?;
    Ok((read.full_name, serde_json::to_value(&read.value)?))
}

async fn protobuf_records(servers: Servers) -> Result<()> {
    let topic = servers.broker.topic().await?;
    let encoder = ProtoEncoder::new(settings(&servers));
    let strategy = values_of(&topic, protobuf(PROTO));
    let sent = json!({"id": "a", "total": 7});
    let value = encoder.encode_json(&sent, "shop.Order", &strategy).await?;
    ensure!(
        value.get(5) == Some(&0),
        "the index of the first message: {value:?}"
    );
    let came = servers
        .broker
        .through(
            &topic,
            &[Record {
                value,
                header: None,
            }],
        )
        .await?;
    let payload = came.first().map(|one| one.value.as_slice());
    let (name, read) = read_protobuf(&servers, payload).await?;
    ensure!(name == "shop.Order" && read == sent, "{name} {read}");
    Ok(())
}

async fn protobuf_references(servers: Servers) -> Result<()> {
    let topic = servers.broker.topic().await?;
    let money = "syntax = \"proto3\";\npackage shop;\n\nmessage Money {\n  int64 cents = 1;\n}\n";
    let whole = "syntax = \"proto3\";\npackage shop;\n\nimport \"money.proto\";\n\nmessage Order {\n  Money total = 1;\n}\n";
    let subject = fresh("money");
    let part = SuppliedReference::new("money.proto".to_owned(), subject.clone(), money.to_owned());
    let strategy = values_of(&topic, protobuf(whole).with_references(vec![part]));
    let encoder = ProtoEncoder::new(settings(&servers));
    let sent = json!({"total": {"cents": "5"}});
    let value = encoder.encode_json(&sent, "shop.Order", &strategy).await?;
    let (name, read) = read_protobuf(&servers, Some(&value)).await?;
    ensure!(name == "shop.Order" && read == sent, "{name} {read}");
    let versions = get_all_versions(&settings(&servers), subject).await?;
    ensure!(versions == [1], "the part's versions: {versions:?}");
    Ok(())
}

async fn found(servers: Servers) -> Result<()> {
    let (registry, subject) = (settings(&servers), fresh("found"));
    let first = post_schema(&registry, subject.clone(), avro(ORDER)).await?;
    let second = post_schema(&registry, subject.clone(), avro(TWO)).await?;
    ensure!(first.id < second.id, "{first:?} {second:?}");
    let again = post_schema(&registry, subject.clone(), avro(ORDER)).await?;
    ensure!(again.id == first.id, "once more: {again:?}");
    let by_id = get_schema_by_id(first.id, &registry).await?;
    let one = get_schema_by_subject_and_version(&registry, &subject, Some(1)).await?;
    ensure!(
        one.id == first.id && one.schema == by_id.schema,
        "{one:?} {by_id:?}"
    );
    let guid = by_id
        .guid
        .or(one.guid)
        .context("the registry gives no GUID")?;
    let by_guid = get_schema_by_guid(&guid, &registry).await?;
    ensure!(by_guid.schema == one.schema, "{by_guid:?}");
    let latest = SubjectNameStrategy::RecordNameStrategy(subject.clone());
    let latest = get_schema_by_subject(&registry, &latest).await?;
    ensure!(latest.id == second.id, "the latest: {latest:?}");
    ensure!(
        get_all_versions(&registry, subject.clone()).await? == [1, 2],
        "the versions"
    );
    ensure!(
        get_all_subjects(&registry).await?.contains(&subject),
        "the subjects"
    );
    Ok(())
}

async fn incompatible(servers: Servers) -> Result<()> {
    let (registry, subject) = (settings(&servers), fresh("level"));
    post_schema(&registry, subject.clone(), avro(ORDER)).await?;
    ensure!(
        is_compatible_schema(&registry, subject.clone(), avro(TWO)).await?,
        "a default"
    );
    ensure!(
        !is_compatible_schema(&registry, subject.clone(), avro(BROKEN)).await?,
        "none"
    );
    let refused = post_schema(&registry, subject.clone(), avro(BROKEN)).await;
    ensure!(refused.is_err(), "it was not refused: {refused:?}");
    ensure!(
        get_all_versions(&registry, subject).await? == [1],
        "the versions"
    );
    Ok(())
}

async fn metadata(servers: Servers) -> Result<()> {
    let (registry, subject) = (settings(&servers), fresh("metadata"));
    let owner = [("owner".to_owned(), "shop".to_owned())];
    let tags = [("shop.Order.id".to_owned(), vec!["PII".to_owned()])];
    let schema = avro(ORDER)
        .with_properties(owner.clone().into())
        .with_tags(tags.clone().into());
    post_schema(&registry, subject.clone(), schema).await?;
    let kept = get_schema_by_subject_and_version(&registry, &subject, Some(1)).await?;
    ensure!(
        kept.properties == Some(owner.into()) && kept.tags == Some(tags.into()),
        "{kept:?}"
    );
    Ok(())
}

async fn missing(servers: Servers) -> Result<()> {
    let registry = settings(&servers);
    let by_id = get_schema_by_id(2_000_000_000, &registry).await;
    ensure!(by_id.is_err(), "{by_id:?}");
    let versions = get_all_versions(&registry, fresh("nobody")).await;
    ensure!(versions.is_err(), "{versions:?}");
    let strategy = SubjectNameStrategy::TopicNameStrategy(fresh("nobody"), false);
    let encoder = AvroEncoder::new(registry);
    let encoded = encoder.encode(order("a", 1), strategy).await;
    ensure!(encoded.is_err(), "{encoded:?}");
    Ok(())
}
