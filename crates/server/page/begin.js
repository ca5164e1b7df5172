// From an empty page to a classifier: a data set, its classes, a training, a model.
import { Refused, blob, element, json, useToken } from "/page/ask.js";
import { photo, toggle } from "/page/camera.js";

const at = (id) => document.getElementById(id);
const AT_ONCE = 4;
// Small pictures of a class.
const SHOWN = 8;
// Milliseconds between photos of the camera, between looks at a training, between counts while photos are sent, and until
// others are counted anew.
const EVERY = { photo: 250, look: 1000, count: 700, series: 5000 };
const NETS = {
  resnet50: "the usual one; its weights are downloaded once, about 100 MB, unless they are here",
  resnet101: "larger and slower than resnet50",
  resnet152: "the largest and slowest",
  resnet20: "for pictures of 32 × 32 pixels; inside the program, nothing is downloaded",
};

let set = null;
const cards = new Map();
const waiting = [];
let senders = 0;
const none = () => ({ done: 0, all: 0, again: 0, refused: 0, first: "", last: 0 });
let sent = none();

const post = (path, what) => json(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(what ?? {}) });
const query = (values) => new URLSearchParams(values).toString();
const own = (rest) => `/begin/sets/${encodeURIComponent(set)}${rest}`;
const count = (n, what) => `${n.toLocaleString("en")} ${what}${n === 1 ? "" : "s"}`;

function fail(error) {
  at("failed").textContent = error.message;
  at("failed").hidden = false;
  at("token").hidden = !(error instanceof Refused && error.status === 401);
  if (!at("token").hidden) at("secret").focus();
}

/** Does what the visitor asked for, and says why where it cannot be done. */
async function attempt(work) {
  at("failed").hidden = true;
  try {
    return await work();
  } catch (error) {
    fail(error);
    return undefined;
  }
}

async function start() {
  const found = await attempt(() => json("/begin/sets"));
  if (!found) return;
  at("token").hidden = true;
  at("old").hidden = found.sets.length === 0;
  at("sets").replaceChildren(
    element("option", { value: "", textContent: "choose" }),
    ...found.sets.map((name) => element("option", { value: name, textContent: name })),
  );
  at("where").textContent = `Data sets are folders of ${found.folder}.`;
  const first = Object.keys(NETS).filter((name) => found.nets.includes(name));
  const order = [...first, ...found.nets.filter((name) => !first.includes(name))];
  at("net").replaceChildren(...order.map((name) => element("option", { value: name, textContent: name })));
  about();
  const asked = decodeURIComponent(location.hash.slice(1));
  const training = await attempt(() => json("/begin/training"));
  const name = found.sets.includes(asked) ? asked : training?.running ? training.set : null;
  if (name) await open(name);
  if (training) follow();
}

function about() {
  const said = NETS[at("net").value];
  at("about").textContent = said ? `${at("net").value}: ${said}.` : "";
}

async function open(name) {
  set = name;
  history.replaceState(null, "", `#${encodeURIComponent(name)}`);
  if (![...at("sets").options].some((o) => o.value === name)) at("sets").append(element("option", { value: name, textContent: name }));
  at("old").hidden = false;
  at("sets").value = name;
  at("second").hidden = false;
  at("third").hidden = false;
  cards.clear();
  at("classes").replaceChildren();
  await counts();
}

/** The classes as they are, with their numbers. */
async function counts() {
  const of = set;
  const found = await json(own(""));
  if (of !== set) return;
  const names = new Set(found.classes.map((c) => c.name));
  for (const [name, card] of cards) {
    if (names.has(name)) continue;
    card.root.remove();
    cards.delete(name);
  }
  for (const { name, count: images } of found.classes) {
    const card = cards.get(name) ?? add(name);
    if (card.images !== images) {
      card.images = images;
      card.count.textContent = count(images, "photo");
      await pictures(card, of);
      if (of !== set) return;
    }
  }
}

