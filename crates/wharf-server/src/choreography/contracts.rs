//! `_wharf.choreography-contracts`: the contracts that are deployed, by name; compacted.

use wharf_broker::{Broker, EmbeddedLedger, TopicRef};
use wharf_message::TopicName;
use wharf_message::ledger::{Commit, Error, Ledger as _, Partition, Record, TopicSpec};

use super::read::read;
use crate::clock;

/// The topic of contracts.
pub(super) const CONTRACTS: &str = "_wharf.choreography-contracts";
/// How many records are read at once.
const READ_MAX: usize = 1_000;

/// A compacted topic of one partition that this role alone writes to.
#[derive(Debug)]
pub(super) struct Kept {
    ledger: EmbeddedLedger,
    place: Partition,
    /// Nothing while the topic is not there: it is made by the first record.
    owner: Option<wharf_message::ledger::Owner>,
}

impl Kept {
    pub(super) fn new(ledger: EmbeddedLedger, topic: &str) -> Self {
        let topic = TopicName::new(topic).expect("the name is a valid one");
        Self {
            ledger,
            place: Partition { topic, index: 0 },
            owner: None,
        }
    }

    /// Everything in it, in order, without values of keys that were removed.
    pub(super) async fn read(
        &self,
        broker: &Broker,
        mut take: impl FnMut(&str, Option<&[u8]>),
    ) -> Result<(), String> {
        let name = self.place.topic.as_str();
        let topic = broker.topic(&TopicRef::Name(name.to_owned()));
        let Some(id) = topic
            .ok()
            .and_then(|topic| topic.partitions.first().copied())
        else {
            return Ok(());
        };
        let Some(bounds) = broker.reader().bounds(id) else {
            return Ok(());
        };
        let mut next = bounds.start;
        while next < bounds.end {
            let read = read(broker, id, next, READ_MAX).await?;
            for entry in &read.entries {
                let key = entry.record.key.as_deref().map(std::str::from_utf8);
                if let Some(Ok(key)) = key {
                    take(key, entry.record.value.as_deref());
                }
            }
            // Nothing is left of the rest.
            if read.next <= next {
                return Ok(());
            }
            next = read.next;
        }
        Ok(())
    }

    /// Writes records by key; without a value the key is removed. All of them or none.
    pub(super) async fn write(
        &mut self,
        records: Vec<(String, Option<Vec<u8>>)>,
    ) -> Result<(), Error> {
        let owner = match self.owner.take() {
            Some(owner) => owner,
            None => {
                let spec = TopicSpec {
                    name: self.place.topic.clone(),
                    partitions: 1,
                    compacted: true,
                };
                self.ledger.create_topic(spec).await?;
                self.ledger.own(self.place.clone()).await?
            }
        };
        let timestamp = clock::now();
        let record = |(key, value): (String, Option<Vec<u8>>)| {
            let record = Record {
                timestamp,
                key: Some(key.into()),
                value: value.map(Into::into),
                headers: Vec::new(),
            };
            (self.place.clone(), record)
        };
        let commit = Commit {
            records: records.into_iter().map(record).collect(),
            ..Commit::default()
        };
        // The ownership is kept when it went well; else it is unknown, and is taken anew.
        self.ledger.commit(&owner, commit).await?;
        self.owner = Some(owner);
        Ok(())
    }
}
