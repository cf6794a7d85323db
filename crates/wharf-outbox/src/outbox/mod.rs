//! The outbox: messages as rows, in the transaction of the change that they tell of. A relay moves
//! committed rows to topics, so that a message is sent exactly when its change is kept.
//!
//! Invariants: a row is written by the transaction that the caller gave, which is a [`Transaction`] by
//! type, and nothing here commits or rolls back; rows are inserted and never updated; a row is removed
//! only when a relay has confirmed it ([`Confirmed`]).

#[cfg(any(feature = "mysql", feature = "sqlite"))]
pub(crate) mod chunks;
#[cfg(feature = "postgres")]
mod emit;
mod error;
mod maintain;
#[cfg(feature = "postgres")]
pub(crate) mod partitions;
mod row;
mod table;

use sqlx::{Pool, Transaction};
use wharf_message::{Message, Timestamp, TopicName, header};

use crate::dialect::{Dialect, Value, checked};
use error::Doing;
use row::Row;

#[cfg(feature = "postgres")]
pub use emit::{EMIT_PREFIX, emit};
pub use error::OutboxError;
pub use maintain::{Confirmed, Maintained};
#[cfg(feature = "postgres")]
pub use partitions::Horizon;
pub use table::{InvalidTableName, TABLE, TableName};

/// The most that the payload of a row may take, in bytes: what every one of the databases takes in one
/// statement with its default settings.
pub const PAYLOAD_BYTES_MAX: usize = 8 << 20;
/// The most rows of one statement.
const ROWS_MAX: usize = 500;
/// A statement that takes so many bytes gets no more rows.
const STATEMENT_BYTES_MAX: usize = 4 << 20;

/// An outbox table. Cheap to clone.
///
/// ```
/// # #[cfg(feature = "sqlite")]
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
/// use wharf_message::{Message, TopicName};
/// use wharf_outbox::Outbox;
///
/// # let one = sqlx::sqlite::SqlitePoolOptions::new().max_connections(1);
/// # let pool = one.connect("sqlite::memory:").await?;
/// # sqlx::query("CREATE TABLE orders (id TEXT)").execute(&pool).await?;
/// let outbox = Outbox::new();
/// outbox.install(&pool).await?;
///
/// let mut transaction = pool.begin().await?;
/// sqlx::query("INSERT INTO orders (id) VALUES ('o-1')").execute(&mut *transaction).await?;
/// let placed = Message::new(r#"{"order":"o-1"}"#).with_key("o-1").with_header("ce_type", "shop.order.placed");
/// outbox.publish(&mut transaction, &TopicName::new("shop.orders")?, &placed).await?;
/// transaction.commit().await?;
/// outbox.hint();
/// # let row: (String, String, String) = sqlx::query_as("SELECT aggregatetype, aggregateid, type FROM wharf_outbox")
/// #     .fetch_one(&pool).await?;
/// # assert_eq!(row, ("shop.orders".to_owned(), "o-1".to_owned(), "shop.order.placed".to_owned()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })
/// # }
/// # #[cfg(not(feature = "sqlite"))]
/// # fn main() {}
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outbox {
    table: TableName,
}

impl Outbox {
    /// The table `wharf_outbox`.
    pub fn new() -> Self {
        Self::default()
    }

    /// Another table.
    #[must_use]
    pub fn table(self, table: TableName) -> Self {
        Self { table }
    }

    /// The table's name.
    pub fn table_name(&self) -> &TableName {
        &self.table
    }

    /// The script that creates the table and that of the cursors, for your own migrations.
    ///
    /// ```
    /// # #[cfg(feature = "sqlite")]
    /// println!("{}", wharf_outbox::Outbox::new().schema::<sqlx::Sqlite>());
    /// ```
    pub fn schema<D: Dialect>(&self) -> String {
        let table = self.table.script::<D>(D::OUTBOX.schema);
        table + "\n" + &self.cursor_schema::<D>()
    }

    /// The script that creates the table of cursors alone, for an outbox that is there already.
    pub fn cursor_schema<D: Dialect>(&self) -> String {
        self.table.script::<D>(D::OUTBOX.cursor)
    }

