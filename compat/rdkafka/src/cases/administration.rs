//! Administration: topics, partitions, settings, groups, records, the cluster.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rdkafka::admin::TopicReplication;
use rdkafka::admin::{AdminOptions, AlterConfig, NewPartitions, NewTopic, ResourceSpecifier};
use rdkafka::consumer::{CommitMode, Consumer};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};

use super::{Case, cases, numbers};
use crate::client::{Client, Send, WITHIN, take, until};

cases! {
    "topics" => topics_are_created_listed_and_deleted,
    "partitions" => partitions_are_added_never_taken_away,
    "configs" => settings_are_created_altered_and_described,
    "groups" => groups_are_listed_described_and_deleted,
    "deletion" => records_are_deleted_up_to_an_offset,
    "cluster" => the_broker_names_the_address_that_it_was_reached_at,
}

async fn topics_are_created_listed_and_deleted(client: Client) -> Result<()> {
    let topic = client.topic(3, &[]).await?;
    let (admin, options) = (client.admin()?, AdminOptions::new());
    let again = NewTopic::new(&topic, 3, TopicReplication::Fixed(1));
    let bad_name = Client::fresh("topic");
    let bad = NewTopic::new(&bad_name, 1, TopicReplication::Fixed(1)).set("retention.ms", "soon");
    let answers = admin.create_topics([&again, &bad], &options).await?;
    let codes: Vec<_> = answers
        .into_iter()
        .map(|answer| answer.err().map(|(_, code)| code))
        .collect();
    let wanted = [
        Some(RDKafkaErrorCode::TopicAlreadyExists),
        Some(RDKafkaErrorCode::InvalidConfig),
    ];
    ensure!(codes == wanted, "{codes:?}");
    let metadata = admin.inner().fetch_metadata(Some(&topic), WITHIN)?;
    let partitions = metadata.topics().first().map(|one| one.partitions().len());
    ensure!(partitions == Some(3), "{partitions:?} partitions");
    let answers = admin.delete_topics(&[&topic], &options).await?;
    ensure!(answers.iter().all(Result::is_ok), "{answers:?}");
    until("the topic is gone", || {
        let metadata = admin.inner().fetch_metadata(None, WITHIN)?;
        Ok(metadata.topics().iter().all(|one| one.name() != topic))
    })
    .await?;
    let answers = admin.delete_topics(&[&topic], &options).await?;
    let code = answers.into_iter().next().and_then(Result::err);
    let wanted = RDKafkaErrorCode::UnknownTopicOrPartition;
    ensure!(
        code.as_ref().map(|(_, code)| *code) == Some(wanted),
        "{code:?}"
    );
    Ok(())
}

async fn partitions_are_added_never_taken_away(client: Client) -> Result<()> {
    let topic = client.topic(1, &[]).await?;
    let (admin, options) = (client.admin()?, AdminOptions::new());
    let more = NewPartitions::new(&topic, 3);
    let answers = admin.create_partitions([&more], &options).await?;
    ensure!(answers.iter().all(Result::is_ok), "{answers:?}");
    until("three partitions", || {
        let metadata = admin.inner().fetch_metadata(Some(&topic), WITHIN)?;
        Ok(metadata
            .topics()
            .iter()
            .all(|one| one.partitions().len() == 3))
    })
    .await?;
    let fewer = NewPartitions::new(&topic, 2);
    let answers = admin.create_partitions([&fewer], &options).await?;
    let code = answers.into_iter().next().and_then(Result::err);
    let wanted = RDKafkaErrorCode::InvalidPartitions;
    ensure!(
        code.as_ref().map(|(_, code)| *code) == Some(wanted),
        "{code:?}"
    );
    let message = Send {
        partition: Some(2),
        ..Send::of("new")
    };
    client.send(&topic, &[], vec![message]).await?;
    let found = client.read(&topic, 1).await?;
    ensure!(found.iter().all(|one| one.partition() == 2), "{found:?}");
    Ok(())
}

