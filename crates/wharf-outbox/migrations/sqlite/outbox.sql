-- The outbox of Wharf on SQLite 3.35 and newer, and the cursors of relays that poll it.
-- Rows are inserted in the transaction of the business change and are never updated.
-- Running this again changes nothing. docs/specs/outbox-table.md explains the columns.

CREATE TABLE IF NOT EXISTS wharf_outbox (
    -- AUTOINCREMENT, so that the number of a deleted row is not given again.
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    -- The five columns of Debezium's outbox event router, with its names and meaning.
    id TEXT NOT NULL,
    aggregatetype TEXT NOT NULL,
    aggregateid TEXT NOT NULL,
    type TEXT NOT NULL,
    payload BLOB, -- NULL is a tombstone.
    headers TEXT, -- A JSON object of texts, or NULL for none.
    created_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')) -- RFC 3339, in UTC.
);

-- Which relay polls the outbox, and how far it is. Every update says WHERE source = ? AND epoch = ?.
CREATE TABLE IF NOT EXISTS wharf_outbox_cursor (
    source TEXT NOT NULL PRIMARY KEY,
    holder TEXT,
    epoch INTEGER NOT NULL DEFAULT 0,
    expires_at TEXT, -- RFC 3339, in UTC, by the clock of this database.
    checkpoint BLOB
);
