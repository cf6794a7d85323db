//! What is told to the outside about messages: spans and figures.

use std::future::Future;

use wharf_message::dead_letter::Reason;
use wharf_message::transport::Delivery;
use wharf_message::{GroupName, Message, TopicName};

use crate::failure::Failed;
use crate::incoming::Received;

/// How a message left a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Accepted,
    Skipped,
    Expired,
    Retried,
    DeadLettered(Reason),
}

/// Spans and figures of a bus.
#[derive(Debug, Default)]
pub(crate) struct Telemetry {}

impl Telemetry {
    /// Deliveries came in.
    pub(crate) fn received(&self, _group: &GroupName, _deliveries: &[Delivery]) {}

    /// An attempt begins.
    pub(crate) fn process(
        &self,
        _group: &GroupName,
        _handler: &'static str,
        _received: &[Received],
    ) -> Span {
        Span {}
    }

    /// A message left a route.
    pub(crate) fn ended(&self, _group: &GroupName, _topic: &TopicName, _end: End) {}

    /// A message is published; its trace context is added.
    pub(crate) fn published(&self, _topic: &TopicName, _message: &mut Message) {}
}

/// The span of an attempt.
#[derive(Debug)]
pub(crate) struct Span {}

impl Span {
    /// Runs `work` within it.
    pub(crate) fn within<F: Future>(&self, work: F) -> F {
        work
    }

    /// The attempt failed.
    pub(crate) fn failed(&self, _failed: &Failed) {}
}
