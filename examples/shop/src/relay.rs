//! The relay of the shop's outbox as a library: for a broker that runs none itself. `wharf demo` has it
//! as a role of its node instead, by a table `[relay.shop]` in its configuration.

use std::sync::Arc;

use futures_util::FutureExt as _;
use wharf::{Clock, Timestamp};
use wharf_message::transport::Transport;
use wharf_relay::polling::{self, Settings};
use wharf_relay::{OutboxRouter, OutboxSettings, PublishTarget, Relay};

use crate::database::{Database, SCHEMA};
use crate::shop::PARTITIONS;

/// Events are routed to the topics they name: the library writes the topic as the aggregate type.
pub const TOPIC: &str = "{aggregatetype}";

/// A relay of the database's outbox to `transport`, by polling. It moves rows at least once, with the
/// same ids when they come again.
pub fn relay(database: &Database, transport: Arc<dyn Transport>) -> anyhow::Result<Relay> {
    let source = match database {
        Database::Sqlite(pool) => {
            let settings = Settings::new("shop", "wharf_outbox")?;
            polling::sqlite::source((*pool.connect_options()).clone(), settings)
        }
        Database::Postgres(pool) => {
            let settings = Settings::new("shop", &format!("{SCHEMA}.wharf_outbox"))?;
            polling::postgres::source((*pool.connect_options()).clone(), settings)
        }
    };
    let settings = OutboxSettings {
        topic: Some(TOPIC.to_owned()),
        ..OutboxSettings::default()
    };
    let router = OutboxRouter::new(settings, now)?;
    let connect = move || {
        let transport = Arc::clone(&transport);
        async move { Ok(transport as _) }.boxed()
    };
    let target = PublishTarget::new(Arc::new(connect), PARTITIONS, now);
    Ok(Relay::new(
        "shop",
        source,
        Arc::new(router),
        Arc::new(target),
        now,
    ))
}

fn now() -> Timestamp {
    Clock::wall().now()
}
