//! What the services' rows say, and what the broker's own topics say about people.

use std::collections::{BTreeMap, BTreeSet};

use wharf::saga::SagaId;

use crate::database::Database;
use crate::observer;

const ORDERS: &str = "SELECT number, total_cents FROM saga_orders WHERE number LIKE $1 || '-%'";
const CAPTURED: &str = "SELECT order_number, total_cents FROM saga_payments
    WHERE order_number LIKE $1 || '-%' AND state = 'captured'";
const REFUNDED: &str = "SELECT order_number, total_cents FROM saga_payments
    WHERE order_number LIKE $1 || '-%' AND state = 'refunded'";
const RESERVED: &str = "SELECT order_number, CAST(SUM(pieces) AS BIGINT) FROM saga_reservations
    WHERE order_number LIKE $1 || '-%' GROUP BY order_number";
const PARCELS: &str =
    "SELECT order_number, told FROM saga_parcels WHERE order_number LIKE $1 || '-%'";
/// Over all runs: the shelves are the same.
const STOCK: &str = "SELECT 'supplied', CAST(COALESCE(SUM(supplied), 0) AS BIGINT)
        FROM saga_shelves WHERE $1 = $1
    UNION ALL
    SELECT 'shelved', CAST(COALESCE(SUM(pieces), 0) AS BIGINT) FROM saga_shelves
    UNION ALL
    SELECT 'reserved', CAST(COALESCE(SUM(pieces), 0) AS BIGINT) FROM saga_reservations";

/// The topics that tell of sagas that wait for a person, and of what people did.
const ALARMS: &str = "_wharf.saga-alarms";
const AUDIT: &str = "_wharf.audit";

/// A run's rows, by order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Books {
    pub(super) orders: BTreeMap<String, u64>,
    pub(super) captured: BTreeMap<String, u64>,
    pub(super) refunded: BTreeMap<String, u64>,
    pub(super) reserved: BTreeMap<String, u64>,
    pub(super) parcels: BTreeMap<String, u64>,
    pub(super) supplied: u64,
    pub(super) on_shelves: u64,
    pub(super) set_aside: u64,
}

/// The orders of a run, with what each comes to.
pub(super) async fn orders(
    database: &Database,
    run: &str,
) -> Result<BTreeMap<String, u64>, sqlx::Error> {
    database.counts(ORDERS, run).await
}

impl Books {
    pub(super) async fn read(database: &Database, run: &str) -> Result<Self, sqlx::Error> {
        let stock = database.counts(STOCK, run).await?;
        let of = |what: &str| stock.get(what).copied().unwrap_or(0);
        Ok(Self {
            orders: orders(database, run).await?,
            captured: database.counts(CAPTURED, run).await?,
            refunded: database.counts(REFUNDED, run).await?,
            reserved: database.counts(RESERVED, run).await?,
            parcels: database.counts(PARCELS, run).await?,
            supplied: of("supplied"),
            on_shelves: of("shelved"),
            set_aside: of("reserved"),
        })
    }
}

/// Which sagas raised an alarm, and which a person marked as undone by hand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct People {
    pub(super) alarmed: BTreeSet<SagaId>,
    pub(super) marked: BTreeSet<SagaId>,
}

impl People {
    /// Blocks on the network.
    pub(super) fn read(broker: &str) -> anyhow::Result<Self> {
        let saga = |record: &serde_json::Value| SagaId::parse(record["saga"].as_str()?);
        let alarms = observer::records(broker, ALARMS)?;
        let audit = observer::records(broker, AUDIT)?;
        let marks = audit
            .iter()
            .filter(|record| record["what"]["mark"].is_object());
        Ok(Self {
            alarmed: alarms.iter().filter_map(saga).collect(),
            marked: marks.filter_map(saga).collect(),
        })
    }
}
