//! Sending many messages and knowing that every one arrived: bounded, idempotent, counted.
//!
//! A message counts as delivered when the broker has acknowledged it, never before. The first
//! failure is kept and ends the run.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message as _};
use rdkafka::producer::{BaseRecord, Producer as _, ProducerContext, ThreadedProducer};

use crate::client::{Connection, not_created};

/// What came back from the broker so far. Called from the client's own thread.
pub(crate) trait Receipts: Send + Sync + 'static {
    /// The message with this number was acknowledged in `partition`.
    fn acknowledged(&self, number: usize, partition: i32);
}

struct Callback<R> {
    receipts: Arc<R>,
    failed: Arc<Mutex<Option<KafkaError>>>,
}

impl<R: Receipts> ClientContext for Callback<R> {}

impl<R: Receipts> ProducerContext for Callback<R> {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, number: usize) {
        match result {
            Ok(message) => self.receipts.acknowledged(number, message.partition()),
            Err((error, _)) => {
                let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
                failed.get_or_insert_with(|| error.clone());
            }
        }
    }
}

/// Sends messages in order, numbered by the caller.
pub(crate) struct Sender<R: Receipts> {
    producer: ThreadedProducer<Callback<R>>,
    failed: Arc<Mutex<Option<KafkaError>>>,
}

/// A record whose delivery is reported under a number.
pub(crate) type Record<'a> = BaseRecord<'a, [u8], [u8], usize>;

impl<R: Receipts> Sender<R> {
    /// A sender over `connection`. `-X` goes before `defaults`, `required` before both.
    pub(crate) fn open(
        connection: &Connection,
        receipts: Arc<R>,
        defaults: &[(&str, &str)],
        required: &[(&str, &str)],
    ) -> anyhow::Result<Self> {
        // The queue bounds the memory: further messages wait until earlier ones are acknowledged.
        let usual = [
            ("enable.idempotence", "true"),
            ("linger.ms", "5"),
            ("queue.buffering.max.kbytes", "65536"),
        ];
        let mut config = connection.config_over(&[&usual[..], defaults].concat());
        for (name, value) in required {
            config.set(*name, *value);
        }
        let failed = Arc::new(Mutex::new(None));
        let callback = Callback {
            receipts,
            failed: Arc::clone(&failed),
        };
        let producer = config.create_with_context(callback).map_err(not_created)?;
        Ok(Self { producer, failed })
    }

    /// Queues a message, waiting while the queue is full.
    pub(crate) fn send(
        &self,
        mut record: Record<'_>,
        connection: &Connection,
    ) -> anyhow::Result<()> {
        loop {
            self.check(connection)?;
            match self.producer.send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), returned)) => {
                    record = returned;
                    // Frees up as acknowledgements arrive; flush returns early when it is empty.
                    drop(self.producer.flush(Duration::from_millis(50)));
                }
                Err((error, _)) => return Err(explain(&error, connection)),
            }
        }
    }

    /// Waits until everything queued is acknowledged or has failed.
    pub(crate) fn finish(&self, connection: &Connection) -> anyhow::Result<()> {
        while self.producer.in_flight_count() > 0 {
            // Running out of time here is not an error: the loop looks again.
            drop(self.producer.flush(Duration::from_millis(200)));
            self.check(connection)?;
        }
        self.check(connection)
    }

    fn check(&self, connection: &Connection) -> anyhow::Result<()> {
        let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        failed
            .as_ref()
            .map_or(Ok(()), |error| Err(explain(error, connection)))
    }
}

fn explain(error: &KafkaError, connection: &Connection) -> anyhow::Error {
    use wharf_message::Code;
    use wharf_server::Problem;
    match error.rdkafka_error_code() {
        Some(RDKafkaErrorCode::MessageTimedOut) => Problem::new(
            Code::BROKER_UNREACHABLE,
            format!("a message was not acknowledged by {}", connection.broker),
            error.to_string(),
            "look at the broker's log and health (/readyz), then send what is missing again",
        )
        .into(),
        Some(RDKafkaErrorCode::MessageSizeTooLarge) => Problem::new(
            Code::MESSAGE_TOO_LARGE,
            "a message is larger than the topic allows",
            error.to_string(),
            "raise the topic's max.message.bytes with `wharf topic alter`, or send less",
        )
        .into(),
        Some(RDKafkaErrorCode::InvalidRecord) => Problem::new(
            Code::SCHEMA_CONTRACT_BROKEN,
            "a message breaks the contract of its topic",
            error.to_string(),
            "the broker's log says why; send what a schema of the topic's subject allows, with its \
             name in front, and a key where the topic is compacted",
        )
        .into(),
        _ => connection.explain(error),
    }
}
