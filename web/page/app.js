// Shows the reports that the server streams. Nothing here is HTML that came from
// elsewhere: text becomes text nodes, and attributes are set by name.
import { Rates, plot } from "./plot.js";

const most = 50; // real servers of one virtual server, and virtual servers, shown at once
const rates = new Rates();
const events = [];
let report = null;

// el makes an element; children are elements, texts, or nothing.
function el(tag, attributes = {}, ...children) {
  const e = document.createElement(tag);
  for (const [k, v] of Object.entries(attributes)) if (v !== undefined && v !== false) e.setAttribute(k, v === true ? "" : v);
  for (const c of children.flat(Infinity)) if (c !== null && c !== undefined && c !== "") e.append(c);
  return e;
}

// patch makes old look like fresh and keeps what did not change, so that a selection,
// the focus and a reader's place stay.
function patch(old, fresh) {
  if (old.nodeType !== fresh.nodeType || old.nodeName !== fresh.nodeName) { old.replaceWith(fresh); return; }
  if (old.nodeType === Node.TEXT_NODE) { if (old.data !== fresh.data) old.data = fresh.data; return; }
  for (const a of [...old.attributes]) if (!fresh.hasAttribute(a.name)) old.removeAttribute(a.name);
  for (const a of fresh.attributes) if (old.getAttribute(a.name) !== a.value) old.setAttribute(a.name, a.value);
  const have = [...old.childNodes], want = [...fresh.childNodes];
  want.forEach((w, i) => { if (i < have.length) patch(have[i], w); else old.append(w); });
  have.slice(want.length).forEach((h) => h.remove());
}

// show puts children into what stands below a section's heading.
function show(id, ...children) {
  const old = document.querySelector(`#${id} > div`);
  patch(old, el("div", {}, ...children));
}

const tag = (text, level) => el("span", { class: "tag", "data-level": level }, text);
const plural = (n, one, many = one + "s") => `${n} ${n === 1 ? one : many}`;

function ago(ms) {
  const s = Math.max(0, Math.round(ms / 1000));
  if (s < 120) return `${s} s`;
  if (s < 7200) return `${Math.round(s / 60)} min`;
  if (s < 172800) return `${Math.round(s / 3600)} h`;
  return `${Math.round(s / 86400)} days`;
}

function clock(text) {
  const at = new Date(text), two = (n) => String(n).padStart(2, "0");
  const day = at.toDateString() === new Date().toDateString() ? "" : `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())} `;
  return el("time", { datetime: text }, `${day}${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`);
}

function survival(r) {
  const s = r.survival, box = document.querySelector("#survival");
  let level = "good", text = `Survives ${plural(s.failures, "more failure")}`;
  if (!r.enrolled) { level = "warn"; text = "This machine is in no cluster"; }
  else if (s.failures < 0) { level = "bad"; text = "No majority: no VIP can be held"; }
  else if (s.failures === 0) { level = "warn"; text = "The next failure may be one too many"; }
  const more = r.enrolled
    ? `${s.answering} of ${plural(s.voters, "voter")} answer, ${plural(s.directors, "director")}; ${s.leader ? `leader ${name(s.leader)}` : "no leader is known"}.`
    : "Found a cluster with: lbcluster init; or join one with: lbcluster join.";
  const advice = s.advice ? s.advice[0].toUpperCase() + s.advice.slice(1) + "." : "";
  const fresh = el("section", {}, el("div", { class: "banner", "data-level": level }, el("strong", {}, text), el("span", {}, more), advice && el("span", {}, advice)));
  patch(box.firstChild ?? box.appendChild(el("div")), fresh.firstChild);
}

function name(id) { return report.members.find((m) => m.id === id)?.name ?? id; }

function findings(r) {
  document.querySelector("#findings").hidden = r.findings.length === 0 && !(r.warnings ?? []).length;
  const level = { bad: "bad", warn: "warn", note: undefined };
  show("findings", el("div", { class: "wide" }, el("ul", { class: "plain" },
    r.findings.map((f) => el("li", {}, tag(f.severity, level[f.severity]), " ", f.text, f.fix && el("div", { class: "dim" }, "→ ", f.fix))),
    (r.warnings ?? []).map((w) => el("li", {}, tag("warn", "warn"), " ", `${w.member}: ${w.text}`)))));
}

function routers(r) {
  show("routers", r.routers.length === 0 ? el("p", { class: "dim" }, "None.") : el("div", { class: "cards" }, r.routers.map((x) => router(r, x))));
}

