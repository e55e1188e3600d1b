// Reads files and solves beside the page, so that no slider waits. A request { id, kind, ... } gets { id, ... }.
"use strict";

let workerMethods = [];
let workerTable = null;

const KINDS = {
  methods({ methods }) {
    workerMethods = methods;
    return {};
  },
  table({ table }) {
    workerTable = table;
    return {};
  },
  read({ bytes }) {
    const table = readOutcomes(decoded(new Uint8Array(bytes)));
    table.order = ranked(table);
    workerTable = table;
    return { table };
  },
  solve({ choice }) {
    return solveAll(workerTable, workerMethods, choice);
  },
};

const answer = (request) => {
  try {
    return { id: request.id, ...KINDS[request.kind](request) };
  } catch (error) {
    return { id: request.id, error: error.message };
  }
};

if (typeof document === "undefined") onmessage = (event) => postMessage(answer(event.data));
