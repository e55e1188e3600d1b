// What is chosen: by controls, in the address, and as a file.
"use strict";

const methodOf = (name) => data.methods.find((method) => method.name === name);

const readAddress = () => {
  const given = new URLSearchParams(location.hash.slice(1));
  const numbers = { beta: [1e-30, 1e30], tau: [-1e300, 1e300], group: [1, 4096] };
  for (const [key, [least, most]] of Object.entries(numbers)) {
    const value = given.has(key) && given.get(key) !== "" ? Number(given.get(key)) : NaN;
    if (value >= least && value <= most) choice[key] = key === "group" ? Math.round(value) : value;
  }
  if (["reverse", "forward"].includes(given.get("kl"))) choice.kl = given.get("kl");
  const method = methodOf(given.get("method"));
  if (method !== undefined) choice.method = method.name;
};

const writeAddress = () => {
  const { beta, tau, kl, method, group } = choice;
  const hash = `#${new URLSearchParams({ beta, tau, kl, method, group })}`;
  if (hash !== location.hash) history.replaceState(null, "", hash);
};

const showChoice = () => {
  byId("beta").value = Math.log10(choice.beta);
  byId("beta").setAttribute("aria-valuetext", short(choice.beta));
  byId("tau").value = choice.tau;
  for (const [id, value] of [
    ["beta-number", choice.beta],
    ["tau-number", choice.tau],
    ["group", choice.group],
  ]) {
    if (document.activeElement !== byId(id)) byId(id).value = value;
  }
  for (const radio of document.querySelectorAll("[name=kl]")) radio.checked = radio.value === choice.kl;
};

const choose = (changes) => {
  Object.assign(choice, changes);
  showChoice();
  writeAddress();
  solve();
};

// The range of τ: a little beyond all rewards, in steps of two digits. Where none is given, a few are good.
const fitTau = () => {
  const { rewards, logRef, order } = view.table;
  const [least, most] = [-largest(rewards.map((reward) => -reward)), largest(rewards)];
  const step = 10 ** (Math.floor(Math.log10(most - least || Math.abs(most) || 1)) - 2);
  const range = byId("tau");
  range.min = Number((Math.floor(least / step) * step).toPrecision(12));
  range.max = Number((Math.ceil((most + 0.05 * (most - least || 1)) / step) * step).toPrecision(12));
  range.step = step;
  const reached = order.filter((i) => logRef[i] > -Infinity);
  const few = Math.min(
    Math.max(FEWEST_GOOD, Math.ceil(GOOD_SHARE * reached.length)),
    Math.ceil(reached.length / 2),
  );
  if (choice.tau === null) choice.tau = rewards[reached[few - 1]];
  const placeOf = (reward) => Math.round((400 * (reward - range.min)) / (range.max - range.min)) / 400;
  view.ticks = [...new Set(Array.from(rewards, placeOf))];
};

// --- Files ---

const fail = (message) => {
  byId("error").textContent = message;
  byId("error").hidden = message === "";
};

const useTable = (table, file, isRescaled) => {
  Object.assign(view, { table, file, isRescaled, first: 0 });
  byId("file").textContent = file;
  const rescaled = isRescaled ? "; probabilities rescaled to sum to 1" : "";
  byId("size").textContent = `${count(table.names.length)} outcomes${rescaled}`;
  fitTau();
};

const openFile = async (file) => {
  fail("");
  let reply;
  try {
    if (file.size > LARGEST_FILE) throw new Error("expected a file of at most 64 MB");
    reply = await solver({ kind: "read", bytes: await file.arrayBuffer() });
  } catch (error) {
    reply = { error: error.message };
  }
  byId("input").value = "";
  if (reply.error !== undefined) {
    fail(`${file.name}: ${reply.error}. The outcomes from before are still shown.`);
    return;
  }
  choice.tau = null;
  useTable(reply.table, file.name, !isWhole(reply.table.total));
  choose({});
};
