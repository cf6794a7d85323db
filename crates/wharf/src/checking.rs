//! Payloads on their way out of a bus: written with their schema, if the bus has a registry, and above a
//! threshold stored in object storage, if it has claim checks. What must never happen: a reference is
//! published before its payload is stored, or a schema's id before the schema is registered.

use std::time::Duration;

use tokio::sync::watch;
use wharf_message::dead_letter::Reason;
use wharf_message::{Message, TopicName};

use crate::Event;
use crate::bus::BusError;
use crate::failure::Failed;
#[cfg(feature = "schema")]
use crate::incoming::Received;
#[cfg(feature = "schema")]
use crate::schema;
#[cfg(feature = "claim-check")]
use crate::{claim, failure::IntoFailed as _};

/// The first pause before what could not be stored is stored again; it doubles up to the last.
const AGAIN_FIRST: Duration = Duration::from_millis(50);
const AGAIN_LAST: Duration = Duration::from_secs(5);

/// What a bus does before it publishes; nothing by default.
#[derive(Clone, Debug, Default)]
pub(crate) struct Checking {
    /// Where to, and above how many bytes.
    #[cfg(feature = "claim-check")]
    pub(crate) claims: Option<(claim::Claims, usize)>,
    /// What events with a contract are written and read with.
    #[cfg(feature = "schema")]
    pub(crate) schemas: Option<schema::Registry>,
}

impl Checking {
    /// Whether anything is done with these at all.
    fn is_on(&self, outputs: &[(TopicName, Message)]) -> bool {
        #[cfg(feature = "claim-check")]
        if self.claims.is_some() {
            return true;
        }
        #[cfg(feature = "schema")]
        if outputs
            .iter()
            .any(|(_, message)| message.headers.contains(schema::MARK))
        {
            return true;
        }
        let _nothing = outputs;
        false
    }

    /// The message written with the schema of its event. Without a registry it stays the plain JSON
    /// that it is.
    #[cfg(feature = "schema")]
    pub(crate) async fn write(
        &self,
        topic: &TopicName,
        mut message: Message,
    ) -> Result<Message, schema::SchemaError> {
        if !message.headers.contains(schema::MARK) {
            return Ok(message);
        }
        match &self.schemas {
            Some(schemas) => Box::pin(schemas.write(topic, message)).await,
            None => {
                message.headers.remove(schema::MARK);
                Ok(message)
            }
        }
    }

    /// The message as it is published to a topic.
    pub(crate) async fn check_in(
        &self,
        topic: &TopicName,
        message: Message,
    ) -> Result<Message, BusError> {
        #[cfg(feature = "schema")]
        let message = self.write(topic, message).await?;
        let _of_schemas = topic;
        #[cfg(feature = "claim-check")]
        if let Some((claims, threshold)) = &self.claims {
            // In a box: who has no claim checks does not carry the room for it along.
            return Ok(Box::pin(claims.check_in(message, *threshold)).await?);
        }
        // Without claim checks, nothing is waited for.
        std::future::ready(Ok(message)).await
    }

    /// A message that came to the bus itself, with its payload.
    pub(crate) async fn check_out(&self, message: Message) -> Result<Message, BusError> {
        #[cfg(feature = "claim-check")]
        if let Some((claims, _)) = &self.claims {
            return Ok(Box::pin(claims.check_out(message)).await?);
        }
        std::future::ready(Ok(message)).await
    }

    /// The event in a message, with the schema that it names (which was fetched) or from plain JSON.
    pub(crate) fn read<T: Event>(&self, message: &Message) -> Result<T, Failed> {
        let undecodable = |why: &dyn std::fmt::Display| {
            let text = format!("the payload is no {}: {why}", T::TYPE);
            Failed::for_ever(Reason::Undecodable, text)
        };
        #[cfg(feature = "schema")]
        if let Some(contract) = T::contract() {
            let contract = contract.map_err(|error| undecodable(&error))?;
            let value = match &self.schemas {
                Some(schemas) => schemas.read(contract, message),
                None => schema::unframed(contract, message).map(|()| None),
            };
            match value {
                Ok(Some(value)) => {
                    return serde_json::from_value(value).map_err(|error| undecodable(&error));
                }
                Ok(None) => {}
                Err(error) => return Err(of_schema(&error)),
            }
        }
        let payload = message.payload.as_deref().unwrap_or_default();
        serde_json::from_slice(payload).map_err(|error| undecodable(&error))
    }

