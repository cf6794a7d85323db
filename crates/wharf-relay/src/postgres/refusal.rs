//! What an error of Postgres means to a relay that reads the log, and the statement that mends it.
//!
//! Invariant: only what a person has to change is refused; whatever may pass by itself is unavailable.

use wharf_message::Code;

use super::session::Failed;
use crate::Trouble;

/// Who asked for what: the names that a statement needs.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    pub(crate) user: String,
    /// The table, quoted.
    pub(crate) table: String,
    pub(crate) slot: String,
    pub(crate) publication: String,
}

/// A name for a statement, in quotes.
pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

impl Names {
    /// What is to be done about an error of the replication connection.
    pub(crate) fn failed(&self, failed: &Failed) -> Trouble {
        let said = failed.to_string();
        match failed {
            Failed::Server(_) => self.refused(failed.code().unwrap_or_default(), &said),
            Failed::Credentials(_) => self.credentials(&said),
            Failed::Io(_) | Failed::Protocol(_) => unavailable(&said),
        }
    }

    /// What is to be done about an error of the other connection.
    pub(crate) fn error(&self, error: &sqlx::Error) -> Trouble {
        let said = error.to_string();
        match error {
            sqlx::Error::Database(error) => self.refused(&error.code().unwrap_or_default(), &said),
            sqlx::Error::Configuration(_) => {
                let what = format!("the address of the database is wrong: {said}");
                Trouble::refused(
                    Code::OUTBOX_SOURCE_UNAVAILABLE,
                    what,
                    "mend the source's url",
                )
            }
            _ => unavailable(&said),
        }
    }

    /// By the server's code.
    fn refused(&self, code: &str, said: &str) -> Trouble {
        let (user, slot) = (quoted(&self.user), &self.slot);
        match code {
            "28P01" | "28000" => self.credentials(said),
            "3D000" => {
                let what = format!("there is no such database: {said}");
                let fix = "mend the name of the database in the source's url";
                Trouble::refused(Code::OUTBOX_SOURCE_UNAVAILABLE, what, fix)
            }
            // To begin as a sender is another right than to read a table, and comes with its own words.
            "42501" if said.contains("eplication") => {
                let what = format!("the user {user} may not replicate: {said}");
                let fix = format!("ALTER ROLE {user} REPLICATION");
                Trouble::refused(Code::OUTBOX_ACCESS_REFUSED, what, fix)
            }
            "42501" => {
                let what = format!("a grant is missing: {said}");
                let fix = format!("GRANT SELECT ON {} TO {user}", self.table);
                Trouble::refused(Code::OUTBOX_ACCESS_REFUSED, what, fix)
            }
            "55006" => {
                let what = format!("another relay reads the slot {slot}: {said}");
                Trouble::standby(Code::OUTBOX_TAKEN, what)
            }
            "53400" => {
                let what = format!("there is no room for another replication slot: {said}");
                let fix =
                    "ALTER SYSTEM SET max_replication_slots = <more>, and restart the database";
                Trouble::refused(Code::OUTBOX_LOG_OFF, what, fix)
            }
            "53300" if said.contains("max_wal_senders") => {
                let what = format!("there is no room for another sender of the log: {said}");
                let fix = "ALTER SYSTEM SET max_wal_senders = <more>, and restart the database";
                Trouble::refused(Code::OUTBOX_LOG_OFF, what, fix)
            }
            "08P01" if said.contains("replication") => {
                let what = format!("a pooler is in the way, which cannot replicate: {said}");
                let fix = "point the source's url at the database itself, or set mode = \"poll\"";
                Trouble::refused(Code::OUTBOX_LOG_OFF, what, fix)
            }
            // The publication that the log was written under is not there.
            "42704" if said.contains("publication") => self.no_publication(said),
            _ => unavailable(said),
        }
    }

    fn credentials(&self, said: &str) -> Trouble {
        let user = quoted(&self.user);
        let what = format!("the database does not let the user {user} in: {said}");
        let fix = format!("ALTER ROLE {user} LOGIN PASSWORD '<password>', or mend the url");
        Trouble::refused(Code::OUTBOX_ACCESS_REFUSED, what, fix)
    }

    /// The publication was not there when the log was written.
    fn no_publication(&self, said: &str) -> Trouble {
        let (what, fix) = (
            format!("the log cannot be read: {said}"),
            format!(
                "SELECT pg_drop_replication_slot('{slot}'); then \
                 SELECT pg_create_logical_replication_slot('{slot}', 'pgoutput'): the relay goes on \
                 from the table in between",
                slot = self.slot
            ),
        );
        Trouble::refused(Code::OUTBOX_SLOT_LOST, what, fix)
    }
}

fn unavailable(said: &str) -> Trouble {
    let what = format!("the database cannot be read: {said}");
    Trouble::unavailable(Code::OUTBOX_SOURCE_UNAVAILABLE, what)
}
