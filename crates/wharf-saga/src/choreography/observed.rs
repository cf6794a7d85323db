//! A record as it was seen: where it is, when it was, and what its headers say.
//!
//! Headers come in the dialects of several libraries; the lists here say which are read, in order. A
//! header that is no text, or is longer than any honest one, counts as absent.

use wharf_message::Timestamp;
use wharf_message::ledger::Record;

/// The longest value of a header that is read, in bytes.
pub const HEADER_BYTES_MAX: usize = 512;

/// What names the type of an event.
const TYPES: [&str; 5] = [
    "ce_type",
    "event-type",
    "eventType",
    "NServiceBus.EnclosedMessageTypes",
    "__TypeId__",
];
/// What names a message.
const IDS: [&str; 5] = ["ce_id", "message-id", "NServiceBus.MessageId", "ID", "id"];
/// What names the service that made it.
const SERVICES: [&str; 3] = ["ce_source", "NServiceBus.OriginatingEndpoint", "service"];
/// What names the message that caused it.
const CAUSES: [&str; 4] = [
    "ce_causationid",
    "causation-id",
    "NServiceBus.RelatedTo",
    "RelatedTo",
];

/// A record and its place.
#[derive(Clone, Copy, Debug)]
pub struct Observed<'a> {
    /// The topic.
    pub topic: &'a str,
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
    /// The record.
    pub record: &'a Record,
}

impl<'a> Observed<'a> {
    /// When it was written, by the record itself.
    pub fn at(&self) -> Timestamp {
        self.record.timestamp
    }

    /// A header's text: the last of the name, whatever its case.
    pub fn header(&self, name: &str) -> Option<&'a str> {
        let mut all = self.record.headers.iter().rev();
        let found = all.find(|(found, _)| found.eq_ignore_ascii_case(name.as_bytes()));
        let value = found?.1.as_deref()?;
        if value.is_empty() || value.len() > HEADER_BYTES_MAX {
            return None;
        }
        std::str::from_utf8(value).ok()
    }

    fn first(&self, names: &[&str]) -> Option<&'a str> {
        names.iter().find_map(|name| self.header(name))
    }

    /// The type of the event: what a header says, or else the topic's name.
    pub fn event(&self) -> &'a str {
        let said = self.first(&TYPES).map(|said| match said.split_once(',') {
            // .NET names a type with its assembly behind it.
            Some((name, _)) => name.trim(),
            None => said,
        });
        said.filter(|said| !said.is_empty()).unwrap_or(self.topic)
    }

    /// The message's id, if a header gives one.
    pub fn id(&self) -> Option<&'a str> {
        self.first(&IDS)
    }

    /// The service that made it, if a header says so.
    pub fn service(&self) -> Option<&'a str> {
        self.first(&SERVICES)
    }

    /// The id of the message that caused it, if a header gives one.
    pub fn cause(&self) -> Option<&'a str> {
        self.first(&CAUSES)
    }

    /// What makes it the same message as another: its source and id, or its place when it has none.
    pub fn identity(&self) -> u64 {
        match self.id() {
            Some(id) => hash(&[self.service().unwrap_or("").as_bytes(), id.as_bytes()]),
            None => hash(&[
                self.topic.as_bytes(),
                &self.partition.to_be_bytes(),
                &self.offset.to_be_bytes(),
            ]),
        }
    }
}

/// FNV-1a over parts, each with its end marked, and stirred: equal on every run and machine.
pub(super) fn hash(parts: &[&[u8]]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for part in parts {
        for byte in part.iter().chain(&[0xff]) {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    hash ^= hash >> 32;
    hash = hash.wrapping_mul(0xd6e8_feb8_6659_fd93);
    hash ^ (hash >> 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(headers: &[(&'static str, &'static str)]) -> Record {
        let header =
            |(name, value): &(&'static str, &'static str)| ((*name).into(), Some((*value).into()));
        Record {
            headers: headers.iter().map(header).collect(),
            ..Record::default()
        }
    }

    fn observed(record: &Record) -> Observed<'_> {
        Observed {
            topic: "orders",
            partition: 1,
            offset: 2,
            record,
        }
    }

    #[test]
    fn a_record_is_read_in_every_dialect_and_names_its_topic_when_nothing_is_said() {
        let cloud = record(&[
            ("ce_type", "order.placed"),
            ("ce_id", "7"),
            ("ce_source", "orders"),
            ("ce_causationid", "6"),
        ]);
        let seen = observed(&cloud);
        assert_eq!(seen.event(), "order.placed");
        assert_eq!(seen.id(), Some("7"));
        assert_eq!(seen.service(), Some("orders"));
        assert_eq!(seen.cause(), Some("6"));
        let bus = record(&[
            (
                "NServiceBus.EnclosedMessageTypes",
                "Shop.OrderPlaced, Shop, Version=1.0",
            ),
            ("NServiceBus.MessageId", "a"),
            ("NServiceBus.RelatedTo", "b"),
        ]);
        let seen = observed(&bus);
        assert_eq!(seen.event(), "Shop.OrderPlaced");
        assert_eq!((seen.id(), seen.cause()), (Some("a"), Some("b")));
        let bare = record(&[]);
        let seen = observed(&bare);
        assert_eq!(
            (seen.event(), seen.id(), seen.service()),
            ("orders", None, None)
        );
    }

    #[test]
    fn the_last_header_of_a_name_counts_and_what_is_no_text_is_absent() {
        let mut twice = record(&[("ce_type", "old"), ("CE_TYPE", "new")]);
        assert_eq!(observed(&twice).event(), "new");
        twice
            .headers
            .push(("ce_type".into(), Some(vec![0xff].into())));
        assert_eq!(observed(&twice).event(), "orders");
        twice.headers.push((
            "ce_type".into(),
            Some("x".repeat(HEADER_BYTES_MAX + 1).into()),
        ));
        assert_eq!(observed(&twice).event(), "orders");
    }

    #[test]
    fn the_same_message_has_one_identity_wherever_it_is_and_others_have_others() {
        let (one, other) = (record(&[("ce_id", "1")]), record(&[("ce_id", "2")]));
        let (here, mut there) = (observed(&one), observed(&one));
        there.offset = 9;
        assert_eq!(here.identity(), there.identity());
        assert_ne!(here.identity(), observed(&other).identity());
        let bare = record(&[]);
        let (here, mut there) = (observed(&bare), observed(&bare));
        there.offset = 9;
        assert_ne!(here.identity(), there.identity());
    }
}
