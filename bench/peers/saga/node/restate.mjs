// A saga of five durable steps as Restate's documentation writes one: every step that may have happened is
// put on a list, and a terminal error undoes the list backwards.

import { createRequire } from "node:module";
import { STEPS, act, undo } from "./work.mjs";

// The SDK calls what Node.js has from version 22 on, and Debian's is older.
Promise.withResolvers ??= function withResolvers() {
  const parts = {};
  parts.promise = new this((resolve, reject) => Object.assign(parts, { resolve, reject }));
  return parts;
};

// Found beside this file or below NODE_PATH, which `import` does not look at.
const restate = createRequire(import.meta.url)("@restatedev/restate-sdk");

const saga = restate.service({
  name: "saga",
  handlers: {
    run: async (context, order) => {
      const done = [];
      try {
        for (const step of STEPS) {
          done.push(step);
          await context.run(step, () => act(order.id, step));
        }
        if (order.fails) throw new restate.TerminalError("declined");
        return { outcome: "completed" };
      } catch (error) {
        if (!(error instanceof restate.TerminalError)) throw error;
        for (const step of done.reverse()) {
          await context.run(`undo-${step}`, () => undo(order.id, step));
        }
        return { outcome: "undone" };
      }
    },
  },
});

const port = await restate.serve({ services: [saga], port: Number(process.argv[2]) });
process.stdout.write(`${JSON.stringify({ port })}\n`);