async function pictures(card, from) {
  const of = { set: from, class: card.name };
  const { files } = await json(`/begin/images?${query({ ...of, count: SHOWN })}`);
  const made = await Promise.all(
    files.map(async (file) => card.shown.get(file) ?? picture(card, file, await blob(`/begin/picture?${query({ ...of, file })}`))),
  );
  for (const [file, figure] of card.shown) {
    if (!files.includes(file)) URL.revokeObjectURL(figure.querySelector("img").src);
  }
  card.shown = new Map(files.map((file, i) => [file, made[i]]));
  card.pictures.replaceChildren(...made);
}

function picture(card, file, bytes) {
  const image = element("img", { alt: `${card.name}: ${file}`, src: URL.createObjectURL(bytes) });
  const button = element("button", { type: "button", title: "Remove this photo", "aria-label": `Remove ${file}`, textContent: "×" });
  button.addEventListener("click", () =>
    attempt(async () => {
      await post(`/begin/images/remove?${query({ set, class: card.name, file })}`);
      await counts();
    }),
  );
  return element("figure", {}, image, button);
}

function add(name) {
  const title = element("h3", { dir: "auto", textContent: name });
  const number = element("span", { className: "soft" });
  const files = element("input", { className: "sr", type: "file", accept: "image/*", multiple: true, tabIndex: -1, "aria-label": `Photos of ${name}` });
  const choose = element("button", { type: "button", textContent: "Choose photos", "aria-label": `Choose photos of ${name}` });
  const hold = element("button", { type: "button", className: "hold", textContent: "Hold for photos", "aria-label": `Hold for photos of ${name}` });
  const rename = element("button", { type: "button", textContent: "Rename", "aria-label": `Rename ${name}` });
  const away = element("button", { type: "button", textContent: "Remove", "aria-label": `Remove ${name}` });
  const row = element("div", { className: "near" });
  const root = element(
    "section",
    { className: "class", "aria-label": name },
    element("div", { className: "controls" }, title, number),
    row,
    element("div", { className: "controls" }, choose, hold, rename, away, files),
  );
  const card = { name, root, count: number, pictures: row, shown: new Map(), images: -1, hold };
  hold.hidden = !at("video").srcObject;
  choose.addEventListener("click", () => files.click());
  files.addEventListener("change", () => {
    send([...files.files].map((file) => ({ file, name: card.name })));
    files.value = "";
  });
  rename.addEventListener("click", () => {
    const to = window.prompt(`Another name for ${card.name}`, card.name);
    if (to && to !== card.name) attempt(async () => (await post(own("/rename"), { class: card.name, to }), counts()));
  });
  away.addEventListener("click", () => {
    const sure = card.images === 0 || window.confirm(`Remove ${card.name} and its ${count(card.images, "photo")}?`);
    if (sure) attempt(async () => (await post(own("/remove"), { class: card.name }), counts()));
  });
  holding(card);
  cards.set(name, card);
  at("classes").append(root);
  return card;
}

/** Photos of the camera for as long as a class's button is held down, by pointer or key. */
function holding(card) {
  let timer = null;
  const shoot = async () => {
    const taken = await photo(at("video"));
    if (taken) send([{ file: taken, name: card.name }]);
  };
  const begin = () => {
    if (timer !== null) return;
    card.hold.setAttribute("aria-pressed", "true");
    shoot();
    timer = setInterval(shoot, EVERY.photo);
  };
  const end = () => {
    clearInterval(timer);
    timer = null;
    card.hold.setAttribute("aria-pressed", "false");
  };
  card.hold.setAttribute("aria-pressed", "false");
  card.hold.addEventListener("pointerdown", begin);
  for (const name of ["pointerup", "pointerleave", "pointercancel", "blur"]) card.hold.addEventListener(name, end);
  const key = (event) => event.key === " " || event.key === "Enter";
  card.hold.addEventListener("keydown", (event) => {
    if (!key(event)) return;
    event.preventDefault();
    begin();
  });
  card.hold.addEventListener("keyup", (event) => key(event) && end());
  card.hold.addEventListener("contextmenu", (event) => event.preventDefault());
}

