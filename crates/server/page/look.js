// The images of a data set by class and finding, and their labels mended.
import { Refused, blob, element, json, useToken } from "/page/ask.js";

const at = (id) => document.getElementById(id);
const PAGE = 60;
const SMALL = 64;
const TITLES = {
  all: "all images",
  suspected: "suspected labels",
  conflicts: "the same image in two classes",
  duplicates: "images that are there twice",
  blank: "images of one colour",
  tiny: "images of few pixels",
  corrected: "corrected images",
};

let state = null;
let shown = 0;
let listing = 0;
let timer = 0;

const part = (x) => `${(100 * x).toFixed(1)}%`;

function fail(error) {
  at("failed").textContent = error.message;
  at("failed").hidden = false;
  at("token").hidden = !(error instanceof Refused && error.status === 401);
}

function option(value, text, chosen) {
  return element("option", { value, textContent: text, selected: value === chosen });
}

/** What is known now; asked again while something is computed. */
async function refresh() {
  try {
    state = await json("/look/state");
  } catch (error) {
    if (error.status === 503) {
      at("about").textContent = error.message;
      setTimeout(start, 500);
    } else {
      at("about").textContent = "";
      fail(error);
    }
    return false;
  }
  at("failed").hidden = true;
  at("token").hidden = true;
  at("whole").hidden = false;
  const [looked, all] = state.looked;
  const looking = looked < all || all === 0 ? ` ${looked} of them were looked at so far.` : "";
  const corrections = state.corrections ? ` ${state.corrections} correction${state.corrections === 1 ? "" : "s"}.` : "";
  at("about").textContent = `${state.name}: ${state.images} images of ${state.classes.length} classes.${corrections}${looking}`;
  choices();
  fits();
  clearTimeout(timer);
  if (looking || state.check.running) timer = setTimeout(refresh, 700);
  return true;
}

function choices() {
  const own = at("class").value;
  const classes = state.classes.map((c, i) => option(String(i), `${c.name} (${c.count})`, own));
  at("class").replaceChildren(option("", `all (${state.images})`, own), ...classes);
  const kind = at("kind").value || "all";
  const found = state.found.map((f) => option(f.kind, `${TITLES[f.kind]} (${f.count})`, kind));
  at("kind").replaceChildren(option("all", TITLES.all, kind), ...found, option("corrected", `${TITLES.corrected} (${state.corrections ?? 0})`, kind));
}

let fitted = 0;
function fits() {
  const { running, failed, results } = state.check;
  at("fit").disabled = running != null;
  at("fit").textContent = results.length ? "Fit the head again" : "Fit the head";
  at("running").textContent = running ?? failed ?? "";
  at("running").className = failed && !running ? "bad" : "soft";
  at("results").hidden = results.length === 0;
  const cell = (now, before, text) => {
    const made = element("td", { textContent: text(now) });
    if (before != null && before !== now) made.append(element("span", { className: "soft", textContent: ` (before ${text(before)})` }));
    return made;
  };
  const tuned = (made, images) => {
    const why = `The net was fine-tuned on ${images} of these images, with their labels: it hides wrong ones, and this is too high.`;
    if (images) made.append(element("span", { className: "bad", textContent: ` ${why}` }));
    return made;
  };
  const rows = results.map((r, i) => {
    const before = results[i - 1] ?? {};
    return element(
      "tr",
      {},
      element("th", { scope: "row", textContent: String(i + 1) }),
      cell(r.corrections, before.corrections, String),
      cell(r.images, before.images, String),
      tuned(cell(r.accuracy, before.accuracy, part), r.tuned_on),
      cell(r.suspected, before.suspected, String),
    );
  });
  at("fits").replaceChildren(...rows);
  if (results.length !== fitted) {
    const last = results.at(-1);
    if (fitted || !running) at("said").textContent = `Fitted: ${part(last.accuracy)}, ${last.suspected} suspect${last.suspected === 1 ? "" : "s"}.`;
    fitted = results.length;
    if (fitted === 1) at("kind").value = "suspected";
    list();
  }
}

/** The images that are chosen, from the first. */
async function list() {
  shown = 0;
  listing += 1;
  at("gallery").replaceChildren();
  await more();
}

async function more() {
  const own = listing;
  const asked = new URLSearchParams({ from: String(shown), count: String(PAGE) });
  if (at("class").value) asked.set("class", at("class").value);
  if (at("kind").value && at("kind").value !== "all") asked.set("kind", at("kind").value);
  try {
    const { total, images } = await json(`/look/images?${asked}`);
    if (own !== listing) return;
    shown += images.length;
    at("gallery").append(...images.map(figure));
    at("more").hidden = shown >= total;
    if (!total) at("gallery").append(element("p", { className: "soft", textContent: "There is none." }));
  } catch (error) {
    fail(error);
  }
}