async fn settings_are_created_altered_and_described(client: Client) -> Result<()> {
    let topic = client.topic(1, &[("retention.ms", "3600000")]).await?;
    let (admin, options) = (client.admin()?, AdminOptions::new());
    let resource = ResourceSpecifier::Topic(&topic);
    let described = async || -> Result<Option<String>> {
        let mut answers = admin.describe_configs([&resource], &options).await?;
        let answer = answers
            .pop()
            .context("no answer")?
            .map_err(|code| anyhow::anyhow!("{code}"))?;
        Ok(answer
            .get("retention.ms")
            .and_then(|entry| entry.value.clone()))
    };
    ensure!(
        described().await?.as_deref() == Some("3600000"),
        "as created"
    );
    let change = AlterConfig::new(ResourceSpecifier::Topic(&topic)).set("retention.ms", "7200000");
    for answer in admin.alter_configs([&change], &options).await? {
        ensure!(answer.is_ok(), "{answer:?}");
    }
    ensure!(
        described().await?.as_deref() == Some("7200000"),
        "as altered"
    );
    Ok(())
}

async fn groups_are_listed_described_and_deleted(client: Client) -> Result<()> {
    let (topic, group) = (client.topic(1, &[]).await?, Client::fresh("group"));
    let (admin, options) = (client.admin()?, AdminOptions::new());
    client.send(&topic, &[], numbers(5)).await?;
    let member = client.member(&topic, &group, &[("client.id", "till")])?;
    take(&member, 5).await?;
    member.commit_consumer_state(CommitMode::Sync)?;
    let described = || -> Result<Option<(String, Vec<String>)>> {
        let list = admin.inner().fetch_group_list(Some(&group), WITHIN)?;
        Ok(list
            .groups()
            .iter()
            .find(|one| one.name() == group)
            .map(|one| {
                let members = one.members().iter().map(|one| one.client_id().to_owned());
                (one.state().to_owned(), members.collect())
            }))
    };
    let found = described()?;
    ensure!(
        found == Some(("Stable".to_owned(), vec!["till".to_owned()])),
        "with a member: {found:?}"
    );
    let answers = admin.delete_groups(&[&group], &options).await?;
    let code = answers.into_iter().next().and_then(Result::err);
    let wanted = RDKafkaErrorCode::NonEmptyGroup;
    ensure!(
        code.as_ref().map(|(_, code)| *code) == Some(wanted),
        "{code:?}"
    );
    drop(member);
    until("the group is empty", || {
        Ok(described()?.is_some_and(|(state, members)| state == "Empty" && members.is_empty()))
    })
    .await?;
    let answers = admin.delete_groups(&[&group], &options).await?;
    ensure!(answers.iter().all(Result::is_ok), "{answers:?}");
    let list = admin.inner().fetch_group_list(None, WITHIN)?;
    ensure!(
        list.groups().iter().all(|one| one.name() != group),
        "it is still listed"
    );
    Ok(())
}

async fn records_are_deleted_up_to_an_offset(client: Client) -> Result<()> {
    let topic = client.topic(1, &[]).await?;
    client.send(&topic, &[], numbers(10)).await?;
    let mut before = TopicPartitionList::new();
    before.add_partition_offset(&topic, 0, Offset::Offset(4))?;
    let admin = client.admin()?;
    let answer = admin.delete_records(&before, &AdminOptions::new()).await?;
    let element = answer.find_partition(&topic, 0).context("no answer")?;
    ensure!(
        element.offset() == Offset::Offset(4),
        "{:?}",
        element.offset()
    );
    let ends = admin
        .inner()
        .fetch_watermarks(&topic, 0, Duration::from_secs(10))?;
    ensure!(ends == (4, 10), "{ends:?}");
    let found = client.read(&topic, 6).await?;
    ensure!(
        found.first().map(Message::offset) == Some(4),
        "it does not begin at 4"
    );
    Ok(())
}

async fn the_broker_names_the_address_that_it_was_reached_at(client: Client) -> Result<()> {
    let metadata = client.admin()?.inner().fetch_metadata(None, WITHIN)?;
    let found: Vec<String> = metadata
        .brokers()
        .iter()
        .map(|broker| format!("{}:{}", broker.host(), broker.port()))
        .collect();
    ensure!(found == [client.address()], "{found:?}");
    Ok(())
}
