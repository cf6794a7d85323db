-- How far relays are that poll an outbox. docs/specs/outbox-table.md explains the columns.
-- Which relay polls the outbox, and how far it is. Every update says WHERE source = ? AND epoch = ?.
CREATE TABLE IF NOT EXISTS wharf_outbox_cursor (
    source text COLLATE "C" PRIMARY KEY,
    holder text,
    epoch bigint NOT NULL DEFAULT 0,
    expires_at timestamptz, -- By the clock of this database.
    checkpoint bytea
);