/** Whether a file may be an image: what is none is found when it is decoded. */
const maybe = (file) => !file.name.startsWith(".") && (file.type === "" || file.type.startsWith("image/"));

/** Sends files to their classes, a few at once. */
async function send(files) {
  const wanted = files.filter(({ file }) => maybe(file));
  if (!wanted.length) return;
  // Photos of the camera come one by one and are counted together.
  if (!waiting.length && !senders && Date.now() - sent.last > EVERY.series) sent = none();
  sent.last = Date.now();
  const of = set;
  waiting.push(...wanted.map((one) => ({ ...one, set: of })));
  sent.all += wanted.length;
  tell();
  while (senders < AT_ONCE && senders < waiting.length) {
    senders += 1;
    work().finally(() => {
      senders -= 1;
      if (!senders) attempt(counts).then(tell);
    });
  }
}

let counted = 0;

async function work() {
  for (let next = waiting.shift(); next; next = waiting.shift()) {
    try {
      const address = `/begin/images?${query({ set: next.set, class: next.name, file: next.file.name })}`;
      const made = await deliver(address, next.file);
      if (!made.new) sent.again += 1;
    } catch (error) {
      sent.refused += 1;
      sent.first ||= `${next.file.name}: ${error.message}`;
      if (error.status === 401) fail(error);
    }
    sent.done += 1;
    tell();
    if (Date.now() - counted > EVERY.count) {
      counted = Date.now();
      await counts().catch(() => {});
    }
  }
}

/** Sends a file; again after a pause where the server is busy. */
async function deliver(address, body) {
  for (let pause = 500; ; pause *= 2) {
    try {
      return await json(address, { method: "POST", headers: { "Content-Type": "application/octet-stream" }, body });
    } catch (error) {
      if (error.status !== 503 || pause > 8000) throw error;
      await new Promise((done) => setTimeout(done, pause));
    }
  }
}

function tell() {
  const busy = sent.done < sent.all;
  at("sending").hidden = !busy;
  at("sending").value = sent.done / Math.max(1, sent.all);
  const again = sent.again ? `, ${sent.again.toLocaleString("en")} of them there already` : "";
  at("sent").textContent = busy ? `${sent.done.toLocaleString("en")} of ${count(sent.all, "photo")}` : sent.all ? `${count(sent.done - sent.refused, "photo")} sent${again}.` : "";
  at("refused").hidden = sent.refused === 0;
  at("refused").textContent = sent.refused ? `${count(sent.refused, "file")} not taken. ${sent.first}` : "";
}

/** Makes the classes that are not there, then sends. */
async function sendFolders(files) {
  const names = [...new Set(files.map(({ name }) => name))];
  const there = new Set((await json(own(""))).classes.map((c) => c.name));
  for (const name of names) {
    if (!there.has(name)) await post(own("/make"), { class: name });
  }
  await counts();
  await send(files);
}

/** The files of a folder that was dropped, each with the name of the folder that it lies in. */
async function walk(entry, parent) {
  if (entry.name.startsWith(".")) return [];
  if (entry.isFile) {
    const file = await new Promise((done, failed) => entry.file(done, failed));
    return [{ file, name: parent }];
  }
  const reader = entry.createReader();
  const all = [];
  for (;;) {
    const some = await new Promise((done, failed) => reader.readEntries(done, failed));
    if (!some.length) return all;
    for (const one of some) all.push(...(await walk(one, entry.name)));
  }
}

async function dropped(event) {
  const over = [...cards.values()].find((card) => card.root.contains(event.target));
  const entries = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  const loose = [...event.dataTransfer.files];
  await attempt(async () => {
    if (!set) throw new Error("Give the data set a name first.");
    const found = entries.length
      ? (await Promise.all(entries.map((entry) => walk(entry, "")))).flat()
      : loose.map((file) => ({ file, name: "" }));
    const images = found.filter(({ file }) => maybe(file));
    if (over) return send(images.map(({ file }) => ({ file, name: over.name })));
    const named = images.filter(({ name }) => name);
    if (!named.length) throw new Error("Drop photos on the class that they show; folders may be dropped anywhere.");
    return sendFolders(named);
  });
}

