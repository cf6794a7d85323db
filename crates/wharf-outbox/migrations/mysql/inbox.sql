-- The inbox of Wharf on MySQL 8, MariaDB 10.6 and newer: which messages a consumer has had.
-- Running this again changes nothing. docs/specs/inbox-tables.md explains the columns.

CREATE TABLE IF NOT EXISTS wharf_inbox (
    consumer VARBINARY(255) NOT NULL,
    source VARBINARY(255) NOT NULL,
    message_id VARBINARY(255) NOT NULL,
    seen_at DATETIME(6) NOT NULL,
    payload_hash BINARY(32) NOT NULL,
    outputs MEDIUMBLOB,
    PRIMARY KEY (consumer, source, message_id),
    INDEX wharf_inbox_seen_at (seen_at)
) ENGINE = InnoDB;

CREATE TABLE IF NOT EXISTS wharf_inbox_high_water (
    consumer VARBINARY(255) NOT NULL,
    source VARBINARY(255) NOT NULL,
    message_key VARBINARY(255) NOT NULL,
    last_sequence BIGINT NOT NULL,
    seen_at DATETIME(6) NOT NULL,
    outputs MEDIUMBLOB,
    PRIMARY KEY (consumer, source, message_key)
) ENGINE = InnoDB;
