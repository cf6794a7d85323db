//! The names of the headers that Wharf writes and reads. One place, so that none is misspelt.
//!
//! CloudEvents 1.0 in the binary mode of its Kafka binding (`ce_` attributes), W3C trace context,
//! and our own, whose values are always UTF-8 text: decimal numbers, and times as RFC 3339.
//!
//! ```
//! use wharf_message::{Message, header};
//!
//! let message = Message::new("{}")
//!     .with_header(header::CE_TYPE, "shop.order.placed")
//!     .with_header(header::EXPIRES_AT, "2026-01-01T00:00:00Z");
//! assert_eq!(message.headers.text(header::CE_TYPE), Ok(Some("shop.order.placed")));
//! ```

/// CloudEvents `id`: unique together with [`CE_SOURCE`].
pub const CE_ID: &str = "ce_id";
/// CloudEvents `source`: the service that made the message.
pub const CE_SOURCE: &str = "ce_source";
/// CloudEvents `specversion`, always [`CE_SPECVERSION_VALUE`].
pub const CE_SPECVERSION: &str = "ce_specversion";
/// The version of CloudEvents that is written.
pub const CE_SPECVERSION_VALUE: &str = "1.0";
/// CloudEvents `type`: which kind of event the payload is.
pub const CE_TYPE: &str = "ce_type";
/// CloudEvents `time`, RFC 3339.
pub const CE_TIME: &str = "ce_time";
/// CloudEvents `subject`: what the event is about.
pub const CE_SUBJECT: &str = "ce_subject";
/// CloudEvents `dataschema`: the schema of the payload.
pub const CE_DATASCHEMA: &str = "ce_dataschema";
/// CloudEvents `dataref`: where the payload is, when it is not in the message (claim check).
pub const CE_DATAREF: &str = "ce_dataref";
/// Extension: what belongs to one business transaction shares it.
pub const CE_CORRELATIONID: &str = "ce_correlationid";
/// Extension: the id of the message that caused this one.
pub const CE_CAUSATIONID: &str = "ce_causationid";
/// Extension `partitionkey`, where the transport's key is not enough.
pub const CE_PARTITIONKEY: &str = "ce_partitionkey";
/// The media type of the payload.
pub const CONTENT_TYPE: &str = "content-type";
/// W3C Trace Context.
pub const TRACEPARENT: &str = "traceparent";
/// W3C Trace Context.
pub const TRACESTATE: &str = "tracestate";
/// W3C Baggage.
pub const BAGGAGE: &str = "baggage";
/// An idempotency key the producer chose; it counts before the message id.
pub const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// Not to be delivered before this time.
pub const DELIVER_AT: &str = "wharf-deliver-at";
/// Not to be handled after this time.
pub const EXPIRES_AT: &str = "wharf-expires-at";
/// Which delivery to the group's handler this is, from 1.
pub const ATTEMPT: &str = "wharf-attempt";
/// Where a retried or delayed message came from: the topic.
pub const ORIGIN_TOPIC: &str = "wharf-origin-topic";
/// Where it came from: the partition.
pub const ORIGIN_PARTITION: &str = "wharf-origin-partition";
/// Where it came from: the offset.
pub const ORIGIN_OFFSET: &str = "wharf-origin-offset";
/// When the group's handler failed at it first, RFC 3339.
pub const FIRST_FAILED_AT: &str = "wharf-first-failed-at";
/// The topic that replies are sent to.
pub const REPLY_TO: &str = "wharf-reply-to";
/// The id of the request that a reply answers.
pub const REPLY_FOR: &str = "wharf-reply-for";
/// When the requester stops waiting, RFC 3339.
pub const DEADLINE: &str = "wharf-deadline";

/// Commands of a saga, replies to them: the saga's id.
pub const SAGA_ID: &str = "saga-id";
/// Commands of a saga, records that start one: its type, the name of its definition.
pub const SAGA_TYPE: &str = "saga-type";
/// Commands of a saga, replies to them: the visit of the state.
pub const SAGA_STEP: &str = "step";
/// Commands of a saga: the state's name.
pub const SAGA_STEP_NAME: &str = "step-name";
/// Commands of a saga: which attempt of the visit, from 1.
pub const SAGA_ATTEMPT: &str = "attempt";
/// Commands of a saga, replies to them: which dispatch; an older one is stale.
pub const SAGA_GENERATION: &str = "generation";
/// Commands of a saga: `true` when the step is to be undone.
pub const SAGA_UNDO: &str = "undo";
/// Commands of a saga: when the saga gives the attempt up, RFC 3339.
pub const SAGA_DEADLINE: &str = "deadline";
/// Commands of a saga: the topic that takes the reply.
pub const SAGA_REPLY_TO: &str = "reply-to";
/// Replies to a saga: what came of the task, `SUCCESS`, `BUSINESS_FAILURE`, `RETRYABLE`, `HEARTBEAT` or
/// `ACCEPTED`.
pub const SAGA_REPLY: &str = "saga-reply";
/// Replies to a saga: the error's name.
pub const SAGA_ERROR: &str = "saga-error";
/// Records that start a saga: the version or alias of its definition.
pub const SAGA_VERSION: &str = "saga-version";
/// Records that start a saga: what the names of its attributes begin with.
pub const SAGA_ATTRIBUTE_PREFIX: &str = "saga-attribute-";

/// Claim check: SHA-256 of the payload, in hex.
pub const CLAIM_SHA256: &str = "wharf-claim-sha256";
/// Claim check: the payload's length in bytes.
pub const CLAIM_SIZE: &str = "wharf-claim-size";

/// Dead letter: the class of the failure, one of [`crate::dead_letter::Reason`]'s names.
pub const DLQ_REASON: &str = "wharf-dlq-reason";
/// Dead letter: the error and its causes, outermost first, one per line.
pub const DLQ_ERROR: &str = "wharf-dlq-error";
/// Dead letter: how many attempts were made.
pub const DLQ_ATTEMPTS: &str = "wharf-dlq-attempts";
/// Dead letter: when the first attempt failed, RFC 3339.
pub const DLQ_FIRST_FAILED_AT: &str = "wharf-dlq-first-failed-at";
/// Dead letter: when it was set aside, RFC 3339.
pub const DLQ_FAILED_AT: &str = "wharf-dlq-failed-at";
/// Dead letter: the topic it came from.
pub const DLQ_TOPIC: &str = "wharf-dlq-topic";
/// Dead letter: the partition it came from.
pub const DLQ_PARTITION: &str = "wharf-dlq-partition";
/// Dead letter: the offset it had.
pub const DLQ_OFFSET: &str = "wharf-dlq-offset";
/// Dead letter: the group that could not handle it.
pub const DLQ_GROUP: &str = "wharf-dlq-group";
/// Dead letter: the handler that could not handle it.
pub const DLQ_HANDLER: &str = "wharf-dlq-handler";
/// The prefix of all our dead-letter headers.
pub const DLQ_PREFIX: &str = "wharf-dlq-";
/// The prefix of what Kafka 4.4 writes for share groups (KIP-1191).
pub const KAFKA_DLQ_PREFIX: &str = "__dlq.errors.";
