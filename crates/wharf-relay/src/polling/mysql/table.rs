//! An outbox table in MySQL or MariaDB: its columns, and how a row is read.
//!
//! Invariant: every value comes as a string of bytes, so that no type of the driver stands between.

use std::sync::Arc;

use bytes::Bytes;
use sqlx::mysql::{MySqlConnection, MySqlRow};
use sqlx::{AssertSqlSafe, Row as _};
use wharf_message::Code;
use wharf_outbox::TableName;

use crate::polling::Settings;
use crate::polling::name::{quoted, quoted_table};
use crate::polling::numbered::{inserted_at, numbered};
use crate::polling::trouble::{Asked, lacking, missing, trouble};
use crate::{Column, Columns, Kind, Row, Trouble};

/// An outbox table.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    pub(super) name: TableName,
    user: String,
    columns: Columns,
    /// The column that says when a row was inserted.
    created_at: Option<usize>,
    /// Begins a statement that reads rows: up to and with `WHERE`.
    pub(super) select: String,
    /// Whether it is MariaDB, which locks in other words.
    pub(super) is_mariadb: bool,
}

/// What the database says of a column: its name, its type, that in full, and what else there is.
type Described = (String, String, String, String);

impl Table {
    pub(super) async fn describe(
        connection: &mut MySqlConnection,
        settings: &Settings,
        user: &str,
    ) -> Result<Self, Trouble> {
        let name = &settings.table;
        let refused = |error: sqlx::Error| refused(&error, name, user);
        let found: Vec<Described> = sqlx::query_as(
            "SELECT CAST(column_name AS CHAR), CAST(data_type AS CHAR), CAST(column_type AS CHAR),
                CAST(extra AS CHAR)
            FROM information_schema.columns
            WHERE table_schema = COALESCE(?, DATABASE()) AND table_name = ?
            ORDER BY ordinal_position",
        )
        .bind(name.schema())
        .bind(name.name())
        .fetch_all(&mut *connection)
        .await
        .map_err(refused)?;
        if found.is_empty() {
            // Columns that the user may not see are not shown; the table itself tells them apart.
            let probe = format!("SELECT 1 FROM {} LIMIT 0", quoted_table(name, '`'));
            let probe = sqlx::query(AssertSqlSafe(probe)).execute(connection).await;
            return Err(probe.map_or_else(refused, |_there| missing(name)));
        }
        let has = |wanted: &String| found.iter().any(|(column, ..)| column == wanted);
        if let Some(column) = settings.columns.iter().find(|&wanted| !has(wanted)) {
            return Err(lacking(name, '`', column));
        }
        check_sequence(name, &found)?;
        let (engine, version): (Option<String>, String) = sqlx::query_as(
            "SELECT (SELECT CAST(engine AS CHAR) FROM information_schema.tables
                WHERE table_schema = COALESCE(?, DATABASE()) AND table_name = ?),
                CAST(VERSION() AS CHAR)",
        )
        .bind(name.schema())
        .bind(name.name())
        .fetch_one(connection)
        .await
        .map_err(refused)?;
        if engine.as_deref() != Some("InnoDB") {
            let what = format!("the table {name} is in {engine:?}, which has no transactions");
            let fix = format!("ALTER TABLE {} ENGINE = InnoDB", quoted_table(name, '`'));
            return Err(Trouble::refused(Code::OUTBOX_TABLE_WRONG, what, fix));
        }
        Ok(Self::of(name, user, found, version.contains("MariaDB")))
    }

    fn of(name: &TableName, user: &str, found: Vec<Described>, is_mariadb: bool) -> Self {
        let (mut columns, mut list) = (Vec::new(), Vec::new());
        for (column, base, full, _) in found {
            let (kind, expression) = form(&quoted(&column, '`'), &base, full);
            list.push(expression);
            let name = column;
            columns.push(Column { name, kind });
        }
        Self {
            name: name.clone(),
            user: user.to_owned(),
            created_at: inserted_at(&columns),
            columns: Arc::from(columns),
            select: format!(
                "SELECT CAST(`sequence` AS UNSIGNED), {} FROM {} WHERE",
                list.join(", "),
                quoted_table(name, '`')
            ),
            is_mariadb,
        }
    }

    pub(super) fn trouble(&self, error: &sqlx::Error) -> Trouble {
        refused(error, &self.name, &self.user)
    }

    /// The number of a row, and the row.
    pub(super) fn row(&self, row: &MySqlRow) -> Result<(u64, Row), sqlx::Error> {
        let sequence: u64 = row.try_get(0)?;
        let mut values = Vec::with_capacity(self.columns.len());
        for at in 0..self.columns.len() {
            let value: Option<Vec<u8>> = row.try_get_unchecked(at + 1)?;
            values.push(value.map(Bytes::from));
        }
        let row = numbered(sequence, &self.columns, self.created_at, values);
        Ok((sequence, row))
    }
}

/// Whether rows have the numbers that give them their order.
fn check_sequence(name: &TableName, found: &[Described]) -> Result<(), Trouble> {
    let table = quoted_table(name, '`');
    let definition = "BIGINT UNSIGNED NOT NULL AUTO_INCREMENT";
    let (what, fix) = match found.iter().find(|(column, ..)| column == "sequence") {
        None => (
            format!("the table {name} has no column sequence, which gives rows their order"),
            format!("ALTER TABLE {table} ADD COLUMN sequence {definition} UNIQUE"),
        ),
        Some((_, base, full, extra)) => {
            let numbers = extra.to_ascii_lowercase().contains("auto_increment");
            if numbers && ["bigint", "int"].contains(&base.as_str()) {
                return Ok(());
            }
            (
                format!("the column sequence of the table {name} is {full} without AUTO_INCREMENT"),
                format!("ALTER TABLE {table} MODIFY COLUMN sequence {definition}"),
            )
        }
    };
    Err(Trouble::refused(Code::OUTBOX_TABLE_WRONG, what, fix))
}

/// How a column is read so that it comes as a string of bytes in the form its kind promises.
fn form(column: &str, base: &str, full: String) -> (Kind, String) {
    let text = format!("CAST({column} AS CHAR)");
    match base {
        "char" | "varchar" | "tinytext" | "text" | "mediumtext" | "longtext" | "enum" | "set" => {
            (Kind::Text, column.to_owned())
        }
        "json" => (Kind::Json, text),
        "binary" | "varbinary" | "tinyblob" | "blob" | "mediumblob" | "longblob" => {
            (Kind::Bytes, column.to_owned())
        }
        "tinyint" | "smallint" | "mediumint" | "int" | "bigint" => (Kind::Integer, text),
        "uuid" => (Kind::Uuid, text),
        // The session's time zone is UTC.
        "timestamp" | "datetime" => (
            Kind::Time,
            format!("DATE_FORMAT({column}, '%Y-%m-%dT%H:%i:%s.%fZ')"),
        ),
        _ => (Kind::Other(full), text),
    }
}

fn refused(error: &sqlx::Error, table: &TableName, user: &str) -> Trouble {
    trouble(
        error,
        Asked {
            user,
            table,
            quote: '`',
            rights: "SELECT",
        },
    )
}
