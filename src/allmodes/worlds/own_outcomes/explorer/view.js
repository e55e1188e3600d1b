// The page. All text is set as text, never as HTML.
"use strict";

const showOutcomes = () => {
  const { table, solved } = view;
  const number = table.names.length;
  const method = methodOf(choice.method) ?? PLAIN;
  const columns = [["reference", solved.reference.logs, styleOf("--reference")]];
  for (const one of new Set([PLAIN, method])) {
    const logs = optimumOf(one.name)?.logs;
    if (logs !== undefined) columns.push([one.label, logs, one.color]);
  }
  view.first = Math.min(view.first, Math.floor((number - 1) / PER_PAGE) * PER_PAGE);
  const places = table.order.slice(view.first, view.first + PER_PAGE);
  const most = Math.exp(largest(columns.flatMap(([, logs]) => Array.from(places, (i) => logs[i]))));
  const head = ["outcome", "reward", ...columns.map(([label]) => label)];
  byId("outcomes").tHead.replaceChildren(
    element("tr", {}, ...head.map((label) => element("th", { scope: "col" }, label))),
  );
  byId("outcomes").tBodies[0].replaceChildren(
    ...Array.from(places, (i) => {
      const isGood = table.rewards[i] >= solved.asked.tau;
      const cells = columns.map(([, logs, color]) => {
        const bar = element("i");
        bar.style.width = `${most > 0 ? (100 * Math.exp(logs[i])) / most : 0}%`;
        bar.style.background = isGood ? color : styleOf("--other");
        return element("td", { className: "share" }, fine(Math.exp(logs[i])), bar);
      });
      const name = element("th", { scope: "row" }, nameOf(i));
      return element(
        "tr",
        { className: isGood ? "good" : "" },
        name,
        element("td", {}, short(table.rewards[i])),
        ...cells,
      );
    }),
  );
  const last = Math.min(view.first + PER_PAGE, number);
  byId("page").textContent = `${count(view.first + 1)} to ${count(last)} of ${count(number)}, best first`;
  byId("previous").disabled = view.first === 0;
  byId("next").disabled = last === number;
};

// --- Commands ---

const shellWord = (text) => (/^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'"'"'`)}'`);

const showCommands = () => {
  const method = methodOf(choice.method) ?? PLAIN;
  const named = [...new Set([PLAIN.name, method.forwardOnly ? "mara" : method.name])].join(" ");
  const flags = view.isRescaled ? " --normalise" : "";
  byId("command").textContent =
    `allmodes target ${shellWord(view.file)} --beta ${choice.beta} --kl ${choice.kl} ` +
    `--threshold ${choice.tau} --method ${named}${flags}`;
  for (const trainer of ["trl", "verl"]) {
    byId(trainer).textContent = method[trainer][choice.kl].replace(
      /\{(beta|tau|group)\}/g,
      (_, key) => choice[key],
    );
  }
};

const copy = async (button) => {
  const source = byId(button.dataset.copies);
  try {
    await navigator.clipboard.writeText(source.textContent);
  } catch {
    getSelection().selectAllChildren(source); // then at least Ctrl-C copies it
    if (!document.execCommand("copy")) return;
  }
  button.textContent = "Copied";
  setTimeout(() => (button.textContent = "Copy"), 1500);
};

// --- All of it ---

const show = () => {
  if (view.solved === null || view.solved.reference.logs.length !== view.table.names.length) return;
  showBars();
  showTicks();
  showWarnings();
  showHeadline();
  showOutcomes();
  showCommands();
  document.body.dataset.shown = JSON.stringify(view.solved.asked); // for tests: what the page shows now
};

const listen = () => {
  const number = (id) => (byId(id).value === "" ? NaN : Number(byId(id).value));
  const onNumber = (id, isAllowed, change) =>
    byId(id).addEventListener("input", () => isAllowed(number(id)) && choose(change(number(id))));
  byId("beta").addEventListener("input", () =>
    choose({ beta: Number((10 ** number("beta")).toPrecision(3)) }),
  );
  byId("tau").addEventListener("input", () => choose({ tau: number("tau") }));
  onNumber(
    "beta-number",
    (value) => value >= 1e-30 && value <= 1e30,
    (beta) => ({ beta }),
  );
  onNumber("tau-number", Number.isFinite, (tau) => ({ tau }));
  onNumber(
    "group",
    (value) => value >= 1 && value <= 4096,
    (group) => ({ group: Math.round(group) }),
  );
  for (const id of ["beta-number", "tau-number", "group"]) byId(id).addEventListener("blur", showChoice);
  for (const radio of document.querySelectorAll("[name=kl]")) {
    radio.addEventListener("change", () => choose({ kl: radio.value }));
  }
  const turn = (pages) => () => {
    view.first = Math.max(0, view.first + pages * PER_PAGE);
    showOutcomes();
  };
  byId("previous").addEventListener("click", turn(-1));
  byId("next").addEventListener("click", turn(1));
  for (const button of document.querySelectorAll("[data-copies]"))
    button.addEventListener("click", () => copy(button));
  byId("controls").addEventListener("submit", (event) => event.preventDefault());
  byId("open").addEventListener("click", () => byId("input").click());
  byId("input").addEventListener(
    "change",
    () => byId("input").files.length > 0 && openFile(byId("input").files[0]),
  );
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    byId("drop").classList.add("over");
  });
  document.addEventListener("dragleave", () => byId("drop").classList.remove("over"));
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    byId("drop").classList.remove("over");
    if (event.dataTransfer.files.length > 0) openFile(event.dataTransfer.files[0]);
  });
  window.addEventListener("resize", () => requestAnimationFrame(show));
  window.addEventListener("hashchange", () => {
    readAddress();
    choose({});
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => requestAnimationFrame(show));
};

const begin = async () => {
  const logRef = Float64Array.from(data.logRef, (log) => log ?? -Infinity);
  const table = { names: data.names, rewards: Float64Array.from(data.rewards), logRef };
  table.order = ranked(table);
  const head = element("div", { className: "method head", ariaHidden: "true" });
  head.append(
    ...["", "good kept", "on good", ""].map((text) => element("span", { className: "number" }, text)),
  );
  byId("methods").append(head);
  makeRow("reference", "reference", "π_ref");
  for (const method of data.methods) {
    const remark = method === PLAIN ? " (plain RL)" : method.source === "ours" ? " (ours)" : "";
    makeRow(method.name, method.label + remark, `${method.law} (${method.source})`);
  }
  choice.method = (methodOf("mara") ?? PLAIN).name;
  useTable(table, data.file, data.isRescaled);
  readAddress();
  listen();
  await solver({
    kind: "methods",
    methods: data.methods.map(({ name, settings, takesThreshold, forwardOnly }) => ({
      name,
      settings,
      takesThreshold,
      forwardOnly,
    })),
  });
  await solver({ kind: "table", table });
  choose({});
};

begin();
