//! The cases. The Python scripts beside this crate go wider; these show what Rust services use.

use anyhow::{Context, Result, ensure};
use futures_util::future::LocalBoxFuture;
use rdkafka::admin::{AdminOptions, AlterConfig, ResourceSpecifier};
use rdkafka::consumer::{CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, Headers, Message, OwnedHeaders};
use rdkafka::{Offset, TopicPartitionList};

use crate::client::{Client, Send, WITHIN, take};

/// A named case.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) run: fn(Client) -> LocalBoxFuture<'static, Result<()>>,
}

macro_rules! cases {
    ($($name:ident),* $(,)?) => {
        /// All cases.
        pub(crate) const ALL: &[Case] = &[$(Case {
            name: stringify!($name),
            run: |client| Box::pin($name(client)),
        }),*];
    };
}

cases! {
    every_codec_round_trips,
    offsets_of_an_idempotent_producer_have_no_gaps,
    headers_keep_their_order_and_repeated_keys,
    a_message_beyond_the_topics_limit_is_refused,
    a_group_resumes_from_its_commit_and_keeps_the_metadata,
    two_members_share_the_partitions,
    offsets_are_found_by_timestamp,
    settings_are_created_altered_and_described,
    many_partitions_are_read_by_one_consumer,
}

fn numbers(count: usize) -> Vec<Send> {
    (0..count)
        .map(|number| Send::of(format!("{number} {}", "x".repeat(200))))
        .collect()
}

async fn every_codec_round_trips(client: Client) -> Result<()> {
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let topic = client.topic(1, &[]).await?;
        let settings = [("compression.type", codec), ("linger.ms", "20")];
        client.send(&topic, &settings, numbers(1000)).await?;
        let found = client.read(&topic, 1000).await?;
        for (sent, found) in numbers(1000).iter().zip(&found) {
            ensure!(
                found.payload() == Some(&sent.payload[..]),
                "{codec}: another payload"
            );
        }
    }
    Ok(())
}

async fn offsets_of_an_idempotent_producer_have_no_gaps(client: Client) -> Result<()> {
    let topic = client.topic(3, &[]).await?;
    let settings = [("enable.idempotence", "true"), ("linger.ms", "1")];
    let spread = |number: usize| i32::try_from(number % 3).ok();
    let messages = numbers(6000).into_iter().enumerate();
    let messages = messages.map(|(number, send)| Send {
        partition: spread(number),
        ..send
    });
    let mut positions = client.send(&topic, &settings, messages.collect()).await?;
    positions.sort_unstable();
    let wanted: Vec<(i32, i64)> = (0..3)
        .flat_map(|p| (0..2000).map(move |o| (p, o)))
        .collect();
    ensure!(positions == wanted, "the offsets have gaps or repeat");
    Ok(())
}

async fn headers_keep_their_order_and_repeated_keys(client: Client) -> Result<()> {
    let topic = client.topic(1, &[]).await?;
    let pairs = [
        ("a", Some("1")),
        ("b", None),
        ("a", Some("2")),
        ("c", Some("")),
    ];
    let mut headers = OwnedHeaders::new();
    for (key, value) in pairs {
        headers = headers.insert(Header { key, value });
    }
    let message = Send {
        headers: Some(headers),
        ..Send::of("x")
    };
    client.send(&topic, &[], vec![message]).await?;
    let found = client.read(&topic, 1).await?;
    let headers = found
        .first()
        .and_then(Message::headers)
        .context("no headers")?;
    let found: Vec<_> = headers
        .iter()
        .map(|header| (header.key, header.value))
        .collect();
    let wanted: Vec<_> = pairs
        .iter()
        .map(|(key, value)| (*key, value.map(str::as_bytes)))
        .collect();
    ensure!(found == wanted, "{found:?}");
    Ok(())
}

async fn a_message_beyond_the_topics_limit_is_refused(client: Client) -> Result<()> {
    let topic = client.topic(1, &[("max.message.bytes", "2000")]).await?;
    client
        .send(&topic, &[], vec![Send::of(vec![1; 1000])])
        .await?;
    let refused = client
        .send(&topic, &[], vec![Send::of(vec![1; 5000])])
        .await;
    let code = refused
        .err()
        .and_then(|error| error.downcast_ref::<KafkaError>()?.rdkafka_error_code());
    ensure!(
        code == Some(RDKafkaErrorCode::MessageSizeTooLarge),
        "{code:?}"
    );
    Ok(())
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

async fn two_members_share_the_partitions(client: Client) -> Result<()> {
    let (topic, group) = (client.topic(4, &[]).await?, Client::fresh("group"));
    let members = [
        client.consumer(&topic, &group)?,
        client.consumer(&topic, &group)?,
    ];
    let shares = || -> Result<Vec<usize>> {
        members
            .iter()
            .map(|member| Ok(member.assignment()?.count()))
            .collect()
    };
    // A consumer takes part in the rebalance only while it is asked for messages.
    let (one, two) = (&members[0], &members[1]);
    let deadline = tokio::time::Instant::now() + WITHIN;
    while shares()? != [2, 2] {
        ensure!(
            tokio::time::Instant::now() < deadline,
            "the shares are {:?}",
            shares()?
        );
        tokio::select! {
            message = one.recv() => drop(message?),
            message = two.recv() => drop(message?),
            () = tokio::time::sleep(std::time::Duration::from_millis(50)) => {}
        }
    }
    let spread = |number: usize| i32::try_from(number % 4).ok();
    let messages = numbers(400).into_iter().enumerate();
    let messages = messages.map(|(number, send)| Send {
        partition: spread(number),
        ..send
    });
    client.send(&topic, &[], messages.collect()).await?;
    let (left, right) = tokio::try_join!(take(one, 200), take(two, 200))?;
    ensure!(left.len() + right.len() == 400, "not everything was read");
    Ok(())
}

async fn offsets_are_found_by_timestamp(client: Client) -> Result<()> {
    let topic = client.topic(1, &[]).await?;
    let messages = (1..=3)
        .map(|n| Send {
            timestamp: Some(n * 1000),
            ..Send::of("x")
        })
        .collect();
    client
        .send(&topic, &[("linger.ms", "100")], messages)
        .await?;
    let consumer = client.consumer(&topic, &Client::fresh("group"))?;
    let mut asked = TopicPartitionList::new();
    asked.add_partition_offset(&topic, 0, Offset::Offset(1500))?;
    let found = consumer.offsets_for_times(asked, WITHIN)?;
    let element = found.find_partition(&topic, 0).context("no answer")?;
    ensure!(
        element.offset() == Offset::Offset(1),
        "{:?}",
        element.offset()
    );
    let ends = consumer.fetch_watermarks(&topic, 0, WITHIN)?;
    ensure!(ends == (0, 3), "{ends:?}");
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

async fn many_partitions_are_read_by_one_consumer(client: Client) -> Result<()> {
    let topic = client.topic(100, &[]).await?;
    let spread = |number: usize| i32::try_from(number % 100).ok();
    let messages = numbers(5000).into_iter().enumerate();
    let messages = messages.map(|(number, send)| Send {
        partition: spread(number),
        ..send
    });
    client.send(&topic, &[], messages.collect()).await?;
    let found = client.read(&topic, 5000).await?;
    let mut payloads: Vec<_> = found.iter().filter_map(Message::payload).collect();
    payloads.sort_unstable();
    payloads.dedup();
    ensure!(
        payloads.len() == 5000,
        "{} different messages",
        payloads.len()
    );
    Ok(())
}
