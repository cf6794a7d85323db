//! Producing and consuming: what goes in comes out.

use anyhow::{Context, Result, ensure};
use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, Headers, Message, OwnedHeaders};
use rdkafka::{Offset, Timestamp, TopicPartitionList};

use super::{Case, cases, numbers};
use crate::client::{Client, Send, WITHIN};

cases! {
    "codecs" => every_codec_round_trips,
    "idempotent" => offsets_of_an_idempotent_producer_have_no_gaps,
    "headers" => headers_keep_their_order_and_repeated_keys,
    "nulls" => null_and_empty_keys_and_values_differ,
    "large" => messages_of_several_megabytes_pass_where_the_topic_allows_them,
    "large" => a_message_beyond_the_topics_limit_is_refused,
    "keys" => a_key_always_goes_to_the_same_partition_in_order,
    "times" => offsets_are_found_by_timestamp,
    "append-time" => log_append_time_is_the_brokers_clock,
    "other" => many_partitions_are_read_by_one_consumer,
}

async fn every_codec_round_trips(client: Client) -> Result<()> {
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let topic = client.topic(1, &[]).await?;
        let settings = [("compression.type", codec), ("linger.ms", "20")];
        client.send(&topic, &settings, numbers(1000)).await?;
        let found = client.read(&topic, 1000).await?;
        for (sent, found) in numbers(1000).iter().zip(&found) {
            ensure!(
                found.payload() == sent.payload.as_deref(),
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

async fn offsets_are_found_by_timestamp(client: Client) -> Result<()> {
    let topic = client.topic(1, &[("retention.ms", "-1")]).await?;
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

async fn null_and_empty_keys_and_values_differ(client: Client) -> Result<()> {
    let topic = client.topic(1, &[]).await?;
    let sent = [
        (Some(&b"k"[..]), None),
        (None, Some(&b"v"[..])),
        (Some(&b""[..]), Some(&b""[..])),
    ];
    for (key, payload) in sent {
        let message = Send {
            key: key.map(<[u8]>::to_vec),
            payload: payload.map(<[u8]>::to_vec),
            ..Send::default()
        };
        client.send(&topic, &[], vec![message]).await?;
    }
    let found = client.read(&topic, sent.len()).await?;
    let found: Vec<_> = found.iter().map(|one| (one.key(), one.payload())).collect();
    ensure!(found == sent, "{found:?}");
    Ok(())
}

async fn messages_of_several_megabytes_pass_where_the_topic_allows_them(
    client: Client,
) -> Result<()> {
    let topic = client.topic(1, &[("max.message.bytes", "9000000")]).await?;
    let sent: Vec<Vec<u8>> = (1..=3).map(|byte| vec![byte; 4_000_000]).collect();
    let settings = [("message.max.bytes", "9500000")];
    let messages = sent.iter().cloned().map(Send::of).collect();
    client.send(&topic, &settings, messages).await?;
    let found = client.read(&topic, sent.len()).await?;
    for (number, (found, sent)) in found.iter().zip(&sent).enumerate() {
        ensure!(found.payload() == Some(sent), "message {number} is another");
    }
    Ok(())
}

async fn a_key_always_goes_to_the_same_partition_in_order(client: Client) -> Result<()> {
    let topic = client.topic(4, &[]).await?;
    let messages = (0..400).map(|number| Send {
        key: Some(format!("key {}", number % 20).into_bytes()),
        ..Send::of(number.to_string())
    });
    client
        .send(&topic, &[("linger.ms", "20")], messages.collect())
        .await?;
    let mut by_key = std::collections::BTreeMap::<Vec<u8>, (i32, Vec<usize>)>::new();
    for message in client.read(&topic, 400).await? {
        let key = message.key().context("no key")?.to_vec();
        let payload = std::str::from_utf8(message.payload().context("no payload")?)?;
        let (partition, numbers) = by_key
            .entry(key)
            .or_insert((message.partition(), Vec::new()));
        ensure!(*partition == message.partition(), "a key in two partitions");
        numbers.push(payload.parse()?);
    }
    for (index, key) in (0..20).map(|index| (index, format!("key {index}"))) {
        let (_, found) = by_key.get(key.as_bytes()).context("a key is missing")?;
        let wanted: Vec<usize> = (0..20).map(|round| round * 20 + index).collect();
        ensure!(*found == wanted, "{key}: {found:?}");
    }
    let used: std::collections::BTreeSet<i32> = by_key.values().map(|(one, _)| *one).collect();
    ensure!(used.len() > 1, "all keys went to {used:?}");
    Ok(())
}

async fn log_append_time_is_the_brokers_clock(client: Client) -> Result<()> {
    let topic = client
        .topic(1, &[("message.timestamp.type", "LogAppendTime")])
        .await?;
    let message = Send {
        timestamp: Some(1000),
        ..Send::of("x")
    };
    client.send(&topic, &[], vec![message]).await?;
    let found = client.read(&topic, 1).await?;
    let time = found.first().context("no message")?.timestamp();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    let Timestamp::LogAppendTime(millis) = time else {
        anyhow::bail!("{time:?}");
    };
    let away = i64::try_from(now.as_millis())? - millis;
    ensure!(away.abs() < 60_000, "the time is {away} ms away");
    Ok(())
}
