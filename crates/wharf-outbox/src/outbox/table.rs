//! The name of an outbox table, and of what belongs to it.
//!
//! A name cannot be bound as a value, so it stands in the statements' text: what must never happen is
//! that a name which was not checked here gets there.

use std::fmt;
use std::str::FromStr;

use crate::dialect::Dialect;

/// The name of an outbox unless another is given.
pub const TABLE: &str = "wharf_outbox";
/// The name of the table of cursors, which is beside the outbox.
const CURSOR: &str = "wharf_outbox_cursor";
/// The longest name that one of the databases takes, in bytes.
const NAME_BYTES_MAX: usize = 63;
/// What the names of partitions and indexes add to the table's at most.
const SUFFIX_BYTES_MAX: usize = "_p20261122".len();

/// The name of an outbox table: `wharf_outbox`, or with its schema `shop.wharf_outbox` (in MySQL, its
/// database). It is taken as it is written, large and small letters included, and always quoted.
///
/// ```
/// use wharf_outbox::TableName;
///
/// let table: TableName = "shop.OutboxEvent".parse()?;
/// assert_eq!((table.schema(), table.name()), (Some("shop"), "OutboxEvent"));
/// # #[cfg(feature = "postgres")]
/// assert_eq!(table.quoted::<sqlx::Postgres>(), r#""shop"."OutboxEvent""#);
/// assert!("outbox; DROP TABLE orders".parse::<TableName>().is_err());
/// # Ok::<(), wharf_outbox::InvalidTableName>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TableName {
    schema: Option<String>,
    name: String,
}

/// Why a text is no name of a table.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no name of a table: it is `table` or `schema.table`, each of 1 to {NAME_BYTES_MAX} bytes of letters, digits, `_` and `-`"
)]
pub struct InvalidTableName(String);

impl Default for TableName {
    fn default() -> Self {
        Self {
            schema: None,
            name: TABLE.to_owned(),
        }
    }
}

impl FromStr for TableName {
    type Err = InvalidTableName;

    fn from_str(text: &str) -> Result<Self, InvalidTableName> {
        let (schema, name) = match text.split_once('.') {
            Some((schema, name)) => (Some(schema), name),
            None => (None, text),
        };
        let fine = |part: &str| {
            (1..=NAME_BYTES_MAX).contains(&part.len())
                && part
                    .chars()
                    .all(|letter| letter.is_alphanumeric() || "_-".contains(letter))
        };
        if !fine(name) || schema.is_some_and(|schema| !fine(schema)) {
            return Err(InvalidTableName(text.to_owned()));
        }
        Ok(Self {
            schema: schema.map(str::to_owned),
            name: name.to_owned(),
        })
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(schema) = &self.schema {
            write!(formatter, "{schema}.")?;
        }
        formatter.write_str(&self.name)
    }
}

impl TableName {
    /// The schema's name, if it was given.
    pub fn schema(&self) -> Option<&str> {
        self.schema.as_deref()
    }

    /// The table's own name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// As it stands in statements.
    pub fn quoted<D: Dialect>(&self) -> String {
        self.beside::<D>(&self.name)
    }

    /// The table of cursors, `wharf_outbox_cursor` in the same schema, as it stands in statements.
    pub fn quoted_cursor<D: Dialect>(&self) -> String {
        self.beside::<D>(CURSOR)
    }

    /// Whether partitions and indexes can be named after it.
    pub(crate) fn has_room(&self) -> bool {
        self.name.len() + SUFFIX_BYTES_MAX <= NAME_BYTES_MAX
    }

    /// Another name in the same schema.
    pub(crate) fn beside<D: Dialect>(&self, name: &str) -> String {
        match &self.schema {
            Some(schema) => format!("{}.{}", quoted::<D>(schema), quoted::<D>(name)),
            None => quoted::<D>(name),
        }
    }

    /// A script for the default name, for this one.
    pub(crate) fn script<D: Dialect>(&self, script: &str) -> String {
        if *self == Self::default() {
            return script.to_owned();
        }
        let mut renamed = String::with_capacity(script.len() + 256);
        let mut rest = script;
        while let Some(at) = rest.find(TABLE) {
            renamed.push_str(&rest[..at]);
            let word = &rest[at..];
            let in_name = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
            let end = word.find(|letter| !in_name(letter)).unwrap_or(word.len());
            let (word, after) = word.split_at(end);
            let name = format!("{}{}", self.name, &word[TABLE.len()..]);
            // An index has no schema of its own.
            renamed.push_str(&match renamed.ends_with("INDEX IF NOT EXISTS ") {
                true => quoted::<D>(&name),
                false if word == CURSOR => self.quoted_cursor::<D>(),
                false => self.beside::<D>(&name),
            });
            rest = after;
        }
        renamed + rest
    }
}

/// Within quotes; no name that was parsed has any in it.
fn quoted<D: Dialect>(name: &str) -> String {
    let quote = D::OUTBOX.quote;
    format!("{quote}{name}{quote}")
}

#[cfg(test)]
mod tests {
    use sqlx::{MySql, Postgres};

    use super::*;

    #[test]
    fn what_could_end_a_quoted_name_is_no_name() {
        let long = "x".repeat(64);
        for text in [
            "", ".", "a.", ".a", "a.b.c", "a\"b", "a`b", "a'b", "a b", "a\0", "a;b", "$$", "a\n",
            &long,
        ] {
            assert!(text.parse::<TableName>().is_err(), "{text:?}");
        }
        for text in ["a", "Größe", "shop-1.outbox_2", &long[1..]] {
            assert_eq!(
                text.parse::<TableName>().map(|name| name.to_string()),
                Ok(text.to_owned())
            );
        }
    }

    #[test]
    fn a_script_is_renamed_with_everything_that_is_named_after_the_table() {
        let name: TableName = "shop.events".parse().expect("a name");
        let script = name.script::<Postgres>(Postgres::OUTBOX.schema);
        for part in [
            r#"CREATE TABLE IF NOT EXISTS "shop"."events" ("#,
            r#"CREATE INDEX IF NOT EXISTS "events_position" ON "shop"."events" ("#,
            r#"'CREATE TABLE IF NOT EXISTS "shop"."events_pYYYYMMDD" PARTITION OF "shop"."events" '"#,
            r#"CREATE TABLE IF NOT EXISTS "shop"."events_default" PARTITION OF "shop"."events" DEFAULT;"#,
        ] {
            assert!(script.contains(part), "{part} in {script}");
        }
        assert!(!script.contains(TABLE), "{script}");
        let cursor = name.script::<MySql>(MySql::OUTBOX.cursor);
        assert!(cursor.contains("CREATE TABLE IF NOT EXISTS `shop`.`wharf_outbox_cursor` ("));
    }

    #[test]
    fn a_script_for_the_default_name_is_the_file() {
        let script = TableName::default().script::<Postgres>(Postgres::OUTBOX.schema);
        assert_eq!(script, Postgres::OUTBOX.schema);
    }
}