    /// Whether a schema has to be fetched before one of the messages can be read.
    #[cfg(feature = "schema")]
    pub(crate) fn lacks(&self, received: &[Received]) -> bool {
        self.schemas.as_ref().is_some_and(|schemas| {
            received
                .iter()
                .any(|received| schemas.lacks(&received.message))
        })
    }

    /// Fetches what [`Self::lacks`] found.
    #[cfg(feature = "schema")]
    pub(crate) async fn fetch(&self, received: &[Received]) -> Result<(), Failed> {
        if let Some(schemas) = &self.schemas {
            for received in received {
                let fetched = schemas.fetch(&received.message).await;
                fetched.map_err(|error| of_schema(&error))?;
            }
        }
        Ok(())
    }

    /// The outputs as they are published, if all can be stored now.
    #[cfg(feature = "sql")]
    pub(crate) async fn check_in_now(
        &self,
        mut outputs: Vec<(TopicName, Message)>,
    ) -> Result<Vec<(TopicName, Message)>, Failed> {
        if self.is_on(&outputs) {
            for (topic, message) in &mut outputs {
                let checked = self.check_in(topic, std::mem::take(message)).await;
                *message = checked.map_err(failed)?;
            }
        }
        Ok(outputs)
    }

    /// The outputs as they are published, however long it takes: what cannot be stored for now is stored
    /// again. `None` when the service stops before all are.
    pub(crate) async fn check_in_all(
        &self,
        outputs: Vec<(TopicName, Message)>,
        stop: &watch::Receiver<bool>,
    ) -> Result<Option<Vec<(TopicName, Message)>>, Failed> {
        if !self.is_on(&outputs) {
            return Ok(Some(outputs));
        }
        Box::pin(self.store_all(outputs, stop)).await
    }

    async fn store_all(
        &self,
        mut outputs: Vec<(TopicName, Message)>,
        stop: &watch::Receiver<bool>,
    ) -> Result<Option<Vec<(TopicName, Message)>>, Failed> {
        for (topic, message) in &mut outputs {
            let mut pause = AGAIN_FIRST;
            *message = loop {
                match self.check_in(topic, message.clone()).await {
                    Ok(checked) => break checked,
                    Err(error) if is_transient(&error) => {
                        tracing::warn!(%topic, %error, "a payload could not be stored, or its schema not be registered; that is tried again");
                    }
                    Err(error) => return Err(failed(error)),
                }
                let mut stop = stop.clone();
                tokio::select! {
                    () = tokio::time::sleep(pause) => pause = (pause * 2).min(AGAIN_LAST),
                    _ = stop.wait_for(|stop| *stop) => return Ok(None),
                }
            };
        }
        Ok(Some(outputs))
    }
}

/// A registry that does not answer is asked again; what cannot be read never can.
#[cfg(feature = "schema")]
fn of_schema(error: &schema::SchemaError) -> Failed {
    match error.is_transient() {
        true => Failed::for_now(Reason::Undecodable, error),
        false => Failed::for_ever(Reason::Undecodable, error),
    }
}

fn is_transient(error: &BusError) -> bool {
    match error {
        #[cfg(feature = "claim-check")]
        BusError::Claim(error) => error.reason().is_none(),
        BusError::Transport(error) => error.is_transient(),
        #[cfg(feature = "schema")]
        BusError::Schema(error) => error.is_transient(),
        _ => false,
    }
}

fn failed(error: BusError) -> Failed {
    match error {
        #[cfg(feature = "claim-check")]
        BusError::Claim(error) => error.into_failed(),
        error => Failed::for_ever(Reason::Rejected, error),
    }
}
