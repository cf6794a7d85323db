-- How far relays are that poll an outbox. docs/specs/outbox-table.md explains the columns.
-- Which relay polls the outbox, and how far it is. Every update says WHERE source = ? AND epoch = ?.
CREATE TABLE IF NOT EXISTS wharf_outbox_cursor (
    source TEXT NOT NULL PRIMARY KEY,
    holder TEXT,
    epoch INTEGER NOT NULL DEFAULT 0,
    expires_at TEXT, -- RFC 3339, in UTC, by the clock of this database.
    checkpoint BLOB
);
