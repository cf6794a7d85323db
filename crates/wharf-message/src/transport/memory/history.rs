//! Reading back what the transport in memory keeps, which is everything. A scheduled message belongs
//! to its topic.

use std::future::ready;

use futures_util::future::BoxFuture;

use super::MemoryTransport;
use crate::transport::{Error, Extent, TopicHistory};
use crate::{Message, TopicName};

fn offset(index: usize) -> i64 {
    i64::try_from(index).unwrap_or(i64::MAX)
}

impl TopicHistory for MemoryTransport {
    fn topics(&self) -> BoxFuture<'_, Result<Vec<TopicName>, Error>> {
        let mut topics = self.topics();
        topics.extend(self.scheduled().into_iter().map(|(_, topic, _)| topic));
        topics.sort();
        topics.dedup();
        Box::pin(ready(Ok(topics)))
    }

    fn extents<'a>(
        &'a self,
        topic: &'a TopicName,
    ) -> BoxFuture<'a, Result<Option<Vec<Extent>>, Error>> {
        let exists =
            self.topics().contains(topic) || self.scheduled().iter().any(|(_, to, _)| to == topic);
        let extents = exists.then(|| {
            vec![Extent {
                partition: 0,
                first: 0,
                end: offset(self.messages(topic).len()),
            }]
        });
        Box::pin(ready(Ok(extents)))
    }

    fn read<'a>(
        &'a self,
        topic: &'a TopicName,
        extent: Extent,
        each: &'a mut (dyn FnMut(i64, &Message) + Send),
    ) -> BoxFuture<'a, Result<(), Error>> {
        // Those first: one that comes due meanwhile is in its topic, maybe beyond the extent.
        for (_, to, message) in self.scheduled() {
            if to == *topic {
                each(-1, &message);
            }
        }
        let messages = self.messages(topic).into_iter().zip(0..);
        messages
            .filter(|(_, at)| (extent.first..extent.end).contains(at))
            .for_each(|(message, at)| each(at, &message));
        Box::pin(ready(Ok(())))
    }
}
