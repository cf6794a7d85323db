//! Addresses to transports.

use std::sync::Arc;
use std::time::Duration;

use wharf_message::transport::Transport;
use wharf_message::transport::memory::MemoryTransport;

use crate::bus::{Bus, BusError};
use crate::clock::Clock;

impl Bus {
    /// Connects to the broker at `address`, for a service of this name.
    ///
    /// | address | transport | feature |
    /// |---|---|---|
    /// | `embedded:///var/lib/shop` | a broker in this process, its data in that directory | `embedded` (default) |
    /// | `kafka://host:9092,host2:9092` | Kafka, Wharf, and whatever speaks their protocol | `kafka` |
    /// | `amqp://user:password@host:5672/vhost` | RabbitMQ | `rabbitmq` |
    /// | `nats://host:4222` | NATS JetStream | `nats` |
    /// | `memory:` | this process, kept nowhere: for first steps | – |
    ///
    /// What they can do differs; `docs/transports.md` compares them.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
    /// let bus = wharf::Bus::connect("memory:", "shop").await?;
    /// assert_eq!(bus.transport().name(), "memory");
    /// let error = wharf::Bus::connect("kafak://localhost:9092", "shop").await.unwrap_err();
    /// assert!(error.to_string().contains("kafka://"), "{error}");
    /// # Ok::<(), wharf::BusError>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`BusError::Address`] says what is wrong with the address; otherwise the transport's error.
    pub async fn connect(address: &str, service: &str) -> Result<Self, BusError> {
        let transport = transport(address, service).await?;
        Ok(Self::new(transport, service))
    }
}

/// How exact the time of the transport in memory is.
const MEMORY_TICK: Duration = Duration::from_millis(10);

/// What addresses begin with, and the feature each needs.
const SCHEMES: &[(&str, &str)] = &[
    ("embedded", "embedded"),
    ("kafka", "kafka"),
    ("amqp", "rabbitmq"),
    ("amqps", "rabbitmq"),
    ("nats", "nats"),
    ("tls", "nats"),
];

#[cfg_attr(
    not(feature = "embedded"),
    expect(
        unused_variables,
        reason = "only the embedded broker asks for the service's name"
    )
)]
async fn transport(address: &str, service: &str) -> Result<Arc<dyn Transport>, BusError> {
    let scheme = address.split_once(':').map_or("", |(scheme, _)| scheme);
    match scheme {
        "memory" => Ok(memory()),
        #[cfg(feature = "embedded")]
        "embedded" => {
            let embedded = crate::embedded::Embedded::open(address, service).await?;
            Ok(Arc::new(embedded))
        }
        #[cfg(feature = "kafka")]
        "kafka" => Ok(Arc::new(
            wharf_transport::kafka::KafkaTransport::connect(address).await?,
        )),
        #[cfg(feature = "rabbitmq")]
        "amqp" | "amqps" => Ok(Arc::new(
            wharf_transport::rabbitmq::RabbitTransport::connect(address).await?,
        )),
        #[cfg(feature = "nats")]
        "nats" | "tls" => Ok(Arc::new(
            wharf_transport::nats::NatsTransport::connect(address).await?,
        )),
        _ => Err(invalid(address, scheme)),
    }
}

/// A broker in memory whose time goes with the wall clock.
fn memory() -> Arc<dyn Transport> {
    let clock = Clock::wall();
    let transport = Arc::new(MemoryTransport::new(clock.now()));
    let weak = Arc::downgrade(&transport);
    tokio::spawn(async move {
        let mut tick = tokio::time::interval(MEMORY_TICK);
        loop {
            tick.tick().await;
            let Some(transport) = weak.upgrade() else {
                return;
            };
            transport.advance_to(clock.now());
        }
    });
    transport
}

fn invalid(address: &str, scheme: &str) -> BusError {
    let known = SCHEMES.iter().find(|(known, _)| *known == scheme);
    let why = match known {
        Some((_, feature)) => {
            format!(
                "the library was built without it; add the feature `{feature}` of the crate wharf"
            )
        }
        None => "an address begins with embedded:///path, kafka://host:9092, amqp://host:5672, \
                 nats://host:4222 or memory:"
            .to_owned(),
    };
    BusError::Address {
        address: without_password(address),
        why,
    }
}

/// The address as it may be shown and logged.
fn without_password(address: &str) -> String {
    let Some((scheme, rest)) = address.split_once("://") else {
        return address.to_owned();
    };
    match rest.rsplit_once('@') {
        Some((_, host)) => format!("{scheme}://…@{host}"),
        None => address.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_shown_without_its_password() {
        assert_eq!(
            without_password("amqp://me:secret@host/v"),
            "amqp://…@host/v"
        );
        assert_eq!(without_password("nats://host"), "nats://host");
        assert_eq!(without_password("nonsense"), "nonsense");
    }
}
