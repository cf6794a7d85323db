//! Transactions.

use anyhow::{Context, Result, ensure};
use rdkafka::consumer::{Consumer, StreamConsumer};
use rdkafka::message::Message;
use rdkafka::producer::{FutureProducer, FutureRecord, Producer};
use rdkafka::{Offset, TopicPartitionList};

use super::{Case, cases, numbers};
use crate::client::{Client, Send, WITHIN, take};

cases! {
    "transactions" => what_is_committed_is_seen_and_what_is_aborted_is_not,
    "transactions" => an_open_transaction_holds_back_those_who_read_committed_only,
    "pipeline" => records_are_consumed_changed_and_produced_once,
    "fencing" => a_second_producer_with_the_same_id_fences_the_first,
}

/// A producer that has taken its id.
fn producer(client: &Client, id: &str) -> Result<FutureProducer> {
    let producer: FutureProducer = client.config(&[("transactional.id", id)]).create()?;
    producer.init_transactions(WITHIN)?;
    Ok(producer)
}

async fn send(producer: &FutureProducer, topic: &str, payload: &str) -> Result<()> {
    let record = FutureRecord::<(), _>::to(topic).payload(payload);
    producer
        .send(record, WITHIN)
        .await
        .map_err(|(error, _)| error)?;
    Ok(())
}

const UNCOMMITTED: &[(&str, &str)] = &[("isolation.level", "read_uncommitted")];

async fn payloads(
    client: &Client,
    topic: &str,
    count: usize,
    settings: &[(&str, &str)],
) -> Result<Vec<String>> {
    let member = client.member(topic, &Client::fresh("group"), settings)?;
    strings(&member, count).await
}

async fn strings(member: &StreamConsumer, count: usize) -> Result<Vec<String>> {
    let text =
        |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned();
    let found = take(member, count).await?;
    Ok(found
        .iter()
        .map(|message| text(message.payload()))
        .collect())
}

async fn what_is_committed_is_seen_and_what_is_aborted_is_not(client: Client) -> Result<()> {
    let topics = [client.topic(1, &[]).await?, client.topic(1, &[]).await?];
    let producer = producer(&client, &Client::fresh("txn"))?;
    for round in 0..4 {
        producer.begin_transaction()?;
        for topic in &topics {
            send(&producer, topic, &format!("round {round}")).await?;
        }
        if round % 2 == 0 {
            producer.abort_transaction(WITHIN)?;
        } else {
            producer.commit_transaction(WITHIN)?;
        }
    }
    for topic in &topics {
        let kept = payloads(&client, topic, 2, &[]).await?;
        ensure!(kept == ["round 1", "round 3"], "read committed: {kept:?}");
        let all = payloads(&client, topic, 4, UNCOMMITTED).await?;
        let wanted: Vec<String> = (0..4).map(|round| format!("round {round}")).collect();
        ensure!(all == wanted, "read uncommitted: {all:?}");
    }
    Ok(())
}

async fn an_open_transaction_holds_back_those_who_read_committed_only(
    client: Client,
) -> Result<()> {
    let topic = client.topic(1, &[]).await?;
    client.send(&topic, &[], vec![Send::of("before")]).await?;
    let producer = producer(&client, &Client::fresh("txn"))?;
    producer.begin_transaction()?;
    send(&producer, &topic, "inside").await?;
    client.send(&topic, &[], vec![Send::of("behind")]).await?;
    let reader = client.member(&topic, &Client::fresh("group"), &[])?;
    let first = strings(&reader, 1).await?;
    ensure!(first == ["before"], "{first:?}");
    let all = payloads(&client, &topic, 3, UNCOMMITTED).await?;
    ensure!(all == ["before", "inside", "behind"], "{all:?}");
    let early = tokio::time::timeout(std::time::Duration::from_millis(300), reader.recv()).await;
    ensure!(early.is_err(), "more before the end of the transaction");
    producer.commit_transaction(WITHIN)?;
    let rest = strings(&reader, 2).await?;
    ensure!(rest == ["inside", "behind"], "{rest:?}");
    Ok(())
}

async fn records_are_consumed_changed_and_produced_once(client: Client) -> Result<()> {
    let (from, to) = (client.topic(1, &[]).await?, client.topic(1, &[]).await?);
    let group = Client::fresh("group");
    client.send(&from, &[], numbers(100)).await?;
    let producer = producer(&client, &Client::fresh("txn"))?;
    // What was aborted comes again to the next member.
    for (count, commits) in [(40, true), (40, false), (60, true)] {
        let member = client.member(&from, &group, &[])?;
        let batch = take(&member, count).await?;
        producer.begin_transaction()?;
        for message in &batch {
            let payload = String::from_utf8_lossy(message.payload().unwrap_or_default());
            send(&producer, &to, &payload.to_uppercase()).await?;
        }
        let mut place = TopicPartitionList::new();
        let next = batch.last().context("no message")?.offset() + 1;
        place.add_partition_offset(&from, 0, Offset::Offset(next))?;
        let metadata = member.group_metadata().context("no group")?;
        producer.send_offsets_to_transaction(&place, &metadata, WITHIN)?;
        if commits {
            producer.commit_transaction(WITHIN)?;
        } else {
            producer.abort_transaction(WITHIN)?;
        }
    }
    let found = payloads(&client, &to, 100, &[]).await?;
    let wanted = numbers(100)
        .into_iter()
        .map(|one| one.payload.unwrap_or_default());
    let wanted: Vec<String> = wanted
        .map(|payload| String::from_utf8_lossy(&payload).to_uppercase())
        .collect();
    ensure!(found == wanted, "other values: {found:.200?}");
    let member = client.member(&from, &group, &[])?;
    let mut asked = TopicPartitionList::new();
    asked.add_partition(&from, 0);
    let committed = member.committed_offsets(asked, WITHIN)?;
    let committed = committed.find_partition(&from, 0).map(|one| one.offset());
    ensure!(committed == Some(Offset::Offset(100)), "{committed:?}");
    Ok(())
}

async fn a_second_producer_with_the_same_id_fences_the_first(client: Client) -> Result<()> {
    let (topic, id) = (client.topic(1, &[]).await?, Client::fresh("txn"));
    let first = producer(&client, &id)?;
    first.begin_transaction()?;
    send(&first, &topic, "fenced").await?;
    let second = producer(&client, &id)?;
    second.begin_transaction()?;
    send(&second, &topic, "kept").await?;
    second.commit_transaction(WITHIN)?;
    let late = match send(&first, &topic, "too late").await {
        Ok(()) => first
            .commit_transaction(WITHIN)
            .err()
            .map(anyhow::Error::from),
        Err(error) => Some(error),
    };
    let late = late.context("the first producer goes on")?;
    // librdkafka keeps what the broker said for its fatal error.
    let fatal = first.client().fatal_error().map(|(code, _)| code);
    ensure!(
        fatal == Some(rdkafka::error::RDKafkaErrorCode::Fenced),
        "{late:#}, {fatal:?}"
    );
    let kept = payloads(&client, &topic, 1, &[]).await?;
    ensure!(kept == ["kept"], "read committed: {kept:?}");
    Ok(())
}
