// A line chart as SVG.

const SVG = "http://www.w3.org/2000/svg";
const [WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM] = [480, 220, 60, 12, 12, 28];

function svg(name, attributes = {}, ...children) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

/** About four round numbers from `low` to `high`. */
export function ticks(low, high) {
  const span = high - low || 1;
  const power = 10 ** Math.floor(Math.log10(span / 3));
  const step = [1, 2, 5, 10].map((n) => n * power).find((n) => span / n <= 5);
  const first = Math.ceil(low / step - 1e-9) * step;
  const found = [];
  for (let v = first; v <= high + step * 1e-6; v += step) found.push(Number(v.toPrecision(12)));
  return found;
}

/** A figure of several series of [epoch, value]; `marks` are epochs at which a phase begins, `word` writes a value. */
export function chart(title, series, marks, word) {
  const all = series.flatMap((s) => s.values);
  const figure = document.createElement("figure");
  figure.className = "chart";
  const caption = document.createElement("figcaption");
  caption.append(title);
  for (const { name, kind, values } of series.filter((s) => s.values.length)) {
    const key = document.createElement("span");
    key.className = `key ${kind}`;
    key.textContent = `${name} ${word(values.at(-1)[1])}`;
    caption.append(key);
  }
  figure.append(caption);
  if (!all.length) {
    const none = document.createElement("p");
    none.className = "soft";
    none.textContent = "No epoch is done yet.";
    figure.append(none);
    return figure;
  }
  const xs = all.map(([x]) => x);
  const ys = all.map(([, y]) => y).filter(Number.isFinite);
  const [x0, x1] = [Math.min(...xs), Math.max(...xs, Math.min(...xs) + 1)];
  const [low, high] = [Math.min(...ys), Math.max(...ys)];
  const room = (high - low || Math.abs(high) || 1) * 0.06;
  const [y0, y1] = [low - room, high + room];
  const x = (v) => LEFT + ((v - x0) / (x1 - x0)) * (WIDTH - LEFT - RIGHT);
  const y = (v) => HEIGHT - BOTTOM - ((v - y0) / (y1 - y0)) * (HEIGHT - TOP - BOTTOM);
  const words = series
    .filter((s) => s.values.length)
    .map((s) => `${s.name}: ${word(s.values[0][1])} at epoch ${s.values[0][0]}, ${word(s.values.at(-1)[1])} at epoch ${s.values.at(-1)[0]}`);
  const root = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": `${title} by epoch. ${words.join("; ")}.` });
  for (const v of ticks(y0, y1)) {
    root.append(svg("line", { class: "grid", x1: LEFT, x2: WIDTH - RIGHT, y1: y(v), y2: y(v) }));
    root.append(svg("text", { x: LEFT - 6, y: y(v) + 4, "text-anchor": "end" }, word(v)));
  }
  for (const v of ticks(x0, x1).filter(Number.isInteger)) {
    root.append(svg("text", { x: x(v), y: HEIGHT - 8, "text-anchor": "middle" }, String(v)));
  }
  for (const mark of marks) root.append(svg("line", { class: "mark", x1: x(mark), x2: x(mark), y1: TOP, y2: HEIGHT - BOTTOM }));
  for (const { kind, values } of series) {
    const points = values.filter(([, v]) => Number.isFinite(v));
    if (!points.length) continue;
    root.append(svg("path", { class: `line ${kind}`, d: points.map(([a, b], i) => `${i ? "L" : "M"}${x(a).toFixed(1)} ${y(b).toFixed(1)}`).join("") }));
    const [a, b] = points.at(-1);
    root.append(svg("circle", { class: `dot ${kind}`, cx: x(a), cy: y(b), r: 3 }));
  }
  figure.append(root);
  return figure;
}
