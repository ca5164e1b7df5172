// Photos in, classes out.
import { Refused, blob, element, json, useToken } from "/page/ask.js";
import { photo, toggle } from "/page/camera.js";

const at = (id) => document.getElementById(id);
const TOP = 5;
const AT_ONCE = 4;
// A thumbnail of fewer pixels is shown with its pixels.
const SMALL = 64;

let models = [];
let threshold = 0;
let data = false;
// Files that came before the models were known; none once they are.
let held = [];
const cards = new Map();

const percent = (p) => (p >= 0.9995 || p < 0.0005 ? `${Math.round(100 * p)}%` : `${(100 * p).toFixed(1)}%`);

function fail(error) {
  at("failed").textContent = error.message;
  at("failed").hidden = false;
  at("token").hidden = !(error instanceof Refused && error.status === 401);
  if (!at("token").hidden) at("secret").focus();
}

async function start() {
  at("failed").hidden = true;
  try {
    const state = await json("/state");
    models = state.models;
    data = state.data;
    at("model").replaceChildren(...models.map((m) => element("option", { value: m.name, textContent: m.name })));
    const asked = new URLSearchParams(location.search).get("model");
    if (models.some((m) => m.name === asked)) at("model").value = asked;
    at("pick").hidden = models.length < 2;
    at("none").hidden = models.length > 0;
    at("drop").hidden = models.length === 0;
    at("least").closest(".controls").hidden = models.length === 0;
    at("token").hidden = true;
    setThreshold(Math.round(100 * state.threshold));
    about();
    const files = held ?? [];
    held = null;
    take(files);
  } catch (error) {
    fail(error);
  }
}

const model = () => models.find((m) => m.name === at("model").value) ?? models[0];

function about() {
  at("about").hidden = models.length === 0;
  if (!models.length) return;
  const { name, classes, height, width, architecture } = model();
  const few = classes.slice(0, 12).join(", ");
  const more = classes.length > 12 ? `, and ${classes.length - 12} more` : "";
  at("about").textContent = `${name}: ${architecture} at ${width} × ${height} pixels tells ${classes.length} classes apart: ${few}${more}.`;
}

function setThreshold(value) {
  threshold = value / 100;
  at("threshold").value = String(value);
  at("least").textContent = `${value}%`;
  for (const card of cards.values()) heading(card);
}

/** The class, or that none is probable enough. */
function heading(card) {
  if (!card.top) return;
  const [first] = card.top;
  const known = first.probability >= threshold;
  card.title.textContent = known ? first.class : "unknown";
  card.root.classList.toggle("unknown", !known);
  card.note.textContent = known
    ? `${percent(first.probability)} probable`
    : `No class is at least ${Math.round(100 * threshold)}% probable; the most probable is ${first.class} with ${percent(first.probability)}.`;
}

function bars(card) {
  const rows = card.top.map((choice) => {
    const bar = element("span", { className: "bar" });
    bar.style.setProperty("--w", `${100 * choice.probability}%`);
    const button = element(
      "button",
      { type: "button", title: "Show where", "aria-pressed": "false" },
      element("span", { dir: "auto", textContent: choice.class }),
      bar,
      element("span", { textContent: percent(choice.probability) }),
    );
    button.addEventListener("click", () => look(card, choice, button));
    return element("li", {}, button);
  });
  card.list.replaceChildren(...rows);
}

/** Shows the image with lines around what speaks for a class, or without them. */
async function look(card, choice, button) {
  const on = button.getAttribute("aria-pressed") !== "true";
  for (const other of card.list.querySelectorAll("button")) other.setAttribute("aria-pressed", "false");
  const plain = () => {
    card.image.src = card.plain;
    card.caption.textContent = card.name;
  };
  if (!on) return plain();
  button.setAttribute("aria-pressed", "true");
  card.caption.textContent = "Looking…";
  try {
    const address = `/explain?model=${encodeURIComponent(card.model)}&class=${choice.index}`;
    const seen = await blob(address, { method: "POST", headers: { "Content-Type": "application/octet-stream" }, body: card.file });
    if (button.getAttribute("aria-pressed") !== "true") return;
    if (card.seen) URL.revokeObjectURL(card.seen);
    card.seen = URL.createObjectURL(seen);
    card.image.src = card.seen;
    card.caption.textContent = `What speaks for ${choice.class}: lines at 25, 50 and 75% of the most.`;
    at("said").textContent = card.caption.textContent;
  } catch (error) {
    plain();
    button.setAttribute("aria-pressed", "false");
    card.caption.textContent = error.message;
  }
}

