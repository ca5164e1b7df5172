// From an empty page to a classifier: a data set, its classes, a training, a model.
import { Refused, blob, element, json, useToken } from "/page/ask.js";
import { photo, toggle } from "/page/camera.js";

const at = (id) => document.getElementById(id);
const AT_ONCE = 4;
// Small pictures of a class, at first, and how many come at once later.
const SHOWN = 8;
const MOST = 200;
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
const none = () => ({ done: 0, all: 0, again: 0, refused: [], folders: [], away: false, last: 0 });
// What was sent to each data set.
const sendings = new Map();
const sendingOf = (name) => sendings.get(name) ?? sendings.set(name, none()).get(name);

const post = (path, what) => json(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(what ?? {}) });
const query = (values) => new URLSearchParams(values).toString();
const address = (name, rest) => `/begin/sets/${encodeURIComponent(name)}${rest}`;
const own = (rest) => address(set, rest);
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
    // What is shown may be out of date, as after a change in another tab.
    if (set && error.status !== 401) counts().catch(() => {});
    return undefined;
  }
}

/** The data set that the address names. */
function wanted() {
  try {
    return decodeURIComponent(location.hash.slice(1));
  } catch {
    return "";
  }
}

async function start() {
  const found = await attempt(() => json("/begin/sets"));
  if (!found) return;
  at("token").hidden = true;
  // A data set that was made while this was asked for is not in the answer.
  const sets = set === null || found.sets.includes(set) ? found.sets : [...found.sets, set];
  at("old").hidden = sets.length === 0;
  at("sets").replaceChildren(
    element("option", { value: "", textContent: "choose" }),
    ...sets.map((name) => element("option", { value: name, textContent: name })),
  );
  at("sets").value = set ?? "";
  at("where").textContent = `Each data set is a folder in ${found.folder}. headstart serve --data with that folder looks for wrong labels in it.`;
  const first = Object.keys(NETS).filter((name) => found.nets.includes(name));
  const order = [...first, ...found.nets.filter((name) => !first.includes(name))];
  at("net").replaceChildren(...order.map((name) => element("option", { value: name, textContent: name })));
  for (const id of ["net", "minutes"]) {
    const before = sessionStorage.getItem(`headstart-${id}`);
    if ([...at(id).options].some((o) => o.value === before)) at(id).value = before;
  }
  about();
  const asked = wanted();
  const training = await attempt(() => json("/begin/training"));
  const name = found.sets.includes(asked) ? asked : training?.running ? training.set : null;
  // Nothing takes the place of what the visitor opened meanwhile.
  if (name && (set === null || set === name)) await attempt(() => open(name));
  if (training) follow();
}

function about() {
  const net = at("net").value;
  const said = NETS[net] ?? "its weights are downloaded once, unless they are here";
  at("about").textContent = net ? `${net}: ${said}.` : "";
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
  tell();
  show(latest);
  await Promise.all([counts(), models()]);
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
  const changed = [];
  for (const { name, count: images } of found.classes) {
    const card = cards.get(name) ?? add(name);
    if (card.images === images) continue;
    card.images = images;
    card.count.textContent = count(images, "photo");
    changed.push(pictures(card, of));
  }
  await Promise.all(changed);
}

async function pictures(card, from) {
  const of = { set: from, class: card.name };
  const { files, total } = await json(`/begin/images?${query({ ...of, count: card.most })}`);
  const made = await Promise.all(files.map(async (file) => card.shown.get(file) ?? picture(card, of, file)));
  for (const [file, figure] of card.shown) {
    if (!files.includes(file)) URL.revokeObjectURL(figure.querySelector("img").src);
  }
  card.shown = new Map(files.map((file, i) => [file, made[i]]));
  card.pictures.replaceChildren(...made);
  card.more.hidden = total <= files.length;
  card.more.textContent = `Show more of ${count(total, "photo")}`;
}

