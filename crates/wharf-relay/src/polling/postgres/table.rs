//! An outbox table in Postgres: its columns, and how a row is read.
//!
//! Also for the source that reads the log, when it has to go on from the table.
//!
//! Invariant: values are taken as the server sends them in binary where their form is known, and else
//! in its text form.

use std::sync::Arc;

use bytes::Bytes;
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{Row as _, ValueRef as _};
use wharf_message::{Code, Timestamp};

use crate::polling::name::{quoted, quoted_table};
use crate::polling::time::rfc3339;
use crate::polling::trouble::{Asked, lacking, missing, trouble};
use crate::{Column, Columns, Kind, Place, Row, Trouble};
use wharf_outbox::TableName;

/// From the Unix epoch to Postgres's, 2000-01-01, in microseconds.
const EPOCH: i64 = 946_684_800_000_000;

/// Where a row is: transactions by their id, and the rows of one by their number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Position {
    /// The transaction, `xid8`.
    pub(super) transaction: u64,
    /// The row's number in the column `sequence`.
    pub(super) sequence: i64,
}

/// How a value comes from the server, and what it becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// Its bytes, as they are.
    Plain,
    /// `jsonb`: a version byte, then text.
    Jsonb,
    Uuid,
    /// A whole number of the size it comes in.
    Signed,
    Unsigned,
    Boolean,
    /// Microseconds since Postgres's epoch.
    Time,
    /// Cast to text by the server.
    Cast,
}

/// An outbox table: its columns and how they are read.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    name: TableName,
    user: String,
    columns: Columns,
    forms: Vec<Form>,
    /// The column that says when a row was inserted.
    created_at: Option<usize>,
    /// Why it cannot be read in pages.
    unordered: Option<Trouble>,
    /// The columns, for a statement.
    list: String,
}

impl Table {
    /// Asks the database what the table looks like. `user` is for the statement that mends a missing
    /// grant.
    ///
    /// # Errors
    /// It is not there, or the database does not answer.
    pub(crate) async fn describe(
        connection: &mut PgConnection,
        name: &TableName,
        user: &str,
    ) -> Result<Self, Trouble> {
        let described: Vec<(String, String, String)> = sqlx::query_as(
            "SELECT a.attname::text, coalesce(b.typname, t.typname)::text,
                format_type(a.atttypid, a.atttypmod)
            FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
                LEFT JOIN pg_type b ON b.oid = t.typbasetype
            WHERE a.attrelid = to_regclass($1) AND a.attnum > 0 AND NOT a.attisdropped
            ORDER BY a.attnum",
        )
        .bind(quoted_table(name, '"'))
        .fetch_all(&mut *connection)
        .await
        .map_err(|error| trouble(&error, asked(name, user)))?;
        match described.is_empty() {
            true => Err(missing(name)),
            false => Ok(Self::of(name, user, described)),
        }
    }

    /// A table with these columns: name, type, and type for people.
    fn of(name: &TableName, user: &str, described: Vec<(String, String, String)>) -> Self {
        let unordered = ORDER
            .iter()
            .find_map(|wanted| wanted.lacking(name, &described));
        let (mut columns, mut forms, mut list) = (Vec::new(), Vec::new(), Vec::new());
        for (name, base, full) in described {
            let (form, kind) = form(&base, full);
            let column = quoted(&name, '"');
            list.push(match form {
                Form::Cast => format!("{column}::text"),
                _ => column,
            });
            forms.push(form);
            columns.push(Column { name, kind });
        }
        let inserted = |column: &Column| column.name == "created_at" && column.kind == Kind::Time;
        Self {
            name: name.clone(),
            user: user.to_owned(),
            created_at: columns.iter().position(inserted),
            columns: Arc::from(columns),
            forms,
            unordered,
            list: list.join(", "),
        }
    }

    /// The columns of its rows.
    pub(crate) fn columns(&self) -> &Columns {
        &self.columns
    }

