"use strict";
// Draws the picture that the console pushes. Text goes in as text, never as markup, and a row is changed, not made anew.
const STAGES = [
  ["ingestion_gate", "traffic"], ["context_store_flow_binding", "flows.bound"], ["online_feature_plane", "flows.featured"],
  ["decision_fabric", "decisions"], ["decision_fabric", "action_intents"], ["action_layer", "action_outcomes"],
  ["decision_log_audit", "audit_chains"], ["case_trigger", "case_triggers"], ["case_management", "case_events"],
  ["label_store", "labels"], ["identity_entity_graph", null], ["archive_writer", null],
];
const TIMELINE_SECONDS = 900;
const EVENTS_SHOWN = 40;
const WEIGHT = ["status", "start", "stop", "fault", "restart", "exit"];
const POINTS_MAX = 600;
const STALE_SECONDS = 4;
const points = [];
let heardAt = 0;

const $ = (id) => document.getElementById(id);
const number = new Intl.NumberFormat("en");
const count = (value) => (value === null || value === undefined ? "–" : number.format(value));
const tone = (status) => ({"running ready": "good", "running starting": "warn", "running waiting": "warn"}[status] || "bad");
const postureTone = (mode) => ({NORMAL: "good", FAIL_CLOSED: "bad"}[mode] || "warn");

function age(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  const s = Math.max(0, seconds);
  if (s < 10) return `${s.toFixed(1)} s`;
  if (s < 100) return `${Math.floor(s)} s`;
  if (s < 3600) return `${Math.floor(s / 60)}m ${String(Math.floor(s % 60)).padStart(2, "0")}s`;
  if (s < 86400) return `${Math.floor(s / 3600)}h ${String(Math.floor(s % 3600 / 60)).padStart(2, "0")}m`;
  return `${Math.floor(s / 86400)}d ${Math.floor(s % 86400 / 3600)}h`;
}
const ago = (at, now) => (at ? `${age((now - Date.parse(at)) / 1000)} ago` : "");

function make(name, properties = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key === "text") element.textContent = value;
    else if (value !== null && value !== undefined) element.setAttribute(key, value);
  }
  element.append(...children);
  return element;
}

// Keeps the children of `parent` in step with `items`: made once per key, updated every time.
function keep(parent, items, keyOf, create, update) {
  const known = new Map([...parent.children].map((child) => [child.dataset.key, child]));
  items.forEach((item, index) => {
    const key = String(keyOf(item));
    let child = known.get(key);
    if (!child) {
      child = create(item);
      child.dataset.key = key;
    }
    known.delete(key);
    update(child, item);
    if (parent.children[index] !== child) parent.insertBefore(child, parent.children[index] || null);
  });
  known.forEach((child) => child.remove());
}

const breakable = (name) => name.replaceAll("_", "_\u200b");
const put = (element, text) => { if (element.textContent !== text) element.textContent = text; };
const setTone = (element, value) => { if (element.dataset.tone !== value) element.dataset.tone = value; };
const row = (cells) => () => make("tr", {}, ...cells.map((kind) => make("td", {class: kind})));
function fill(line, values) {
  values.forEach((value, index) => {
    put(line.children[index], value);
    if (line.children[index].classList.contains("n")) line.children[index].classList.toggle("zero", value === "0" || value === "–");
  });
}

function drawTiles(picture, now) {
  const {flow, ledgers} = picture;
  const waiting = flow ? flow.lags.reduce((sum, lag) => sum + lag[2], 0) : null;
  const latency = ledgers && ledgers.decisions.latency_seconds["0.99"];
  const report = ledgers && ledgers.reports[0];
  const posture = ledgers && ledgers.posture;
  const labels = ledgers && Object.values(ledgers.labels).reduce((sum, n) => sum + n, 0);
  const newest = ledgers && ledgers.decisions.newest;
  const share = newest && newest.terminal_fraud_share_7d;
  const known = share === null || share === undefined ? "" : `, ${Math.round(share * 100)} % of the newest decision's terminal known as fraud`;
  const tiles = [
    ["posture", "Posture", posture ? posture.mode : "–", posture ? `${posture.since ? `since ${age((now - Date.parse(posture.since)) / 1000)}: ` : ""}${posture.reason}` : "", posture && postureTone(posture.mode)],
    ["rate", "Decided a second", flow && flow.rates.decisions !== undefined ? count(Math.round(flow.rates.decisions)) : "–", flow ? `${count(flow.heads.decisions)} in all` : ""],
    ["waiting", "Records waiting", count(waiting), "all stages together"],
    ["latency", "Latency, p99", latency === null || latency === undefined ? "–" : `${count(Math.round(latency * 1000))} ms`, "admitted to decided"],
    ["cases", "Open cases", ledgers ? count(ledgers.cases.OPEN) : "–", ledgers ? `${count(ledgers.cases.RESOLVED)} resolved` : ""],
    ["labels", "Labels", count(labels), ledgers ? `${count(ledgers.labels.HUMAN)} by people${known}` : ""],
    ["report", "Last report", report ? report.verdict : "none yet", report ? ago(report.reported_at, now) : "platform report", report && (report.verdict === "PASS" ? "good" : "bad")],
  ];
  keep($("tiles"), tiles, (t) => t[0],
    (t) => make("div", {class: "tile", id: `tile-${t[0]}`}, make("span", {text: t[1]}), make("b"), make("small")),
    (element, t) => {
      put(element.children[1], t[2]);
      setTone(element.children[1], t[4] || "");
      put(element.children[2], t[3]);
      element.children[2].title = t[3];
    });
}

