// What every case needs of kafkajs: codecs, clients, producing and reading to the end.

import { createRequire } from "node:module";

import { fresh, until } from "./cases.mjs";

// Found beside this file or below NODE_PATH, which `import` does not look at.
const require = createRequire(import.meta.url);
const { CompressionCodecs, CompressionTypes, Kafka, logLevel } = require("kafkajs");
const lz4 = require("lz4js");
const xxh32 = require("lz4js/xxh32.js");
const zstd = require("@bokuweb/zstd-wasm");

await zstd.init();
const codec = (compress, decompress) => () => ({
  compress: async (encoder) => Buffer.from(compress(encoder.buffer)),
  decompress: async (buffer) => Buffer.from(decompress(buffer)),
});
// Kafka asks for independent blocks, and lz4js does not say so. What is below 4 MiB is one block, and
// that is independent. The third byte of the descriptor is its checksum.
const independent = (frame) => {
  frame[4] |= 0x20;
  frame[6] = xxh32.hash(0, frame, 4, 2) >> 8;
  return frame;
};
CompressionCodecs[CompressionTypes.Snappy] = require("kafkajs-snappy");
CompressionCodecs[CompressionTypes.LZ4] = codec((bytes) => independent(lz4.compress(bytes)), lz4.decompress);
CompressionCodecs[CompressionTypes.ZSTD] = codec((bytes) => zstd.compress(bytes, 3), zstd.decompress);

export { CompressionTypes };

export const CODECS = { none: "None", gzip: "GZIP", snappy: "Snappy", lz4: "LZ4", zstd: "ZSTD" };

export function kafka(address, clientId = "compat") {
  return new Kafka({
    brokers: [address],
    clientId,
    logLevel: logLevel.NOTHING,
    retry: { initialRetryTime: 100, maxRetryTime: 1000, retries: 8 },
  });
}

async function using(client, body) {
  await client.connect();
  try {
    return await body(client);
  } finally {
    await client.disconnect();
  }
}

export const admin = (address, body) => using(kafka(address).admin(), body);

export const producing = (address, config, body) =>
  using(kafka(address).producer({ allowAutoTopicCreation: false, ...config }), body);

/** Makes a topic with settings. */
export async function topicWith(address, numPartitions = 1, config = {}) {
  const topic = fresh("topic");
  const configEntries = Object.entries(config).map(([name, value]) => ({ name, value: String(value) }));
  await admin(address, (client) =>
    client.createTopics({ topics: [{ topic, numPartitions, replicationFactor: 1, configEntries }] }));
  return topic;
}

/** Produces with acks=all and answers what the broker said. */
export const produce = (address, topic, messages, options = {}, config = {}) =>
  producing(address, config, (producer) => producer.send({ topic, messages, acks: -1, ...options }));

/** A consumer that is quick to notice changes of its group. */
export const consumer = (address, groupId, { clientId, ...config } = {}) =>
  kafka(address, clientId).consumer({
    groupId,
    sessionTimeout: 10_000,
    rebalanceTimeout: 10_000,
    heartbeatInterval: 300,
    maxWaitTimeInMs: 200,
    maxBytesPerPartition: 10_000_000,
    allowAutoTopicCreation: false,
    ...config,
  });

/** Runs a member of a group for `body`, which gets what has arrived so far. */
export async function consuming(address, groupId, topic, options, body) {
  const { fromBeginning = true, from = {}, autoCommit = false, ...config } = options;
  const member = consumer(address, groupId, config);
  return using(member, async () => {
    const found = [];
    let crash;
    member.on("consumer.crash", ({ payload }) => (crash = payload.error));
    await member.subscribe({ topic, fromBeginning });
    await member.run({
      autoCommit,
      eachMessage: async ({ partition, message }) => {
        found.push({ partition, ...message });
      },
    });
    for (const [partition, offset] of Object.entries(from)) {
      member.seek({ topic, partition: Number(partition), offset: String(offset) });
    }
    const take = (count) =>
      until(`${count} messages`, () => {
        if (crash) throw crash;
        return found.length >= count && found.splice(0, count);
      });
    return body({ member, found, take });
  });
}

/** The first `count` messages of a topic, through a group of its own. */
export const read = (address, topic, count, options = {}) =>
  consuming(address, fresh("group"), topic, options, ({ take }) => take(count));

export const values = (messages) => messages.map(({ value }) => value?.toString());

export const numbered = (count, form = (i) => `${i}`, rest = {}) =>
  Array.from({ length: count }, (_, i) => ({ value: form(i), ...rest }));