/** A photo; one that cannot be shown has its name. */
async function picture(card, of, file) {
  const image = element("img", { alt: `${card.name}: ${file}` });
  try {
    image.src = URL.createObjectURL(await blob(`/begin/picture?${query({ ...of, file })}`));
  } catch (error) {
    image.title = error.message;
  }
  const button = element("button", { type: "button", title: "Remove this photo", "aria-label": `Remove ${file}`, textContent: "×" });
  button.addEventListener("click", () =>
    attempt(async () => {
      const all = [...card.pictures.querySelectorAll("button")];
      const next = all.indexOf(button);
      await post(`/begin/images/remove?${query({ set, class: card.name, file })}`);
      await counts();
      const left = [...card.pictures.querySelectorAll("button")];
      (left[Math.min(next, left.length - 1)] ?? card.choose).focus();
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
  const more = element("button", { type: "button", textContent: "Show more", "aria-label": `Show more photos of ${name}`, hidden: true });
  const root = element(
    "section",
    { className: "class", "aria-label": name },
    element("div", { className: "controls" }, title, number),
    // Above the photos, so that a button that is held stays where it is.
    element("div", { className: "controls" }, choose, hold, rename, away, files),
    row,
    more,
  );
  const card = { name, root, count: number, pictures: row, shown: new Map(), images: -1, choose, rename, hold, more, most: SHOWN };
  more.addEventListener("click", () => {
    card.most += Math.min(MOST, 4 * card.most);
    attempt(() => pictures(card, set));
  });
  hold.hidden = !at("video").srcObject;
  choose.addEventListener("click", () => files.click());
  files.addEventListener("change", () => {
    send([...files.files].map((file) => ({ file, name: card.name })));
    files.value = "";
  });
  rename.addEventListener("click", () => {
    const to = window.prompt(`Another name for ${card.name}`, card.name);
    if (!to || to === card.name) return;
    attempt(async () => {
      await post(own("/rename"), { class: card.name, to });
      // What is still to be sent goes there too.
      for (const one of waiting) if (one.set === set && one.name === card.name) one.name = to;
      await counts();
      [...cards.values()].find((other) => same(other.name, to))?.rename.focus();
    });
  });
  away.addEventListener("click", () => {
    const sure = card.images === 0 || window.confirm(`Remove ${card.name} and its ${count(card.images, "photo")}?`);
    if (!sure) return;
    attempt(async () => {
      for (let i = waiting.length - 1; i >= 0; i--) if (waiting[i].set === set && waiting[i].name === card.name) waiting.splice(i, 1);
      const sent = sendingOf(set);
      sent.all = sent.done + waiting.filter((one) => one.set === set).length;
      await post(own("/remove"), { class: card.name });
      await counts();
    });
  });
  holding(card);
  cards.set(name, card);
  at("classes").append(root);
  return card;
}

/** Photos of the camera for as long as a class's button is held down, by pointer or key. */
function holding(card) {
  let timer = null;
  const from = set;
  const shoot = async () => {
    const taken = await photo(at("video"));
    if (taken) send([{ file: taken, name: card.name }], from);
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
async function send(files, of = set) {
  const wanted = files.filter(({ file }) => maybe(file));
  if (!wanted.length) return;
  // Photos of the camera come one by one and are counted together.
  const before = sendingOf(of);
  if (before.done === before.all && Date.now() - before.last > EVERY.series) sendings.set(of, none());
  const sent = sendingOf(of);
  sent.last = Date.now();
  waiting.push(...wanted.map((one) => ({ ...one, set: of })));
  sent.all += wanted.length;
  tell();
  while (senders < AT_ONCE && senders < waiting.length) {
    senders += 1;
    work().finally(() => {
      senders -= 1;
      if (!senders) counts().catch(fail).then(tell);
    });
  }
}

let counted = 0;

async function work() {
  for (let next = waiting.shift(); next; next = waiting.shift()) {
    const sent = sendingOf(next.set);
    try {
      const address = `/begin/images?${query({ set: next.set, class: next.name, file: next.file.name })}`;
      const made = await deliver(address, await whole(next.file), sent);
      if (!made.new) sent.again += 1;
    } catch (error) {
      const named = error.message.startsWith(`${next.file.name}:`);
      sent.refused.push(named ? error.message : `${next.file.name}: ${error.message}`);
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

/** The bytes of a file, which may have gone since it was chosen. */
async function whole(file) {
  try {
    return await file.arrayBuffer();
  } catch {
    throw new Error("it cannot be read any more");
  }
}

/** Sends a file; again after a pause where the server is busy or away. */
async function deliver(address, body, sent) {
  for (let pause = 500; ; pause *= 2) {
    try {
      const made = await json(address, { method: "POST", headers: { "Content-Type": "application/octet-stream" }, body });
      sent.away = false;
      return made;
    } catch (error) {
      if (![0, 503].includes(error.status) || pause > 30_000) throw error;
      sent.away = error.status === 0;
      tell();
      await new Promise((done) => setTimeout(done, pause));
    }
  }
}

const NAMED = 10;

function tell() {
  const sent = set ? sendingOf(set) : none();
  const busy = sent.done < sent.all;
  // What is not there yet would be missing in the model.
  at("train").querySelector("button").disabled = busy || (latest?.running ?? false);
  at("sending").hidden = !busy;
  at("sending").value = sent.done / Math.max(1, sent.all);
  const away = sent.away ? ". The server does not answer; it is asked again" : "";
  const again = sent.again ? `, ${sent.again.toLocaleString("en")} of them there already` : "";
  at("sent").textContent = busy ? `${sent.done.toLocaleString("en")} of ${count(sent.all, "photo")}${away}` : sent.all ? `${count(sent.done - sent.refused.length, "photo")} sent${again}.` : "";
  const { refused, folders } = sent;
  at("refused").hidden = !refused.length && !folders.length;
  const heads = [folders.length && `${count(folders.length, "folder")} left out`, refused.length && `${count(refused.length, "file")} not taken`].filter(Boolean);
  const all = [...folders, ...refused];
  const more = all.length > NAMED ? [element("li", { textContent: `and ${all.length - NAMED} more` })] : [];
  at("refused").replaceChildren(`${heads.join(", ")}:`, element("ul", {}, ...all.slice(0, NAMED).map((textContent) => element("li", { textContent })), ...more));
}

/** Whether two names of classes are one to the server. */
const same = (a, b) => a.normalize("NFC").toLowerCase() === b.normalize("NFC").toLowerCase();

/** Makes the classes that are not there, then sends; a class that cannot be made is said and left out. */
async function sendFolders(files, of = set) {
  const there = (await json(address(of, ""))).classes.map((c) => c.name);
  const taken = new Map();
  const bad = [];
  for (const name of new Set(files.map((one) => one.name))) {
    const known = there.find((other) => same(other, name));
    if (known === undefined) {
      try {
        await post(address(of, "/make"), { class: name });
        there.push(name);
      } catch (error) {
        if (!(error instanceof Refused) || error.status !== 422) throw error;
        bad.push(`${name}: ${error.message}`);
        continue;
      }
    }
    taken.set(name, known ?? name);
  }
  if (of === set) await counts();
  if (bad.length && sendingOf(of).done === sendingOf(of).all) sendings.set(of, none());
  sendingOf(of).folders.push(...bad);
  sendingOf(of).last = Date.now();
  if (of === set) tell();
  await send(files.filter(({ name }) => taken.has(name)).map(({ file, name }) => ({ file, name: taken.get(name) })), of);
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
    const of = set;
    if (!of) throw new Error("Give the data set a name first.");
    const found = entries.length
      ? (await Promise.all(entries.map((entry) => walk(entry, "")))).flat()
      : loose.map((file) => ({ file, name: "" }));
    const images = found.filter(({ file }) => maybe(file));
    if (over) return send(images.map(({ file }) => ({ file, name: over.name })), of);
    const named = images.filter(({ name }) => name);
    if (!named.length) throw new Error("Drop photos on the class that they show; folders may be dropped anywhere.");
    return sendFolders(named, of);
  });
}

const percent = (p) => `${(100 * p).toFixed(1)}%`;

/** How good a model is, in words. */
function measured(report) {
  if (!report) return "There were no photos to measure it on.";
  const { accuracy, samples, bounds, baseline, unmeasured, learned } = report;
  const between = bounds ? `, between ${percent(bounds[0])} and ${percent(bounds[1])} of all such photos` : "";
  const always = baseline == null ? "" : ` Always saying the commonest class would reach ${percent(baseline)}.`;
  const none = unmeasured.length ? ` None of them shows ${unmeasured.join(", ")}: more photos tell more.` : "";
  const known = learned ? ` It learned from ${learned} of them: they are in the data set twice.` : "";
  return `It named ${percent(accuracy)} of ${count(samples, "photo")} rightly that were kept back${between}.${always}${none}${known}`;
}

/** The models that were made of the data set. */
async function models() {
  const of = set;
  const found = await json(address(of, "/models"));
  if (of !== set) return;
  at("fourth").hidden = found.models.length === 0;
  at("models").replaceChildren(...found.models.map(model));
}

function model({ run, net, report }) {
  const served = (work) => () => attempt(async () => (await post("/begin/serve", { run }), work()));
  const attempted = element("button", { type: "button", textContent: "Try it", "aria-label": `Try it: ${run}` });
  attempted.addEventListener("click", served(() => location.assign(`/?${query({ model: run })}`)));
  const onnx = element("button", { type: "button", textContent: "Export as ONNX", "aria-label": `Export as ONNX: ${run}` });
  onnx.addEventListener("click", served(() => save(run, "onnx")));
  const file = element("button", { type: "button", textContent: "Save the model file", "aria-label": `Save the model file: ${run}` });
  file.addEventListener("click", served(() => save(run, "safetensors")));
  const curves = element("a", { className: "button", href: `/watch#${encodeURIComponent(run)}`, textContent: "Curves and report" });
  return element(
    "section",
    { className: "class", "aria-label": run },
    element("h3", { textContent: `${run} (${net})` }),
    element("p", { textContent: measured(report) }),
    element("div", { className: "controls" }, attempted, onnx, file, curves),
  );
}

let following = false;
let latest = null;

/** Follows the training until it ends. */
async function follow() {
  if (following) return;
  following = true;
  for (let was = latest; ; ) {
    let training;
    try {
      training = await json("/begin/training");
    } catch (error) {
      if (error.status === 401) break;
      at("doing").hidden = false;
      at("doing").textContent = error.message;
      await new Promise((done) => setTimeout(done, EVERY.look));
      continue;
    }
    // A server that was started again knows nothing of it.
    if (!training && was) training = { ...was, running: false, doing: "the server was started again; Watch can resume it" };
    if (training) show(training);
    if (!training?.running) {
      if (set) await attempt(models);
      break;
    }
    was = training;
    await new Promise((done) => setTimeout(done, EVERY.look));
  }
  following = false;
}

function show(training) {
  latest = training;
  const running = training?.running ?? false;
  // What another data set's training came to is not of this one.
  const own = training && (running || training.set === set);
  tell();
  at("stop").hidden = !running;
  at("doing").hidden = !own;
  at("part").hidden = !running;
  at("why").hidden = !(own && training.failed);
  if (!own) return;
  const so = training.accuracy != null && running ? `; ${percent(training.accuracy)} right so far` : "";
  const STATES = { stopped: ": it is saved, and Watch can resume it", running: ", and was resumed in Watch", finished: ", resumed in Watch, and is finished" };
  const stopped = training.doing === "stopped" ? (STATES[training.state] ?? " before anything was saved") : "";
  at("doing").textContent = `${training.run}: ${training.doing}${so}${stopped}`;
  if (training.part == null) at("part").removeAttribute("value");
  else at("part").value = training.part;
  // Without a network there is one net that needs none.
  const local = /download/.test(training.failed ?? "") ? " The net resnet20 is inside the program." : "";
  at("why").textContent = `${training.failed ?? ""}${local}`;
}

async function save(model, format) {
  const bytes = await blob(`/export?${query({ model, format })}`);
  const link = element("a", { href: URL.createObjectURL(bytes), download: `${model}.${format}` });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

/** Does what a form asks for, once. */
function submitted(form, work) {
  let busy = false;
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (busy) return;
    busy = true;
    await attempt(work);
    busy = false;
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
submitted(at("make"), async () => {
  const name = at("name").value.trim();
  await post("/begin/sets", { name });
  at("name").value = "";
  await open(name);
  at("class").focus();
});
at("sets").addEventListener("change", () => at("sets").value && attempt(() => open(at("sets").value)));
submitted(at("make-class"), async () => {
  const name = at("class").value.trim();
  await post(own("/make"), { class: name });
  at("class").value = "";
  await counts();
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
submitted(at("train"), async () => {
  const minutes = at("minutes").value === "" ? null : Number(at("minutes").value);
  for (const id of ["net", "minutes"]) sessionStorage.setItem(`headstart-${id}`, at(id).value);
  await post("/begin/train", { set, net: at("net").value, minutes });
  follow();
  at("stop").hidden = false;
  at("stop").focus();
});
at("stop").addEventListener("click", () => attempt(() => post("/begin/stop")));
addEventListener("hashchange", () => wanted() && wanted() !== set && attempt(() => open(wanted())));
// What is not sent yet is lost with the page.
addEventListener("beforeunload", (event) => {
  if (waiting.length || senders) event.preventDefault();
});
at("token").addEventListener("submit", (event) => {
  event.preventDefault();
  useToken(at("secret").value);
  at("secret").value = "";
  start();
});
start();