function drawPacks(picture) {
  keep($("packs"), picture.status.packs, (pack) => pack.pack,
    (pack) => make("div", {class: "pack"},
      make("h3", {}, make("span", {text: pack.pack}), make("span", {class: "badge"})),
      make("table", {}, make("thead", {}, make("tr", {}, ...["worker", "restarts", "waiting", "beat", "memory"].map((name, i) => make("th", {class: i ? "n" : "", text: name})))), make("tbody"))),
    (element, pack) => {
      const badge = element.querySelector(".badge");
      put(badge, pack.status);
      setTone(badge, tone(pack.status));
      keep(element.querySelector("tbody"), pack.workers, (w) => w.worker,
        () => make("tr", {}, make("td", {}, make("span", {class: "dot"}), make("span", {class: "reason"})), ...[1, 2, 3, 4].map(() => make("td", {class: "n"}))),
        (line, worker) => {
          Object.assign(line.dataset, {worker: worker.worker, status: worker.status, restarts: worker.restarts, pid: worker.pid === null ? "" : worker.pid});
          const [dot, reason] = line.children[0].children;
          put(dot, breakable(worker.worker));
          setTone(dot, tone(worker.status));
          dot.title = `${worker.status}, pid ${worker.pid}, up ${age(worker.uptime_seconds)}`;
          const why = worker.ready ? "" : `${worker.status.replace("running ", "")}${worker.reason ? `: ${worker.reason}` : ""}${worker.reason_seconds === null ? "" : `, ${age(worker.reason_seconds)}`}`;
          put(reason, why);
          setTone(reason, tone(worker.status));
          const rss = worker.rss_bytes === null ? "–" : `${Math.round(worker.rss_bytes / 1048576)} MiB`;
          [count(worker.restarts), count(worker.lag_records), age(worker.beat_age_seconds), rss].forEach((value, i) => {
            put(line.children[i + 1], value);
            line.children[i + 1].classList.toggle("zero", value === "0" || value === "–");
          });
          setTone(line.children[1], worker.restarts ? "warn" : "");
        });
    });
}

function drawStages(picture) {
  if (!picture.flow) return;
  const {rates, heads, lags} = picture.flow;
  const most = Math.max(1, ...STAGES.map(([, topic]) => rates[topic] || 0));
  const behind = new Map();
  lags.forEach(([name, , n]) => behind.set(name.split(".")[0], (behind.get(name.split(".")[0]) || 0) + n));
  const first = (worker, topic) => STAGES.find((stage) => stage[0] === worker)[1] === topic;
  keep($("stages").tBodies[0], STAGES, (stage) => stage.join(" "),
    () => make("tr", {}, make("td"), make("td"), make("td", {class: "n"}), make("td", {class: "bar"}, make("meter", {min: 0, max: 1})), make("td", {class: "n"}), make("td", {class: "n"})),
    (line, [worker, topic]) => {
      const rate = topic ? rates[topic] : undefined;
      const values = [breakable(worker), topic || "", topic ? count(rate) : "", null, topic ? count(heads[topic]) : "", first(worker, topic) ? count(behind.get(worker) || 0) : ""];
      values.forEach((value, i) => { if (value !== null) put(line.children[i], value); });
      [2, 5].forEach((i) => line.children[i].classList.toggle("zero", values[i] === "0" || values[i] === "–"));
      line.dataset.topic = topic || "";
      line.dataset.total = topic ? heads[topic] || 0 : "";
      line.children[3].firstChild.value = (rate || 0) / most;
      line.children[3].firstChild.classList.toggle("none", !topic);
    });
}

