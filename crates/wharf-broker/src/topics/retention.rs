//! What the log's maintenance asks: how long the data of a partition is kept, and whether it is
//! compacted.

use std::sync::Arc;

use wharf_log::{Codec, PartitionId, Policy, Retention};

use crate::codec::LogCodec;
use crate::{Broker, Shared, sync};

/// The retention of every partition by the settings of its topic. Nothing is deleted from a
/// partition whose topic is not (or no longer) known, or is only compacted.
#[derive(Clone, Debug)]
pub struct RetentionPolicy {
    shared: Arc<Shared>,
}

impl Policy for RetentionPolicy {
    fn retention(&self, partition: PartitionId) -> Option<Retention> {
        let view = sync::read(&self.shared.topics.view);
        Some(view.of_partition(partition)?.config.retention.clone())
    }

    fn codec(&self) -> &dyn Codec {
        &LogCodec
    }
}

impl Broker {
    /// The settings of the topics as the log's maintenance wants them.
    pub fn retention_policy(&self) -> RetentionPolicy {
        RetentionPolicy {
            shared: Arc::clone(&self.shared),
        }
    }
}
