//! What the members of a classic consumer group tell each other, as the group sees it: the
//! subscription in a join and the assignment in a sync, in all their versions.
//!
//! Read only where a group of the consumer protocol takes classic members in; a purely classic
//! group never looks into an assignment. Unreadable bytes are `None`, never a guess, and nothing is
//! allocated for what the bytes only claim.

use bytes::{BufMut, Bytes, BytesMut};

/// Topics by name with partitions.
pub(super) type Named = Vec<(String, Vec<i32>)>;

/// The first versions with owned partitions and with a generation.
const OWNED: i16 = 1;
const GENERATION: i16 = 2;
/// The newest version of both; later ones begin with the same fields.
const VERSION_MAX: i16 = 3;

/// What a consumer says when it joins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Subscription {
    pub(super) version: i16,
    pub(super) topics: Vec<String>,
    /// What it still reads; empty for a member that gave everything up before it joined.
    pub(super) owned: Named,
    /// The generation in which it got what it owns.
    pub(super) generation: Option<i32>,
}

impl Subscription {
    pub(super) fn read(metadata: &[u8]) -> Option<Self> {
        let mut input = Input(metadata);
        let version = input.i16().filter(|version| *version >= 0)?;
        let topics = input.list(Input::text)?;
        input.bytes()?;
        let owned = match version >= OWNED {
            true => input.list(Input::topic)?,
            false => Vec::new(),
        };
        let generation = match version >= GENERATION {
            true => Some(input.i32()?).filter(|generation| *generation >= 0),
            false => None,
        };
        Some(Self {
            version,
            topics,
            owned,
            generation,
        })
    }
}

/// The partitions of an assignment. No bytes are no partitions.
pub(super) fn read_assignment(assignment: &[u8]) -> Option<Named> {
    if assignment.is_empty() {
        return Some(Vec::new());
    }
    let mut input = Input(assignment);
    input.i16().filter(|version| *version >= 0)?;
    input.list(Input::topic)
}

/// An assignment for a member whose subscription has this version.
pub(super) fn write_assignment(version: i16, topics: &[(String, Vec<i32>)]) -> Bytes {
    let mut out = BytesMut::new();
    out.put_i16(version.clamp(0, VERSION_MAX));
    out.put_i32(length(topics.len()));
    for (name, partitions) in topics {
        out.put_i16(i16::try_from(name.len()).expect("topics have at most 249 bytes"));
        out.put_slice(name.as_bytes());
        out.put_i32(length(partitions.len()));
        for partition in partitions {
            out.put_i32(*partition);
        }
    }
    out.put_i32(-1); // no user data
    out.freeze()
}

fn length(length: usize) -> i32 {
    i32::try_from(length).expect("a node has far fewer than 2^31 partitions")
}

struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn i16(&mut self) -> Option<i16> {
        let (head, rest) = self.0.split_first_chunk::<2>()?;
        self.0 = rest;
        Some(i16::from_be_bytes(*head))
    }

    fn i32(&mut self) -> Option<i32> {
        let (head, rest) = self.0.split_first_chunk::<4>()?;
        self.0 = rest;
        Some(i32::from_be_bytes(*head))
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(head)
    }

    fn text(&mut self) -> Option<String> {
        let length = usize::try_from(self.i16()?).ok()?;
        std::str::from_utf8(self.take(length)?)
            .ok()
            .map(str::to_owned)
    }

    /// Bytes that may be absent.
    fn bytes(&mut self) -> Option<()> {
        match self.i32()? {
            -1 => Some(()),
            length => self.take(usize::try_from(length).ok()?).map(|_bytes| ()),
        }
    }

    fn topic(&mut self) -> Option<(String, Vec<i32>)> {
        Some((self.text()?, self.list(Self::i32)?))
    }

    /// A list; an absent one is empty. Grows with what is read, not with what is claimed.
    fn list<T>(&mut self, mut item: impl FnMut(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let count = self.i32()?;
        let mut items = Vec::new();
        for _ in 0..count {
            items.push(item(self)?);
        }
        Some(items)
    }
}

/// A subscription as clients write it.
#[cfg(test)]
pub(super) fn write_subscription(subscription: &Subscription) -> Bytes {
    let mut out = BytesMut::new();
    out.put_i16(subscription.version);
    out.put_i32(length(subscription.topics.len()));
    for topic in &subscription.topics {
        out.put_i16(i16::try_from(topic.len()).expect("a short name"));
        out.put_slice(topic.as_bytes());
    }
    out.put_i32(-1);
    if subscription.version >= OWNED {
        let owned = write_assignment(0, &subscription.owned);
        out.put_slice(&owned[2..owned.len() - 4]);
    }
    if subscription.version >= GENERATION {
        out.put_i32(subscription.generation.unwrap_or(-1));
    }
    out.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subscription(version: i16) -> Subscription {
        let has = |since| version >= since;
        Subscription {
            version,
            topics: vec!["orders".to_owned(), "bills".to_owned()],
            owned: match has(OWNED) {
                true => vec![("orders".to_owned(), vec![0, 7])],
                false => Vec::new(),
            },
            generation: has(GENERATION).then_some(4),
        }
    }

    #[test]
    fn subscriptions_of_every_version_are_read() {
        for version in 0..=VERSION_MAX {
            let written = write_subscription(&subscription(version));
            assert_eq!(Subscription::read(&written), Some(subscription(version)));
            for end in 0..written.len() {
                assert_eq!(
                    Subscription::read(&written[..end]),
                    None,
                    "v{version} cut at {end}"
                );
            }
        }
    }

    #[test]
    fn assignments_are_read_back_as_written() {
        let topics = vec![("orders".to_owned(), vec![0, 7]), ("b".to_owned(), vec![])];
        let written = write_assignment(1, &topics);
        assert_eq!(read_assignment(&written), Some(topics));
        assert_eq!(read_assignment(b""), Some(Vec::new()));
        assert_eq!(read_assignment(b"\0\0\x7f\xff\xff\xff"), None);
        assert_eq!(read_assignment(b"\xff\xff\0\0\0\0"), None);
    }
}
