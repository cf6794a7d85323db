//! The databases that relays read.

use std::str::FromStr as _;
use std::sync::Arc;

use sqlx::mysql::MySqlConnectOptions;
use sqlx::postgres::PgConnectOptions;
use sqlx::sqlite::SqliteConnectOptions;
use wharf_relay::polling::{self, Settings};
use wharf_relay::postgres::PostgresLog;
use wharf_relay::{OutboxRouter, Source, Trouble};

use super::settings::{Refused, database, mode};
use crate::config::{Database, Mode, Relay};

/// The source that a relay reads, which is not asked for anything yet.
pub(super) fn source(
    name: &str,
    relay: &Relay,
    router: &OutboxRouter,
) -> Result<Arc<dyn Source>, Refused> {
    match mode(relay) {
        Mode::Log => log(name, relay, router),
        Mode::Poll => poll(name, relay, router),
    }
}

fn log(name: &str, relay: &Relay, router: &OutboxRouter) -> Result<Arc<dyn Source>, Refused> {
    let url = relay.url.expose();
    // Read here, so that a mistake in it is told at the start.
    PgConnectOptions::from_str(url).map_err(|error| invalid(&error))?;
    let usual = format!("wharf_{}", name.replace('-', "_"));
    let slot = relay.slot.clone().unwrap_or(usual);
    let is_slot = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_');
    if slot.is_empty() || slot.len() > 63 || !slot.bytes().all(is_slot) {
        let reason = format!(
            "{slot:?} is no name of a slot: lower-case letters, digits and `_`, at most 63"
        );
        return Err(("slot", reason));
    }
    let source = PostgresLog::new(url, &relay.table, slot.clone()).map_err(of_table)?;
    let publication = relay.publication.clone().unwrap_or(slot);
    let source = source
        .publication(publication)
        .columns(router.columns())
        .heartbeat(relay.heartbeat.0)
        .messages(relay.messages)
        .retained_max(relay.retained_max.as_option().map(|size| size.0))
        .create_slot(relay.create_slot)
        .recreate_slot(relay.recreate_slot)
        .backlog(relay.backlog)
        .keep(relay.keep.as_option().map(|period| period.0));
    Ok(Arc::new(source))
}

fn poll(name: &str, relay: &Relay, router: &OutboxRouter) -> Result<Arc<dyn Source>, Refused> {
    let mut settings = Settings::new(name, &relay.table).map_err(of_table)?;
    settings.columns = router.columns();
    settings.keep = relay.keep.as_option().map(|period| period.0);
    settings.lease = relay.lease.0;
    settings.idle_max = relay.poll_interval_max.0;
    let url = relay.url.expose();
    Ok(match database(relay)? {
        Database::Postgres => {
            let options = PgConnectOptions::from_str(url).map_err(|error| invalid(&error))?;
            polling::postgres::source(options, settings)
        }
        Database::Mysql => {
            let url = url.replacen("mariadb:", "mysql:", 1);
            let options = MySqlConnectOptions::from_str(&url).map_err(|error| invalid(&error))?;
            polling::mysql::source(options, settings)
        }
        Database::Sqlite => {
            let options = SqliteConnectOptions::from_str(url).map_err(|error| invalid(&error))?;
            polling::sqlite::source(options, settings)
        }
    })
}

/// What is wrong with an address; never with the address, which may hold a password.
fn invalid(error: &sqlx::Error) -> Refused {
    let reason = match error {
        sqlx::Error::Configuration(why) => why.to_string(),
        _ => "it is no address of a database".to_owned(),
    };
    ("url", reason)
}

fn of_table(trouble: Trouble) -> Refused {
    ("table", trouble.what)
}
