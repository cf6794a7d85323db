// npm's kafkajs: what JavaScript services run on.
//
//     node compat/kafkajs/run.mjs 127.0.0.1:9092
//
// It speaks the protocol versions of Kafka 2.x and has no group-less reading.

import { equal, fresh, lacks, main, refused, test, until } from "./cases.mjs";
import {
  admin, CODECS, CompressionTypes, consuming, numbered, produce, producing, read, topicWith, values,
} from "./client.mjs";
import "./groups.mjs";
import "./administration.mjs";
import "./transactions.mjs";

lacks("cooperative", "no cooperative assignor");
lacks("static", "no group.instance.id");
lacks("consumer-protocol", "it does not speak the consumer protocol");

for (const [name, codec] of Object.entries(CODECS)) {
  test("codecs", `produces and consumes with codec ${name}`, async (address) => {
    const topic = await topicWith(address);
    const messages = numbered(500, (i) => `${name} ${i} ${"x".repeat(300)}`);
    await produce(address, topic, messages, { compression: CompressionTypes[codec] });
    equal(values(await read(address, topic, 500)), messages.map(({ value }) => value), "values");
  });
}

test("headers", "headers keep repeated keys and empty values", async (address) => {
  const topic = await topicWith(address);
  const headers = { a: ["1", "2", ""], b: "", ä: Buffer.from([0, 255]) };
  await produce(address, topic, [{ value: "x", headers }]);
  const [{ headers: found }] = await read(address, topic, 1);
  equal(found.a.map(String), ["1", "2", ""], "the repeated key");
  equal([found.b.toString(), [...found.ä]], ["", [0, 255]], "the others");
});

test("nulls", "null and empty keys and values differ", async (address) => {
  const topic = await topicWith(address);
  await produce(address, topic, [{ key: "k", value: null }, { key: null, value: "v" }, { key: "", value: "" }]);
  const found = (await read(address, topic, 3)).map(({ key, value }) => [key && String(key), value && String(value)]);
  equal(found, [["k", null], [null, "v"], ["", ""]], "keys and values");
});

test("large", "messages of several megabytes pass where the topic allows them", async (address) => {
  const topic = await topicWith(address, 1, { "max.message.bytes": 9_000_000 });
  const sent = [1, 2, 3].map((byte) => Buffer.alloc(4_000_000, byte));
  for (const value of sent) await produce(address, topic, [{ value }]);
  const found = await read(address, topic, 3);
  equal(found.map(({ value }, i) => value.equals(sent[i])), [true, true, true], "the same bytes");
});

test("large", "a message beyond the topic's limit is refused", async (address) => {
  const topic = await topicWith(address, 1, { "max.message.bytes": 20_000 });
  await produce(address, topic, [{ value: "x".repeat(19_000) }]);
  await refused("a larger one", "MESSAGE_TOO_LARGE", () =>
    produce(address, topic, [{ value: "x".repeat(21_000) }]));
  await admin(address, async (client) =>
    equal((await client.fetchTopicOffsets(topic))[0].high, "1", "the end"));
});

test("keys", "a key always goes to the same partition, in order", async (address) => {
  const topic = await topicWith(address, 4);
  const sent = Array.from({ length: 400 }, (_, i) => ({ key: `key ${i % 20}`, value: `${i}` }));
  await produce(address, topic, sent);
  const byKey = (messages) => {
    const found = {};
    for (const { key, value } of messages) (found[key] ??= []).push(String(value));
    return found;
  };
  const found = await read(address, topic, 400);
  equal(byKey(found), byKey(sent), "values by key");
  const homes = {};
  for (const { key, partition } of found) equal((homes[key] ??= partition), partition, `the partition of ${key}`);
  if (new Set(Object.values(homes)).size < 2) throw new Error("all keys went to one partition");
});

test("times", "create times are kept and found", async (address) => {
  const topic = await topicWith(address, 1, { "retention.ms": -1 });
  const times = ["1000", "2000", "3000", "1600000000123"];
  await produce(address, topic, times.map((timestamp) => ({ value: "x", timestamp })));
  equal((await read(address, topic, 4)).map(({ timestamp }) => timestamp), times, "times");
  await admin(address, async (client) => {
    // kafkajs answers with the end where there is no record so young.
    for (const [at, wanted] of [[1, "0"], [2000, "1"], [2001, "2"], [1_700_000_000_000, "4"]]) {
      const [{ offset }] = await client.fetchTopicOffsetsByTimestamp(topic, at);
      equal(offset, wanted, `the offset at ${at}`);
    }
  });
});

test("append-time", "log append time is the broker's clock", async (address) => {
  const topic = await topicWith(address, 1, { "message.timestamp.type": "LogAppendTime" });
  await produce(address, topic, [{ value: "x", timestamp: "1000" }]);
  const [{ timestamp }] = await read(address, topic, 1);
  if (Math.abs(Number(timestamp) - Date.now()) > 60_000) throw new Error(`the time is ${timestamp}`);
});

test("idempotent", "an idempotent producer leaves no gaps", async (address) => {
  const topic = await topicWith(address);
  await producing(address, { idempotent: true, maxInFlightRequests: 1 }, async (producer) => {
    for (let batch = 0; batch < 10; batch++) {
      const [said] = await producer.send({ topic, messages: numbered(300, (i) => `${batch * 300 + i}`) });
      equal(said.baseOffset, String(batch * 300), "the first offset of a batch");
    }
  });
  const found = await read(address, topic, 3000);
  equal(values(found), numbered(3000).map(({ value }) => value), "values in order");
});

await main();
