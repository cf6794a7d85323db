//! OpenTelemetry: spans and figures about messages, by the conventions for messaging systems
//! (`messaging.*`), and the trace context of messages (W3C `traceparent`).
//!
//! Off until [`Bus::with_telemetry`](crate::Bus::with_telemetry): then the trace context of a handled
//! message is only passed on to what comes of it. On, a message has the spans `publish` (or `create`,
//! of what a handler returned), `receive` and `process`; the process span is the child of the publish
//! span, and of a batch it is linked to all of them.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use futures_util::future::Either;
use opentelemetry::context::FutureExt as _;
use opentelemetry::global::BoxedTracer;
use opentelemetry::metrics::{Counter, Histogram, Meter};
use opentelemetry::trace::{
    Link, SpanContext, SpanId, SpanKind, Status, TraceContextExt, TraceFlags, TraceId, TraceState,
    Tracer,
};
use opentelemetry::{Context, KeyValue};
use wharf_message::dead_letter::Reason;
use wharf_message::transport::Delivery;
use wharf_message::{GroupName, Headers, Message, TopicName, header};

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

impl End {
    fn name(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Skipped => "skipped",
            Self::Expired => "expired",
            Self::Retried => "retried",
            Self::DeadLettered(_) => "dead-lettered",
        }
    }
}

/// How many messages left the routes of a bus, by the way they left.
///
/// ```
/// let ends = wharf::Ends::default();
/// assert_eq!(ends.accepted + ends.skipped + ends.expired + ends.retried + ends.dead_lettered, 0);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ends {
    /// Handled, and their outputs published.
    pub accepted: u64,
    /// Passed over on purpose.
    pub skipped: u64,
    /// Too old.
    pub expired: u64,
    /// Back at the broker for another attempt.
    pub retried: u64,
    /// Set aside.
    pub dead_lettered: u64,
}

/// Spans and figures of a bus.
#[derive(Default)]
pub(crate) struct Telemetry {
    ends: [AtomicU64; 5],
    on: Option<Arc<Instruments>>,
}

struct Instruments {
    tracer: BoxedTracer,
    system: &'static str,
    sent: Counter<u64>,
    received: Counter<u64>,
    ended: Counter<u64>,
    process: Histogram<f64>,
}

impl Telemetry {
    /// With spans and figures, for a transport of this name.
    pub(crate) fn new(tracer: BoxedTracer, meter: &Meter, system: &'static str) -> Self {
        let counter = |name, unit: &'static str| meter.u64_counter(name).with_unit(unit).build();
        let on = Instruments {
            tracer,
            system,
            sent: counter("messaging.client.sent.messages", "{message}"),
            received: counter("messaging.client.consumed.messages", "{message}"),
            ended: counter("wharf.messages.ended", "{message}"),
            process: meter
                .f64_histogram("messaging.process.duration")
                .with_unit("s")
                .build(),
        };
        Self {
            on: Some(Arc::new(on)),
            ..Self::default()
        }
    }

    /// The same spans and figures for another bus, which counts for itself.
    pub(crate) fn another(&self) -> Self {
        Self {
            on: self.on.clone(),
            ..Self::default()
        }
    }

    /// The figures so far.
    pub(crate) fn ends(&self) -> Ends {
        let [accepted, skipped, expired, retried, dead_lettered] =
            [0, 1, 2, 3, 4].map(|at: usize| self.ends[at].load(Ordering::Relaxed));
        Ends {
            accepted,
            skipped,
            expired,
            retried,
            dead_lettered,
        }
    }

    /// Deliveries came in.
    pub(crate) fn received(&self, group: &GroupName, deliveries: &[Delivery]) {
        let (Some(on), Some(first)) = (&self.on, deliveries.first()) else {
            return;
        };
        let mut attributes = on.attributes("receive", "receive", &first.topic);
        attributes.push(KeyValue::new(
            "messaging.consumer.group.name",
            group.to_string(),
        ));
        on.received.add(deliveries.len() as u64, &attributes);
        let count = i64::try_from(deliveries.len()).unwrap_or(i64::MAX);
        attributes.push(KeyValue::new("messaging.batch.message_count", count));
        let contexts = deliveries
            .iter()
            .filter_map(|delivery| remote(&delivery.message.headers));
        let span = on.tracer.span_builder(format!("receive {}", first.topic));
        let span = span.with_kind(SpanKind::Client).with_attributes(attributes);
        drop(
            span.with_links(contexts.map(Link::with_context).collect())
                .start(&on.tracer),
        );
    }