    /// Creates the table and that of the cursors where they are missing. Several instances may do it
    /// at once; where the tables are there, no right to create any is needed. A table that is there
    /// stays as it is.
    ///
    /// # Errors
    /// What the database says.
    pub async fn install<D: Dialect>(&self, pool: &Pool<D>) -> Result<(), OutboxError> {
        let refused = |error| OutboxError::of::<D>(error, &self.table, Doing::Install);
        let mut connection = pool.acquire().await.map_err(refused)?;
        for (name, script) in [
            (self.table.quoted::<D>(), D::OUTBOX.schema),
            (self.table.quoted_cursor::<D>(), D::OUTBOX.cursor),
        ] {
            let look = checked(format!("SELECT 1 FROM {name} WHERE 1 = 0"));
            let found = D::execute(&mut connection, look, &[]).await;
            match found.map_err(refused) {
                Err(OutboxError::NotInstalled { .. }) => {}
                other => {
                    other?;
                    continue;
                }
            }
            if !self.table.has_room() {
                return Err(OutboxError::NameTooLong(self.table.clone()));
            }
            let script = checked(self.table.script::<D>(script));
            let created = D::install(&mut connection, script).await;
            created.map_err(refused)?;
        }
        Ok(())
    }

    /// Writes a message into the outbox, in this transaction: it is sent to `topic` if and when the
    /// transaction is committed. After the commit, [`Outbox::hint`] makes a relay in this process look
    /// at once.
    ///
    /// The row's `id` is the message's id (`ce_id`, else `id`) where that is a UUID in its usual form;
    /// of another id a UUID is derived, always the same, and the id itself is kept among the headers.
    /// A message without an id gets one. A message without a key has its own id as its aggregate, and so
    /// as its key.
    ///
    /// # Errors
    /// [`OutboxError`].
    pub async fn publish<D: Dialect>(
        &self,
        transaction: &mut Transaction<'_, D>,
        topic: &TopicName,
        message: &Message,
    ) -> Result<(), OutboxError> {
        let row = Row::of(topic, message)?;
        self.insert(transaction, std::slice::from_ref(&row)).await
    }

    /// Writes a message that is not to be delivered before this time.
    ///
    /// # Errors
    /// As [`Outbox::publish`].
    pub async fn schedule<D: Dialect>(
        &self,
        transaction: &mut Transaction<'_, D>,
        at: Timestamp,
        topic: &TopicName,
        message: &Message,
    ) -> Result<(), OutboxError> {
        let mut message = message.clone();
        message.headers.set(header::DELIVER_AT, at.to_rfc3339());
        self.publish(transaction, topic, &message).await
    }

    /// Writes several messages, in this order, with as few statements as the databases take.
    ///
    /// # Errors
    /// As [`Outbox::publish`]; when a message cannot be kept, none is written.
    pub async fn publish_all<D: Dialect>(
        &self,
        transaction: &mut Transaction<'_, D>,
        messages: &[(TopicName, Message)],
    ) -> Result<(), OutboxError> {
        let rows = messages
            .iter()
            .map(|(topic, message)| Row::of(topic, message));
        let rows = rows.collect::<Result<Vec<_>, _>>()?;
        let mut rest = &rows[..];
        while !rest.is_empty() {
            let (now, later) = rest.split_at(that_fit(rest));
            self.insert(transaction, now).await?;
            rest = later;
        }
        Ok(())
    }

    /// Tells the relays in this process that rows were committed. Cheap; call it after the commit.
    pub fn hint(&self) {
        crate::hint::notify(self.table.name());
    }

    async fn insert<D: Dialect>(
        &self,
        transaction: &mut Transaction<'_, D>,
        rows: &[Row<'_>],
    ) -> Result<(), OutboxError> {
        let mut sql = format!(
            "INSERT INTO {} (id, aggregatetype, aggregateid, type, payload, headers) VALUES ",
            self.table.quoted::<D>()
        );
        let headers = rows
            .iter()
            .map(|row| row.headers.as_ref().map(ToString::to_string));
        let headers: Vec<_> = headers.collect();
        let mut values = Vec::with_capacity(6 * rows.len());
        for (row, headers) in rows.iter().zip(&headers) {
            if !values.is_empty() {
                sql.push_str(", ");
            }
            sql.push_str(&(D::OUTBOX.row)(values.len() + 1));
            values.extend([
                Value::Text(&row.id),
                Value::Text(row.topic),
                Value::Text(&row.key),
                Value::Text(row.kind),
                Value::MaybeBytes(row.payload),
                Value::MaybeText(headers.as_deref()),
            ]);
        }
        let inserted = if rows.len() == 1 {
            D::execute(transaction, checked(sql), &values).await
        } else {
            D::execute_once(transaction, checked(sql), &values).await
        };
        let refused = |error| OutboxError::of::<D>(error, &self.table, Doing::Publish);
        inserted.map(drop).map_err(refused)
    }
}

/// How many of these rows go into one statement; at least one.
fn that_fit(rows: &[Row<'_>]) -> usize {
    let mut bytes = 0;
    let fits = |row: &&Row<'_>| {
        bytes += row.size();
        bytes <= STATEMENT_BYTES_MAX
    };
    rows.iter().take(ROWS_MAX).take_while(fits).count().max(1)
}
