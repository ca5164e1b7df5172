// Runs as they go: a list, and one of them with its curves.
import { chart } from "/page/chart.js";
import { Refused, blob, element, follow, hasToken, json, useToken } from "/page/ask.js";

const at = (id) => document.getElementById(id);
const EVERY = 3000;
// Classes of a confusion matrix that is drawn, and images of a gallery.
const CLASSES = 30;
const IMAGES = 24;
// An image of fewer pixels is shown with its pixels.
const SMALL = 64;

let rows = [];
let shown = null;
const beside = new Set();

const part = (x) => (x == null ? "–" : `${(100 * x).toFixed(1)}%`);
const STATES = { running: "running", finished: "finished", stopped: "stopped", ended: "ended early" };

/** "1 h 5 min", "12 s" */
function time(seconds) {
  const s = Math.max(0, Math.round(seconds));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60} s`;
  return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
}

function fail(error) {
  at("failed").textContent = error.message;
  at("failed").hidden = false;
  at("token").hidden = !(error instanceof Refused && error.status === 401);
}

async function list() {
  try {
    const { runs } = await json("/runs");
    rows = runs;
    at("failed").hidden = true;
    at("token").hidden = true;
    at("table").hidden = runs.length === 0;
    at("about").textContent = runs.length
      ? `${runs.length} run${runs.length === 1 ? "" : "s"}, the latest first. Choose one to watch it; tick two or more to see them side by side.`
      : "There is no run yet: headstart train --out runs/NAME makes one, and so does Begin.";
    draw();
    const asked = decodeURIComponent(location.hash.slice(1));
    if (!shown && runs.length) show((runs.find((r) => r.name === asked) ?? runs.find((r) => r.state === "running") ?? runs[0]).name);
    controls();
  } catch (error) {
    fail(error);
  }
}

/** The list, in which only what changed is touched, so that the keyboard's place is kept. */
function draw() {
  const made = new Map([...at("rows").children].map((row) => [row.dataset.name, row]));
  const order = rows.map((run) => {
    const row = made.get(run.name) ?? newRow(run.name);
    const [, , state, epochs, accuracy] = row.children;
    state.textContent = STATES[run.state];
    state.className = run.state === "running" ? "good" : "soft";
    epochs.textContent = String(run.epochs);
    accuracy.textContent = part(run.accuracy);
    row.classList.toggle("chosen", run.name === shown?.name);
    row.querySelector("button").setAttribute("aria-pressed", String(run.name === shown?.name));
    return row;
  });
  const same = order.length === at("rows").children.length && order.every((row, i) => row === at("rows").children[i]);
  if (!same) at("rows").replaceChildren(...order);
}

function newRow(name) {
  const box = element("input", { type: "checkbox", "aria-label": `${name} side by side` });
  box.addEventListener("change", () => {
    if (box.checked) beside.add(name);
    else beside.delete(name);
    compare();
  });
  const button = element("button", { type: "button", className: "link", dir: "auto", textContent: name });
  button.addEventListener("click", () => show(name));
  const row = element("tr", {}, element("td", {}, box), element("th", { scope: "row" }, button), element("td"), element("td"), element("td"));
  row.dataset.name = name;
  return row;
}

async function compare() {
  const names = [...beside].slice(0, 8);
  at("beside").hidden = names.length < 2;
  if (names.length < 2) return;
  try {
    const found = await json(`/compare?names=${encodeURIComponent(JSON.stringify(names))}`);
    const head = element("tr", {}, element("th", { scope: "col", textContent: "Setting" }), ...names.map((n) => element("th", { scope: "col", dir: "auto", textContent: n })));
    const line = (title, values) =>
      element("tr", {}, element("th", { scope: "row", textContent: title }), ...values.map((v) => element("td", { textContent: v ?? "–" })));
    const results = [
      line("epochs done", found.runs.map((r) => r.epochs)),
      line("time", found.runs.map((r) => time(r.seconds))),
      line("best validation accuracy", found.runs.map((r) => part(r.best?.val_accuracy))),
      line("accuracy of the report", found.runs.map((r) => (r.report ? `${part(r.report.accuracy)} (${r.report.split})` : "–"))),
    ];
    const differ = found.differences.map((d) => line(d.setting, d.values));
    at("differences").replaceChildren(element("thead", {}, head), element("tbody", {}, ...results, ...differ));
  } catch (error) {
    at("differences").replaceChildren(element("tbody", {}, element("tr", {}, element("td", { textContent: error.message }))));
  }
}

/** Follows the run of that name. */
async function show(name) {
  shown?.stop.abort();
  shown = { name, stop: new AbortController(), epochs: [], phase: null, step: null, state: null, planned: null, features: null };
  const run = shown;
  history.replaceState(null, "", `#${encodeURIComponent(name)}`);
  at("run").hidden = false;
  at("name").textContent = name;
  at("charts").replaceChildren();
  at("tiles").replaceChildren();
  at("progress").hidden = true;
  at("confusion").hidden = true;
  at("images").hidden = true;
  draw();
  controls();
  await details(run);
  try {
    for await (const { event, data } of follow(`/runs/${encodeURIComponent(name)}/events`, run.stop.signal)) {
      if (run !== shown) return;
      take(run, event, data);
    }
  } catch (error) {
    if (run === shown && error.name !== "AbortError") fail(error);
  }
}