    /// An attempt begins.
    pub(crate) fn process(
        &self,
        group: &GroupName,
        handler: &'static str,
        received: &[Received],
    ) -> Span<'_> {
        let (Some(on), Some(first)) = (&self.on, received.first()) else {
            return Span(None);
        };
        let mut attributes = on.attributes("process", "process", &first.topic);
        attributes.push(KeyValue::new(
            "messaging.consumer.group.name",
            group.to_string(),
        ));
        let figures = attributes.clone();
        attributes.push(KeyValue::new("wharf.handler", handler));
        attributes.push(KeyValue::new("wharf.attempt", i64::from(first.attempt)));
        let span = on.tracer.span_builder(format!("process {}", first.topic));
        let span = span.with_kind(SpanKind::Consumer);
        let (span, parent) = if let [only] = received {
            attributes.extend(id(&only.message.headers));
            attributes.extend(only.position.into_iter().flat_map(|position| {
                let partition = position.partition.to_string();
                [
                    KeyValue::new("messaging.destination.partition.id", partition),
                    KeyValue::new("messaging.kafka.offset", position.offset),
                ]
            }));
            (span, remote(&only.message.headers))
        } else {
            let count = i64::try_from(received.len()).unwrap_or(i64::MAX);
            attributes.push(KeyValue::new("messaging.batch.message_count", count));
            let contexts = received
                .iter()
                .filter_map(|one| remote(&one.message.headers));
            (
                span.with_links(contexts.map(Link::with_context).collect()),
                None,
            )
        };
        let parent = parent.map_or_else(Context::new, |parent| {
            Context::new().with_remote_span_context(parent)
        });
        let span = span
            .with_attributes(attributes)
            .start_with_context(&on.tracer, &parent);
        Span(Some(Begun {
            on,
            context: parent.with_span(span),
            since: Instant::now(),
            figures,
        }))
    }

    /// A message left a route.
    pub(crate) fn ended(&self, group: &GroupName, topic: &TopicName, end: End) {
        let at = match end {
            End::Accepted => 0,
            End::Skipped => 1,
            End::Expired => 2,
            End::Retried => 3,
            End::DeadLettered(_) => 4,
        };
        self.ends[at].fetch_add(1, Ordering::Relaxed);
        if let Some(on) = &self.on {
            let mut attributes = vec![
                KeyValue::new("messaging.destination.name", topic.to_string()),
                KeyValue::new("messaging.consumer.group.name", group.to_string()),
                KeyValue::new("wharf.end", end.name()),
            ];
            if let End::DeadLettered(reason) = end {
                attributes.push(KeyValue::new("wharf.reason", reason.name()));
            }
            on.ended.add(1, &attributes);
        }
    }

    /// A message is published; its trace context is added. What is returned is held until it is
    /// acknowledged.
    pub(crate) fn publish(&self, topic: &TopicName, message: &mut Message) -> Published {
        self.outgoing("publish", "send", topic, message)
    }

    /// A message came of one that is handled.
    pub(crate) fn create(&self, topic: &TopicName, message: &mut Message, handled: &Headers) {
        if self.on.is_some() {
            drop(self.outgoing("create", "create", topic, message));
            return;
        }
        for name in [header::TRACEPARENT, header::TRACESTATE] {
            if let Some(value) = handled.get(name) {
                message.headers.set(name, value.clone());
            }
        }
    }

    fn outgoing(
        &self,
        name: &'static str,
        operation: &'static str,
        topic: &TopicName,
        message: &mut Message,
    ) -> Published {
        let Some(on) = &self.on else {
            return Published(None);
        };
        let mut attributes = on.attributes(name, operation, topic);
        on.sent.add(1, &attributes);
        attributes.extend(id(&message.headers));
        let span = on.tracer.span_builder(format!("{name} {topic}"));
        let span = span
            .with_kind(SpanKind::Producer)
            .with_attributes(attributes)
            .start(&on.tracer);
        let context = Context::current_with_span(span);
        inject(context.span().span_context(), &mut message.headers);
        Published(Some(context))
    }
}

