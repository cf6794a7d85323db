-- The inbox of Wharf on SQLite 3.35 and newer: which messages a consumer has had.
-- Running this again changes nothing. docs/specs/inbox-tables.md explains the columns.

CREATE TABLE IF NOT EXISTS wharf_inbox (
    consumer TEXT NOT NULL,
    source TEXT NOT NULL,
    message_id TEXT NOT NULL,
    seen_at INTEGER NOT NULL DEFAULT (CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)),
    payload_hash BLOB NOT NULL,
    outputs BLOB,
    PRIMARY KEY (consumer, source, message_id)
);

CREATE INDEX IF NOT EXISTS wharf_inbox_seen_at ON wharf_inbox (seen_at);

CREATE TABLE IF NOT EXISTS wharf_inbox_high_water (
    consumer TEXT NOT NULL,
    source TEXT NOT NULL,
    message_key TEXT NOT NULL,
    last_sequence INTEGER NOT NULL,
    seen_at INTEGER NOT NULL DEFAULT (CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)),
    outputs BLOB,
    PRIMARY KEY (consumer, source, message_key)
) WITHOUT ROWID;
