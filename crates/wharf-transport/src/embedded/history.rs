//! Reading back what the broker keeps: fetches from outside any group, a megabyte at a time.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::time::sleep;
use wharf_broker::records::{Batch, Content};
use wharf_broker::{
    ErrorKind, Fetch, FetchPartition, FetchSession, FetchedPartition, OffsetQuery, OffsetQueryAt,
    TopicRef,
};
use wharf_message::transport::{Error, Extent, TopicHistory};
use wharf_message::{Message, TopicName};

use super::{EmbeddedTransport, record};

/// The most one fetch reads; one batch may be larger.
const BYTES_MAX: i32 = 1 << 20;

impl TopicHistory for EmbeddedTransport {
    fn topics(&self) -> BoxFuture<'_, Result<Vec<TopicName>, Error>> {
        Box::pin(async {
            self.core.check_open()?;
            let topics = self.core.broker.topics();
            Ok(topics.iter().map(|topic| topic.name.clone()).collect())
        })
    }

    fn extents<'a>(
        &'a self,
        topic: &'a TopicName,
    ) -> BoxFuture<'a, Result<Option<Vec<Extent>>, Error>> {
        Box::pin(async move {
            self.core.check_open()?;
            let found = match self.core.find(topic) {
                Err(Error::UnknownTopic(_)) => return Ok(None),
                found => found?,
            };
            let mut extents = Vec::with_capacity(found.partitions.len());
            for partition in (0..).take(found.partitions.len()) {
                let [first, end] = [OffsetQueryAt::Earliest, OffsetQueryAt::Latest];
                extents.push(Extent {
                    partition,
                    first: self.offset(topic, partition, first).await?,
                    end: self.offset(topic, partition, end).await?,
                });
            }
            Ok(Some(extents))
        })
    }

    fn read<'a>(
        &'a self,
        topic: &'a TopicName,
        extent: Extent,
        each: &'a mut (dyn FnMut(i64, &Message) + Send),
    ) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(self.read_extent(topic, extent, each))
    }
}

impl EmbeddedTransport {
    async fn offset(
        &self,
        topic: &TopicName,
        partition: i32,
        at: OffsetQueryAt,
    ) -> Result<i64, Error> {
        let query = OffsetQuery {
            topic: TopicRef::Name(topic.as_str().to_owned()),
            partition,
            current_leader_epoch: -1,
            at,
            read_committed: false,
        };
        let listed = self.core.broker.list_offset(&self.core.cx, query).await;
        let listed = listed.map_err(|error| record::error(error, topic))?;
        Ok(listed.offset)
    }

    async fn read_extent(
        &self,
        topic: &TopicName,
        extent: Extent,
        each: &mut (dyn FnMut(i64, &Message) + Send),
    ) -> Result<(), Error> {
        let mut next = extent.first;
        while next < extent.end {
            self.core.check_open()?;
            let mut found = self.fetch_from(topic, extent.partition, next).await?;
            if let Some(error) = found.error.take() {
                let first = self.offset(topic, extent.partition, OffsetQueryAt::Earliest);
                let first = first.await?;
                // Retention was quicker: what is gone is passed by.
                if error.kind == ErrorKind::OffsetOutOfRange && first > next {
                    next = first;
                    continue;
                }
                return Err(record::error(error, topic));
            }
            let before = next;
            next = self.read_stretch(&mut found, next, each).await?;
            for batches in found.batches {
                next = next.max(read_batches(batches, each)?);
            }
            if next == before {
                // The extent's end was there when it was taken.
                let why =
                    format!("nothing is read at the offset {next} of {topic}, before its end");
                return Err(Error::Unavailable(why));
            }
        }
        Ok(())
    }

    async fn fetch_from(
        &self,
        topic: &TopicName,
        partition: i32,
        offset: i64,
    ) -> Result<FetchedPartition, Error> {
        loop {
            let fetch = Fetch {
                wait_max: Duration::ZERO,
                bytes_min: 1,
                bytes_max: BYTES_MAX,
                read_committed: false,
                session: FetchSession { id: 0, epoch: -1 },
                partitions: vec![FetchPartition {
                    topic: TopicRef::Name(topic.as_str().to_owned()),
                    partition,
                    offset,
                    bytes_max: BYTES_MAX,
                    current_leader_epoch: -1,
                    last_fetched_epoch: -1,
                    log_start: -1,
                }],
                forgotten: Vec::new(),
            };
            let fetched = self.core.broker.fetch(&self.core.cx, fetch).await;
            if let Some(error) = fetched.error {
                return Err(record::error(error, topic));
            }
            if fetched.throttle.is_zero() {
                let found = fetched.partitions.into_iter().next();
                return found.ok_or_else(|| Error::UnknownTopic(topic.clone()));
            }
            sleep(fetched.throttle).await;
        }
    }

    /// Reads what is still on the disk, a piece at a time; returns where the next batch begins.
    async fn read_stretch(
        &self,
        found: &mut FetchedPartition,
        mut next: i64,
        each: &mut (dyn FnMut(i64, &Message) + Send),
    ) -> Result<i64, Error> {
        let Some(mut stretch) = found.stretch.take() else {
            return Ok(next);
        };
        loop {
            let reading = self.core.handle.spawn_blocking(move || {
                let piece = stretch.read().map_err(|error| error.to_string());
                (stretch, piece)
            });
            let unread = |why: String| Error::Unavailable(format!("the log cannot be read: {why}"));
            let piece;
            (stretch, piece) = reading.await.map_err(|error| unread(error.to_string()))?;
            let piece = piece.map_err(unread)?;
            if piece.is_empty() {
                return Ok(next);
            }
            for batches in piece {
                next = next.max(read_batches(batches, each)?);
            }
        }
    }
}

/// Hands on every record of neighbouring batches; returns where the next batch begins.
fn read_batches(
    mut neighbours: Bytes,
    each: &mut (dyn FnMut(i64, &Message) + Send),
) -> Result<i64, Error> {
    let mut next = 0;
    while !neighbours.is_empty() {
        let (batch, rest) = Batch::split(&neighbours).map_err(unreadable)?;
        let opened = Batch::open(&batch).map_err(unreadable)?;
        if let Content::Records { records, .. } = opened.content {
            for found in records {
                let found = found.map_err(unreadable)?;
                each(found.offset, &record::message(found));
            }
        }
        next = opened.end;
        neighbours = rest;
    }
    Ok(next)
}

#[expect(clippy::needless_pass_by_value, reason = "as `map_err` hands it over")]
fn unreadable(error: wharf_broker::Error) -> Error {
    Error::Refused(format!("a batch cannot be read: {}", error.message))
}
