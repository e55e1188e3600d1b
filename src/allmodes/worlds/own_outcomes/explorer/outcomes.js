// Outcomes as a file has them, and what is said of an optimum: the rules of allmodes target.
"use strict";

const MOST_OUTCOMES = 100_000;
const SUM_TOLERANCE = 1e-6; // what rounding to a few digits leaves of a sum of 1
const EVEN = 1e-9; // nats by which rounding may part what is equally likely
const TOLERANCE = 0.1; // nats by which good outcomes may differ and count as equal
const CANDIDATES = 5; // outcomes of each kind whose flips are looked for: at most 45 pairs

const PROBABILITY = ["probability", "ref_prob", "ref_probability"];
const LOGPROB = ["logprob", "ref_logprob"];
const KNOWN = ["reward", "outcome", ...PROBABILITY, ...LOGPROB];

// A value on one line, short.
const shown = (value) => {
  const text = JSON.stringify(value);
  return text.length <= 60 ? text : `${text.slice(0, 57)}…`;
};

// The text of a file's bytes: UTF-8, UTF-16 with a mark, else Latin-1.
const decoded = (bytes) => {
  const [first, second] = bytes;
  if (first === 0xff && second === 0xfe) return new TextDecoder("utf-16le").decode(bytes);
  if (first === 0xfe && second === 0xff) return new TextDecoder("utf-16be").decode(bytes);
  if (bytes.subarray(0, 4096).includes(0)) throw new Error("expected a text file (CSV); got a binary one");
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    return new TextDecoder("windows-1252").decode(bytes);
  }
};

// The rows of a CSV text, each { line, fields }, without empty ones. Quotes must close, as in RFC 4180.
function* csvRows(text, delimiter) {
  let [line, start, at] = [1, 1, 0];
  let [fields, field] = [[], ""];
  const { length } = text;
  while (at < length) {
    if (text[at] === '"' && field === "") {
      for (at++; ; at++) {
        const end = text.indexOf('"', at);
        if (end === -1) throw new Error(`line ${start}: a quoted field is never closed`);
        field += text.slice(at, end);
        at = end + 1;
        if (text[at] !== '"') break;
        field += '"';
      }
      line += field.split("\n").length - 1;
      if (at < length && text[at] !== delimiter && text[at] !== "\n") {
        throw new Error(
          `line ${start}: expected ${shown(delimiter)} or the end of the line behind a closing quote`,
        );
      }
    } else {
      let end = at;
      while (end < length && text[end] !== delimiter && text[end] !== "\n") end++;
      field = text.slice(at, end);
      at = end;
    }
    fields.push(field);
    field = "";
    if (text[at] === delimiter) {
      at++;
      if (at < length) continue;
      fields.push(""); // a delimiter at the very end
    }
    if (fields.length > 1 || fields[0].trim() !== "") yield { line: start, fields };
    fields = [];
    at++; // beyond the end of the line
    line++;
    start = line;
  }
}

const NUMBER = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i;
const INFINITE = /^([+-]?)inf(inity)?$/i;

const numberOf = (text, place, expected, mayBeInfinite) => {
  const trimmed = text.trim();
  const infinite = INFINITE.exec(trimmed);
  const value = NUMBER.test(trimmed) ? Number(trimmed) : infinite ? Number(`${infinite[1]}Infinity`) : NaN;
  if (Number.isNaN(value) || (!Number.isFinite(value) && !mayBeInfinite)) {
    throw new Error(`${place}: expected ${expected}; got ${shown(text)}`);
  }
  return value;
};

const checkedHeader = ({ line, fields }) => {
  const header = fields.map((name) => name.trim());
  const got = shown(header.join(", "));
  for (const name of KNOWN) {
    if (header.filter((other) => other === name).length > 1) {
      throw new Error(`line ${line}: expected one column ${name}; got several`);
    }
  }
  if (!header.includes("reward")) throw new Error(`line ${line}: expected a column reward; got ${got}`);
  const references = header.filter((name) => PROBABILITY.includes(name) || LOGPROB.includes(name));
  if (references.length !== 1) {
    throw new Error(`line ${line}: expected exactly one column of probability or logprob; got ${got}`);
  }
  return { header, reference: references[0] };
};

