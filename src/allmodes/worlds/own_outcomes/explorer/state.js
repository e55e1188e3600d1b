// What the page knows: outcomes, choice and optima; how it says numbers and names; who solves.
"use strict";

const byId = (id) => document.getElementById(id);
const data = JSON.parse(byId("data").textContent);
const LARGEST_FILE = 2 ** 26; // bytes
const PER_PAGE = 20;
const MOST_LISTED = 3;
const RARE = 0.01; // a good answer below this share is as good as lost; of many, one below a tenth of an even share
const SELDOM = 0.1; // and below this share of the groups it is hardly ever seen
const PLAIN = data.methods[0];
const [FEWEST_GOOD, GOOD_SHARE] = [4, 0.05]; // of the outcomes within reach, until τ is chosen
const BETAS = [1e-4, 10]; // of the slider

const view = { table: null, file: data.file, isRescaled: data.isRescaled, ticks: [], solved: null, first: 0 };
const choice = { beta: data.choice.beta, tau: data.choice.tau, kl: data.choice.kl, method: "", group: 16 };

// --- Words and numbers ---

const short = (value) => String(Number(value.toPrecision(4)));
const count = (value) => value.toLocaleString("en");

const modes = (value) => (value < 99.5 ? value.toFixed(1) : count(Math.round(value)));

const percent = (share) => {
  if (share > 0 && share < 0.0005) return "<0.1%";
  return share >= 0.9995 && share < 1 - 1e-12 ? ">99.9%" : `${(100 * share).toFixed(1)}%`;
};

// As `percent`, but what is small keeps its digits.
const fine = (share) =>
  share > 0 && share < 0.001 ? `${Number((100 * share).toPrecision(2))}%` : percent(share);

const nameOf = (i) => {
  const name = view.table.names[i].replace(/\s+/g, " ").trim() || "(empty)";
  return name.length > 60 ? `${name.slice(0, 42)}…${name.slice(-16)}` : name;
};

const quoted = (i) => `“${nameOf(i)}” (reward ${short(view.table.rewards[i])})`;
const listed = (words) => {
  const more = words.length - MOST_LISTED;
  return words.slice(0, MOST_LISTED).join(", ") + (more > 0 ? ` and ${count(more)} more` : "");
};

const element = (tag, properties = {}, ...children) => {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
};

// --- The solver: a worker, or this thread where a browser allows none ---

const solver = (() => {
  const source = byId("engine").textContent;
  const waiting = new Map();
  let [worker, last] = [null, 0];
  const settle = (reply) => {
    waiting.get(reply.id)?.(reply);
    waiting.delete(reply.id);
  };
  try {
    worker = new Worker(URL.createObjectURL(new Blob([source], { type: "text/javascript" })));
    worker.onmessage = (event) => settle(event.data);
    worker.onerror = () => {
      worker = null; // from now on here, beginning with what is still waiting
      [workerMethods, workerTable] = [data.methods, view.table];
      for (const { request } of [...waiting.values()]) settle(answer(request));
    };
  } catch {
    worker = null;
  }
  return (request) =>
    new Promise((resolve) => {
      const numbered = { ...request, id: ++last };
      const settled = Object.assign((reply) => resolve(reply), { request: numbered });
      waiting.set(numbered.id, settled);
      if (worker === null) setTimeout(() => settle(answer(numbered)));
      else worker.postMessage(numbered);
    });
})();

// The newest choice is solved next; those in between are skipped, so that a slider never waits for old ones.
let [isSolving, isStale] = [false, false];
const solve = async () => {
  isStale = true;
  if (isSolving) return;
  isSolving = true;
  while (isStale) {
    isStale = false;
    const asked = { ...choice };
    const [table, solved] = [view.table, await solver({ kind: "solve", choice: asked })];
    if (table === view.table && solved.error === undefined) {
      view.solved = { ...solved, asked };
      requestAnimationFrame(show);
    }
  }
  isSolving = false;
};