const seen = new IntersectionObserver(
  (entries) => {
    for (const { isIntersecting, target } of entries) {
      if (!isIntersecting) continue;
      seen.unobserve(target);
      load(target);
    }
  },
  { rootMargin: "400px" },
);

async function load(image) {
  try {
    image.src = URL.createObjectURL(await blob(`/look/picture/${image.dataset.at}`));
  } catch {
    image.alt += " (cannot be shown)";
  }
}

function figure(found) {
  const image = element("img", { alt: found.name });
  image.dataset.at = String(found.at);
  image.addEventListener("load", () => {
    image.classList.toggle("px", Math.max(image.naturalWidth, image.naturalHeight) <= SMALL);
    URL.revokeObjectURL(image.src);
  });
  seen.observe(image);
  const name = element("span", { dir: "auto", className: "name", textContent: found.name });
  const label = element("b", { dir: "auto" });
  const note = element("span", { className: "soft" });
  const select = element("select", { "aria-label": `Class of ${found.name}` });
  const out = element("button", { type: "button", textContent: "Leave out", "aria-label": `Leave ${found.name} out` });
  const undo = element("button", { type: "button", textContent: "Undo", "aria-label": `Undo for ${found.name}` });
  const take = element("button", { type: "button" });
  const root = element("figure", {}, image, element("figcaption", {}, label, note, name), element("div", { className: "controls" }, take, select, out, undo));
  const draw = () => {
    const names = state.classes.map((c) => c.name);
    const corrected = found.class !== found.folder;
    label.textContent = found.class == null ? "left out" : names[found.class];
    const was = corrected ? ` was ${names[found.folder]}` : "";
    const doubt = found.suggested != null && found.suggested !== found.class ? ` perhaps ${names[found.suggested]}, ${part(found.probability)}` : "";
    note.textContent = was + doubt;
    root.className = found.class == null ? "out" : corrected ? "corrected" : "";
    select.replaceChildren(option("", "Move to…", ""), ...names.map((n, i) => [n, i]).filter(([, i]) => i !== found.class).map(([n, i]) => option(String(i), n, "")));
    const fixed = state.corrections == null;
    select.hidden = fixed;
    out.hidden = fixed || found.class == null;
    undo.hidden = fixed || !corrected;
    take.hidden = fixed || !doubt;
    if (doubt) {
      take.textContent = `Move to ${names[found.suggested]}`;
      take.setAttribute("aria-label", `Move ${found.name} to ${names[found.suggested]}`);
    }
  };
  const say = async (what, now) => {
    try {
      await json("/look/correct", { method: "POST", body: JSON.stringify({ image: found.at, name: found.name, ...what }) });
      found.class = now;
      draw();
      at("said").textContent = `${found.name}: ${label.textContent}`;
      await refresh();
      // The button that was used may be gone.
      if (document.activeElement === document.body) (undo.hidden ? select : undo).focus();
    } catch (error) {
      fail(error);
    }
  };
  const move = () => select.value && say({ class: Number(select.value) }, Number(select.value));
  // A closed list changes with every arrow key: it is meant when Enter is pressed or the list is left.
  let arrows = false;
  select.addEventListener("keydown", (event) => {
    arrows = event.key !== "Enter";
    if (event.key === "Enter") move();
  });
  select.addEventListener("pointerdown", () => (arrows = false));
  select.addEventListener("blur", () => arrows && move());
  select.addEventListener("change", () => arrows || move());
  take.addEventListener("click", () => say({ class: found.suggested }, found.suggested));
  out.addEventListener("click", () => say({ leave_out: true }, null));
  undo.addEventListener("click", () => say({ undo: true }, found.folder));
  draw();
  return root;
}

async function start() {
  if (await refresh()) await list();
}

at("class").addEventListener("change", list);
at("kind").addEventListener("change", list);
at("more").addEventListener("click", more);
at("fit").addEventListener("click", async () => {
  at("fit").disabled = true;
  let failed = null;
  try {
    await json("/look/check", { method: "POST" });
  } catch (error) {
    failed = error;
  }
  await refresh();
  if (failed) fail(failed);
});
at("token").addEventListener("submit", (event) => {
  event.preventDefault();
  useToken(at("secret").value);
  at("secret").value = "";
  start();
});
start();
