-- The outbox of Wharf on MySQL 8, MariaDB 10.6 and newer.
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