async function details(run) {
  try {
    const found = await json(`/runs/${encodeURIComponent(run.name)}`);
    if (run !== shown) return;
    run.planned = found.planned;
    matrix(found.report);
    render();
    await gallery(run, found.page);
  } catch (error) {
    fail(error);
  }
}

function take(run, event, data) {
  if (event === "again") {
    Object.assign(run, { epochs: [], phase: null, step: null, features: null });
  } else if (event === "state") {
    const before = run.state;
    run.state = JSON.parse(data);
    if (before && before !== run.state) at("said").textContent = `${run.name} is ${STATES[run.state]}.`;
    if (run.state !== "running") details(run);
    list();
  } else {
    let line;
    try {
      line = JSON.parse(data);
    } catch {
      return;
    }
    if (line.event === "phase") Object.assign(run, { phase: line, step: null });
    if (line.event === "features") run.features = line;
    if (line.event === "step") run.step = line;
    if (line.event === "epoch") {
      run.epochs = run.epochs.filter((e) => e.epoch < line.epoch);
      run.epochs.push(line);
      run.step = null;
    }
  }
  schedule();
}

let waiting = false;
function schedule() {
  if (waiting) return;
  waiting = true;
  setTimeout(() => {
    waiting = false;
    render();
  }, 100);
}

function tile(title, value) {
  return element("div", {}, element("b", { textContent: value }), title);
}

/** Seconds until the phase ends, by the pace of its epochs and of the one that runs. */
function left(run) {
  const { phase, step } = run;
  if (run.state !== "running" || !phase) return null;
  const own = run.epochs.filter((e) => e.phase === phase.phase);
  const done = own.length + (step ? step.step / step.steps : 0);
  const pace = own.length ? own.reduce((sum, e) => sum + e.seconds, 0) / own.length : null;
  return pace == null ? null : pace * Math.max(0, phase.epochs - done);
}

function render() {
  const run = shown;
  if (!run) return;
  const last = run.epochs.at(-1);
  const running = run.state === "running";
  const tiles = [tile("state", STATES[run.state] ?? "…")];
  const planned = run.planned ? ` of ${run.planned}` : "";
  tiles.push(tile("epochs done", `${run.epochs.length}${planned}`));
  if (running && run.phase) tiles.push(tile("phase", run.phase.phase));
  if (running && run.step) tiles.push(tile(`step of epoch ${run.step.epoch}`, `${run.step.step}/${run.step.steps}`));
  const rest = left(run);
  if (rest != null) tiles.push(tile("until this phase ends", time(rest)));
  const pace = (running && run.step) || last;
  if (pace) tiles.push(tile("images a second", pace.images_per_second.toFixed(0)));
  if (last?.val_accuracy != null) tiles.push(tile("validation accuracy of the last epoch", part(last.val_accuracy)));
  if (last) tiles.push(tile("time of all epochs", time(run.epochs.reduce((sum, e) => sum + e.seconds, 0))));
  at("tiles").replaceChildren(...tiles);
  at("progress").hidden = !(running && run.planned);
  const within = run.step ? run.step.step / run.step.steps : 0;
  at("progress").value = run.planned ? Math.min(1, (run.epochs.length + within) / run.planned) : 0;
  const series = (name, key, kind) => ({ name, kind, values: run.epochs.map((e) => [e.epoch, e[key]]).filter(([, v]) => v != null) });
  const ends = run.epochs.filter((e, i) => i && e.phase !== run.epochs[i - 1].phase).map((e) => e.epoch - 0.5);
  at("charts").replaceChildren(
    chart("Loss", [series("training", "loss", "a"), series("validation", "val_loss", "b")], ends, (v) => v.toPrecision(3)),
    chart("Accuracy", [series("training", "accuracy", "a"), series("validation", "val_accuracy", "b")], ends, (v) => part(v)),
  );
}

