//! Where the messages of relays go: this node's broker, or another one.

use std::sync::Arc;

use futures_util::FutureExt as _;
use wharf_broker::{Broker, Context};
use wharf_message::transport::{Error, Publish};
use wharf_relay::{Connect, LedgerSettings, LedgerTarget, PublishTarget, Target};
use wharf_transport::embedded::EmbeddedTransport;
use wharf_transport::kafka::KafkaTransport;
use wharf_transport::nats::NatsTransport;
use wharf_transport::rabbitmq::RabbitTransport;

use super::settings::Refused;
use super::topics::BrokerTopics;
use crate::clock;
use crate::config::{Config, Relay};

/// What a commit takes beside the messages in it.
const COMMIT_HEADROOM: u64 = 1 << 20;

/// Whether messages go to this node's broker.
pub(super) fn is_embedded(relay: &Relay) -> bool {
    relay.target.expose() == "embedded"
}

/// Whether the target is one there is.
pub(super) fn check(relay: &Relay) -> Result<(), Refused> {
    let address = relay.target.expose();
    let scheme = address.split_once("://").map(|(scheme, _)| scheme);
    match scheme {
        _ if is_embedded(relay) => Ok(()),
        Some("kafka" | "amqp" | "amqps" | "nats" | "tls") => Ok(()),
        _ => {
            let reason = "it is neither \"embedded\" nor begins with kafka://, amqp:// or nats://"
                .to_owned();
            Err(("target", reason))
        }
    }
}

/// The target, which is not connected yet.
pub(super) fn target(
    relay: &Relay,
    config: &Config,
    broker: &Broker,
    transport: &EmbeddedTransport,
) -> Arc<dyn Target> {
    let partitions = relay.partitions.unwrap_or(config.topics.default_partitions);
    if !is_embedded(relay) {
        let connect = connect(relay.target.expose().to_owned());
        return Arc::new(PublishTarget::new(connect, partitions, clock::now));
    }
    let commit = (config.log.journal_file_size.0 / 4).saturating_sub(COMMIT_HEADROOM);
    let commit_bytes_max = usize::try_from(commit).unwrap_or(usize::MAX);
    let settings = LedgerSettings {
        commit_bytes_max,
        gather_bytes_max: LedgerSettings::default()
            .gather_bytes_max
            .min(commit_bytes_max / 4),
    };
    let topics = BrokerTopics {
        broker: broker.clone(),
        cx: Context::internal("relay"),
        transport: transport.clone(),
        partitions,
    };
    let ledger = Arc::new(broker.ledger("relay"));
    Arc::new(LedgerTarget::new(
        ledger,
        Arc::new(topics),
        settings,
        clock::now,
    ))
}

fn connect(address: String) -> Connect {
    Arc::new(move || {
        let address = address.clone();
        async move {
            let scheme = address.split_once(':').map_or("", |(scheme, _)| scheme);
            let publish: Arc<dyn Publish> = match scheme {
                "kafka" => Arc::new(KafkaTransport::connect(&address).await?),
                // A row waits in its database until there is a queue for it.
                "amqp" | "amqps" => Arc::new(
                    RabbitTransport::connect(&address)
                        .await?
                        .refusing_unrouted(),
                ),
                "nats" | "tls" => Arc::new(NatsTransport::connect(&address).await?),
                _ => return Err(Error::Refused("there is no such transport".to_owned())),
            };
            Ok(publish)
        }
        .boxed()
    })
}
