// Cases of transactions.

import { equal, fresh, refused, test, until } from "./cases.mjs";
import { admin, consuming, numbered, produce, producing, read, topicWith, values } from "./client.mjs";
import { committed } from "./groups.mjs";

const exactlyOnce = (transactionalId) => ({ transactionalId, idempotent: true, maxInFlightRequests: 1 });

/** Sends in a transaction of `producer` and ends it. */
async function inTransaction(producer, end, ...records) {
  const transaction = await producer.transaction();
  for (const record of records) await transaction.send(record);
  await transaction[end]();
}

test("transactions", "what is committed is seen and what is aborted is not", async (address) => {
  const topics = [await topicWith(address), await topicWith(address)];
  await producing(address, exactlyOnce(fresh("txn")), async (producer) => {
    for (const round of [0, 1, 2, 3]) {
      const records = topics.map((topic) => ({ topic, messages: [{ value: `round ${round}` }] }));
      await inTransaction(producer, round % 2 ? "commit" : "abort", ...records);
    }
  });
  for (const topic of topics) {
    equal(values(await read(address, topic, 2)), ["round 1", "round 3"], "read committed");
    const all = await read(address, topic, 4, { readUncommitted: true });
    equal(values(all), numbered(4, (i) => `round ${i}`).map(({ value }) => value), "read uncommitted");
  }
});

test("transactions", "an open transaction holds back those who read committed only", async (address) => {
  const topic = await topicWith(address);
  await produce(address, topic, numbered(3, (i) => `before ${i}`));
  await producing(address, exactlyOnce(fresh("txn")), async (producer) => {
    const transaction = await producer.transaction();
    await transaction.send({ topic, messages: numbered(3, (i) => `inside ${i}`) });
    await produce(address, topic, numbered(3, (i) => `behind ${i}`));
    equal((await read(address, topic, 9, { readUncommitted: true })).length, 9, "read uncommitted");
    await consuming(address, fresh("group"), topic, {}, async ({ found, take }) => {
      await take(3);
      // Another reader has seen the rest meanwhile, so this one could have.
      await read(address, topic, 9, { readUncommitted: true });
      equal(values(found), [], "more before the end of the transaction");
      await transaction.commit();
      equal(values(await take(6)).at(-1), "behind 2", "the last");
    });
  });
});

test("pipeline", "records are consumed, changed and produced once, with their offsets", async (address) => {
  const [from, to, group, count] = [await topicWith(address), await topicWith(address), fresh("group"), 100];
  await produce(address, from, numbered(count, (i) => `order ${i}`));
  await producing(address, exactlyOnce(fresh("txn")), async (producer) => {
    const move = async (take, size, end) => {
      const batch = await take(size);
      const transaction = await producer.transaction();
      await transaction.send({ topic: to, messages: batch.map(({ value }) => ({ value: `${value}`.toUpperCase() })) });
      const partitions = [{ partition: 0, offset: String(Number(batch.at(-1).offset) + 1) }];
      await transaction.sendOffsets({ consumerGroupId: group, topics: [{ topic: from, partitions }] });
      await transaction[end]();
    };
    await consuming(address, group, from, {}, async ({ take }) => {
      await move(take, 40, "commit");
      await move(take, 40, "abort");
    });
    // What was aborted comes again.
    await consuming(address, group, from, {}, ({ take }) => move(take, 60, "commit"));
  });
  // The end is told before it has reached the group's partition.
  await admin(address, (client) => until("the commit", async () =>
    (await committed(client, group, from))[0].offset === `${count}`));
  const wanted = numbered(count, (i) => `ORDER ${i}`).map(({ value }) => value);
  equal(values(await read(address, to, count)), wanted, "values");
});

test("fencing", "a second producer with the same id fences the first", async (address) => {
  const [topic, id] = [await topicWith(address), fresh("txn")];
  await producing(address, exactlyOnce(id), async (first) => {
    const late = await first.transaction();
    await late.send({ topic, messages: [{ value: "fenced" }] });
    await producing(address, exactlyOnce(id), (second) =>
      inTransaction(second, "commit", { topic, messages: [{ value: "kept" }] }));
    await refused("the fenced producer", "INVALID_PRODUCER_EPOCH", () =>
      late.send({ topic, messages: [{ value: "too late" }] }));
  });
  equal(values(await read(address, topic, 1)), ["kept"], "read committed");
});
