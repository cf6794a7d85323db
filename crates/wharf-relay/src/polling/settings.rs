//! How a polling source works.

use std::time::Duration;

use super::name::table_name;
use crate::Trouble;
use wharf_outbox::TableName;

/// How many rows of a large batch are sorted at once, unless it was set.
pub(super) const SORTED_MAX: u32 = 1_000_000;

/// How a polling source works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The name of the row of the cursor table that says who serves and how far: the relay's name.
    pub source: String,
    /// The outbox table.
    pub table: TableName,
    /// Columns that the table must have.
    pub columns: Vec<String>,
    /// How long rows stay in the table at least; only those go that are durable at the target. `None`
    /// is for ever, as it has to be when several sources read one table: each knows its own target.
    pub keep: Option<Duration>,
    /// How often old rows are removed and partitions are made.
    pub maintain_every: Duration,
    /// How long the lease lasts without being renewed, which is done three times as often: another
    /// relay takes over so long after this one was lost.
    pub lease: Duration,
    /// The longest wait between two looks at the table.
    pub idle_max: Duration,
    /// In Postgres: how many rows of a backlog the server sorts at once, in memory or in temporary
    /// files.
    pub sorted_max: u32,
    /// In MySQL and MariaDB, without the right to see other transactions (`PROCESS`): how long a
    /// single `INSERT` may take at most. A number that is missing for longer counts as rolled back
    /// when no lock is on it.
    pub insert_max: Duration,
}

impl Settings {
    /// What is usual, for this row of the cursor table and this outbox table.
    ///
    /// # Errors
    /// The name of the table is none.
    pub fn new(source: impl Into<String>, table: &str) -> Result<Self, Trouble> {
        let columns = ["id", "aggregatetype", "aggregateid", "type", "payload"];
        Ok(Self {
            source: source.into(),
            table: table_name(table)?,
            columns: columns.map(str::to_owned).to_vec(),
            keep: Some(Duration::from_secs(24 * 3600)),
            maintain_every: Duration::from_secs(60),
            lease: Duration::from_secs(6),
            idle_max: Duration::from_millis(250),
            sorted_max: SORTED_MAX,
            insert_max: Duration::from_secs(60),
        })
    }
}
