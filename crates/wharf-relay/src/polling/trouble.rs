//! What an error of a database means to a relay, and the statement that mends it.
//!
//! Invariant: only what a person has to change is refused; whatever may pass by itself is unavailable.

use sqlx::error::DatabaseError;
use wharf_message::Code;

use super::TableName;
use super::name::{quoted, quoted_table};
use crate::Trouble;

/// Who was refused what: the names that a statement needs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked<'a> {
    /// The database's user; empty where there are none.
    pub user: &'a str,
    /// The table that was asked for.
    pub table: &'a TableName,
    /// The quotes of the dialect.
    pub quote: char,
    /// The rights that it needs there, for `GRANT`.
    pub rights: &'a str,
}

/// What is to be done about an error.
pub(crate) fn trouble(error: &sqlx::Error, asked: Asked<'_>) -> Trouble {
    let refused = match error {
        sqlx::Error::Database(error) => refused(&**error, asked),
        sqlx::Error::Configuration(error) => Some(Trouble::refused(
            Code::OUTBOX_SOURCE_UNAVAILABLE,
            format!("the address of the database is wrong: {error}"),
            "mend the source's url",
        )),
        _ => None,
    };
    refused.unwrap_or_else(|| {
        let what = format!("the database cannot be read: {error}");
        Trouble::unavailable(Code::OUTBOX_SOURCE_UNAVAILABLE, what)
    })
}

/// The table is not there.
pub(crate) fn missing(table: &TableName) -> Trouble {
    let what = format!("there is no table {table}");
    let fix = "create it with what `wharf outbox init --print` shows, or name the right one";
    Trouble::refused(Code::OUTBOX_NOT_INSTALLED, what, fix)
}

/// The table lacks a column that messages are made of.
pub(crate) fn lacking(table: &TableName, quote: char, column: &str) -> Trouble {
    let definition = match column {
        "payload" if quote == '"' => "bytea",
        "payload" => "LONGBLOB",
        "id" if quote == '"' => "uuid NOT NULL DEFAULT gen_random_uuid()",
        "id" => "CHAR(36) NOT NULL DEFAULT (UUID())",
        _ => "varchar(255) NOT NULL DEFAULT ''",
    };
    let (name, quoted) = (quoted_table(table, quote), quoted(column, quote));
    let what = format!("the table {table} has no column {column}");
    let fix = format!(
        "ALTER TABLE {name} ADD COLUMN {quoted} {definition}, or name the column in the source's settings"
    );
    Trouble::refused(Code::OUTBOX_TABLE_WRONG, what, fix)
}

fn refused(error: &dyn DatabaseError, asked: Asked<'_>) -> Option<Trouble> {
    let Asked { user, table, .. } = asked;
    let (quote, rights) = (asked.quote, asked.rights);
    let said = error.message();
    Some(match kind(error)? {
        Kind::Login => Trouble::refused(
            Code::OUTBOX_ACCESS_REFUSED,
            format!("the database does not let the user {user:?} in: {said}"),
            match quote {
                '`' => format!("ALTER USER '{user}' IDENTIFIED BY '<password>', or mend the url"),
                _ => format!("ALTER ROLE \"{user}\" LOGIN PASSWORD '<password>', or mend the url"),
            },
        ),
        Kind::Database => Trouble::refused(
            Code::OUTBOX_SOURCE_UNAVAILABLE,
            format!("there is no such database: {said}"),
            "mend the name of the database in the source's url",
        ),
        Kind::Right => {
            let (table, user) = (
                quoted_table(table, quote),
                match quote {
                    '`' => format!("'{user}'"),
                    _ => quoted(user, quote),
                },
            );
            Trouble::refused(
                Code::OUTBOX_ACCESS_REFUSED,
                format!("a grant is missing: {said}"),
                format!("GRANT {rights} ON {table} TO {user}"),
            )
        }
        Kind::Table => missing(table),
        Kind::Column => Trouble::refused(
            Code::OUTBOX_TABLE_WRONG,
            format!("the table {table} is another than expected: {said}"),
            "compare it with what `wharf outbox init --print` shows",
        ),
        Kind::ReadOnly => Trouble::refused(
            Code::OUTBOX_ACCESS_REFUSED,
            format!("the database cannot be written to: {said}"),
            "let the relay write to the database's file and its folder; it keeps its cursor there",
        ),
    })
}

/// What was refused, if it is for a person to mend.
#[derive(Clone, Copy)]
#[cfg_attr(
    not(all(feature = "sqlite", any(feature = "mysql", feature = "postgres"))),
    expect(dead_code, reason = "each database has its own")
)]
enum Kind {
    Login,
    Database,
    Right,
    Table,
    Column,
    ReadOnly,
}

fn kind(error: &dyn DatabaseError) -> Option<Kind> {
    #[cfg(feature = "postgres")]
    if let Some(error) = error.try_downcast_ref::<sqlx::postgres::PgDatabaseError>() {
        return Some(match error.code() {
            "28000" | "28P01" => Kind::Login,
            "3D000" => Kind::Database,
            "42501" => Kind::Right,
            "42P01" | "3F000" => Kind::Table,
            "42703" | "42804" | "42883" => Kind::Column,
            _ => return None,
        });
    }
    #[cfg(feature = "mysql")]
    if let Some(error) = error.try_downcast_ref::<sqlx::mysql::MySqlDatabaseError>() {
        return Some(match error.number() {
            1045 | 1698 => Kind::Login,
            1049 => Kind::Database,
            1044 | 1142 | 1143 => Kind::Right,
            1146 => Kind::Table,
            1054 => Kind::Column,
            _ => return None,
        });
    }
    #[cfg(feature = "sqlite")]
    if let Some(error) = error.try_downcast_ref::<sqlx::sqlite::SqliteError>() {
        let code: u32 = error.code()?.parse().ok()?;
        return Some(match code & 0xff {
            // Read only, or no right to the file.
            8 | 3 => Kind::ReadOnly,
            1 if error.message().starts_with("no such table") => Kind::Table,
            1 if error.message().starts_with("no such column") => Kind::Column,
            _ => return None,
        });
    }
    let _ = error;
    None
}
