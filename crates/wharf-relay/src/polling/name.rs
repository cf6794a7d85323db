//! Names of tables, as the database has them, quoted so that nothing in them is read as SQL.

use std::fmt;

use wharf_message::Code;

use crate::Trouble;

/// The longest name of a table or a schema that any of the databases has, in bytes, with room.
const PART_BYTES_MAX: usize = 255;

/// A table, perhaps with its schema (a database in MySQL's words) before it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TableName {
    schema: Option<String>,
    table: String,
}

impl TableName {
    /// `wharf_outbox`, `shop.wharf_outbox`: letters of different case are different.
    ///
    /// # Errors
    /// A part is empty, too long, or has a control character.
    pub fn new(name: &str) -> Result<Self, Trouble> {
        let (schema, table) = match name.split_once('.') {
            Some((schema, table)) => (Some(schema), table),
            None => (None, name),
        };
        for part in schema.into_iter().chain([table]) {
            let odd = part.is_empty() || part.len() > PART_BYTES_MAX;
            if odd || part.chars().any(char::is_control) {
                let what = format!("{name:?} is no name of a table");
                let fix = "give the name as the database has it, such as shop.wharf_outbox";
                return Err(Trouble::refused(Code::OUTBOX_NOT_INSTALLED, what, fix));
            }
        }
        Ok(Self {
            schema: schema.map(str::to_owned),
            table: table.to_owned(),
        })
    }

    /// The schema, if it was given.
    pub fn schema(&self) -> Option<&str> {
        self.schema.as_deref()
    }

    /// The table's own name.
    pub fn table(&self) -> &str {
        &self.table
    }

    /// Another table in the same place.
    #[must_use]
    pub fn sibling(&self, table: &str) -> Self {
        Self {
            schema: self.schema.clone(),
            table: table.to_owned(),
        }
    }

    /// For a statement, in quotes: `"` in the standard and in SQLite, `` ` `` in MySQL.
    pub fn quoted(&self, quote: char) -> String {
        let parts = self.schema.iter().chain([&self.table]);
        let parts: Vec<_> = parts.map(|part| quoted(part, quote)).collect();
        parts.join(".")
    }
}

/// A name for a statement, in quotes.
pub(crate) fn quoted(name: &str, quote: char) -> String {
    let doubled: String = [quote, quote].iter().collect();
    format!("{quote}{}{quote}", name.replace(quote, &doubled))
}

impl fmt::Display for TableName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(schema) = &self.schema {
            write!(formatter, "{schema}.")?;
        }
        formatter.write_str(&self.table)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_name_is_read_as_sql() {
        let name = TableName::new("sh\"op.out`box; DROP").unwrap();
        assert_eq!(name.quoted('"'), r#""sh""op"."out`box; DROP""#);
        assert_eq!(name.quoted('`'), "`sh\"op`.`out``box; DROP`");
        assert_eq!(name.sibling("c").to_string(), "sh\"op.c");
        assert_eq!(TableName::new("a").unwrap().quoted('"'), "\"a\"");
        for wrong in ["", ".a", "a.", "a\nb", &"x".repeat(256)] {
            let trouble = TableName::new(wrong).unwrap_err();
            assert_eq!(trouble.code, Code::OUTBOX_NOT_INSTALLED, "{wrong}");
        }
    }
}
