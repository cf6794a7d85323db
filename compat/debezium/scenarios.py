"""The tables, what is written to them, and how Debezium and the relay are configured for each."""

import base64
import json
import pathlib
import random

STRING = "org.apache.kafka.connect.storage.StringConverter"
JSON = "org.apache.kafka.connect.json.JsonConverter"
BINARY = "io.debezium.converters.BinaryDataConverter"
BYTES = "org.apache.kafka.connect.converters.ByteArrayConverter"

# The table of Debezium's documentation.
COLUMNS = """
    id uuid NOT NULL PRIMARY KEY,
    aggregatetype varchar(255) NOT NULL,
    aggregateid varchar(255) NOT NULL,
    type varchar(255) NOT NULL,
    payload {payload}
"""
RANDOM = random.Random(1)
LETTERS = "Grüße, 世界, 🦀🚢, \u00a0\u2028, e\u0301"


def literal(value):
    """A value in SQL."""
    match value:
        case None:
            return "NULL"
        case bool():
            return str(value).upper()
        case bytes():
            return f"'\\x{value.hex()}'"
        case str():
            return "'" + value.replace("'", "''") + "'"
        case _:
            return str(value)


def value_json(**more):
    """The value converter that writes JSON without schemas."""
    return {"value.converter": JSON, "value.converter.schemas.enable": "false", **more}


KEY_JSON = {"key.converter": JSON, "key.converter.schemas.enable": "false"}


def smt(**options):
    """Options of the transformation, with `_` for each dot."""
    return {f"transforms.outbox.{name.replace('_', '.')}": value for name, value in options.items()}


class Scenario:
    """A table that both read.

    `columns` is the table's definition, `rows` are written one by one, each a dict of columns or a
    payload; `before` are there before anybody reads and come only with `backlog`; `concurrent` are
    scripts that run at once.
    `connector` is what Debezium is told beside the usual, `relay` what the relay is told.
    """

    def __init__(self, name, rows, connector, relay, *, columns=None, payload="jsonb", before=(),
                 concurrent=(), partition="", table="outboxevent", ddl=None, backlog=False,
                 timestamps=False, context=False):
        self.name, self.rows, self.before, self.concurrent = name, rows, before, concurrent
        self.connector, self.relay = connector, relay
        self.columns = columns or COLUMNS.format(payload=payload)
        self.partition, self.ddl, self.backlog = partition, ddl, backlog
        self.table, self.quoted = f"{name}.{table}", f'{name}."{table}"'
        self.timestamps, self.context = timestamps, context
        if not context:
            self.connector = {"extended.headers.enabled": "false", **connector}

    def set_up(self):
        """The table, and beside it a count of what was committed."""
        table = self.ddl or f"CREATE TABLE {self.quoted} ({self.columns}) {self.partition};"
        return f"""
            CREATE SCHEMA {self.name};
            SET search_path = {self.name};
            {table}
            CREATE TABLE written (row integer);
            CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS
                'BEGIN INSERT INTO {self.name}.written VALUES (1); RETURN NULL; END';
            CREATE TRIGGER note AFTER INSERT ON {self.quoted} FOR EACH ROW EXECUTE FUNCTION note();
            {self.inserts(self.before)}
            {"" if self.backlog else "TRUNCATE written;"}
        """

    def inserts(self, rows):
        return "\n".join(self.insert(row) for row in rows)

    def insert(self, row):
        """A statement that inserts one."""
        if not isinstance(row, dict):
            row = {"payload": row}
        row = {**self.usual(), **row}
        values = ", ".join(map(literal, row.values()))
        values = values.replace("'a new id'", "gen_random_uuid()")
        names = ", ".join(f'"{name}"' for name in row)
        return f"INSERT INTO {self.quoted} ({names}) VALUES ({values});"

    def usual(self):
        """What a row has unless it says otherwise."""
        return {"id": "a new id", "aggregatetype": f"{self.name}-order",
                "aggregateid": f"order {RANDOM.randrange(8)}", "type": "OrderCreated",
                "payload": None}

    def scripts(self):
        """What is written while both read, each script by a connection of its own."""
        return [self.inserts(self.rows), *(script.replace("TABLE", self.quoted).replace(
            "NAME", self.name) for script in self.concurrent)]

    def last(self):
        """A row that comes when all others have come."""
        return self.insert(self.rows[0])