// The outcomes of a CSV text: { names, rewards, logRef, total }; total is the sum of the file's probabilities.
const readOutcomes = (raw) => {
  const text = raw.replace(/^\uFEFF/, "").replace(/\r\n?/g, "\n");
  const firstLine = text.replace(/^\n+/, "").split("\n", 1)[0];
  const delimiter = [",", ";", "\t"].find((mark) => firstLine.includes(mark)) ?? ",";
  const rows = csvRows(text, delimiter);
  const first = rows.next();
  if (first.done) throw new Error("expected a header and at least one outcome; got an empty file");
  const { header, reference } = checkedHeader(first.value);
  const [rewardAt, referenceAt, nameAt] = ["reward", reference, "outcome"].map((name) =>
    header.indexOf(name),
  );
  const [names, rewards, logs] = [[], [], []];
  const seen = new Map();
  for (const { line, fields } of rows) {
    if (rewards.length === MOST_OUTCOMES) {
      throw new Error(
        `expected at most ${MOST_OUTCOMES.toLocaleString("en")} outcomes; got more. allmodes target takes any number`,
      );
    }
    if (fields.length !== header.length) {
      throw new Error(`line ${line}: expected ${header.length} fields; got ${fields.length}`);
    }
    rewards.push(numberOf(fields[rewardAt], `line ${line}, column reward`, "a finite number", false));
    const place = `line ${line}, column ${reference}`;
    if (LOGPROB.includes(reference)) {
      const expected = "a log-probability of at most 0, or -inf";
      const value = numberOf(fields[referenceAt], place, expected, true);
      if (value > 1e-9) throw new Error(`${place}: expected ${expected}; got ${shown(fields[referenceAt])}`);
      logs.push(value);
    } else {
      const expected = "a finite number, 0 or above";
      const value = numberOf(fields[referenceAt], place, expected, false);
      if (value < 0) throw new Error(`${place}: expected ${expected}; got ${shown(fields[referenceAt])}`);
      logs.push(Math.log(value));
    }
    const name = nameAt === -1 ? String(rewards.length) : fields[nameAt];
    if (seen.has(name)) {
      throw new Error(`line ${line}, column outcome: ${shown(name)} is on line ${seen.get(name)} already`);
    }
    seen.set(name, line);
    names.push(name);
  }
  if (rewards.length === 0) throw new Error("expected at least one outcome; got none");
  const logTotal = logSumExp(logs);
  if (logTotal === -Infinity)
    throw new Error("expected at least one outcome with probability above 0; got none");
  return {
    names,
    rewards: Float64Array.from(rewards),
    logRef: normalised(Float64Array.from(logs)),
    total: Math.exp(logTotal),
  };
};

// Whether a sum of probabilities is 1 but for rounding: else allmodes target needs --normalise.
const isWhole = (total) => Math.abs(total - 1) <= SUM_TOLERANCE;

// Indices from the highest reward down; ties go to the reference's likelier one.
const ranked = ({ rewards, logRef }) =>
  Uint32Array.from(rewards.keys()).sort((i, j) => rewards[j] - rewards[i] || logRef[j] - logRef[i] || i - j);