    /// Whether it can be read in pages, which takes the columns `transaction_id` and `sequence`.
    ///
    /// # Errors
    /// A column is missing or has another type; with the statement that mends it.
    pub(crate) fn check_ordered(&self) -> Result<(), Trouble> {
        self.unordered.clone().map_or(Ok(()), Err)
    }

    /// Whether it has these columns.
    ///
    /// # Errors
    /// One is missing.
    pub(crate) fn check_columns(&self, wanted: &[String]) -> Result<(), Trouble> {
        let lacks = |wanted: &&String| !self.columns.iter().any(|column| column.name == **wanted);
        match wanted.iter().find(lacks) {
            Some(column) => Err(lacking(&self.name, '"', column)),
            None => Ok(()),
        }
    }

    pub(crate) fn trouble(&self, error: &sqlx::Error) -> Trouble {
        trouble(error, asked(&self.name, &self.user))
    }

    /// Its name, for a statement.
    pub(super) fn quoted(&self) -> String {
        quoted_table(&self.name, '"')
    }

    /// Its columns, for a statement.
    pub(super) fn list(&self) -> &str {
        &self.list
    }

    /// A row that a statement selected as the transaction, the number, and the columns.
    pub(super) fn row(&self, row: &PgRow) -> Result<(Position, Row), sqlx::Error> {
        let transaction = row.try_get_raw(0)?;
        let transaction = match transaction.is_null() {
            true => 0,
            false => unsigned(raw(&transaction)?)?,
        };
        let sequence: Option<i64> = row.try_get(1)?;
        let position = Position {
            transaction,
            sequence: sequence.unwrap_or(0),
        };
        let (mut values, mut committed_at) = (Vec::with_capacity(self.forms.len()), None);
        for (at, &form) in self.forms.iter().enumerate() {
            let value = row.try_get_raw(at + 2)?;
            if value.is_null() {
                values.push(None);
                continue;
            }
            let bytes = raw(&value)?;
            if self.created_at == Some(at) {
                committed_at = inserted(bytes);
            }
            values.push(Some(form.value(bytes)?));
        }
        let row = Row {
            place: Place {
                commit: transaction,
                ordinal: u64::try_from(position.sequence).unwrap_or(0),
            },
            committed_at,
            columns: Arc::clone(&self.columns),
            values,
        };
        Ok((position, row))
    }
}

/// What reading in order needs.
struct Wanted {
    column: &'static str,
    types: &'static [&'static str],
    definition: &'static str,
}

const ORDER: [Wanted; 2] = [
    Wanted {
        column: "transaction_id",
        types: &["xid8"],
        definition: "xid8 NOT NULL DEFAULT pg_current_xact_id()",
    },
    Wanted {
        column: "sequence",
        types: &["int8", "int4"],
        definition: "bigint GENERATED BY DEFAULT AS IDENTITY",
    },
];

impl Wanted {
    /// What to say when a table with these columns does not have it.
    fn lacking(
        &self,
        table: &TableName,
        described: &[(String, String, String)],
    ) -> Option<Trouble> {
        let (column, name) = (self.column, quoted_table(table, '"'));
        let add = format!("ALTER TABLE {name} ADD COLUMN {column} {}", self.definition);
        let found = described.iter().find(|(name, ..)| name == column);
        let (what, fix) = match found {
            None => (
                format!("the table {table} has no column {column}, which gives rows their order"),
                add,
            ),
            Some((_, base, _)) if self.types.contains(&base.as_str()) => return None,
            Some((_, _, full)) => (
                format!(
                    "the column {column} of the table {table} is {full}, not {}",
                    self.types[0]
                ),
                format!("ALTER TABLE {name} RENAME COLUMN {column} TO {column}_old; {add}"),
            ),
        };
        Some(Trouble::refused(Code::OUTBOX_TABLE_WRONG, what, fix))
    }
}

