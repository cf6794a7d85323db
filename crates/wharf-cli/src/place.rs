//! Places in a topic as people write them: `beginning`, `end`, an offset, `-N` from the end,
//! `@TIME`.

use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{Offset, TopicPartitionList};

use crate::client::PATIENCE;

/// A place in each partition of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// The first record kept.
    Beginning,
    /// After the last record.
    End,
    /// An offset.
    At(i64),
    /// So many records before the end.
    Last(i64),
    /// The first record at or after this time, in milliseconds since the Unix epoch.
    Time(i64),
}

/// How places are written, for help texts.
pub(crate) const FORMS: &str = "beginning, end, an offset, -N (the last N records of each \
     partition), @TIME (@2026-01-31T12:00:00Z, @1769860800000, or @-1h)";

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "beginning" | "earliest" | "start" => return Ok(Self::Beginning),
            "end" | "latest" => return Ok(Self::End),
            _ => {}
        }
        if let Some(time) = text.strip_prefix('@') {
            return instant(time).map(Self::Time);
        }
        match text.parse::<i64>() {
            Ok(offset) if text.starts_with('-') => Ok(Self::Last(-offset)),
            Ok(offset) => Ok(Self::At(offset)),
            Err(_) => Err(format!("expected {FORMS}")),
        }
    }
}

fn instant(text: &str) -> Result<i64, String> {
    let millis = |time: SystemTime| {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    };
    if let Some(ago) = text.strip_prefix('-') {
        let ago = humantime::parse_duration(ago).map_err(|error| error.to_string())?;
        return Ok(millis(
            SystemTime::now().checked_sub(ago).unwrap_or(UNIX_EPOCH),
        ));
    }
    if let Ok(number) = text.parse::<i64>() {
        return Ok(number);
    }
    humantime::parse_rfc3339_weak(text)
        .map(millis)
        .map_err(|error| format!("{error}; a time is written like 2026-01-31T12:00:00Z"))
}

/// A time as people read it, in UTC.
pub(crate) fn show_time(millis: i64) -> String {
    let since = Duration::from_millis(u64::try_from(millis).unwrap_or(0));
    humantime::format_rfc3339_millis(UNIX_EPOCH + since).to_string()
}

/// A partition with its first and its end offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) partition: i32,
    pub(crate) start: i64,
    pub(crate) end: i64,
}

/// The extents of partitions as the broker has them now.
pub(crate) fn extents(
    consumer: &BaseConsumer,
    topic: &str,
    partitions: &[i32],
) -> anyhow::Result<Vec<Extent>> {
    let ask = |&partition: &i32| {
        let (start, end) = consumer
            .fetch_watermarks(topic, partition, PATIENCE)
            .with_context(|| format!("the offsets of {topic}[{partition}] cannot be read"))?;
        Ok(Extent {
            partition,
            start,
            end,
        })
    };
    partitions.iter().map(ask).collect()
}

impl Place {
    /// The offset of this place in each partition, within what is kept.
    pub(crate) fn resolve(
        self,
        consumer: &BaseConsumer,
        topic: &str,
        extents: &[Extent],
    ) -> anyhow::Result<Vec<i64>> {
        let Self::Time(millis) = self else {
            return Ok(extents.iter().map(|extent| self.within(extent)).collect());
        };
        let mut asked = TopicPartitionList::new();
        for extent in extents {
            asked.add_partition_offset(topic, extent.partition, Offset::Offset(millis))?;
        }
        let answered = consumer.offsets_for_times(asked, PATIENCE)?;
        let found = |extent: &Extent| {
            let offset = answered
                .find_partition(topic, extent.partition)
                .map(|one| one.offset());
            match offset {
                Some(Offset::Offset(offset)) => offset,
                _ => extent.end,
            }
        };
        Ok(extents.iter().map(found).collect())
    }

    fn within(self, extent: &Extent) -> i64 {
        let offset = match self {
            Self::Beginning => extent.start,
            Self::End | Self::Time(_) => extent.end,
            Self::At(offset) => offset,
            Self::Last(count) => extent.end.saturating_sub(count),
        };
        offset.clamp(extent.start, extent.end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_as_people_write_them() {
        assert_eq!("beginning".parse(), Ok(Place::Beginning));
        assert_eq!("latest".parse(), Ok(Place::End));
        assert_eq!("42".parse(), Ok(Place::At(42)));
        assert_eq!("-10".parse(), Ok(Place::Last(10)));
        assert_eq!("@1000".parse(), Ok(Place::Time(1000)));
        assert_eq!("@1970-01-01T00:00:01Z".parse(), Ok(Place::Time(1000)));
        assert!("@-1h".parse::<Place>().is_ok());
        assert!("@yesterday".parse::<Place>().is_err());
        assert!("soon".parse::<Place>().unwrap_err().contains("beginning"));
    }

    #[test]
    fn a_place_stays_within_what_is_kept() {
        let extent = Extent {
            partition: 0,
            start: 10,
            end: 20,
        };
        assert_eq!(Place::At(3).within(&extent), 10);
        assert_eq!(Place::At(30).within(&extent), 20);
        assert_eq!(Place::Last(4).within(&extent), 16);
        assert_eq!(Place::Last(400).within(&extent), 10);
    }
}