function add(file) {
  const plain = URL.createObjectURL(file);
  const name = file.name || "pasted image";
  const image = element("img", { src: plain, alt: name });
  image.addEventListener("load", () => {
    image.classList.toggle("px", Math.max(image.naturalWidth, image.naturalHeight) <= SMALL);
  });
  const caption = element("figcaption", { dir: "auto", textContent: name });
  const title = element("h2", { dir: "auto", textContent: "…" });
  const note = element("p", { className: "soft" });
  const list = element("ul", { className: "bars", "aria-label": "The most probable classes; each shows where it is seen" });
  const near = element("div", { hidden: true });
  const root = element(
    "section",
    { className: "card", "aria-label": name },
    element("figure", { className: "photo" }, image, caption),
    element("div", {}, title, note, list, near),
  );
  const card = { file, name, plain, root, image, caption, title, note, list, near };
  cards.set(root, card);
  at("cards").prepend(root);
  at("clear").hidden = false;
  return card;
}

async function predict(card) {
  card.model = model().name;
  try {
    const address = `/predict?top_k=${TOP}&threshold=0&model=${encodeURIComponent(card.model)}`;
    const headers = { "Content-Type": "application/octet-stream" };
    const { predictions } = await json(address, { method: "POST", headers, body: card.file });
    card.top = predictions[0].top;
    card.root.classList.remove("failed");
    bars(card);
    heading(card);
    if (data) alike(card);
    at("said").textContent = `${card.name}: ${card.title.textContent}. ${card.note.textContent}`;
  } catch (error) {
    card.root.classList.add("failed");
    card.title.textContent = "Not read";
    card.image.hidden = true;
    card.note.textContent = error.message;
    if (error.status === 401) fail(error);
  }
}

/** The images of the data set that are most like a photo, once their features are there. */
async function alike(card) {
  const model = card.model;
  const headers = { "Content-Type": "application/octet-stream" };
  const address = `/similar?count=6&model=${encodeURIComponent(model)}`;
  card.near.hidden = false;
  const still = () => cards.has(card.root) && card.model === model;
  while (still()) {
    try {
      const { similar } = await json(address, { method: "POST", headers, body: card.file });
      const figures = await Promise.all(similar.map(neighbour.bind(null, model)));
      if (still()) card.near.replaceChildren(element("h3", { textContent: "Most like it in the data set" }), element("div", { className: "near" }, ...figures));
      return;
    } catch (error) {
      const wait = error.status === 503;
      card.near.replaceChildren(element("p", { className: "soft", textContent: wait ? `Most like it: ${error.message.replace(" (ask again later)", "")}` : error.message }));
      if (!wait) return;
      await new Promise((done) => setTimeout(done, 2000));
    }
  }
}

async function neighbour(model, found) {
  const image = element("img", { alt: `${found.class}: ${found.image}`, title: found.image });
  image.addEventListener("load", () => {
    image.classList.toggle("px", image.naturalWidth <= SMALL);
    URL.revokeObjectURL(image.src);
  });
  image.src = URL.createObjectURL(await blob(`/similar/${encodeURIComponent(model)}/${found.at}`));
  const caption = element("figcaption", {}, element("b", { dir: "auto", textContent: found.class }), ` ${found.similarity.toFixed(2)}`);
  return element("figure", {}, image, caption);
}

async function take(files) {
  if (held) {
    held.push(...files);
    return;
  }
  if (!models.length) return;
  const made = [...files].map(add);
  const work = async () => {
    for (let card = made.shift(); card; card = made.shift()) await predict(card);
  };
  await Promise.all(Array.from({ length: AT_ONCE }, work));
}

function clear() {
  for (const card of cards.values()) {
    URL.revokeObjectURL(card.plain);
    if (card.seen) URL.revokeObjectURL(card.seen);
  }
  cards.clear();
  at("cards").replaceChildren();
  at("clear").hidden = true;
  at("choose").focus();
}

async function camera() {
  try {
    const on = await toggle(at("video"));
    at("shot").hidden = !on;
    at("camera").setAttribute("aria-pressed", String(on));
    at("failed").hidden = true;
    if (on) at("take").focus();
  } catch (error) {
    fail(error);
  }
}

async function shoot() {
  const taken = await photo(at("video"));
  if (taken) await take([taken]);
}

const drop = at("drop");
for (const name of ["dragenter", "dragover"]) {
  document.addEventListener(name, (event) => {
    event.preventDefault();
    drop.classList.add("over");
  });
}
for (const name of ["dragleave", "drop"]) {
  document.addEventListener(name, (event) => {
    event.preventDefault();
    drop.classList.remove("over");
  });
}
document.addEventListener("drop", (event) => take(event.dataTransfer.files));
document.addEventListener("paste", (event) => take(event.clipboardData.files));
at("choose").addEventListener("click", () => at("files").click());
at("files").addEventListener("change", async (event) => {
  const files = [...event.target.files];
  event.target.value = "";
  await take(files);
});
at("camera").addEventListener("click", camera);
at("take").addEventListener("click", shoot);
at("clear").addEventListener("click", clear);
at("threshold").addEventListener("input", (event) => setThreshold(Number(event.target.value)));
at("model").addEventListener("change", async () => {
  about();
  for (const card of cards.values()) await predict(card);
});
at("token").addEventListener("submit", (event) => {
  event.preventDefault();
  useToken(at("secret").value);
  at("secret").value = "";
  start();
});
start();