function controls() {
  const row = rows.find((r) => r.name === shown?.name);
  at("stop").hidden = row?.state !== "running";
  at("resume").hidden = row?.state !== "stopped";
  at("report").hidden = !row?.page;
  if (row) at("report").href = `/runs/${encodeURIComponent(row.name)}/report.html`;
  at("why").hidden = !row?.failed;
  at("why").textContent = row?.failed ? `It could not be resumed: ${row.failed}` : "";
}

// A link sends no token: then the report is fetched, and saved as a file.
at("report").addEventListener("click", async (event) => {
  if (!hasToken()) return;
  event.preventDefault();
  try {
    const link = element("a", { href: URL.createObjectURL(await blob(at("report").href)), download: `${shown.name}-report.html` });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  } catch (error) {
    fail(error);
  }
});

async function act(what) {
  at("stop").disabled = at("resume").disabled = true;
  try {
    await json(`/runs/${encodeURIComponent(shown.name)}/${what}`, { method: "POST" });
    at("said").textContent = what === "stop" ? "It stops after saving." : "It is resumed.";
    await list();
  } catch (error) {
    fail(error);
  }
  at("stop").disabled = at("resume").disabled = false;
}

function matrix(report) {
  const few = report && report.classes.length <= CLASSES;
  at("confusion").hidden = !few;
  if (!few) return;
  at("confusion-about").textContent =
    `${report.samples} ${report.split} images, ${part(report.accuracy)} right. Rows are the images' classes, columns what the model says.`;
  const head = element("tr", {}, element("td"), ...report.classes.map((c) => element("th", { scope: "col", dir: "auto", textContent: c })));
  const lines = report.confusion.map((row, i) => {
    const sum = row.reduce((a, b) => a + b, 0) || 1;
    const cells = row.map((n, j) => {
      const cell = element("td", { textContent: n ? String(n) : "", className: i === j ? "right" : "wrong" });
      cell.style.setProperty("--p", String(n / sum));
      return cell;
    });
    return element("tr", {}, element("th", { scope: "row", dir: "auto", textContent: report.classes[i] }), ...cells);
  });
  at("matrix").replaceChildren(element("thead", {}, head), element("tbody", {}, ...lines));
}

/** The images of the run's report, the worst first: what was predicted, what is true. */
async function gallery(run, there) {
  if (!there || run.gallery) {
    at("images").hidden ||= !there;
    return;
  }
  run.gallery = true;
  const page = await (await blob(`/runs/${encodeURIComponent(run.name)}/report.html`)).text();
  // A document that is only read: nothing in it is loaded or run. Styles of its own are not for this page.
  const section = page.match(/<section id="images">.*?<\/section>/s)?.[0] ?? "";
  const plain = new DOMParser().parseFromString(section.replace(/ style="[^"]*"/g, ""), "text/html");
  const found = plain.querySelectorAll("#images figure");
  const figures = [];
  for (const figure of [...found].slice(0, IMAGES)) {
    const source = figure.querySelector("image")?.getAttribute("href")?.match(/^data:(image\/(?:png|jpeg));base64,([A-Za-z0-9+/=]+)$/);
    if (!source) continue;
    const bytes = Uint8Array.from(atob(source[2]), (c) => c.charCodeAt(0));
    const said = [...figure.querySelectorAll(".trio p")].slice(1).map((p) => p.firstChild?.textContent.trim() ?? "");
    const classes = [...figure.querySelectorAll(".trio p b")].map((b) => [b.textContent, b.className]);
    const name = figure.querySelector("figcaption")?.textContent ?? "";
    const image = element("img", { alt: name, src: URL.createObjectURL(new Blob([bytes], { type: source[1] })) });
    image.addEventListener("load", () => image.classList.toggle("px", image.naturalWidth <= SMALL));
    const lines = classes.map(([text, kind], i) => element("span", { className: "name" }, `${said[i] ?? ""} `, element("b", { className: kind, dir: "auto", textContent: text })));
    figures.push(element("figure", {}, image, element("figcaption", {}, ...lines, element("span", { className: "name", dir: "auto", textContent: name }))));
  }
  if (run !== shown) return;
  for (const image of at("gallery").querySelectorAll("img")) URL.revokeObjectURL(image.src);
  at("gallery").replaceChildren(...figures);
  at("images").hidden = figures.length === 0;
}

at("stop").addEventListener("click", () => act("stop"));
at("resume").addEventListener("click", () => act("resume"));
at("token").addEventListener("submit", (event) => {
  event.preventDefault();
  useToken(at("secret").value);
  at("secret").value = "";
  list();
});
list();
setInterval(() => {
  if (!document.hidden) list();
}, EVERY);