# Transactions of every kind, for several writers at once.
BUSY = """
DO $$
DECLARE
    kind text;
    one uuid;
BEGIN
    FOR turn IN 1..25 LOOP
        kind := 'NAME-' || (ARRAY['order', 'payment', 'shipment'])[1 + turn % 3];
        -- Many rows in one statement.
        INSERT INTO TABLE SELECT gen_random_uuid(), kind, 'key ' || n % 7, 'Many',
            jsonb_build_object('turn', turn, 'n', n) FROM generate_series(1, 20) n;
        COMMIT;
        INSERT INTO TABLE VALUES (gen_random_uuid(), kind, 'key 1', 'Undone', '{}');
        ROLLBACK;
        -- A savepoint that is rolled back, between rows that stay.
        INSERT INTO TABLE VALUES (gen_random_uuid(), kind, 'key 2', 'First', '{"stays": true}');
        BEGIN
            INSERT INTO TABLE VALUES (gen_random_uuid(), kind, 'key 2', 'Undone', '{}');
            RAISE EXCEPTION 'undo';
        EXCEPTION WHEN OTHERS THEN NULL;
        END;
        INSERT INTO TABLE VALUES (gen_random_uuid(), kind, 'key 2', 'Second', '{"stays": true}');
        COMMIT;
        -- Gone before anybody could see it in the table, as the extension for Quarkus does it.
        one := gen_random_uuid();
        INSERT INTO TABLE VALUES (one, kind, 'key 3', 'Removed', '{"removed": true}');
        DELETE FROM TABLE WHERE id = one;
        COMMIT;
        -- What happens to rows later is no event.
        DELETE FROM TABLE WHERE type = 'Many' AND payload->>'n' = '3';
        COMMIT;
    END LOOP;
END $$;
"""
UPDATES = """
INSERT INTO TABLE VALUES (gen_random_uuid(), 'NAME-order', 'updated', 'Changed', '{"v": 1}');
UPDATE TABLE SET payload = '{"v": 2}' WHERE aggregateid = 'updated';
"""
COPIED = """
COPY TABLE FROM STDIN;
018f0000-0000-7000-8000-000000000001	NAME-order	copied	Copied	{"n": 1}
018f0000-0000-7000-8000-000000000002	NAME-order	copied	Copied	{"n": 2}
018f0000-0000-7000-8000-000000000003	NAME-order	copied	Copied	\\N
\\.
"""
LARGE = """
INSERT INTO TABLE SELECT gen_random_uuid(), 'NAME-large', 'large ' || n, 'Large',
    jsonb_build_object('text', (
        SELECT string_agg(md5(n::text || m::text), '') FROM generate_series(1, 20000) m))
    FROM generate_series(1, 3) n;
"""

DOCUMENTS = [
    '{"id": 1, "lineItems": [{"id": 1, "item": "Debezium in Action", "totalPrice": 39.98}]}',
    json.dumps({"text": LETTERS}, ensure_ascii=False), json.dumps({"text": LETTERS}),
    "[]", "{}", "1", '"text"', "true", "null", None,
    {"aggregateid": "", "payload": '{"key": "empty"}'},
    {"aggregateid": LETTERS, "payload": '{"key": "letters"}'},
    {"aggregateid": "it's \"quoted\" \\ ", "payload": '{"key": "quoted"}'},
]
TEXTS = [
    "plain", "", " ", " \t\n ", "\u00a0", None, LETTERS, "two\nlines\r\n", '{"spaces" :  1 , "b":2,"b":3}',
    "[1,", "it's \"quoted\" \\ \\x41 \\u0041", "\x01\x1f\x7f", "x" * 700_000,
]
BINARIES = [
    b"\x00\x00\x00\x00\x01avro", bytes(range(256)), b"", b" ", b"text", LETTERS.encode(), None,
    RANDOM.randbytes(700_000),
]
# What the expansion takes apart, keeps, or leaves.
EXPANDABLE = [
    DOCUMENTS[0],
    '{"b": 1, "a": null, "c": [], "d": {"e": [], "f": [1, 2], "g": null}, "h": ""}',
    '{"z": 1, "a": 2, "z": 3}',
    '{"int": 2147483647, "long": 2147483648, "least": -9223372036854775808}',
    '{"small": 0.00001, "tenth": 0.1, "one": 1.0, "large": 1e10, "huge": 1.5e300, "million": 1234567.5}',
    '{"tiny": 4.9e-324, "below": 0.00099999, "edge": 0.001, "ten": 12345678.5, "minus": -1e7, "zero": -0.0}',
    '{"list": [1, null, 2], "texts": ["a", null], "flags": [true, false]}',
    '{"objects": [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]}',
    '{"objects": [{"a": 1, "b": null}, null, {"a": 2, "b": null}]}',
    '{"lists": [[1, 2], [3]]}',
    json.dumps({"text": LETTERS, LETTERS: "name"}, ensure_ascii=False),
    json.dumps({"controls": "\x00\x01\x1f\x7f\b\f\n\r\t/\\\"", "a.b": {"c-d": 1}}).replace("\\u0000", ""),
    # Not of one kind, or of none: left as they are.
    '{"mixed": [1, "a"]}', '{"wide": [1, 2147483648]}', '{"numbers": [1, 1.5]}', '{"nothing": [null]}',
    '{"empty": [[]]}', '{"deep": {"mixed": [{}, 1]}}',
    "plain", '"text"', "12", "", " ", "{broken", "[1,", ' {"blank": "before"}', None, LETTERS,
]

