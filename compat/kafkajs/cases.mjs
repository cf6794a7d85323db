// Runs named cases against a broker that is already there.
//
//     node compat/kafkajs/run.mjs 127.0.0.1:9092 [words of the cases' names]
//     node compat/kafkajs/run.mjs --list
//
// One line per case, closing with `N passed, N failed`; the exit code is 1 when a case failed.
// What the client itself lacks is printed as `SKIP FEATURE: why`; `--list` names the feature of
// each case, a column of the table in compat/README.md. Cases run together, a few at a time.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { performance } from "node:perf_hooks";
import { setTimeout as pause } from "node:timers/promises";

const CASE_MILLIS = 75_000;
const TOGETHER = 6;

const cases = [];
const lacking = [];

/** Registers a case for a feature. It gets the address, and a signal that ends with its time. */
export function test(feature, name, run) {
  cases.push({ feature, name, run });
}

/** Tells that the client itself cannot do something that others can. */
export function lacks(feature, why) {
  lacking.push({ feature, why });
}

/** A name that nobody else uses. */
export function fresh(what) {
  return `compat-${what}-${randomUUID().slice(0, 13)}`;
}

/** Fails unless both are the same. */
export function equal(found, wanted, what) {
  try {
    assert.deepEqual(found, wanted);
  } catch {
    const show = (value) => JSON.stringify(value)?.slice(0, 400);
    throw new Error(`${what}: found ${show(found)}, wanted ${show(wanted)}`);
  }
}

/** Waits until `condition` answers something true and returns it. */
export async function until(what, condition, millis = 60_000) {
  const deadline = performance.now() + millis;
  for (;;) {
    const answer = await condition();
    if (answer) return answer;
    if (performance.now() > deadline) throw new Error(`not within ${millis} ms: ${what}`);
    await pause(50);
  }
}

/** Fails unless the call fails with one of Kafka's errors, found by its name. */
export async function refused(what, type, call) {
  try {
    await call();
  } catch (error) {
    const types = [error, error.cause, error.originalError, ...(error.errors ?? [])].map((one) => one?.type);
    if (types.includes(type)) return;
    throw new Error(`${what}: ${types} (${error.message}), wanted ${type}`);
  }
  throw new Error(`${what}: it was not refused`);
}

async function one(address, { name, run }) {
  const began = performance.now();
  const late = new AbortController();
  try {
    await Promise.race([
      run(address),
      pause(CASE_MILLIS, undefined, { signal: late.signal, ref: false }).then(() => {
        throw new Error(`the case took longer than ${CASE_MILLIS} ms`);
      }),
    ]);
  } catch (error) {
    console.log(`FAIL ${name}: ${error.message}`);
    console.log(error.stack?.split("\n").slice(1, 5).join("\n"));
    return false;
  } finally {
    late.abort();
  }
  console.log(`ok   ${name} (${((performance.now() - began) / 1000).toFixed(1)} s)`);
  return true;
}

/** Runs the registered cases that the command line chooses, and ends the program. */
export async function main() {
  const [address, ...words] = process.argv.slice(2);
  if (!address) {
    console.log("usage: run.mjs ADDRESS [words of the cases' names], or --list");
    process.exit(2);
  }
  for (const { feature, why } of lacking) console.log(`SKIP ${feature}: ${why}`);
  if (address === "--list") {
    for (const { feature, name } of cases) console.log(`CASE ${feature}: ${name}`);
    return;
  }
  const chosen = cases.filter(({ name }) => words.length === 0 || words.some((word) => name.includes(word)));
  const waiting = [...chosen];
  let passed = 0;
  const worker = async () => {
    for (let next = waiting.shift(); next; next = waiting.shift()) {
      if (await one(address, next)) passed += 1;
    }
  };
  await Promise.all(Array.from({ length: TOGETHER }, worker));
  console.log(`${passed} passed, ${chosen.length - passed} failed`);
  process.exit(passed > 0 && passed === chosen.length ? 0 : 1);
}
