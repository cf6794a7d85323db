-- The inbox of Wharf on Postgres 12 and newer: which messages a consumer has had.
-- Running this again changes nothing. docs/specs/inbox-tables.md explains the columns.

CREATE TABLE IF NOT EXISTS wharf_inbox (
    consumer text COLLATE "C" NOT NULL,
    source text COLLATE "C" NOT NULL,
    message_id text COLLATE "C" NOT NULL,
    seen_at timestamptz NOT NULL DEFAULT now(),
    payload_hash bytea NOT NULL,
    outputs bytea,
    PRIMARY KEY (consumer, source, message_id)
);

CREATE INDEX IF NOT EXISTS wharf_inbox_seen_at ON wharf_inbox (seen_at);

CREATE TABLE IF NOT EXISTS wharf_inbox_high_water (
    consumer text COLLATE "C" NOT NULL,
    source text COLLATE "C" NOT NULL,
    message_key text COLLATE "C" NOT NULL,
    last_sequence bigint NOT NULL,
    seen_at timestamptz NOT NULL DEFAULT now(),
    outputs bytea,
    PRIMARY KEY (consumer, source, message_key)
);
