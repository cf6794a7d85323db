//! How a topic is kept in the durable state.
//!
//! Version 1: name, id (16 bytes), runs of consecutive partition numbers (first u64, count u32),
//! overrides (name, value). Partitions are created in runs, so a topic of many stays small.

use std::collections::BTreeMap;

use bytes::Bytes;
use uuid::Uuid;
use wharf_log::PartitionId;
use wharf_message::TopicName;

use super::{PARTITIONS_PER_TOPIC_MAX, Topic};
use crate::encoding::{Decoder, Encoder};
use crate::{Error, config::Defaults};

const VERSION: u8 = 1;

/// Encodes a topic.
pub(super) fn encode(topic: &Topic) -> Bytes {
    let runs = runs(&topic.partitions);
    let mut encoder = Encoder::new(VERSION);
    encoder.text(topic.name.as_str()).raw(topic.id.as_bytes());
    encoder.u32(u32::try_from(runs.len()).expect("runs are bounded by partitions"));
    for (first, count) in runs {
        encoder.u64(first).u32(count);
    }
    let overrides = &topic.config.overrides;
    encoder.u32(u32::try_from(overrides.len()).expect("settings are a short list"));
    for (name, value) in overrides {
        encoder.text(name).text(value);
    }
    encoder.finish()
}

fn runs(partitions: &[PartitionId]) -> Vec<(u64, u32)> {
    let mut runs: Vec<(u64, u32)> = Vec::new();
    for partition in partitions {
        match runs.last_mut() {
            Some((first, count)) if *first + u64::from(*count) == partition.0 => *count += 1,
            _ => runs.push((partition.0, 1)),
        }
    }
    runs
}

/// Decodes a topic; its settings are checked again under the node's defaults.
pub(super) fn decode(value: &[u8], defaults: &Defaults) -> Result<Topic, Error> {
    let mut decoder = Decoder::new("topic", VERSION, value)?;
    let name =
        TopicName::new(decoder.text()?).map_err(|error| decoder.invalid(&error.to_string()))?;
    let id = Uuid::from_bytes(decoder.raw()?);
    let mut partitions = Vec::new();
    for _ in 0..decoder.count(12)? {
        let (first, count) = (decoder.u64()?, u64::from(decoder.u32()?));
        let end = first
            .checked_add(count)
            .filter(|_| partitions.len() as u64 + count <= PARTITIONS_PER_TOPIC_MAX as u64);
        let end = end.ok_or_else(|| decoder.invalid("it has too many partitions"))?;
        partitions.extend((first..end).map(PartitionId));
    }
    let mut overrides = BTreeMap::new();
    for _ in 0..decoder.count(8)? {
        overrides.insert(decoder.text()?.to_owned(), decoder.text()?.to_owned());
    }
    decoder.finish()?;
    let config = crate::TopicConfig::new(defaults, &overrides)?;
    Ok(Topic {
        name,
        id,
        partitions,
        config: config.into(),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::TopicConfig;

    fn topic(partitions: &[u64], overrides: &[(&str, &str)]) -> Topic {
        let overrides = overrides
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        Topic {
            name: TopicName::new("orders.eu").unwrap(),
            id: Uuid::from_u128(7),
            partitions: partitions.iter().copied().map(PartitionId).collect(),
            config: TopicConfig::new(&Defaults::default(), &overrides)
                .unwrap()
                .into(),
        }
    }

    #[test]
    fn a_topic_of_many_partitions_stays_small() {
        let many: Vec<u64> = (5..100_000).collect();
        assert!(encode(&topic(&many, &[])).len() < 100);
    }

    proptest! {
        #[test]
        fn a_topic_is_read_back(partitions in prop::collection::vec(0..50_u64, 0..20)) {
            let topic = topic(&partitions, &[("retention.ms", "5"), ("cleanup.policy", "compact")]);
            let read = decode(&encode(&topic), &Defaults::default()).unwrap();
            prop_assert_eq!((&read.name, read.id, &read.partitions), (&topic.name, topic.id, &topic.partitions));
            prop_assert_eq!(&read.config.overrides, &topic.config.overrides);
        }

        #[test]
        fn damaged_topics_are_refused_without_a_panic(at: prop::sample::Index, byte: u8) {
            let mut value = encode(&topic(&[1, 2, 9], &[("retention.ms", "5")])).to_vec();
            let at = at.index(value.len());
            value[at] = byte;
            if let Err(error) = decode(&value, &Defaults::default()) {
                prop_assert!(!error.message.is_empty());
            }
        }
    }

    #[test]
    fn a_run_beyond_any_topic_is_refused_before_it_is_built() {
        let mut value = encode(&topic(&[1], &[])).to_vec();
        let count_at = 1 + 4 + 9 + 16 + 4 + 8;
        value[count_at..count_at + 4].copy_from_slice(&u32::MAX.to_be_bytes());
        let error = decode(&value, &Defaults::default()).unwrap_err();
        assert!(error.message.contains("too many partitions"), "{error}");
    }
}