// What a report says of a distribution over outcomes. goodModes: exp of the entropy among good outcomes.
const described = (logs, { logRef, rewards, good, order }) => {
  let [top, second] = [largest(logs), 0];
  const goodLogs = logs.filter((_, i) => good[i]);
  const logGood = logSumExp(goodLogs);
  for (const log of goodLogs) {
    if (log > -Infinity) second -= Math.exp(log - logGood) * (log - logGood);
  }
  let [high, low, mostBad] = [-Infinity, Infinity, -Infinity];
  rewards.forEach((_, i) => {
    if (logRef[i] === -Infinity) return;
    if (good[i]) [high, low] = [Math.max(high, logs[i]), Math.min(low, logs[i])];
    else mostBad = Math.max(mostBad, logs[i]);
  });
  const isLevel = high === low || high - low <= TOLERANCE;
  top = logs.findIndex((log) => log > top - EVEN);
  return {
    goodModes: logGood > -Infinity ? Math.exp(second) : 0,
    goodMass: Math.min(1, Math.exp(logGood)),
    top,
    topShare: Math.exp(logs[top]),
    goodLogRatio: high > low ? high - low : 0,
    isMultimodal: high > -Infinity && low > mostBad && isLevel,
    ends: segmentEnds(logs, order),
  };
};

// Where each segment of a bar ends, from 0 to 1, in the order of the ranks: good outcomes come first.
const segmentEnds = (logs, order) => {
  const ends = new Float64Array(logs.length);
  let end = 0;
  order.forEach((i, place) => (ends[place] = end += Math.exp(logs[i])));
  return ends;
};

// β* = (R₂ − R₁)/(log q₁ − log q₂): below it the better of two outcomes leads under plain reverse KL (Remark 4.4).
const flipBetas = ({ logRef, rewards, good, order }) => {
  const reachable = order.filter((i) => logRef[i] > -Infinity);
  const likeliest = reachable.filter((i) => good[i]).sort((i, j) => logRef[j] - logRef[i]);
  const few = [...new Set([...reachable.slice(0, CANDIDATES), ...likeliest.slice(0, CANDIDATES)])];
  const flips = [];
  few.forEach((i, place) => {
    for (const j of few.slice(place + 1)) {
      const [better, likelier] = rewards[i] > rewards[j] ? [i, j] : [j, i];
      const gap = logRef[better] - logRef[likelier];
      const beta = gap === 0 ? Infinity : (rewards[likelier] - rewards[better]) / gap;
      if (beta > 0 && beta < Infinity) flips.push({ better, likelier, beta });
    }
  });
  return flips.sort((one, other) => other.beta - one.beta);
};

// The β below which MARA's optimum is flat over good outcomes and higher there than elsewhere (Remark B.3):
//   β < min (R(z) − R(y)) / (log q(y) − log q(z))  over y below τ that are likelier than the anchor z
const maraBetaBound = (problem) => {
  const { logRef, rewards, good } = problem;
  const anchor = anchorOf(problem);
  if (anchor.log === -Infinity) return NaN;
  let bound = Infinity;
  rewards.forEach((reward, i) => {
    const gap = logRef[i] - anchor.log;
    if (!good[i] && gap > 0) bound = Math.min(bound, (anchor.reward - reward) / gap);
  });
  return bound;
};

// All that a page shows for one choice. methods: those of allmodes.methods.METHODS, as page.py writes them.
const solveAll = (table, methods, { beta, tau, kl }) => {
  const { logRef, rewards } = table;
  const good = Array.from(rewards, (reward) => reward >= tau);
  const problem = { logRef, rewards, good, beta, kl, tau, order: table.order };
  const isReached = good.some((isGood, i) => isGood && logRef[i] > -Infinity);
  const optima = methods
    .filter((method) => kl === "forward" || !method.forwardOnly)
    .map((method) => {
      try {
        if (method.takesThreshold && !isReached)
          throw new Error("no outcome within reach has a reward of τ or more");
        const solve = method.forwardOnly ? correctedMara : OPTIMA[method.name];
        if (solve === undefined) throw new Error("this page does not know the method; allmodes target does");
        const logs = solve({ ...problem, settings: method.settings });
        if (logs === null) return { name: method.name, reason: "no closed form of its optimum is known" };
        return { name: method.name, logs, ...described(logs, problem) };
      } catch (error) {
        return { name: method.name, reason: error.message };
      }
    });
  return {
    reference: { name: "reference", logs: logRef, ...described(logRef, problem) },
    optima,
    flips: flipBetas(problem),
    bound: maraBetaBound(problem),
  };
};
