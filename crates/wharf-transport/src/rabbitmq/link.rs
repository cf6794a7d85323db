//! A connection to RabbitMQ that is made again when it is lost, and what its errors mean.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use lapin::uri::AMQPUri;
use lapin::{Channel, Connection, ConnectionProperties, ErrorKind};
use tokio::sync::Mutex;
use tokio::time::{sleep, timeout};
use wharf_message::transport::Error;

/// How long the broker may take to answer, and a connection to be made.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// How long a new connection rests after one was lost, in case the broker was restarted: a quorum queue
/// with one member that is asked before it has elected itself never does (rabbitmq-server#10070).
const ELECTIONS_WITHIN: Duration = Duration::from_secs(3);

/// One connection, made when it is needed.
pub(super) struct Link {
    uri: AMQPUri,
    /// What it is for, as the broker shows it.
    purpose: &'static str,
    connection: Mutex<Option<Connection>>,
    is_closed: AtomicBool,
    /// Whether a connection was lost since the last one was made.
    was_lost: AtomicBool,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Link")
            .field("purpose", &self.purpose)
            .finish_non_exhaustive()
    }
}

impl Link {
    pub(super) fn new(uri: AMQPUri, purpose: &'static str) -> Arc<Self> {
        Arc::new(Self {
            uri,
            purpose,
            connection: Mutex::new(None),
            is_closed: AtomicBool::new(false),
            was_lost: AtomicBool::new(false),
        })
    }

    /// A new channel, on the connection there is or on a new one.
    pub(super) async fn channel(&self) -> Result<Channel, Error> {
        let mut connection = self.connection.lock().await;
        if self.is_closed() {
            return Err(Error::Closed);
        }
        if let Some(alive) = connection.as_ref().filter(|it| it.status().connected())
            && let Ok(channel) = answered(alive.create_channel()).await
        {
            return Ok(channel);
        }
        // The old one is dead, or as good as dead.
        if connection.take().is_some() {
            self.was_lost.store(true, Ordering::SeqCst);
        }
        let properties = ConnectionProperties::default()
            .with_connection_name(format!("wharf {}", self.purpose).into());
        let connect = Connection::connect_uri(self.uri.clone(), properties);
        let made = answered(connect).await?;
        if self.was_lost.swap(false, Ordering::SeqCst) {
            sleep(ELECTIONS_WITHIN).await;
        }
        let channel = answered(made.create_channel()).await?;
        *connection = Some(made);
        Ok(channel)
    }

    /// The most bytes that a message's properties may have: they must fit into one frame.
    pub(super) async fn header_bytes_max(&self) -> usize {
        let connection = self.connection.lock().await;
        let frame = connection
            .as_ref()
            .map(|it| it.configuration().frame_max())
            .filter(|max| *max > 0)
            .unwrap_or(FRAME_BYTES);
        // Room for what frames and the content header have beside the properties.
        (frame as usize).saturating_sub(64)
    }

    /// Whether it was ended for good.
    pub(super) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::SeqCst)
    }

    /// Ends the connection for good.
    pub(super) async fn close(&self) -> Result<(), Error> {
        self.is_closed.store(true, Ordering::SeqCst);
        let Some(connection) = self.connection.lock().await.take() else {
            return Ok(());
        };
        if !connection.status().connected() {
            return Ok(());
        }
        answered(connection.close(200, "closed".into())).await
    }
}

/// RabbitMQ's default for the size of a frame.
const FRAME_BYTES: u32 = 128 << 10;

/// What the broker answers. What is asked just when a connection is lost may never be answered, not even
/// with an error: the client library leaves it in the queue of a task that has ended. So nothing is waited
/// for without this.
pub(super) async fn answered<T>(asked: impl Future<Output = lapin::Result<T>>) -> Result<T, Error> {
    let answer = timeout(ANSWER_WITHIN, asked).await;
    let answer = answer
        .map_err(|_late| Error::Unavailable(format!("no answer within {ANSWER_WITHIN:?}")))?;
    answer.map_err(|error| refused(&error))
}

/// What an error means to a user.
pub(super) fn refused(error: &lapin::Error) -> Error {
    let ErrorKind::ProtocolError(told) = error.kind() else {
        return match error.kind() {
            ErrorKind::InvalidProtocolVersion(_) | ErrorKind::AuthProviderError(_) => {
                Error::Refused(error.to_string())
            }
            _ => Error::Unavailable(error.to_string()),
        };
    };
    let text = told.get_message().as_str().to_owned();
    // The reply codes of AMQP 0-9-1, section 1.2.
    match told.get_id() {
        403 | 530 => Error::Denied(text),
        311 | 313 | 404..=406 => Error::Refused(text),
        _ => Error::Unavailable(text),
    }
}

/// The size and the limit in the broker's refusal of a message that is too large.
pub(super) fn too_large(error: &Error) -> Option<(usize, usize)> {
    let Error::Refused(text) = error else {
        return None;
    };
    let after = |words: &str| {
        let (_, rest) = text.split_once(words)?;
        let digits = rest.split(|c: char| !c.is_ascii_digit()).next()?;
        digits.parse().ok()
    };
    Some((after("message size ")?, after("max size ")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_and_the_limit_are_read_from_the_brokers_words() {
        let text =
            "PRECONDITION_FAILED - message size 1001 is larger than configured max size 1000";
        assert_eq!(
            too_large(&Error::Refused(text.to_owned())),
            Some((1_001, 1_000))
        );
        let other = Error::Refused("PRECONDITION_FAILED - inequivalent arg".to_owned());
        assert_eq!(too_large(&other), None);
    }
}
