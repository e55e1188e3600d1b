// What to know about the choice before training: sentences, each with its kind.
"use strict";

const warningsOf = () => {
  const { optima, flips, bound, asked } = view.solved;
  const { rewards, logRef } = view.table;
  const places = [...rewards.keys()];
  const good = places.filter((i) => rewards[i] >= asked.tau);
  const reached = good.filter((i) => logRef[i] > -Infinity);
  if (reached.length === 0) {
    return [
      [
        "tau",
        `τ = ${short(asked.tau)} is above every reward that the reference reaches: no answer is good. Lower τ.`,
      ],
    ];
  }
  const found = [];
  const method = methodOf(choice.method) ?? PLAIN;
  const [plain, own] = [optimumOf(PLAIN.name), optimumOf(method.name)];
  if (reached.length === 1)
    found.push(["tau", "Only one answer is good. A lower τ shows what happens to others."]);
  if (good.length === rewards.length)
    found.push(["tau", "τ is not above any reward: every answer counts as good."]);
  if (
    plain.logs !== undefined &&
    reached.length > 1 &&
    plain.goodModes < 0.5 * reached.length &&
    !plain.isMultimodal
  ) {
    found.push([
      "collapse",
      `Plain RL collapses by construction: it keeps an effective number of ${modes(plain.goodModes)} of ` +
        `${count(reached.length)} good answers, and ${quoted(plain.top)} has ${percent(plain.topShare)} of the ` +
        "probability. No optimiser can undo this.",
    ]);
  }
  for (const [whose, optimum] of new Map([
    ["Plain RL", plain],
    [method === PLAIN ? "Plain RL" : method.label, own],
  ])) {
    if (optimum?.logs === undefined) continue;
    const limit = Math.min(RARE, 0.1 / reached.length);
    const rare = reached
      .filter((i) => optimum.logs[i] < Math.log(limit))
      .sort((i, j) => optimum.logs[i] - optimum.logs[j]);
    if (rare.length === 0) continue;
    const names = listed(
      rare.slice(0, MOST_LISTED).map((i) => `“${nameOf(i)}” (${fine(Math.exp(optimum.logs[i]))})`),
    );
    const some = rare.length > MOST_LISTED ? ", such as" : ":";
    found.push([
      "rare",
      `${whose} leaves ${count(rare.length)} of ${count(reached.length)} good answers under ${Number((100 * limit).toPrecision(2))}%${some} ${names}.`,
    ]);
  }
  if (own?.logs !== undefined && own.goodMass < 0.5) {
    found.push([
      "mass",
      `Under ${method.label} good answers have ${percent(own.goodMass)} of the mass. A smaller β gives them more.`,
    ]);
  }
  if (asked.kl === "reverse") {
    const behind = flips.filter((flip) => flip.beta < asked.beta);
    if (behind.length > 0) {
      const [flip] = behind;
      const more =
        behind.length > 1
          ? ` Further pairs at β = ${listed(behind.slice(1).map(({ beta }) => short(beta)))}.`
          : "";
      found.push([
        "flip",
        `Under plain RL ${quoted(flip.likelier)} stays ahead of ${quoted(flip.better)}: they change places at β = ${short(flip.beta)}.${more}`,
      ]);
    }
    if (method.name === "mara" && !(asked.beta < bound)) {
      found.push([
        "bound",
        `β is not below MARA's bound, ${short(bound)}: an answer below τ stays as likely as the good ones. Choose a smaller β.`,
      ]);
    }
  } else if (method.name === "mara" && own?.goodLogRatio > TOLERANCE) {
    found.push([
      "forward",
      `MARA's rewards do not make the forward-KL optimum even: good answers differ by a factor of ${short(Math.exp(own.goodLogRatio))}.`,
    ]);
  }
  const lost = good.filter((i) => logRef[i] === -Infinity);
  if (lost.length > 0) {
    found.push([
      "lost",
      `The reference never gives ${listed(lost.map(quoted))}: no sample shows it, so training cannot find it.`,
    ]);
  }
  return [...found, ...groupWarnings(method, reached)];
};

const groupWarnings = (method, reached) => {
  const { logRef } = view.table;
  const found = [];
  const { group } = choice;
  if (group < method.minGroup)
    found.push(["group", `${method.label} needs at least ${method.minGroup} samples of a prompt.`]);
  else if (method.groupWarnings[group] !== undefined)
    found.push(["group", `${method.groupWarnings[group]}.`]);
  const without = Math.exp(group * Math.log1p(-Math.min(1, sum(reached.map((i) => Math.exp(logRef[i]))))));
  if (without > 0.05) {
    found.push([
      "group",
      `${percent(without)} of groups of ${group} samples of the reference contain no good answer and teach nothing.`,
    ]);
  }
  const chance = (i) => -Math.expm1(group * Math.log1p(-Math.exp(logRef[i])));
  const seldom = reached.filter((i) => chance(i) < SELDOM).sort((i, j) => logRef[i] - logRef[j]);
  if (seldom.length > 0) {
    const [rarest] = seldom;
    const others =
      seldom.length > 1
        ? ` ${count(seldom.length - 1)} more are in less than ${percent(SELDOM)} of them.`
        : "";
    found.push([
      "group",
      `Slow to learn: “${nameOf(rarest)}” is in ${percent(chance(rarest))} of groups of ${group} at first.${others}`,
    ]);
  }
  return found;
};

const showWarnings = () => {
  const found = warningsOf();
  if (found.length === 0) found.push(["none", "Nothing stands out."]);
  const text = JSON.stringify(found);
  if (text === view.warned) return; // what did not change is not read out again
  view.warned = text;
  byId("warnings").replaceChildren(
    ...found.map(([kind, sentence]) => {
      const item = element("li", { className: ["group", "none"].includes(kind) ? "calm" : "" }, sentence);
      item.dataset.kind = kind;
      return item;
    }),
  );
};

const showHeadline = () => {
  const method = methodOf(choice.method) ?? PLAIN;
  const [plain, own] = [optimumOf(PLAIN.name), optimumOf(method.name)];
  const number = view.table.rewards.filter((reward) => reward >= view.solved.asked.tau).length;
  if (plain.logs === undefined || own?.logs === undefined || number === 0) {
    byId("headline").textContent = "Where does training end?";
    return;
  }
  const share = ({ goodMass }) => (goodMass < 0.5 ? `, with ${percent(goodMass)} of all probability` : "");
  const kept = (optimum) => `${modes(optimum.goodModes)} of ${count(number)} good answers${share(optimum)}`;
  const whole = (optimum) =>
    (optimum.goodModes > number - 0.05 ? "all" : modes(optimum.goodModes)) + share(optimum);
  const first = `Plain RL keeps ${kept(plain)}.`;
  byId("headline").textContent = method === PLAIN ? first : `${first} ${method.label} keeps ${whole(own)}.`;
};
