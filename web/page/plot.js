// Rates from counters, and small plots of them.

const keep = 150; // points of a plot

// Rates keeps, for each name, the rate of a counter over time.
export class Rates {
  #last = new Map(); // counter's name -> {at, value}
  #points = new Map(); // plot's name -> numbers, the newest last

  // take reads the counters of one report. counters: [{plot, source, value}]: several
  // sources (directors) add up in one plot. A source that is new, or whose counter fell
  // because it was made anew, says nothing this once.
  take(at, counters) {
    const sums = new Map();
    const next = new Map();
    for (const c of counters) {
      const name = c.plot + "\n" + c.source;
      const before = this.#last.get(name);
      next.set(name, { at, value: c.value });
      if (!sums.has(c.plot)) sums.set(c.plot, null);
      if (!before || at <= before.at || c.value < before.value) continue;
      sums.set(c.plot, (sums.get(c.plot) ?? 0) + (c.value - before.value) / ((at - before.at) / 1000));
    }
    this.#last = next;
    for (const name of this.#points.keys()) if (!sums.has(name)) this.#points.delete(name);
    for (const [name, rate] of sums) {
      if (rate === null) continue;
      const points = this.#points.get(name) ?? [];
      points.push(rate);
      if (points.length > keep) points.shift();
      this.#points.set(name, points);
    }
  }

  points(name) { return this.#points.get(name) ?? []; }
}

// short writes a number with at most three digits: 12.3, 4.5 k.
export function short(n) {
  const units = ["", "k", "M", "G", "T"]; // behind a narrow space
  let i = 0;
  while (n >= 999.5 && i < units.length - 1) { n /= 1000; i++; }
  const digits = n >= 99.95 || Number.isInteger(n) ? 0 : n >= 9.995 ? 1 : 2;
  return n.toFixed(digits) + (i ? "\u202f" + units[i] : "");
}

const space = "http://www.w3.org/2000/svg";

function shape(tag, attributes) {
  const e = document.createElementNS(space, tag);
  for (const [k, v] of Object.entries(attributes)) e.setAttribute(k, v);
  return e;
}

// plot draws points under a caption that says the newest and the highest.
export function plot(title, unit, points) {
  const now = points.at(-1) ?? 0;
  const top = Math.max(...points, 1e-9);
  const figure = document.createElement("figure");
  const caption = document.createElement("figcaption");
  const words = document.createElement("span");
  words.textContent = title;
  const value = document.createElement("b");
  value.textContent = points.length ? `${short(now)} ${unit}` : "…";
  caption.append(words, value);
  const svg = shape("svg", { class: "plot", viewBox: `0 0 ${keep - 1} 30`, preserveAspectRatio: "none", role: "img" });
  svg.setAttribute("aria-label", points.length
    ? `${title}: ${short(now)} ${unit} now, at most ${short(Math.max(...points))} ${unit} in the last ${points.length} readings`
    : `${title}: not known yet`);
  if (points.length > 1) {
    const x = (i) => keep - points.length + i;
    const y = (v) => (28 - 26 * v / top).toFixed(2);
    const line = points.map((v, i) => `${x(i)},${y(v)}`).join(" ");
    svg.append(shape("polygon", { class: "area", points: `${x(0)},30 ${line} ${keep - 1},30` }), shape("polyline", { class: "line", points: line }));
  }
  figure.append(caption, svg);
  return figure;
}
