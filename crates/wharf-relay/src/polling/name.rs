//! Names in statements, quoted so that nothing in them is read as SQL.

use wharf_message::Code;
use wharf_outbox::{InvalidTableName, TableName};

use crate::Trouble;

/// The table of leases and cursors, beside every outbox.
const CURSOR: &str = "wharf_outbox_cursor";

/// The table of this name, perhaps with its schema before it.
pub(crate) fn table_name(name: &str) -> Result<TableName, Trouble> {
    name.parse().map_err(|error: InvalidTableName| {
        let fix = "give the name as the database has it, such as shop.wharf_outbox";
        Trouble::refused(Code::OUTBOX_NOT_INSTALLED, error.to_string(), fix)
    })
}

/// A name for a statement, in the quotes of the dialect.
pub(crate) fn quoted(name: &str, quote: char) -> String {
    let doubled: String = [quote, quote].iter().collect();
    format!("{quote}{}{quote}", name.replace(quote, &doubled))
}

/// A table for a statement.
pub(crate) fn quoted_table(table: &TableName, quote: char) -> String {
    beside(table, table.name(), quote)
}

/// Another table in the same schema.
pub(crate) fn beside(table: &TableName, name: &str, quote: char) -> String {
    let name = quoted(name, quote);
    match table.schema() {
        Some(schema) => format!("{}.{name}", quoted(schema, quote)),
        None => name,
    }
}

/// The name of the cursor table that belongs to an outbox.
pub(crate) fn cursor_of(table: &TableName) -> TableName {
    let name = match table.schema() {
        Some(schema) => format!("{schema}.{CURSOR}"),
        None => CURSOR.to_owned(),
    };
    name.parse().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_name_is_read_as_sql() {
        assert_eq!(quoted("a\"; DROP", '"'), "\"a\"\"; DROP\"");
        assert_eq!(quoted("a`b", '`'), "`a``b`");
        let table: TableName = "shop.Outbox".parse().unwrap();
        assert_eq!(quoted_table(&table, '"'), "\"shop\".\"Outbox\"");
        assert_eq!(beside(&table, "old", '`'), "`shop`.`old`");
        assert_eq!(cursor_of(&table).to_string(), "shop.wharf_outbox_cursor");
        let plain = TableName::default();
        assert_eq!(cursor_of(&plain).to_string(), "wharf_outbox_cursor");
    }
}
