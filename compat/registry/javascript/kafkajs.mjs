// npm's @kafkajs/confluent-schema-registry: what services with kafkajs use.
//
//     BROKER=127.0.0.1:9092 node compat/registry/javascript/kafkajs.mjs 127.0.0.1:8081

import { equal, fresh, main, test } from "../../kafkajs/cases.mjs";
import { avro, jsonSchema, newTopic, require, through, url } from "./client.mjs";

const { SchemaRegistry, SchemaType } = require("@kafkajs/confluent-schema-registry");

const client = (address, options) => new SchemaRegistry({ host: url(address), retry: { retries: 0 } }, options);
const ORDER = avro([["id", "string"], ["total", "int"]]);
const ORDERS = Array.from({ length: 10 }, (_, i) => ({ id: `o-${i}`, total: i }));
const plain = (value) => JSON.parse(JSON.stringify(value));

async function fails(what, status, call) {
  try {
    await call();
  } catch (error) {
    equal(error.status ?? error.name, status, what);
    return;
  }
  throw new Error(`${what}: it was not refused`);
}

/** Encodes with one client, sends, takes, and decodes with another. */
async function roundTrip(address, topic, id, values, options) {
  const writer = client(address, options);
  const messages = await Promise.all(values.map(async (value) => ({ value: await writer.encode(id, value) })));
  const found = await through(topic, messages);
  const reader = client(address, options);
  return plain(await Promise.all(found.map(({ value }) => reader.decode(value))));
}

test("avro", "Avro records are encoded and decoded", async (address) => {
  const topic = await newTopic();
  const { id } = await client(address).register({ type: SchemaType.AVRO, schema: JSON.stringify(ORDER) }, { subject: `${topic}-value` });
  equal(await roundTrip(address, topic, id, ORDERS), ORDERS, "values");
  equal(await client(address).getLatestSchemaId(`${topic}-value`), id, "the latest id");
  equal(await client(address).getRegistryId(`${topic}-value`, 1), id, "the id of version 1");
});

test("avro", "a schema that is registered is found by what it says", async (address) => {
  const subject = fresh("lookup");
  const schema = { type: SchemaType.AVRO, schema: JSON.stringify(ORDER) };
  const { id } = await client(address).register(schema, { subject });
  equal((await client(address).register(schema, { subject })).id, id, "once more");
  equal(await client(address).getRegistryIdBySchema(subject, schema), id, "by its text");
});

test("compatibility", "a new subject gets the level that is asked for, and keeps to it", async (address) => {
  const subject = fresh("level");
  const register = (fields, options = {}) => client(address).register(
    { type: SchemaType.AVRO, schema: JSON.stringify(avro(fields)) }, { subject, ...options });
  await register([["id", "string"]], { compatibility: "FULL" });
  await fails("another level", "ConfluentSchemaRegistryCompatibilityError",
    () => register([["id", "string"]], { compatibility: "NONE" }));
  await fails("a field without a default", 409, () => register([["id", "string"], ["x", "int"]], { compatibility: "FULL" }));
  await register([["id", "string"], ["x", "int", 1]], { compatibility: "FULL" });
});

test("json", "JSON records are encoded and decoded", async (address) => {
  const topic = await newTopic();
  const schema = JSON.stringify(jsonSchema({ id: { type: "string" }, total: { type: "integer" } }, ["id"]));
  const { id } = await client(address).register({ type: SchemaType.JSON, schema }, { subject: `${topic}-value` });
  equal(await roundTrip(address, topic, id, ORDERS), ORDERS, "values");
  await fails("a number for the id", "ConfluentSchemaRegistryValidationError", () => client(address).encode(id, { id: 1 }));
});

test("protobuf", "Protobuf records are encoded and decoded", async (address) => {
  const topic = await newTopic();
  const schema = 'syntax = "proto3";\npackage shop;\nmessage Order {\n  string id = 1;\n  int32 total = 2;\n}\n';
  const { id } = await client(address).register({ type: SchemaType.PROTOBUF, schema }, { subject: `${topic}-value` });
  const values = ORDERS.slice(1);
  equal(await roundTrip(address, topic, id, values), values, "values");
});

test("references", "references of all kinds are fetched by subject and version", async (address) => {
  const money = fresh("money");
  const kinds = [
    [SchemaType.AVRO, JSON.stringify(avro([["cents", "int"]], "Money")),
      JSON.stringify(avro([["id", "string"], ["total", "shop.Money"]])), "shop.Money"],
    [SchemaType.JSON, JSON.stringify({ ...jsonSchema({ cents: { type: "integer" } }), $id: "https://shop.example/money" }),
      JSON.stringify(jsonSchema({ id: { type: "string" }, total: { $ref: "https://shop.example/money" } })),
      "https://shop.example/money"],
    [SchemaType.PROTOBUF, 'syntax = "proto3";\npackage shop;\nmessage Money {\n  int32 cents = 1;\n}\n',
      'syntax = "proto3";\npackage shop;\nimport "money.proto";\nmessage Order {\n  string id = 1;\n  Money total = 2;\n}\n',
      "money.proto"],
  ];
  for (const [type, part, whole, name] of kinds) {
    const subject = `${money}-${type}`;
    await client(address).register({ type, schema: part }, { subject });
    const references = [{ name, subject, version: 1 }];
    const topic = await newTopic();
    const { id } = await client(address).register({ type, schema: whole, references }, { subject: `${topic}-value` });
    const values = [{ id: "a", total: { cents: 5 } }];
    equal(await roundTrip(address, topic, id, values), values, `values of ${type}`);
  }
});

test("unknown", "what is not there is not found", async (address) => {
  await fails("the id", 404, () => client(address).getSchema(2_000_000_000));
  await fails("the subject", 404, () => client(address).getLatestSchemaId(fresh("nobody")));
});

await main();
