// The HTTP worker of Wharf's sagas: one request for each step and each undo.

import { createServer } from "node:http";
import { act, undo } from "./work.mjs";

const server = createServer((request, response) => {
  const step = request.headers["step-name"];
  const saga = request.headers["saga-id"];
  request.resume();
  request.on("end", () => {
    const result = request.headers.undo === "true" ? undo(saga, step) : act(saga, step);
    response.writeHead(200, { "content-type": "application/json" });
    response.end(JSON.stringify(result));
  });
});

// Connections stay open for as long as the load may pause.
server.keepAliveTimeout = 60_000;
server.listen(Number(process.argv[2]), "127.0.0.1", () => {
  process.stdout.write(`${JSON.stringify({ port: server.address().port })}\n`);
});