PLACED = f"""
    {COLUMNS.format(payload="text")},
    version integer, big bigint, small smallint, flag boolean, name text, other uuid, raw bytea,
    document jsonb, at timestamptz, nothing text,
    local timestamp, millis timestamp(3), day date, clock time, tick time(3), half real, ratio double precision
"""
PLACED_NAMES = ["version", "big", "small", "flag", "name", "other", "raw", "document", "at", "nothing",
                "local", "millis", "day", "clock", "tick", "half", "ratio"]
PLACED_ROWS = [
    {"payload": '{"a": 1}', "version": 3, "big": 2**53 + 1, "small": -2, "flag": True, "name": LETTERS,
     "other": "018f0000-0000-7000-8000-00000000000a", "raw": b"\x00\xff raw", "document": '{"b": [1]}',
     "at": "2026-11-22 08:16:03.12+02", "local": "2026-11-22 08:16:03.12", "millis": "2026-11-22 08:16:03.5",
     "day": "2026-11-22", "clock": "08:16:03.5", "tick": "23:59:59.999", "half": 1.1, "ratio": 1e10},
    {"payload": "plain", "flag": False, "name": "it's \"quoted\" \\", "raw": b"",
     "at": "2026-11-22 08:16:03.123456+00", "local": "1969-12-31 23:59:59.999999", "millis": "1583-01-01",
     "day": "1900-03-01", "clock": "00:00", "tick": "00:00", "half": -0.00001, "ratio": 0.1},
    {"payload": None, "at": "2026-11-22 08:16:03+00", "name": ""},
    {"payload": " ", "name": "[1, 2]", "document": "null"},
]
PLACED_AS = {
    place: ",".join(["type:{0}:eventType", *("{1}:{0}:{1}".replace("{1}", name)
                                            for name in PLACED_NAMES)]).replace("{0}", place)
    for place in ("header", "envelope")
}

ROUTED = """
    event_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant text, channel text NOT NULL, "customerId" integer, aggregateid text,
    body text, at timestamp(3), shard integer
"""


def routed_rows():
    for number in range(30):
        customer = None if number % 5 == 0 else number % 4
        yield {"channel": "NAME:orders" if number % 2 else "NAME.other", "customerId": customer,
               "aggregateid": f"a{number % 3}", "body": f"body {number}",
               "at": f"2026-11-22 08:16:{number:02}.{number * 33:03}", "shard": number % 3}


ROUTED_SMT = {
    "table_field_event_id": "event_id", "table_field_event_key": "customerId",
    "table_field_event_payload": "body", "table_field_event_timestamp": "at",
    "route_by_field": "channel", "route_topic_regex": "(?<system>[a-z]+):(?<topic>[a-z]+)",
    "route_topic_replacement": "events.${system}.${topic}",
    "table_fields_additional_placement": "shard:partition,channel:header",
}
ROUTED_RELAY = {
    "id-column": "event_id", "key-column": "customerId", "payload-column": "body",
    "timestamp-column": "at", "route-by": "channel",
    "topic-pattern": "(?<system>[a-z]+):(?<topic>[a-z]+)", "topic": "events.${system}.${topic}",
    "additional": "shard:partition,channel:header",
}


class Routed(Scenario):
    """A table with names of its own."""

    def insert(self, row):
        return super().insert({**row, "channel": row["channel"].replace("NAME", self.name)})

    def usual(self):
        return {}


# The tables that Wharf makes itself; of the outbox, Debezium reads the columns that it knows.
MIGRATIONS = pathlib.Path(__file__).resolve().parents[2] / "crates/wharf-outbox/migrations/postgres"
OWN = (MIGRATIONS / "outbox.sql").read_text()
CURSOR = (MIGRATIONS / "cursor.sql").read_text()
# What gives the rows of any table an order, so that they can be polled.
ORDER = """
    transaction_id xid8 NOT NULL DEFAULT pg_current_xact_id(),
    sequence bigint GENERATED BY DEFAULT AS IDENTITY
"""


