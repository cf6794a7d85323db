// What every worker in Node does for a step: a trivial effect, and the time since the step before it.
// A line on the standard input asks for what was gathered; the answer is a line of JSON.

import { createInterface } from "node:readline";

export const STEPS = ["reserve", "charge", "arrange", "invoice", "confirm"];

let effects = 0;
let undos = 0;
let gaps = [];
const last = new Map();

// The effect of a step of a saga. Answers what the step gives.
export function act(saga, step) {
  effects += 1;
  const now = performance.now();
  const before = last.get(saga);
  if (before !== undefined) gaps.push(now - before);
  if (step === STEPS.at(-1)) last.delete(saga);
  else last.set(saga, now);
  return { done: step };
}

// The effect of undoing one.
export function undo(saga, step) {
  undos += 1;
  last.delete(saga);
  return { undone: step };
}

function quantile(sorted, at) {
  return sorted.length === 0 ? null : sorted[Math.min(sorted.length - 1, Math.floor(at * sorted.length))];
}

createInterface({ input: process.stdin })
  .on("line", () => {
    gaps.sort((one, other) => one - other);
    const answer = { effects, undos, step_p50: quantile(gaps, 0.5), step_p99: quantile(gaps, 0.99) };
    effects = 0;
    undos = 0;
    gaps = [];
    process.stdout.write(`${JSON.stringify(answer)}\n`);
  })
  .on("close", () => process.exit(0));
