//! Groups: offsets, resets, members that come and go.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use futures_util::future::try_join_all;
use rdkafka::consumer::{CommitMode, Consumer, StreamConsumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::groups::GroupInfo;
use rdkafka::message::Message;
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::topic_partition_list::TopicPartitionListElem;
use rdkafka::{Offset, TopicPartitionList};

use super::{Case, cases, numbers};
use crate::client::{Client, Send, WITHIN, take};

cases! {
    "resume" => a_group_resumes_from_its_commit_and_keeps_the_metadata,
    "resets" => a_group_without_offsets_begins_where_it_is_told,
    "resets" => a_group_is_reset_to_a_time,
    "rebalance" => members_join_and_leave_under_load,
    "cooperative" => members_join_and_leave_cooperatively_under_load,
    "consumer-protocol" => members_of_the_consumer_protocol_join_and_leave_under_load,
    "static" => a_static_member_comes_back_to_its_partitions,
}

async fn a_group_resumes_from_its_commit_and_keeps_the_metadata(client: Client) -> Result<()> {
    let (topic, group) = (client.topic(1, &[]).await?, Client::fresh("group"));
    client.send(&topic, &[], numbers(10)).await?;
    let first = client.consumer(&topic, &group)?;
    take(&first, 10).await?;
    let mut place = TopicPartitionList::new();
    place.add_partition_offset(&topic, 0, Offset::Offset(4))?;
    if let Some(mut element) = place.find_partition(&topic, 0) {
        element.set_metadata("four, please");
    }
    first.commit(&place, CommitMode::Sync)?;
    drop(first);
    let second = client.consumer(&topic, &group)?;
    let next = take(&second, 1).await?;
    ensure!(
        next.first().map(Message::offset) == Some(4),
        "it does not resume at 4"
    );
    let committed = second.committed_offsets(place, WITHIN)?;
    let element = committed.find_partition(&topic, 0).context("no commit")?;
    ensure!(
        element.offset() == Offset::Offset(4),
        "{:?}",
        element.offset()
    );
    ensure!(
        element.metadata() == "four, please",
        "{}",
        element.metadata()
    );
    Ok(())
}

async fn a_group_without_offsets_begins_where_it_is_told(client: Client) -> Result<()> {
    let topic = client.topic(1, &[]).await?;
    client.send(&topic, &[], numbers(5)).await?;
    let early = client.read(&topic, 1).await?;
    ensure!(early.first().map(Message::offset) == Some(0), "not from 0");
    let settings = [("auto.offset.reset", "latest")];
    let late = client.member(&topic, &Client::fresh("group"), &settings)?;
    // The end is looked up at some time after joining: send until something arrives.
    let deadline = tokio::time::Instant::now() + WITHIN;
    let first = loop {
        client.send(&topic, &[], vec![Send::of("after")]).await?;
        if let Ok(message) = tokio::time::timeout(Duration::from_millis(100), late.recv()).await {
            break message?.detach();
        }
        ensure!(tokio::time::Instant::now() < deadline, "nothing arrives");
    };
    ensure!(first.offset() >= 5, "it began at {}", first.offset());
    let settings = [("auto.offset.reset", "error")];
    let none = client.member(&topic, &Client::fresh("group"), &settings)?;
    let said = tokio::time::timeout(WITHIN, none.recv()).await?;
    let code = said.err().and_then(|error| error.rdkafka_error_code());
    ensure!(code == Some(RDKafkaErrorCode::AutoOffsetReset), "{code:?}");
    Ok(())
}

async fn a_group_is_reset_to_a_time(client: Client) -> Result<()> {
    let topic = client.topic(1, &[("retention.ms", "-1")]).await?;
    let group = Client::fresh("group");
    let messages = (1..=4).map(|n| Send {
        timestamp: Some(n * 1000),
        ..Send::of("x")
    });
    client.send(&topic, &[], messages.collect()).await?;
    let reset: StreamConsumer = client.config(&[("group.id", &group)]).create()?;
    let mut place = TopicPartitionList::new();
    place.add_partition_offset(&topic, 0, Offset::Offset(2500))?;
    let found = reset.offsets_for_times(place, WITHIN)?;
    reset.commit(&found, CommitMode::Sync)?;
    let member = client.consumer(&topic, &group)?;
    let taken = take(&member, 2).await?;
    let times: Vec<_> = taken
        .iter()
        .map(|one| one.timestamp().to_millis())
        .collect();
    ensure!(times == [Some(3000), Some(4000)], "{times:?}");
    Ok(())
}

const PARTITIONS: usize = 4;

/// Members of a group that come and go while records arrive.
struct Herd {
    client: Client,
    topic: String,
    group: String,
    protocol: &'static [(&'static str, &'static str)],
    producer: FutureProducer,
    members: BTreeMap<&'static str, StreamConsumer>,
    /// The end of what was sent and of what was seen of each partition.
    sent: [i64; PARTITIONS],
    seen: [i64; PARTITIONS],
}

impl Herd {
    async fn new(
        client: Client,
        protocol: &'static [(&'static str, &'static str)],
    ) -> Result<Self> {
        Ok(Self {
            topic: client.topic(i32::try_from(PARTITIONS)?, &[]).await?,
            group: Client::fresh("group"),
            producer: client.config(&[("linger.ms", "0")]).create()?,
            client,
            protocol,
            members: BTreeMap::new(),
            sent: [0; PARTITIONS],
            seen: [0; PARTITIONS],
        })
    }

    fn join(&mut self, name: &'static str) -> Result<()> {
        let mut settings = vec![("client.id", name)];
        settings.extend(self.protocol);
        let member = self.client.member(&self.topic, &self.group, &settings)?;
        self.members.insert(name, member);
        Ok(())
    }

    /// Sends a record to every partition.
    async fn feed(&mut self) -> Result<()> {
        let sends = (0..PARTITIONS).map(|partition| {
            let record = FutureRecord::<(), _>::to(&self.topic).payload("x");
            let record = record.partition(i32::try_from(partition).unwrap_or_default());
            self.producer.send(record, WITHIN)
        });
        let sent = try_join_all(sends).await.map_err(|(error, _)| error)?;
        for delivery in sent {
            let end = usize::try_from(delivery.partition)
                .ok()
                .and_then(|partition| self.sent.get_mut(partition))
                .context("a partition that is not there")?;
            *end = (*end).max(delivery.offset + 1);
        }
        Ok(())
    }

    /// Lets every member read and commit what is there; nothing may be passed over.
    async fn turn(&mut self) -> Result<()> {
        for (name, member) in &self.members {
            let mut some = false;
            while let Ok(message) =
                tokio::time::timeout(Duration::from_millis(10), member.recv()).await
            {
                let message = message?;
                let (partition, offset) = (message.partition(), message.offset());
                let next = usize::try_from(partition)
                    .ok()
                    .and_then(|partition| self.seen.get_mut(partition))
                    .context("a partition that is not there")?;
                ensure!(
                    offset <= *next,
                    "{name}: {offset} came before {next} in {partition}"
                );
                *next = (*next).max(offset + 1);
                some = true;
            }
            if some {
                commit(member)?;
            }
        }
        Ok(())
    }

    /// Whether these are the members and have all partitions between them, none without.
    fn shared(&self) -> Result<bool> {
        let (mut count, mut whole) = (0, BTreeSet::new());
        for member in self.members.values() {
            let own = partitions(member)?;
            if own.is_empty() {
                return Ok(false);
            }
            count += own.len();
            whole.extend(own);
        }
        Ok(count == PARTITIONS && whole.len() == PARTITIONS)
    }

    async fn until(
        &mut self,
        what: &str,
        feeding: bool,
        condition: impl Fn(&Self) -> Result<bool>,
    ) -> Result<()> {
        let deadline = tokio::time::Instant::now() + WITHIN;
        while !condition(self)? {
            if tokio::time::Instant::now() > deadline {
                bail!("not within {WITHIN:?}: {what}");
            }
            if feeding {
                self.feed().await?;
            }
            self.turn().await?;
        }
        Ok(())
    }

    /// What is committed of each partition.
    fn committed(&self) -> Result<Vec<Offset>> {
        let mut places = TopicPartitionList::new();
        places.add_partition_range(&self.topic, 0, i32::try_from(PARTITIONS)? - 1);
        let asked = self.client.config(&[("group.id", &self.group)]);
        let asked: StreamConsumer = asked.create()?;
        let found = asked.committed_offsets(places, WITHIN)?;
        Ok(found
            .elements()
            .iter()
            .map(TopicPartitionListElem::offset)
            .collect())
    }
}

/// The partitions that a member has. A list of librdkafka's would keep the member from ending.
fn partitions(member: &StreamConsumer) -> Result<Vec<i32>> {
    let places = member.assignment()?;
    let places = places.elements();
    Ok(places
        .iter()
        .map(TopicPartitionListElem::partition)
        .collect())
}

/// Commits what was read, without waiting: librdkafka may hold a commit until the member has taken
/// part in the next rebalance, and that it does only when it is asked for messages.
fn commit(member: &StreamConsumer) -> Result<()> {
    match member.commit_consumer_state(CommitMode::Async) {
        Err(KafkaError::ConsumerCommit(RDKafkaErrorCode::NoOffset)) => Ok(()),
        other => Ok(other?),
    }
}

async fn come_and_go(
    client: Client,
    protocol: &'static [(&'static str, &'static str)],
) -> Result<()> {
    let mut herd = Herd::new(client, protocol).await?;
    herd.join("one")?;
    herd.until("one has everything", true, Herd::shared).await?;
    herd.join("two")?;
    herd.join("three")?;
    herd.until("three members share", true, Herd::shared)
        .await?;
    herd.members.remove("two");
    herd.until("two members share", true, Herd::shared).await?;
    herd.join("four")?;
    herd.until("three members share again", true, Herd::shared)
        .await?;
    herd.until("everything is read", false, |herd| {
        Ok(herd.seen == herd.sent)
    })
    .await?;
    let wanted = herd.sent.map(Offset::Offset);
    herd.until("everything is committed", false, |herd| {
        Ok(herd.committed()? == wanted)
    })
    .await
}

async fn members_join_and_leave_under_load(client: Client) -> Result<()> {
    let settings = &[
        ("partition.assignment.strategy", "range"),
        ("session.timeout.ms", "10000"),
        ("heartbeat.interval.ms", "300"),
    ];
    come_and_go(client, settings).await
}

async fn members_join_and_leave_cooperatively_under_load(client: Client) -> Result<()> {
    let settings = &[
        ("partition.assignment.strategy", "cooperative-sticky"),
        ("session.timeout.ms", "10000"),
        ("heartbeat.interval.ms", "300"),
    ];
    come_and_go(client, settings).await
}

async fn members_of_the_consumer_protocol_join_and_leave_under_load(client: Client) -> Result<()> {
    come_and_go(client, &[("group.protocol", "consumer")]).await
}

async fn a_static_member_comes_back_to_its_partitions(client: Client) -> Result<()> {
    let (topic, group) = (client.topic(2, &[]).await?, Client::fresh("group"));
    let spread = |number: usize| i32::try_from(number % 2).ok();
    let messages = numbers(4).into_iter().enumerate();
    let messages = messages.map(|(number, send)| Send {
        partition: spread(number),
        ..send
    });
    client.send(&topic, &[], messages.collect()).await?;
    let settings = [
        ("group.instance.id", "till"),
        ("session.timeout.ms", "20000"),
    ];
    let first = client.member(&topic, &group, &settings)?;
    take(&first, 4).await?;
    let before = partitions(&first)?;
    drop(first);
    let admin = client.admin()?;
    let members = || -> Result<Vec<String>> {
        let list = admin.inner().fetch_group_list(Some(&group), WITHIN)?;
        let members = list.groups().iter().flat_map(GroupInfo::members);
        Ok(members.map(|one| one.id().to_owned()).collect())
    };
    let left = members()?;
    ensure!(left.len() == 1, "it has left the group: {left:?}");
    let second = client.member(&topic, &group, &settings)?;
    take(&second, 4).await?;
    let after = partitions(&second)?;
    ensure!(after == before, "{after:?} instead of {before:?}");
    let there = members()?;
    ensure!(
        there.len() == 1 && there != left,
        "{there:?} after {left:?}"
    );
    Ok(())
}
