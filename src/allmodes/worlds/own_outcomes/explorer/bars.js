// One bar a method, and the marks below the sliders.
"use strict";

const styleOf = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

const isLight = (color) => {
  const [red, green, blue] = [1, 3, 5].map((at) => parseInt(color.slice(at, at + 2), 16));
  return 0.299 * red + 0.587 * green + 0.114 * blue > 150;
};

const prepared = (canvas) => {
  const [width, height, ratio] = [canvas.clientWidth, canvas.clientHeight, window.devicePixelRatio];
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  const pen = canvas.getContext("2d");
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  return { pen, width, height };
};

const drawBar = (canvas, ends, color) => {
  const { pen, width, height } = prepared(canvas);
  const { order, rewards, names } = view.table;
  const { tau } = view.solved.asked;
  const other = styleOf("--other");
  const otherInk = styleOf("--ink");
  pen.font = `12px ${styleOf("--sans")}`;
  pen.textBaseline = "middle";
  let start = 0;
  for (let place = 0; place < order.length; place++) {
    const isGood = rewards[order[place]] >= tau;
    const isLast = place + 1 === order.length;
    const end = ends[place] * width;
    // What is narrower than a pixel is drawn together with what follows of its kind.
    if (end - start < 1 && !isLast && rewards[order[place + 1]] >= tau === isGood) continue;
    const gap = end - start > 4 && !isLast ? 1.5 : 0;
    pen.fillStyle = isGood ? color : other;
    pen.fillRect(start, 0, end - start - gap, height);
    const space = end - start - 14;
    if (space > 26) {
      pen.fillStyle = isGood ? (isLight(color) ? "#000" : "#fff") : otherInk;
      pen.fillText(fitted(pen, names[order[place]], space), start + 7, height / 2 + 0.5);
    }
    start = end;
  }
};

const fitted = (pen, name, space) => {
  const line = name.slice(0, 200).replace(/\s+/g, " ").trim();
  if (pen.measureText(line).width <= space) return line;
  let length = Math.min(line.length, Math.ceil(space / 5));
  while (length > 0 && pen.measureText(`${line.slice(0, length)}…`).width > space) length--;
  return length > 1 ? `${line.slice(0, length)}…` : "";
};

const spoken = ({ logs }) => {
  const most = []; // the likeliest five; a sort of all would be slow for many outcomes
  for (const i of view.table.order) {
    if (most.length === 5 && !(logs[i] > logs[most[4]])) continue;
    const place = most.findIndex((j) => logs[i] > logs[j]);
    most.splice(place === -1 ? most.length : place, 0, i);
    most.length = Math.min(most.length, 5);
  }
  return most.map((i) => `${nameOf(i)} ${percent(Math.exp(logs[i]))}`).join(", ");
};

const rows = new Map(); // by the name of a method, and "reference"

const makeRow = (name, label, law) => {
  const canvas = element("canvas", { className: "bar" });
  canvas.setAttribute("role", "img");
  const [kept, mass] = [element("span", { className: "number" }), element("span", { className: "number" })];
  const title = element("span", { className: "name", title: law }, label);
  const isMethod = name !== "reference";
  const row = element(isMethod ? "label" : "div", { className: isMethod ? "method" : "method fixed" }, title);
  const radio = element("input", { type: "radio", name: "method", value: name });
  if (isMethod) title.prepend(radio);
  row.append(kept, mass, canvas);
  radio.addEventListener("change", () => choose({ method: name }));
  canvas.addEventListener("pointermove", (event) => showTip(event, name));
  canvas.addEventListener("pointerleave", () => (byId("tip").hidden = true));
  rows.set(name, { row, radio, kept, mass, canvas });
  byId("methods").append(row);
};

const showTip = (event, name) => {
  const optimum = optimumOf(name);
  const share = event.offsetX / event.target.clientWidth;
  const i = view.table.order[optimum.ends.findIndex((end) => end > share)];
  if (i === undefined) return; // beyond the last segment, by rounding
  const tip = byId("tip");
  tip.textContent = [
    nameOf(i),
    `reward ${short(view.table.rewards[i])}`,
    `reference ${fine(Math.exp(view.table.logRef[i]))}`,
    ...(name === "reference" ? [] : [`${methodOf(name).label} ${fine(Math.exp(optimum.logs[i]))}`]),
  ].join("\n");
  tip.hidden = false;
  const left = Math.min(event.clientX + 14, window.innerWidth - tip.offsetWidth - 8);
  tip.style.left = `${left}px`;
  tip.style.top = `${event.clientY + 18 + tip.offsetHeight > window.innerHeight ? event.clientY - tip.offsetHeight - 12 : event.clientY + 18}px`;
};

const optimumOf = (name) =>
  name === "reference" ? view.solved.reference : view.solved.optima.find((optimum) => optimum.name === name);

const showBars = () => {
  const { reference, optima, asked } = view.solved;
  const numGood = view.table.rewards.filter((reward) => reward >= asked.tau).length;
  const shown = new Map([reference, ...optima].map((optimum) => [optimum.name, optimum]));
  for (const [name, { row, radio, kept, mass, canvas }] of rows) {
    const optimum = shown.get(name);
    row.hidden = optimum?.logs === undefined;
    radio.checked = name === choice.method;
    if (row.hidden) continue;
    kept.textContent = `${modes(optimum.goodModes)} of ${count(numGood)}`;
    mass.textContent = percent(optimum.goodMass);
    const color = name === "reference" ? styleOf("--reference") : methodOf(name).color;
    drawBar(canvas, optimum.ends, color);
    canvas.setAttribute("aria-label", `likeliest: ${spoken(optimum)}`);
  }
  const missing = optima.filter((optimum) => optimum.logs === undefined);
  const labelsOf = (why) =>
    missing.filter(({ reason }) => reason === why).map(({ name }) => methodOf(name).label);
  const reasons = new Set(missing.map(({ reason }) => reason));
  byId("missing").textContent = [...reasons].map((why) => `${labelsOf(why).join(", ")}: ${why}.`).join(" ");
};

const showTicks = () => {
  const { flips, bound, asked } = view.solved;
  const place = (beta) => (Math.log10(beta) - Math.log10(BETAS[0])) / Math.log10(BETAS[1] / BETAS[0]);
  const marks = asked.kl === "reverse" ? flips.map((flip) => [place(flip.beta), styleOf("--soft"), 5]) : [];
  const mara = data.methods.find((method) => method.name === "mara");
  if (asked.kl === "reverse" && Number.isFinite(bound)) marks.push([place(bound), mara.color, 11]);
  drawTicks(byId("beta-ticks"), marks);
  byId("beta-note").hidden = !marks.some(([share]) => share >= 0 && share <= 1);
  const label =
    marks.length > 0 ? `β at which answers change places: ${listed(flips.map((f) => short(f.beta)))}` : "";
  byId("beta-ticks").setAttribute("aria-label", label);
  const { min, max } = byId("tau");
  const limit = (asked.tau - min) / (max - min) - 1e-3;
  const colors = [styleOf("--other"), styleOf("--ink")];
  drawTicks(
    byId("tau-ticks"),
    view.ticks.map((at) => [at, colors[at >= limit ? 1 : 0], 8]),
  );
  byId("tau-ticks").setAttribute("aria-label", "the rewards of all outcomes");
};

const drawTicks = (canvas, marks) => {
  const { pen, width } = prepared(canvas);
  for (const [share, color, length] of marks) {
    if (share < 0 || share > 1) continue;
    pen.fillStyle = color;
    pen.fillRect(8 + share * (width - 16) - 1, 0, 2, length); // a thumb is 16 pixels wide
  }
};