function router(r, x) {
  const owner = r.members.find((m) => m.id === x.owner), lease = owner?.status?.leases?.find((l) => l.router === x.unit);
  const left = x.remaining_ms, whole = Math.max(left, 1000 * ({ fast: 0.24, default: 0.8, robust: 3 }[r.profile] ?? 1));
  return el("article", { class: "card" },
    el("div", { class: "head" }, el("h3", {}, x.name), x.owner ? tag(`on ${x.owner_name}`, "good") : tag("nobody owns it", "bad")),
    el("p", {}, x.addresses.map((a) => a.replace(/\/(32|128)$/, "")).join(", ")),
    x.owner ? el("meter", { min: 0, max: whole, value: left, "aria-label": `lease of ${x.name}` }, `${left} ms`) : null,
    el("dl", {},
      x.owner ? [el("dt", {}, "lease"), el("dd", { class: "number" }, `${left} ms left`, lease?.renewals ? `, at worst ${Math.round(100 * (lease.least_left ?? 0))} % left at a renewal` : "")] : null,
      x.held_since ? [el("dt", {}, "held for"), el("dd", {}, ago(Date.parse(r.at) - Date.parse(x.held_since)))] : null,
      x.home_name ? [el("dt", {}, "home"), el("dd", {}, x.home_name, x.pinned ? " (pinned)" : "", x.away ? `: ${x.away}` : "")] : null,
      el("dt", {}, "VRRP"), el("dd", {}, `VRID ${x.vrid}${x.vrrp ? `, ${x.vrrp}` : ""}`),
      x.stand_by.map((s) => [el("dt", {}, s.name), el("dd", {}, s.why)])));
}

function members(r) {
  const cell = (label, ...c) => el("td", { "data-label": label }, ...c);
  show("members", r.members.length === 0 ? el("p", { class: "dim" }, "None.") : el("div", { class: "wide" }, el("table", {},
    el("caption", {}, "Members"),
    el("thead", {}, el("tr", {}, ["Name", "State", "Holds", "Raft", "Table", "Kernel", "Runs for"].map((t) => el("th", { scope: "col" }, t)))),
    el("tbody", {}, r.members.map((m) => {
      const s = m.status, holds = r.routers.filter((x) => x.owner === m.id).map((x) => x.name);
      const state = !s ? tag("no answer", "bad") : m.drained ? tag("drained", "warn") : tag(m.state, m.state === "present" ? "good" : "warn");
      const director = m.role === "director";
      return el("tr", {},
        el("th", { scope: "row" }, m.name, " ", el("span", { class: "dim" }, director ? m.addr.replace(/:\d+$/, "") : "witness")),
        cell("State", state, s ? null : ` ${m.error ?? ""}`),
        cell("Holds", holds.join(", ") || (director ? "–" : "")),
        cell("Raft", s ? s.raft.state : ""),
        cell("Table", s ? `r${s.table_revision}` : "", s && s.table_revision < r.revision ? ` (${r.revision - s.table_revision} behind)` : ""),
        cell("Kernel", !s || !director ? "" : s.kernel.error ? tag("not applied", "bad") : s.gate.error || !s.gate.mode ? tag("no gate", "bad") : `r${s.kernel.revision}, gate ${s.gate.mode}`),
        cell("Runs for", s ? `${ago(Date.parse(r.at) - Date.parse(s.started))}, ${s.version}` : ""));
    })))));
}

const key = (k) => k.mark ? `fwmark${k.v6 ? "6" : ""}/${k.mark}` : `${k.protocol}/${k.addr.includes(":") ? `[${k.addr}]` : k.addr}:${k.port}`;

function services(r) {
  const words = document.querySelector("#filter").value.toLowerCase().split(/\s+/).filter(Boolean);
  document.querySelector("#filter-line").hidden = r.services.length < 2 && words.length === 0;
  const text = (s, v) => `${key(s.key)} ${s.router ?? ""} ${s.group ?? ""} ${v ? `${v.server} ${state(v)[0]} ${v.why}` : ""}`.toLowerCase();
  const all = r.services.filter((s) => words.every((w) => text(s).includes(w) || s.servers.some((v) => text(s, v).includes(w))));
  show("services", all.length === 0 ? el("p", { class: "dim" }, words.length ? "Nothing like that." : "None.") : null,
    all.slice(0, most).map((s) => service(r, s)),
    all.length > most ? el("p", { class: "dim" }, `And ${all.length - most} more: narrow them down above.`) : null);
}