function tried(name) {
  at("fourth").hidden = false;
  at("try").href = `/?${query({ model: name })}`;
}

let following = false;

/** Follows the training until it ends. */
async function follow() {
  if (following) return;
  following = true;
  for (;;) {
    const training = await json("/begin/training").catch(() => null);
    if (training) show(training);
    if (training && !training.running) break;
    await new Promise((done) => setTimeout(done, EVERY.look));
  }
  following = false;
}

function show(training) {
  const percent = training.accuracy == null ? "" : `${(100 * training.accuracy).toFixed(1)}%`;
  at("train").querySelector("button").disabled = training.running;
  at("stop").hidden = !training.running;
  at("doing").hidden = false;
  at("doing").textContent = `${training.set}: ${training.doing}${training.running && percent ? `; ${percent} right so far` : ""}`;
  at("part").hidden = !training.running;
  if (training.part == null) at("part").removeAttribute("value");
  else at("part").value = training.part;
  at("why").hidden = !training.failed;
  at("why").textContent = training.failed ?? "";
  at("run").href = `/watch#${encodeURIComponent(training.run)}`;
  at("fourth").hidden = !training.served;
  if (!training.served) return;
  at("result").textContent = percent
    ? `${training.set} tells its classes apart: ${percent} of the photos that it did not learn from are right.`
    : `${training.set} tells its classes apart.`;
  at("fourth").dataset.model = training.set;
  tried(training.set);
}

async function save(format) {
  const model = at("fourth").dataset.model;
  await attempt(async () => {
    const bytes = await blob(`/export?${query({ model, format })}`);
    const link = element("a", { href: URL.createObjectURL(bytes), download: `${model}.${format}` });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  });
}

for (const name of ["dragenter", "dragover"]) {
  document.addEventListener(name, (event) => {
    event.preventDefault();
    at("drop").classList.add("over");
  });
}
for (const name of ["dragleave", "drop"]) {
  document.addEventListener(name, (event) => {
    event.preventDefault();
    at("drop").classList.remove("over");
  });
}
document.addEventListener("drop", dropped);
at("make").addEventListener("submit", (event) => {
  event.preventDefault();
  const name = at("name").value.trim();
  attempt(async () => {
    await post("/begin/sets", { name });
    at("name").value = "";
    await open(name);
    at("class").focus();
  });
});
at("sets").addEventListener("change", () => at("sets").value && attempt(() => open(at("sets").value)));
at("make-class").addEventListener("submit", (event) => {
  event.preventDefault();
  const name = at("class").value.trim();
  attempt(async () => {
    await post(own("/make"), { class: name });
    at("class").value = "";
    await counts();
  });
});
at("choose").addEventListener("click", () => at("folder").click());
at("folder").addEventListener("change", (event) => {
  const files = [...event.target.files].map((file) => ({ file, name: file.webkitRelativePath.split("/").at(-2) ?? "" }));
  event.target.value = "";
  attempt(() => sendFolders(files.filter(({ file, name }) => name && maybe(file))));
});
at("camera").addEventListener("click", () =>
  attempt(async () => {
    const on = await toggle(at("video"));
    at("shot").hidden = !on;
    at("camera").setAttribute("aria-pressed", String(on));
    for (const card of cards.values()) card.hold.hidden = !on;
  }),
);
at("net").addEventListener("change", about);
at("train").addEventListener("submit", (event) => {
  event.preventDefault();
  attempt(async () => {
    const minutes = at("minutes").value === "" ? null : Number(at("minutes").value);
    await post("/begin/train", { set, net: at("net").value, minutes });
    follow();
  });
});
at("stop").addEventListener("click", () => attempt(() => post("/begin/stop")));
at("onnx").addEventListener("click", () => save("onnx"));
at("file").addEventListener("click", () => save("safetensors"));
at("token").addEventListener("submit", (event) => {
  event.preventDefault();
  useToken(at("secret").value);
  at("secret").value = "";
  start();
});
start();
