-- The outbox of Wharf on MySQL 8, MariaDB 10.6 and newer, and the cursors of relays that poll it.
-- Rows are inserted in the transaction of the business change and are never updated.
-- Running this again changes nothing. docs/specs/outbox-table.md explains the columns.

CREATE TABLE IF NOT EXISTS wharf_outbox (
    sequence BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
    -- The five columns of Debezium's outbox event router, with its names and meaning.
    id CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    aggregatetype VARCHAR(255) NOT NULL,
    aggregateid VARCHAR(255) NOT NULL,
    type VARCHAR(255) NOT NULL,
    payload LONGBLOB NULL, -- NULL is a tombstone.
    headers LONGTEXT NULL, -- A JSON object of texts, or NULL for none.
    created_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- Which relay polls the outbox, and how far it is. Every update says WHERE source = ? AND epoch = ?.
CREATE TABLE IF NOT EXISTS wharf_outbox_cursor (
    source VARCHAR(255) NOT NULL PRIMARY KEY,
    holder VARCHAR(255) NULL,
    epoch BIGINT NOT NULL DEFAULT 0,
    expires_at TIMESTAMP(6) NULL, -- By the clock of this database.
    checkpoint LONGBLOB NULL
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