fn asked<'a>(table: &'a TableName, user: &'a str) -> Asked<'a> {
    Asked {
        user,
        table,
        quote: '"',
        rights: "SELECT",
    }
}

/// How a type is read, by its own name or that of the type its domain is made of.
fn form(base: &str, full: String) -> (Form, Kind) {
    match base {
        "text" | "varchar" | "bpchar" | "name" => (Form::Plain, Kind::Text),
        "json" => (Form::Plain, Kind::Json),
        "jsonb" => (Form::Jsonb, Kind::Json),
        "bytea" => (Form::Plain, Kind::Bytes),
        "uuid" => (Form::Uuid, Kind::Uuid),
        "int2" | "int4" | "int8" => (Form::Signed, Kind::Integer),
        "xid8" => (Form::Unsigned, Kind::Integer),
        "bool" => (Form::Boolean, Kind::Boolean),
        "timestamptz" => (Form::Time, Kind::Time),
        "timestamp" => {
            let is_millis = (0..=3).any(|digits| full.starts_with(&format!("timestamp({digits})")));
            (Form::Time, Kind::LocalTime { is_millis })
        }
        _ => (Form::Cast, Kind::Other(full)),
    }
}

impl Form {
    /// The value in the form that its kind promises.
    fn value(self, bytes: &[u8]) -> Result<Bytes, sqlx::Error> {
        let copied = Bytes::copy_from_slice;
        Ok(match self {
            Self::Plain | Self::Cast => copied(bytes),
            Self::Jsonb => match bytes.split_first() {
                Some((1, text)) => copied(text),
                _ => return Err(odd("jsonb", bytes)),
            },
            Self::Uuid => uuid(bytes)?,
            Self::Signed => Bytes::from(signed(bytes)?.to_string()),
            Self::Unsigned => Bytes::from(unsigned(bytes)?.to_string()),
            Self::Boolean => Bytes::from_static(if bytes == [0] { b"false" } else { b"true" }),
            Self::Time => Bytes::from(match signed(bytes)? {
                i64::MAX => "infinity".to_owned(),
                i64::MIN => "-infinity".to_owned(),
                micros => rfc3339(micros.saturating_add(EPOCH)),
            }),
        })
    }
}

fn raw<'r>(value: &sqlx::postgres::PgValueRef<'r>) -> Result<&'r [u8], sqlx::Error> {
    value.as_bytes().map_err(sqlx::Error::Decode)
}

fn odd(of: &str, bytes: &[u8]) -> sqlx::Error {
    let text = format!("a value of {} bytes is no {of}", bytes.len());
    sqlx::Error::Decode(text.into())
}

fn signed(bytes: &[u8]) -> Result<i64, sqlx::Error> {
    match *bytes {
        [a, b] => Ok(i64::from(i16::from_be_bytes([a, b]))),
        [a, b, c, d] => Ok(i64::from(i32::from_be_bytes([a, b, c, d]))),
        _ => Ok(i64::from_be_bytes(
            bytes.try_into().map_err(|_wrong| odd("number", bytes))?,
        )),
    }
}

fn unsigned(bytes: &[u8]) -> Result<u64, sqlx::Error> {
    let bytes = bytes.try_into().map_err(|_wrong| odd("xid8", bytes))?;
    Ok(u64::from_be_bytes(bytes))
}

fn uuid(bytes: &[u8]) -> Result<Bytes, sqlx::Error> {
    let bytes: [u8; 16] = bytes.try_into().map_err(|_wrong| odd("uuid", bytes))?;
    let text = uuid::Uuid::from_bytes(bytes).hyphenated().to_string();
    Ok(Bytes::from(text))
}

/// When a row was inserted, from the binary form of its time.
fn inserted(bytes: &[u8]) -> Option<Timestamp> {
    let micros = signed(bytes).ok()?.checked_add(EPOCH)?;
    (micros >= 0).then(|| Timestamp::from_millis(micros / 1000))
}