function service(r, s) {
  const name = key(s.key), taking = s.servers.filter((v) => v.in_kernel && v.effective > 0).length;
  const badness = (v) => (state(v)[1] === "good" ? 1 : 0);
  const shown = [...s.servers].sort((a, b) => s.servers.length > most ? badness(a) - badness(b) : 0).slice(0, most);
  return el("article", { class: "wide" },
    el("div", { class: "head" }, el("h3", {}, name),
      tag(`${taking} of ${plural(s.servers.length, "server")} ${taking === 1 ? "takes" : "take"} connections`, taking === 0 ? "bad" : taking < s.servers.length ? "warn" : "good")),
    el("p", { class: "dim" }, [s.scheduler, s.router ? `router ${s.router}` : "in no router", s.group && `group ${s.group}`, s.persistence && s.persistence !== "0s" && `persistence ${s.persistence}`, s.pool].filter(Boolean).join(", ")),
    el("div", { class: "plots" },
      plot("New connections (5 min)", "per s", rates.points(`conns ${name}`)),
      plot("Bits in (5 min)", "bit/s", rates.points(`bits ${name}`))),
    el("table", {}, el("caption", {}, `Real servers of ${name}`),
      el("thead", {}, el("tr", {}, ["Real server", "State", "Weight", "Opinions", "Why"].map((t) => el("th", { scope: "col" }, t)))),
      el("tbody", {}, shown.map(server))),
    s.servers.length > most ? el("p", { class: "dim" }, `And ${plural(s.servers.length - most, "server")} more.`) : null);
}

function state(v) {
  if (v.admin === "drain") return ["drained", "warn"];
  if (v.admin === "disable") return ["disabled", "warn"];
  if (v.health.down) return ["down", "bad"];
  return v.in_kernel && v.effective > 0 ? ["up", "good"] : ["idle", "warn"];
}

function server(v) {
  const cell = (label, ...c) => el("td", { "data-label": label }, ...c);
  return el("tr", {}, el("th", { scope: "row" }, v.server), cell("State", tag(...state(v))), cell("Weight", String(v.effective)),
    cell("Opinions", v.votes.length === 0 ? el("span", { class: "dim" }, "none") :
      v.votes.map((o) => [el("span", { class: "tag", "data-level": !o.counted ? undefined : o.up ? "good" : "bad", title: o.detail || undefined },
        `${o.name} ${o.up ? "up" : "down"}${o.counted ? "" : " (silent)"}`), " "]).flat()),
    cell("Why", [v.why, ...new Set(v.votes.filter((o) => !o.up && o.detail && !v.why.includes(o.detail)).map((o) => o.detail))].filter(Boolean).join("; ")));
}

function lastEvents() {
  show("events", events.length === 0 ? el("p", { class: "dim" }, "None yet.") : el("div", { class: "wide" }, el("ul", { class: "plain" },
    [...events].reverse().map((e) => el("li", {}, clock(e.at), " ", e.text, " ", el("span", { class: "dim" }, `(${e.by}, r${e.revision})`))))));
}

function counters(r) {
  const out = [];
  for (const m of r.members) for (const t of m.status?.kernel?.traffic ?? []) {
    out.push({ plot: `conns ${t.service}`, source: m.id, value: t.connections });
    out.push({ plot: `bits ${t.service}`, source: m.id, value: 8 * t.in_bytes });
  }
  return out;
}

function draw() {
  if (!report) return;
  const r = report;
  document.title = r.enrolled ? `${r.survival.failures > 0 && !r.findings.some((f) => f.severity === "bad") ? "" : "⚠ "}lbcluster on ${r.name}` : "lbcluster";
  document.querySelector("#who").textContent = `as ${r.name} sees it${r.enrolled ? `, revision ${r.revision}, profile ${r.profile || "default"}` : ""}`;
  survival(r); findings(r); routers(r); members(r); services(r); lastEvents();
}

function link(state, text) {
  const e = document.querySelector("#link");
  if (e.dataset.state !== state) { e.dataset.state = state; e.textContent = text; }
}

// watch streams. The browser connects again by itself where the stream breaks; where it
// is refused, it gives up, and we do it.
function watch() {
  const last = events.at(-1)?.revision;
  const stream = new EventSource(`v1/watch?${last === undefined ? "last=40" : `after=${last}`}`);
  let heard = Date.now();
  const silence = setInterval(() => { if (Date.now() - heard > 8000) link("lost", "no news: what is shown is old"); }, 1000);
  stream.addEventListener("status", (e) => {
    heard = Date.now();
    report = JSON.parse(e.data);
    rates.take(Date.parse(report.at), counters(report));
    link("live", "live");
    draw();
  });
  stream.addEventListener("event", (e) => {
    const one = JSON.parse(e.data);
    if (events.some((o) => o.revision === one.revision && o.text === one.text)) return;
    events.push(one);
    if (events.length > 40) events.shift();
    lastEvents();
  });
  stream.addEventListener("error", () => {
    link("lost", "the daemon does not answer: what is shown is old");
    if (stream.readyState !== EventSource.CLOSED) return;
    clearInterval(silence);
    setTimeout(watch, 3000);
  });
}

document.querySelector("#filter").addEventListener("input", draw);
watch();