function drawTimeline(picture, now) {
  const svg = $("timeline");
  const width = svg.clientWidth || 800, left = width < 600 ? 0 : 120, top = 4, bottom = 18, height = 130;
  const packs = picture.status.packs.map((pack) => pack.pack);
  const lane = (height - top - bottom) / packs.length;
  const node = (name, attributes, text) => {
    const element = document.createElementNS("http://www.w3.org/2000/svg", name);
    Object.entries(attributes).forEach(([key, value]) => element.setAttribute(key, value));
    if (text !== undefined) element.textContent = text;
    return element;
  };
  const x = (at) => left + (width - left - 4) * (1 - (now - at) / 1000 / TIMELINE_SECONDS);
  const drawn = [];
  packs.forEach((pack, i) => {
    drawn.push(node("line", {x1: left, x2: width, y1: top + lane * (i + 1), y2: top + lane * (i + 1)}));
    if (left) drawn.push(node("text", {x: 0, y: top + lane * (i + 0.5) + 4}, pack));
  });
  [15, 10, 5, 0].forEach((minutes) => drawn.push(node("text", {x: x(now - minutes * 60000), y: height - 4, "text-anchor": minutes ? minutes === 15 ? "start" : "middle" : "end"}, minutes ? `${minutes} min ago` : "now")));
  // what matters most is drawn last, and a death beside the restart that follows it at once
  [...picture.timeline].sort((a, b) => WEIGHT.indexOf(a.kind) - WEIGHT.indexOf(b.kind)).forEach((event) => {
    const at = Date.parse(event.at), i = packs.indexOf(event.pack);
    if (i < 0 || now - at > TIMELINE_SECONDS * 1000) return;
    const mark = node("rect", {x: x(at) - (event.kind === "exit" ? 4.5 : 1.5), y: top + lane * i + 3, width: 3, height: lane - 6, rx: 1, class: event.kind});
    mark.append(node("title", {}, `${event.worker}: ${said(event)}`));
    drawn.push(mark);
  });
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.replaceChildren(...drawn);
  keep($("events"), picture.timeline.slice(-EVENTS_SHOWN).reverse(), (e) => `${e.at} ${e.worker} ${e.kind} ${e.cause}`,
    (e) => make("li", {}, make("span", {class: "quiet", text: new Date(e.at).toLocaleTimeString("en-GB"), title: e.at}), make("span", {text: e.worker}),
      make("span", {text: e.kind, "data-tone": {exit: "bad", restart: "warn", fault: "warn"}[e.kind] || ""}), make("span", {text: said(e), title: said(e)})),
    () => {});
}

function said(event) {
  switch (event.kind) {
    case "fault": return `${event.cause}${event.count > 1 ? `, ${event.count} times` : ""}`;
    case "status": return `${event.cause}${event.reason ? `: ${event.reason}` : ""}`;
    case "exit": return [event.signal ? `killed by ${event.signal}` : event.exit_code !== undefined ? `exit ${event.exit_code}` : event.cause, event.uptime_seconds !== undefined ? `after ${age(event.uptime_seconds)}` : ""].join(" ");
    default: return [event.operator ? `by ${event.operator} (${event.action})` : `after ${event.cause}`, event.pid ? `pid ${event.pid}` : ""].filter(Boolean).join(", ");
  }
}

function drawTables(picture, now) {
  const beats = Object.entries(picture.beats);
  const counters = [...document.querySelectorAll("#connectors th[data-counter]")];
  keep($("connectors").tBodies[0], beats, ([worker]) => worker, 
    () => make("tr", {}, make("td"), ...counters.map((head) => make("td", {class: head.className, "data-name": head.textContent}))),
    (line, [worker, beat]) => {
      fill(line, [breakable(worker), ...counters.map((head) => count(beat.connector[head.dataset.counter]))]);
      counters.forEach((head, i) => setTone(line.children[i + 1], "trouble" in head.dataset && beat.connector[head.dataset.counter] ? "warn" : ""));
    });
  keep($("counted"), counters, (head) => head.dataset.counter,
    (head) => make("div", {}, make("dt", {text: head.textContent}), make("dd", {text: head.title})), () => {});
  if (!picture.ledgers) return;
  keep($("reports").tBodies[0], picture.ledgers.reports, (r) => r.request_id,
    () => make("tr", {}, make("td"), make("td", {}, make("span", {class: "badge"})), make("td", {class: "wrap"}), make("td", {class: "n"})),
    (line, r) => {
      line.dataset.verdict = r.verdict;
      line.dataset.run = r.platform_run_id;
      put(line.children[0], r.platform_run_id);
      put(line.children[1].firstChild, r.verdict);
      setTone(line.children[1].firstChild, r.verdict === "PASS" ? "good" : "bad");
      put(line.children[2], r.failed_lines.join(", ") + (r.state === "CONFLICT" ? " evidence conflict" : ""));
      put(line.children[3], ago(r.reported_at, now));
    });
  keep($("runs").tBodies[0], picture.ledgers.runs, (r) => r.platform_run_id, row(["", "wrap", "n"]),
    (line, r) => fill(line, [r.platform_run_id, `${r.live ? "live " : ""}${r.note}`, ago(r.started_at, now)]));
}