SCENARIOS = [
    # The documentation's table with its settings, and all kinds of transactions.
    # The rows that were there before are left out by both: a table made for Debezium does not say in
    # which order they were written.
    Scenario("documented", DOCUMENTS, {"snapshot.mode": "no_data"}, {}, before=DOCUMENTS,
             concurrent=[BUSY, BUSY, BUSY, UPDATES, COPIED, LARGE], context=True),
    Scenario("texts", TEXTS, {}, {}, payload="text"),
    Scenario("tombstones", TEXTS, smt(route_tombstone_on_empty_payload="true"),
             {"tombstone-on-empty": True}, payload="text"),
    Scenario("verbatim", [text for text in EXPANDABLE if text and text[0] in "{" and "broken" not in text],
             {}, {}, payload="json"),
    Scenario("avro", BINARIES, {"value.converter": BINARY}, {}, payload="bytea"),
    Scenario("bytearrays", BINARIES, {
        "value.converter": BYTES, **smt(route_tombstone_on_empty_payload="true")},
        {"tombstone-on-empty": True}, payload="bytea"),
    Scenario("expanded", EXPANDABLE, value_json(**smt(table_expand_json_payload="true")),
             {"expand-json": True}, payload="text"),
    Scenario("kept", EXPANDABLE, value_json(**smt(
        table_expand_json_payload="true", table_json_payload_null_behavior="optional_bytes",
        table_json_payload_empty_array_behavior="optional_string",
        route_tombstone_on_empty_payload="true")),
        {"expand-json": True, "null-fields": "keep", "empty-arrays": "keep",
         "tombstone-on-empty": True}, payload="text"),
    # The converter of the shipped worker, without schemas, for both.
    Scenario("jsontexts", TEXTS, value_json(**KEY_JSON), {"json-keys": True, "json-values": True},
             payload="text"),
    Scenario("jsonbytes", BINARIES, value_json(**KEY_JSON), {"json-keys": True, "json-values": True},
             payload="bytea"),
    Scenario("headers", PLACED_ROWS, smt(table_fields_additional_placement=PLACED_AS["header"]),
             {"additional": PLACED_AS["header"]}, columns=PLACED),
    Scenario("envelope", PLACED_ROWS, value_json(**smt(
        table_fields_additional_placement=PLACED_AS["envelope"])),
        {"additional": PLACED_AS["envelope"]}, columns=PLACED),
    Scenario("unwrapped", PLACED_ROWS, value_json(**smt(
        table_fields_additional_placement="type:envelope:eventType,version:header,absent:header",
        table_field_additional_missing="ignore", table_expand_json_payload="true",
        route_tombstone_on_empty_payload="true")),
        {"additional": "type:envelope:eventType,version:header,absent:header",
         "additional-missing": "ignore", "expand-json": True, "tombstone-on-empty": True},
        columns=PLACED),
    Routed("routed", list(routed_rows()), smt(**ROUTED_SMT), ROUTED_RELAY, columns=ROUTED,
           table="OutboxEvent", timestamps=True),
    Routed("numbered", list(routed_rows()), {**KEY_JSON, **smt(**{
        **ROUTED_SMT, "route_topic_regex": "(.*):(.*)", "route_topic_replacement": "$2-of-$1"})},
        {**ROUTED_RELAY, "topic-pattern": "(.*):(.*)", "topic": "$2-of-$1", "json-keys": True},
        columns=ROUTED, timestamps=True),
    Scenario("typed", [{"aggregateid": f"018f0000-0000-7000-8000-00000000000{number % 3}",
                        "payload": str(number)} for number in range(10)], {}, {}, ddl="""
        CREATE TYPE kind AS ENUM ('typed-order', 'typed-payment');
        CREATE TABLE typed.outboxevent (id uuid PRIMARY KEY, aggregatetype typed.kind NOT NULL,
            aggregateid uuid NOT NULL, type char(20), payload varchar(8000));"""),
    Scenario("partitioned", DOCUMENTS, {
        "publish.via.partition.root": "true",
        **smt(route_topic_replacement="${routedByValue}.events",
              table_fields_additional_placement="type:header:eventType")},
        {"topic": "${routedByValue}.events", "additional": "type:header:eventType"},
        columns=COLUMNS.format(payload="jsonb").replace("PRIMARY KEY", "")
        + ", created_at timestamptz NOT NULL DEFAULT clock_timestamp()",
        partition="""PARTITION BY RANGE (created_at);
            CREATE TABLE earlier PARTITION OF partitioned.outboxevent
                FOR VALUES FROM (MINVALUE) TO ('2026-01-01');
            CREATE TABLE rest PARTITION OF partitioned.outboxevent DEFAULT"""),
    # Here rows that were there before come, too.
    Scenario("own", BINARIES, {"value.converter": BINARY, "publish.via.partition.root": "true"}, {},
             ddl=OWN, table="wharf_outbox", before=BINARIES, backlog=True),
    Scenario("polled", PLACED_ROWS, smt(table_fields_additional_placement=PLACED_AS["header"]),
             {"mode": "poll", "keep": "unlimited", "additional": PLACED_AS["header"]},
             ddl=f"CREATE TABLE polled.outboxevent ({PLACED}, {ORDER}); {CURSOR}",
             before=PLACED_ROWS, backlog=True),
]
