-- The outbox of Wharf on SQLite 3.35 and newer.
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