// --- charts
const charts = {};
function colour(name) { return getComputedStyle(document.documentElement).getPropertyValue(name).trim(); }
function chart(id, series) {
  const place = $(id), axis = {stroke: colour("--quiet"), grid: {stroke: colour("--grid"), width: 1}, ticks: {show: false}, font: "11px system-ui, sans-serif"};
  const options = {
    width: place.clientWidth, height: place.clientHeight, legend: {show: false}, cursor: {show: false}, padding: [6, 8, 0, 0],
    scales: {y: {range: (_, low, high) => [0, Math.max(10, high * 1.1)]}},
    axes: [{...axis, size: 26, values: (_, splits) => splits.map((s) => new Date(s * 1000).toLocaleTimeString("en-GB", {hour: "2-digit", minute: "2-digit", second: "2-digit"})), space: 84}, {...axis, size: 46, values: (_, splits) => splits.map((s) => number.format(s))}],
    series: [{}, ...series.map((name) => ({stroke: colour(name), width: 1.75, points: {show: false}, spanGaps: false}))],
  };
  place.replaceChildren();
  return new uPlot(options, series.length === 2 ? [[], [], []] : [[], []], place);
}
function makeCharts() {
  charts.rate = chart("chart-rate", ["--a", "--b"]);
  charts.lag = chart("chart-lag", ["--c"]);
  drawCharts();
}
function drawCharts() {
  const columns = [0, 1, 2, 3].map((i) => points.map((point) => point[i]));
  charts.rate.setData([columns[0], columns[1], columns[2]]);
  charts.lag.setData([columns[0], columns[3]]);
}

// --- the stream
function draw(picture) {
  heardAt = performance.now();
  const now = Date.parse(picture.at) || Date.now();
  const problems = [picture.status_problem, picture.tables_problem && `${picture.tables_problem} - figures from the tables are from ${picture.tables_at || "before"}`].filter(Boolean);
  $("problem").hidden = !problems.length;
  put($("problem"), problems.join("; "));
  points.push(picture.point);
  if (points.length > POINTS_MAX) points.shift();
  drawTiles(picture, now);
  if (picture.status) {
    put($("profile"), [picture.status.profile, picture.status.platform_run_id].filter(Boolean).join(" · "));
    put($("verdict"), picture.status.verdict);
    setTone($("verdict"), tone(picture.status.verdict));
    document.title = `${picture.status.verdict} – fraud_daemons`;
    drawPacks(picture);
    drawTimeline(picture, now);
    drawTables(picture, now);
  }
  drawStages(picture);
  drawCharts();
  document.body.dataset.sequence = picture.sequence;
  live();
}

function live() {
  const quiet = (performance.now() - heardAt) / 1000;
  const state = !heardAt ? "waiting" : quiet < STALE_SECONDS ? "live" : "lost";
  $("link").dataset.state = state;
  put($("link"), {waiting: "connecting", live: "live", lost: `nothing heard for ${age(quiet)}`}[state]);
}

makeCharts();
new ResizeObserver(() => ["rate", "lag"].forEach((name) => charts[name].setSize({width: $(`chart-${name}`).clientWidth, height: $(`chart-${name}`).clientHeight}))).observe($("chart-rate"));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", makeCharts);
setInterval(live, 1000);
const stream = new EventSource("/stream");
stream.addEventListener("history", (event) => points.splice(0, points.length, ...JSON.parse(event.data)));
stream.addEventListener("message", (event) => draw(JSON.parse(event.data)));
// 401 (the token was changed) and 503 (too many pages) end an EventSource for good: begin anew, slowly
stream.addEventListener("error", () => { if (stream.readyState === EventSource.CLOSED) setTimeout(() => location.reload(), 5000); });
