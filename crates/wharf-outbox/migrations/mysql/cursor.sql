-- How far relays are that poll an outbox. docs/specs/outbox-table.md explains the columns.
-- Which relay polls the outbox, and how far it is. Every update says WHERE source = ? AND epoch = ?.
CREATE TABLE IF NOT EXISTS wharf_outbox_cursor (
    source VARCHAR(255) NOT NULL PRIMARY KEY,
    holder VARCHAR(255) NULL,
    epoch BIGINT NOT NULL DEFAULT 0,
    expires_at TIMESTAMP(6) NULL, -- By the clock of this database.
    checkpoint LONGBLOB NULL
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