impl Instruments {
    fn attributes(
        &self,
        name: &'static str,
        operation: &'static str,
        topic: &TopicName,
    ) -> Vec<KeyValue> {
        vec![
            KeyValue::new("messaging.system", self.system),
            KeyValue::new("messaging.operation.name", name),
            KeyValue::new("messaging.operation.type", operation),
            KeyValue::new("messaging.destination.name", topic.to_string()),
        ]
    }
}

/// The span of a publish; it ends when this is dropped.
pub(crate) struct Published(Option<Context>);

impl Published {
    /// Ends the span.
    pub(crate) fn end<T, E: ToString>(self, result: &Result<T, E>) {
        if let (Some(context), Err(error)) = (&self.0, result) {
            context.span().set_status(Status::error(error.to_string()));
        }
    }
}

impl Drop for Published {
    fn drop(&mut self) {
        if let Some(context) = &self.0 {
            context.span().end();
        }
    }
}

/// The span of an attempt.
pub(crate) struct Span<'a>(Option<Begun<'a>>);

struct Begun<'a> {
    on: &'a Instruments,
    context: Context,
    since: Instant,
    figures: Vec<KeyValue>,
}

impl Span<'_> {
    /// Runs `work` within it.
    pub(crate) fn within<F: Future>(&self, work: F) -> impl Future<Output = F::Output> {
        match &self.0 {
            Some(begun) => Either::Left(work.with_context(begun.context.clone())),
            None => Either::Right(work),
        }
    }

    /// The attempt failed.
    pub(crate) fn failed(&self, failed: &Failed) {
        if let Some(begun) = &self.0 {
            let span = begun.context.span();
            span.set_status(Status::error(failed.error.clone()));
            span.set_attribute(KeyValue::new("error.type", failed.reason.name()));
        }
    }
}

impl Drop for Span<'_> {
    fn drop(&mut self) {
        if let Some(begun) = &self.0 {
            begun
                .on
                .process
                .record(begun.since.elapsed().as_secs_f64(), &begun.figures);
            begun.context.span().end();
        }
    }
}

fn id(headers: &Headers) -> Option<KeyValue> {
    let id = headers.text(header::CE_ID).ok().flatten()?;
    Some(KeyValue::new("messaging.message.id", id.to_owned()))
}

/// Writes the trace context (W3C Trace Context, level 1).
fn inject(context: &SpanContext, headers: &mut Headers) {
    if !context.is_valid() {
        return;
    }
    let (trace, span, flags) = (context.trace_id(), context.span_id(), context.trace_flags());
    headers.set(
        header::TRACEPARENT,
        format!("00-{trace:032x}-{span:016x}-{flags:02x}"),
    );
    let state = context.trace_state().header();
    if !state.is_empty() {
        headers.set(header::TRACESTATE, state);
    }
}

/// Reads the trace context; one that cannot be read counts as none.
fn remote(headers: &Headers) -> Option<SpanContext> {
    let text = |name| headers.text(name).ok().flatten();
    let mut parts = text(header::TRACEPARENT)?.trim().split('-');
    let (version, trace, span, flags) =
        (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let sizes = [version.len(), trace.len(), span.len(), flags.len()];
    if sizes != [2, 32, 16, 2] || version == "ff" || (version == "00" && parts.next().is_some()) {
        return None;
    }
    let state = text(header::TRACESTATE).and_then(|state| state.parse::<TraceState>().ok());
    let context = SpanContext::new(
        TraceId::from_hex(trace).ok()?,
        SpanId::from_hex(span).ok()?,
        TraceFlags::new(u8::from_str_radix(flags, 16).ok()?),
        true,
        state.unwrap_or_default(),
    );
    context.is_valid().then_some(context)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_context_survives_the_way_and_a_broken_one_is_none() {
        let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let mut headers = Headers::default();
        headers.push(header::TRACEPARENT, parent);
        headers.push(header::TRACESTATE, "a=b");
        let context = remote(&headers).expect("valid");
        let mut copy = Headers::default();
        inject(&context, &mut copy);
        assert_eq!(copy, headers);
        for broken in [
            "",
            "00-0-0-01",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
        ] {
            headers.set(header::TRACEPARENT, broken);
            assert_eq!(remote(&headers), None, "{broken}");
        }
    }
}
