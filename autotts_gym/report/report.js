"use strict";
// The page of `autotts report`. Everything that is shown was worked out in Python and stands in the
// element #data; what follows looks up, sorts and draws.
(() => {
const data = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);

// --- small helpers -------------------------------------------------------------------------------

/** An element with attributes and children; text never becomes markup. */
function make(tag, attributes = {}, ...children) {
  const svg = tag === "svg" || tag === "path";
  const node = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag)
    : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== false && value != null) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child != null));
  return node;
}

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const dark = matchMedia("(prefers-color-scheme: dark)");
const none = "–";

function count(value) {
  if (value == null) return none;
  return value.toLocaleString("en-US", { maximumFractionDigits: 0 });
}
function tokens(value) {
  if (value == null) return none;
  if (value >= 999_950) return `${(value / 1e6).toFixed(2)}M`;
  return value >= 1000 ? `${(value / 1000).toFixed(1)}k` : count(value);
}
const points = (share) => (share == null ? none : (100 * share).toFixed(1));
function signed(share) {
  if (share == null) return none;
  const size = Math.abs(100 * share).toFixed(1);
  return size === "0.0" ? size : `${share < 0 ? "−" : "+"}${size}`;
}
const times = (ratio) => (ratio == null ? none
  : `${ratio.toFixed(ratio < 0.095 ? 3 : ratio < 9.995 ? 2 : 0)}×`);

/** A figure and its interval, the interval small. */
function figure(interval, write) {
  const [value, low, high] = interval;
  const span = make("span", {}, write(value));
  if (low != null) span.append(" ", make("small", {}, `[${write(low)}, ${write(high)}]`));
  return span;
}

/** Text for plotly, which reads some markup. */
const plain = (text) => String(text).replace(/[&<>]/g,
  (c) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;" })[c]);
const shown = (answer) => (answer === "" ? "(empty)" : answer);

function fill(select, options, chosen) {
  select.replaceChildren(...options.map(([value, text]) => make("option", { value }, text)));
  if (chosen != null && options.some(([value]) => String(value) === String(chosen))) {
    select.value = chosen;
  }
}

/** A table that sorts itself by a click on a heading. */
function sortable(table, columns, rows, order) {
  const draw = () => {
    const column = columns.find((c) => c.key === order.key) ?? columns[0];
    const sorted = rows.map((row, k) => [column.value(row), k, row]).sort(([a, i], [b, j]) => {
      if (a == null || b == null) return (a == null) - (b == null) || i - j;
      return (a < b ? -1 : a > b ? 1 : 0) * (order.descending ? -1 : 1) || i - j;
    });
    const heads = columns.map((c) => make("th", {
      scope: "col",
      class: c.text && "text",
      "aria-sort": c === column ? (order.descending ? "descending" : "ascending") : "none",
    }, c.value === undefined ? c.title : make("button", {
      type: "button",
      "data-key": c.key,
      onclick: () => {
        order.descending = order.key === c.key ? !order.descending : Boolean(c.falling);
        order.key = c.key;
        draw();
        table.querySelector(`button[data-key="${c.key}"]`).focus();
      },
    }, c.title)));
    const body = sorted.map(([, , row]) => make("tr", { class: row.class, "data-row": row.id },
      ...columns.map((c) => make("td", { class: c.text }, c.cell(row)))));
    table.replaceChildren(make("thead", {}, make("tr", {}, ...heads)), make("tbody", {}, ...body));
  };
  draw();
}

const ICONS = {
  first: "M3 3h2v10H3ZM13 3v10L6 8Z", previous: "M12 3v10L4 8Z", next: "M4 3v10l8-5Z",
  last: "M11 3h2v10h-2ZM3 3v10l7-5Z", play: "M4 3v10l8-5Z", pause: "M4 3h3v10H4ZM9 3h3v10H9Z",
};
const icon = (name) => make("svg", { width: 16, height: 16, "aria-hidden": "true" },
  make("path", { d: ICONS[name], fill: "currentColor" }));

// --- looks ---------------------------------------------------------------------------------------

// Plotly's names of the markers, and the same shapes for the legend.
const MARKERS = ["circle", "square", "diamond", "triangle-down", "triangle-up", "cross", "x"];
const SHAPES = [
  "M8 3a5 5 0 1 0 .01 0Z", "M3.5 3.5h9v9h-9Z", "M8 2l6 6-6 6-6-6Z", "M2.5 4h11L8 13Z",
  "M2.5 12.5h11L8 3Z", "M6 2.5h4V6h3.5v4H10v3.5H6V10H2.5V6H6Z",
  "M3 5.2 5.2 3 8 5.8 10.8 3 13 5.2 10.2 8 13 10.8 10.8 13 8 10.2 5.2 13 3 10.8 5.8 8Z",
];
const black = (hue) => (hue === "#000000" && dark.matches ? "#ffffff" : hue);
const hueOf = (agent) => black(data.agents[agent].colour);
const markerOf = (agent) => data.agents[agent].look % MARKERS.length;
const swatch = (agent) => make("svg", { width: 16, height: 16, "aria-hidden": "true" },
  make("path", { d: SHAPES[markerOf(agent)], fill: hueOf(agent) }));
const rowName = (row) => data.rows[row].name;

/** What all plots have in common. */
function layout(more) {
  const axis = {
    gridcolor: colour("--line"), linecolor: colour("--line"), zeroline: false, automargin: true,
  };
  const { xaxis, yaxis, ...rest } = more;
  return {
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: "system-ui, sans-serif", size: 12, color: colour("--ink") },
    hoverlabel: {
      bgcolor: colour("--sheet"), bordercolor: colour("--line"), align: "left",
      font: { family: "system-ui, sans-serif", color: colour("--ink"), size: 12 },
    },
    margin: { l: 48, r: 14, t: 12, b: 44 },
    hovermode: "closest",
    showlegend: false,
    modebar: { bgcolor: "rgba(0,0,0,0)", color: colour("--muted"), activecolor: colour("--ink") },
    ...rest,
    xaxis: { ...axis, ...xaxis },
    yaxis: { ...axis, ...yaxis },
  };
}
const CONFIG = {
  responsive: true,
  displaylogo: false,
  modeBarButtons: [["toImage", "resetScale2d"]],
};

/** Round numbers between two, about as many as fit on a logarithmic axis. */
function ticks(low, high) {
  const decades = Math.log10(high / low);
  const digits = decades > 2.4 ? [1] : decades > 0.9 ? [1, 2, 5] : [1, 1.5, 2, 3, 4, 5, 6, 8];
  const values = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power++) {
    for (const digit of digits) values.push(digit * 10 ** power);
  }
  return values.filter((value) => value >= low && value <= high);
}
const short = (value) => (value >= 1e6 ? `${value / 1e6}M` : value >= 1000 ? `${value / 1000}k`
  : String(+value.toPrecision(2)));

function logarithmic(values, title) {
  const low = Math.min(...values), high = Math.max(...values);
  const room = Math.max((high / low) ** 0.08, 1.15);
  const at = ticks(low / room, high * room);
  return {
    type: "log",
    title: { text: title, standoff: 8 },
    range: [Math.log10(low / room), Math.log10(high * room)],
    tickvals: at,
    ticktext: at.map(short),
  };
}

// --- what is shown -------------------------------------------------------------------------------

const state = {
  scope: data.scopes.findIndex((scope) => scope.average),
  beta: 50,
  schedule: null,
  reference: data.scopes[0].rows[0].row,
  tableOrder: { key: "order", descending: false },
  questionOrder: { key: "wins", descending: true },
};
if (state.scope < 0) state.scope = 0;
const scopeNow = () => data.scopes[state.scope];

// --- header --------------------------------------------------------------------------------------

function facts() {
  const { run } = data;
  const environments = data.environments.length, rows = data.rows.length;
  const some = (n, what) => `${n} ${what}${n === 1 ? "" : "s"}`;
  $("summary").textContent = `${some(data.agents.length, "agent")} in ${some(rows, "row")} on `
    + `${some(environments, "environment")}, every question once per seed.`;
  const synthetic = data.environments.filter((env) => env.synthetic).length;
  if (synthetic) {
    $("summary").append(" ", make("span", { class: "badge" },
      synthetic === environments ? "SYNTHETIC TRACES" : `${synthetic} SYNTHETIC`),
    " Synthetic traces are generated, not sampled from a language model.");
  }
  const seeds = run.seeds.every((seed, k) => k === 0 || seed === run.seeds[k - 1] + 1)
    && run.seeds.length > 1 ? `${run.seeds[0]} to ${run.seeds.at(-1)}` : run.seeds.join(", ");
  const { terms } = run;
  const billings = new Map();
  for (const agent of data.agents) {
    billings.set(agent.billing, [...billings.get(agent.billing) ?? [], agent.name]);
  }
  const said = { tokens: "what was generated", interval: "every started interval in full" };
  const list = [
    ["Seeds (branch orders)", seeds],
    ["Order", run.order === "published" ? "one for all questions of a seed, as published"
      : "another one for every question and seed"],
    ["Width", `up to ${terms.max_branches} branches`],
    ["Budget", terms.budget == null ? "none" : `${count(terms.budget)} tokens an episode`],
    ["A probe costs", terms.probe_tokens === "recorded" ? "what was recorded"
      : terms.probe_tokens ? `${count(terms.probe_tokens)} tokens` : "nothing"],
    ...[...billings].map(([billing, names]) => [`Billed: ${said[billing] ?? billing}`,
      billings.size === 1 ? "all agents" : names.join(", ")]),
    ["Protocol", run.protocol ? `as published (${run.protocol})` : null],
    ["Action limit", terms.step_limit ? count(terms.step_limit) : null],
    ["Failed episodes", run.failed ? `${count(run.failed)}, counted as wrong` : null],
    ["Played with", `autotts_gym ${run.version}`],
  ];
  $("facts").replaceChildren(...list.filter(([, value]) => value != null).map(([name, value]) =>
    make("div", {}, make("dt", {}, name), make("dd", {}, value))));
  const head = ["environment", "split", "traces", "model", "benchmark", "questions", "branches",
    "Δ, tokens", "depth"];
  $("environments").querySelector("table").replaceChildren(
    make("thead", {}, make("tr", {}, ...head.map((name, k) =>
      make("th", { scope: "col", class: k < 5 && "text" }, name)))),
    make("tbody", {}, ...data.environments.map((env) => make("tr", {},
      ...[env.name, env.split || none, env.synthetic ? "synthetic" : "recorded",
        env.details.model ?? none, env.details.benchmark ?? none, count(env.questions),
        count(env.branches), env.interval, env.depth].map((value, k) =>
        make("td", { class: k < 5 && "text" }, String(value)))))));
  $("environments").open = environments <= 4;
  $("intervals").textContent = `95% intervals are percentiles of ${count(run.replicates)} bootstrap `
    + "replicates. A replicate draws, within every environment, as many questions as there are, with "
    + "replacement, and for each of them as many seeds (branch orders) as there are. Environments and "
    + "the recorded branches are fixed: an average is the mean over its environments, each weighing "
    + "the same, and says nothing about other models or benchmarks. A replicate draws the same "
    + "questions and seeds for every row, so differences between rows are paired. An environment of "
    + "one question has no interval. Failed episodes count as wrong, at what they had cost.";
  const missing = [...run.incomplete.map((text) => `Given up, and not shown: ${text}`),
    ...data.problems];
  $("problems").hidden = missing.length === 0;
  const most = 8;
  $("problems").replaceChildren(...missing.slice(0, most).map((text) => make("li", {}, text)),
    missing.length > most ? make("li", {}, `and ${missing.length - most} more of the kind`) : "");
}

function scopes() {
  const group = (label, wanted) => {
    const inside = data.scopes.map((scope, k) => [scope, k]).filter(([scope]) => wanted(scope));
    return inside.length ? [make("optgroup", { label }, ...inside.map(([scope, k]) =>
      make("option", { value: k, selected: k === state.scope },
        scope.average ? `${scope.name} of ${scope.environments.length}` : scope.name)))] : [];
  };
  $("scope").replaceChildren(...group("Averages", (s) => s.average),
    ...group("Environments", (s) => !s.average));
}

function scopeNote() {
  const scope = scopeNow();
  const badges = [];
  if (scope.synthetic) badges.push(make("span", { class: "badge" }, "SYNTHETIC"));
  if (scope.split) badges.push(make("span", { class: "badge plain" }, scope.split));
  if (scope.missing.length) {
    badges.push(make("small", {}, `not played on all of it: ${scope.missing.join(", ")}`));
  }
  $("scope-note").replaceChildren(...badges.flatMap((badge) => [badge, " "]));
}

// --- frontiers -----------------------------------------------------------------------------------

const COSTS = { tokens: "mean total tokens per question", sequential_tokens:
  "mean sequential tokens per question" };

function legend() {
  const rows = new Set(scopeNow().rows.map((row) => data.rows[row.row].agent));
  const differ = new Set(data.agents.map((agent) => agent.billing)).size > 1;
  $("legend").replaceChildren(...[...rows].map((agent) => make("span", {}, swatch(agent),
    data.agents[agent].name,
    differ ? make("small", {}, `billed by ${data.agents[agent].billing}`) : null)));
  const bounds = scopeNow().bounds.map(([name, value]) => `${name} ${points(value)}%`);
  $("bounds").textContent = bounds.length ? `From the recorded branches: ${bounds.join(", ")}.`
    : "";
}

function hover(row) {
  const one = (name, [value, low, high], write, unit = "") =>
    `${name} ${write(value)}${unit}${low == null ? "" : ` [${write(low)}, ${write(high)}]`}`;
  return [
    `<b>${plain(rowName(row.row))}</b>`,
    one("accuracy", row.correct, points, "%"),
    one("tokens", row.tokens, tokens),
    one("sequential tokens", row.sequential_tokens, tokens),
    one("actions", row.actions, count),
    one("probes", row.probes, count),
    `${count(row.episodes)} episodes${row.failed ? `, ${count(row.failed)} failed` : ""}`,
  ].join("<br>");
}

const bars = (intervals, scale, thick) => ({
  type: "data",
  symmetric: false,
  array: intervals.map(([value, , high]) => (high == null ? 0 : scale * Math.max(high - value, 0))),
  arrayminus: intervals.map(([value, low]) => (low == null ? 0 : scale * Math.max(value - low, 0))),
  thickness: thick, width: 0,
});
const atLeast1 = (value) => Math.max(value, 1);

function frontier(cost) {
  const scope = scopeNow();
  const traces = [];
  const best = scope.frontier[cost].map((row) => scope.rows.find((r) => r.row === row));
  if (best.length) {
    traces.push({
      x: best.map((row) => atLeast1(row[cost][0])), y: best.map((row) => 100 * row.correct[0]),
      mode: "lines", line: { shape: "hv", dash: "dot", width: 1.5, color: colour("--muted") },
      hoverinfo: "skip",
    });
  }
  for (const agent of new Set(scope.rows.map((row) => data.rows[row.row].agent))) {
    const rows = scope.rows.filter((row) => data.rows[row.row].agent === agent)
      .sort((a, b) => data.rows[a.row].beta - data.rows[b.row].beta);
    const hue = hueOf(agent);
    traces.push({
      x: rows.map((row) => atLeast1(row[cost][0])), y: rows.map((row) => 100 * row.correct[0]),
      error_x: { ...bars(rows.map((row) => row[cost]), 1, 0.8), color: hue },
      error_y: { ...bars(rows.map((row) => row.correct), 100, 0.8), color: hue },
      mode: "lines+markers+text",
      line: { color: hue, width: 2 },
      marker: { color: hue, size: 11, symbol: MARKERS[markerOf(agent)],
        line: { color: colour("--paper"), width: 1 } },
      text: labels(rows, cost, scope),
      textposition: "bottom right", textfont: { color: colour("--ink"), size: 11 }, cliponaxis: false,
      hovertext: rows.map(hover), hoverinfo: "text",
    });
  }
  const heights = scope.rows.flatMap((row) => row.correct.filter((v) => v != null));
  const [low, high] = [Math.min(...heights), Math.max(...heights)];
  const room = Math.max(0.06 * (high - low), 0.01);
  // A bound far above everything would squeeze all the rest; the text has it.
  const lines = scope.bounds.filter(([, value]) => value < high + 0.25 * (high - low));
  const top = Math.max(high, ...lines.map(([, value]) => value));
  const landed = landing();
  if (landed) {
    traces.push({
      x: [atLeast1(landed[cost])], y: [100 * landed.accuracy], mode: "markers",
      marker: { symbol: "star", size: 15, color: hueOf(landed.agent),
        line: { color: colour("--ink"), width: 1.5 } },
      hovertext: [`<b>β = ${data.betas[state.beta]}</b>, ${landed.played ? "played" : "interpolated"}`
        + `<br>accuracy ${points(landed.accuracy)}%<br>tokens ${tokens(landed.tokens)}`
        + `<br>sequential tokens ${tokens(landed.sequential_tokens)}`], hoverinfo: "text",
    });
  }
  const spread = scope.rows.flatMap((row) => row[cost].filter((v) => v != null).map(atLeast1));
  Plotly.react(`plot-${cost}`, traces, layout({
    xaxis: logarithmic(spread, COSTS[cost]),
    yaxis: { title: { text: "accuracy, %", standoff: 4 },
      range: [100 * (low - room), 100 * (top + room)] },
    shapes: lines.map(([, value]) => ({ type: "line", xref: "paper", x0: 0, x1: 1, y0: 100 * value,
      y1: 100 * value, line: { color: colour("--muted"), width: 1, dash: "dash" } })),
    // Where there are fewest points: the cheap end of tokens, the slow end of latency.
    annotations: lines.map(([name, value]) => ({ xref: "paper", x: cost === "tokens" ? 0 : 1,
      xanchor: cost === "tokens" ? "left" : "right", y: 100 * value,
      yanchor: "bottom", showarrow: false, text: `${plain(name)} ${points(value)}%`,
      font: { size: 11, color: colour("--muted") } })),
  }), CONFIG);
}

/** Labels of the points with a β: the ends first, then those that do not crowd others. */
function labels(rows, cost, scope) {
  const spread = (values) => Math.max(...values) - Math.min(...values) || 1;
  const x = (row) => Math.log(atLeast1(row[cost][0]));
  const wide = spread(scope.rows.map(x));
  const high = spread(scope.rows.flatMap((row) => row.correct.filter((v) => v != null)));
  const taken = [];
  const texts = rows.map(() => "");
  for (const k of [0, rows.length - 1, ...rows.keys()]) {
    const { beta } = data.rows[rows[k].row];
    const near = taken.some((row) => Math.abs(x(row) - x(rows[k])) < 0.1 * wide
      && Math.abs(row.correct[0] - rows[k].correct[0]) < 0.05 * high);
    if (beta == null || near) continue;
    taken.push(rows[k]);
    texts[k] = `β ${beta}`;
  }
  return texts;
}

// --- the schedule --------------------------------------------------------------------------------

/** Where the slider's β lies in the present scope; null where that is not known. */
function landing() {
  const found = scopeNow().landing[state.schedule]?.[state.beta];
  if (!found) return null;
  const [accuracy, total, sequential] = found;
  const played = data.rows.some((row) => row.agent === state.schedule
    && row.beta === data.betas[state.beta]);
  return { agent: state.schedule, accuracy, tokens: total, sequential_tokens: sequential, played };
}

function schedule() {
  const agents = Object.keys(data.schedules).map(Number);
  $("schedule").hidden = agents.length === 0;
  if (!agents.length) return;
  state.schedule ??= agents[0];
  fill($("schedule-agent"), agents.map((agent) => [agent, data.agents[agent].name]), state.schedule);
  const { fields, comments, values } = data.schedules[state.schedule];
  const beta = data.betas[state.beta];
  $("beta-value").textContent = beta;
  $("beta").setAttribute("aria-valuetext", `β = ${beta}`);
  $("parameters").replaceChildren(...fields.map((field, k) => make("div", {},
    make("dt", {}, field.replaceAll("_", " ")),
    make("dd", { class: "value", "data-field": field }, values[state.beta][k]),
    comments[k] ? make("dd", { class: "meaning" }, comments[k]) : null)));
  const at = landing();
  const betas = data.rows.filter((row) => row.agent === state.schedule).map((row) => row.beta)
    .sort((a, b) => a - b);
  $("landing").textContent = !at
    ? `β = ${beta} lies outside of what was played here (β from ${betas[0]} to ${betas.at(-1)}).`
    : `${at.played ? `β = ${beta} was played`
      : `β = ${beta} was not played: interpolated between the neighbouring β that were, linear in β `
        + "and in the logarithm of tokens"}. On ${scopeNow().name}: ${points(at.accuracy)}% for `
      + `${tokens(at.tokens)} tokens, ${tokens(at.sequential_tokens)} of them in sequence. The star `
      + "in the plots marks it.";
}

// --- the table -----------------------------------------------------------------------------------

function compared(interval, write, same, less) {
  const [value, low, high] = interval;
  const cell = figure(interval, write);
  if (low == null || (low <= same && high >= same) || value === same) return cell;
  const better = (value < same) === less;
  return make("b", { class: better ? "better" : "worse" }, cell);
}

function table() {
  const scope = scopeNow();
  if (!scope.rows.some((row) => row.row === state.reference)) state.reference = scope.rows[0]?.row;
  fill($("reference"), scope.rows.map((row) => [row.row, rowName(row.row)]), state.reference);
  const against = scope.rows.findIndex((row) => row.row === state.reference);
  const rows = scope.rows.map((row, k) => ({
    ...row, order: k, pair: scope.pairs[k][against], id: row.row,
    class: k === against && "reference",
  }));
  const named = (row) => {
    const { agent } = data.rows[row.row];
    return make("span", { class: "agent" }, swatch(agent), data.agents[agent].name);
  };
  const metric = (key, title, write) => ({
    key, title, falling: true, value: (row) => row[key][0], cell: (row) => figure(row[key], write),
  });
  const average = (key) => ({
    key, title: key, falling: true, value: (row) => row[key][0], cell: (row) => count(row[key][0]),
  });
  const versus = (key, title, from, write, same, less) => ({
    key, title, falling: !less, value: (row) => row.pair[from],
    cell: (row) => (row.id === state.reference ? none
      : compared(row.pair.slice(from, from + 3), write, same, less)),
  });
  sortable($("table"), [
    { key: "order", title: "agent", text: "text", value: (row) => row.order, cell: named },
    { key: "beta", title: "β", value: (row) => data.rows[row.row].beta,
      cell: (row) => String(data.rows[row.row].beta ?? "") },
    metric("correct", "accuracy, %", points),
    metric("tokens", "tokens", tokens),
    metric("sequential_tokens", "sequential", tokens),
    average("actions"),
    average("probes"),
    { key: "episodes", title: "episodes", falling: true, value: (row) => row.episodes,
      cell: (row) => (row.failed ? `${count(row.episodes)}, ${count(row.failed)} failed`
        : count(row.episodes)) },
    versus("d-accuracy", "accuracy difference", 0, signed, 0, false),
    versus("d-tokens", "token ratio", 3, times, 1, true),
    versus("d-sequential", "sequential ratio", 6, times, 1, true),
  ], rows, state.tableOrder);
}

// --- question by question ------------------------------------------------------------------------

const A = "#0072B2", B = "#D55E00";

function questionRows() {
  const env = Number($("questions-env").value);
  const a = Number($("row-a").value), b = Number($("row-b").value);
  const { numbers, seeds, rows } = data.questions[env];
  if (!rows[a] || !rows[b]) return { env, a, b, seeds, list: [] };
  const list = numbers.map((number, k) => {
    const [right, other] = [rows[a].right[k], rows[b].right[k]];
    const [cost, otherCost] = [rows[a].tokens[k], rows[b].tokens[k]];
    return {
      id: number, env, right, other, cost, otherCost,
      wrong: rows[a].wrong[k][0], otherWrong: rows[b].wrong[k][0],
      ratio: otherCost ? cost / otherCost : null,
      // The accuracy first, and among equals who was cheaper.
      wins: right - other + (cost < otherCost ? 0.4 : cost > otherCost ? -0.4 : 0)
        * Math.min(Math.abs(Math.log(atLeast1(cost) / atLeast1(otherCost))), 5) / 5,
    };
  });
  return { env, a, b, seeds, list };
}

function reason(q, seeds) {
  const wins = q.right === q.other ? "Even" : q.right > q.other ? "A wins" : "B wins";
  const parts = [`${wins}: A right in ${q.right} of ${seeds} seeds, B in ${q.other}`];
  if (q.ratio != null) parts.push(`A used ${times(q.ratio)} the tokens of B`);
  const wrong = (name, found) => found
    && `${name}'s commonest wrong answer: ${shown(found[0])} (${found[1]} of ${seeds})`;
  return [...parts, wrong("A", q.wrong), wrong("B", q.otherWrong)].filter(Boolean).join("; ");
}

function questions() {
  const { env, a, b, seeds, list } = questionRows();
  const better = list.filter((q) => q.right > q.other).length;
  const worse = list.filter((q) => q.right < q.other).length;
  $("questions-summary").textContent = list.length
    ? `A (${rowName(a)}) is right more often on ${better} of ${list.length} questions, B `
      + `(${rowName(b)}) on ${worse}. Bars: accuracy of A minus B. Dots: tokens of A over those of B. `
      + "A click opens the question in the viewer below, where it is among the episodes there."
    : "One of the two was not played here.";
  const order = [...list].sort((p, q) => q.wins - p.wins);
  const x = order.map((_, k) => k);
  const texts = order.map((q) => `<b>question ${q.id}</b><br>`
    + plain(reason(q, seeds)).replaceAll("; ", "<br>"));
  const few = order.length <= 40 && innerWidth > 700;
  const ratios = order.map((q) => q.ratio).filter((r) => r > 0);
  const low = Math.min(0.8, ...ratios) / 1.1, high = Math.max(1.25, ...ratios) * 1.1;
  const at = ticks(low, high);
  Plotly.react("plot-questions", [
    {
      type: "bar", x, y: order.map((q) => (100 * (q.right - q.other)) / seeds),
      marker: { color: order.map((q) => (q.right > q.other ? A : B)) },
      hovertext: texts, hoverinfo: "text",
    },
    {
      x, y: order.map((q) => (q.ratio > 0 ? q.ratio : null)), yaxis: "y2", mode: "markers",
      marker: { color: order.map((q) => (q.ratio < 1 ? A : B)), size: 6 },
      hovertext: texts, hoverinfo: "text",
    },
  ], layout({
    hovermode: "closest",
    bargap: 0.15,
    xaxis: { tickvals: few ? x : [], ticktext: order.map((q) => q.id), showgrid: false,
      tickangle: 0, title: { text: "question", standoff: 6 }, anchor: "y2" },
    yaxis: { domain: [0.46, 1], title: { text: "A − B, points" }, zeroline: true,
      zerolinecolor: colour("--muted") },
    yaxis2: { domain: [0, 0.38], type: "log", title: { text: "tokens" }, automargin: true,
      range: [Math.log10(low), Math.log10(high)], gridcolor: colour("--line"), tickvals: at,
      ticktext: at.map((v) => `${+v.toPrecision(2)}×`), zeroline: false },
    shapes: [{ type: "line", xref: "paper", x0: 0, x1: 1, yref: "y2", y0: 1, y1: 1,
      line: { color: colour("--muted"), width: 1 } }],
  }), CONFIG);
  const plot = $("plot-questions");
  plot.removeAllListeners?.("plotly_click");
  plot.on("plotly_click", (event) => watch(env, order[event.points[0].x].id));
  const value = (key, title, write) => ({
    key, title, falling: true, value: (q) => q[key], cell: (q) => write(q[key]),
  });
  sortable($("question-table"), [
    { ...value("id", "question", String), falling: false },
    { ...value("wins", "who wins", none), text: "text",
      cell: (q) => (q.right === q.other ? none : q.right > q.other ? "A" : "B") },
    value("right", "A right", (n) => `${n} of ${seeds}`),
    value("other", "B right", (n) => `${n} of ${seeds}`),
    value("cost", "A tokens", tokens),
    value("otherCost", "B tokens", tokens),
    value("ratio", "ratio", times),
    { key: "why", title: "in figures", text: "long", cell: (q) => reason(q, seeds) },
    { key: "watch", title: "", text: "text", cell: (q) => (has(env, q.id)
      ? make("button", { type: "button", "aria-label": `Watch question ${q.id}`,
        onclick: () => watch(env, q.id) }, "watch") : "") },
  ], list, state.questionOrder);
}

function questionControls() {
  const rows = data.rows.map((row, k) => [k, row.name]);
  fill($("row-a"), rows, rows.at(-1)[0]);
  fill($("row-b"), rows, 0);
  fill($("questions-env"), Object.keys(data.questions).map((env) =>
    [env, data.environments[env].name]));
  for (const id of ["row-a", "row-b", "questions-env"]) $(id).onchange = questions;
}

// --- the episode viewer --------------------------------------------------------------------------

const KINDS = ["CONTINUE", "PROBE", "PRUNE", "ANSWER"];
const DECISIONS = ["BRANCH", "CONTINUE", "PROBE", "PRUNE", "ANSWER"];
const HUES = data.answer_colours;

let episode = null; // the decoded one
let moment = 0;
let playing = null;
let asked = 0; // decoding takes a moment: only the latest choice counts

const sums = (steps) => {
  let sum = 0;
  return steps.map((step) => (sum += step));
};

async function decode(recording) {
  const bytes = Uint8Array.from(atob(recording.packed), (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  const found = JSON.parse(await new Response(stream).text());
  const width = data.run.terms.max_branches;
  const steps = sums(found.actions).map((id) => {
    if (id < 2) return [id ? "BRANCH" : "ANSWER", -1];
    return [KINDS[Math.floor((id - 2) / width)], (id - 2) % width];
  });
  const gave = found.answers.map(() => new Set()); // the branches that ever gave an answer
  let look = 0, rows = 0;
  for (const [name, branch] of steps) {
    if (name === "PROBE") gave[found.shown[look++][0]].add(branch);
    if (name === "BRANCH") rows++;
  }
  // The answers that are seen most have a colour of their own, the others share one.
  const seen = found.answers.map(() => 0);
  for (const [answer, end] of found.shown) seen[answer] += end ? 5 : 1; // ends decide votes
  const common = [...seen.keys()].filter((k) => !found.nulls[k]).sort((a, b) => seen[b] - seen[a]);
  const hues = seen.map((_, k) => (found.nulls[k] ? "--null" : HUES[common.indexOf(k)] ?? "--rare"));
  const decoded = {
    ...found, recording, steps, rows, hues, lone: gave.map((branches) => branches.size < 2),
    spent: [0, ...sums(found.spent)], clock: [0, ...sums(found.clock)],
  };
  const end = at(decoded, steps.length);
  decoded.columns = Math.max(...end.branches.map((branch) => branch.requested), 1);
  return decoded;
}

/** What an episode looks like after so many actions. */
function at(of, many) {
  const branches = [];
  const tally = Object.fromEntries(DECISIONS.map((name) => [name, 0]));
  let look = 0;
  for (const [name, i] of of.steps.slice(0, many)) {
    tally[name]++;
    if (name === "BRANCH") {
      branches.push({ requested: 1, latest: -1, cells: [], pruned: false, end: 0 });
    } else if (name === "CONTINUE") branches[i].requested++;
    else if (name === "PRUNE") branches[i].pruned = true;
    else if (name === "PROBE") {
      const branch = branches[i];
      const [answer, end] = of.shown[look++];
      if (end) branch.requested = branch.end = end;
      branch.latest = branch.cells[branch.requested - 1] = answer;
    }
  }
  // Votes in the order of the branches, so that ties stand as they are decided.
  const votes = new Map();
  for (const branch of branches) {
    if (!branch.pruned && branch.latest >= 0) {
      votes.set(branch.latest, (votes.get(branch.latest) ?? 0) + 1);
    }
  }
  return { branches, tally, votes: [...votes].sort(([, a], [, b]) => b - a) };
}

const hueOfClass = (of, answer) => (of.hues[answer].startsWith("--") ? colour(of.hues[answer])
  : of.hues[answer]);

function geometry() {
  const width = $("plane").clientWidth;
  const left = 30, top = 20;
  const across = Math.min((width - left - 4) / episode.columns, 44);
  const down = episode.rows <= 16 ? 20 : episode.rows <= 36 ? 13 : 9;
  return { width, left, top, across, down, height: top + down * episode.rows + 4 };
}

function drawPlane(now, acted) {
  const { width, left, top, across, down, height } = geometry();
  const canvas = $("plane");
  const scale = devicePixelRatio || 1;
  canvas.width = Math.round(width * scale);
  canvas.height = Math.round(height * scale);
  canvas.style.height = `${height}px`;
  const g = canvas.getContext("2d");
  g.scale(scale, scale);
  const [ink, muted, line, unseen, paper] = ["--ink", "--muted", "--line", "--unseen", "--paper"]
    .map(colour);
  g.font = "10px system-ui, sans-serif";
  g.fillStyle = muted;
  g.textAlign = "center";
  for (let k = 0; k < episode.columns; k += across > 22 ? 1 : across * 5 > 26 ? 5 : 10) {
    const name = k && across <= 22 ? k : k + 1;
    g.fillText(String(name), left + across * (name - 0.5), 12);
  }
  g.textBaseline = "middle";
  g.textAlign = "right";
  for (let i = 0; i < episode.rows; i++) {
    const branch = now.branches[i];
    const y = top + down * i;
    g.globalAlpha = 1;
    if (i === acted) {
      g.fillStyle = ink;
      g.fillText(`▸${i}`, left - 4, y + down / 2);
    } else if (down > 10 || i % 4 === 0) {
      g.fillStyle = muted;
      g.fillText(String(i), left - 4, y + down / 2);
    }
    g.fillStyle = line;
    g.fillRect(left, y + down - 0.5, across * episode.columns, 0.5);
    if (!branch) continue;
    g.globalAlpha = branch.pruned ? 0.28 : 1;
    for (let k = 0; k < branch.requested; k++) {
      const x = left + across * k;
      const answer = branch.cells[k];
      if (answer === undefined) {
        g.strokeStyle = unseen;
        g.lineWidth = 0.8;
        g.beginPath();
        for (let d = 2; d < across + down; d += 4) {
          g.moveTo(x + Math.max(0, d - down), y + Math.min(d, down - 1));
          g.lineTo(x + Math.min(d, across - 1), y + Math.max(0, d - across + 1));
        }
        g.stroke();
      } else {
        // An answer that only one branch ever gives is smaller, so that agreement stands out.
        const edge = episode.lone[answer] && !episode.nulls[answer] ? Math.min(across, down) / 5 : 0;
        g.fillStyle = hueOfClass(episode, answer);
        g.fillRect(x + edge, y + edge, Math.max(across - 1 - 2 * edge, 1), down - 1 - 2 * edge);
      }
      if (branch.end === k + 1) {
        const r = Math.max(Math.min(across, down) / 4.5, 1.6);
        g.beginPath();
        g.arc(x + (across - 1) / 2, y + (down - 1) / 2, r, 0, 7);
        g.lineWidth = 1.4;
        g.strokeStyle = paper;
        g.stroke();
      }
    }
    if (i === acted) {
      g.globalAlpha = 1;
      g.strokeStyle = ink;
      g.lineWidth = 1.5;
      g.strokeRect(left + across * (branch.requested - 1) - 0.5, y - 0.5, across, down);
    }
  }
  g.globalAlpha = 1;
}

function drawVotes(now) {
  const total = now.votes.reduce((sum, [, n]) => sum + n, 0);
  const active = now.branches.filter((branch) => !branch.pruned).length;
  const most = 8;
  const items = now.votes.slice(0, most).map(([answer, votes]) => {
    const box = make("span", { class: "swatch" });
    const bar = make("span", { class: "bar" });
    box.style.background = bar.style.background = hueOfClass(episode, answer);
    bar.style.width = `${(100 * votes) / total}%`;
    const text = shown(episode.answers[answer]);
    const right = episode.answers[answer] === episode.gold;
    return make("li", {}, box, make("span", { class: "text", title: text },
      text, right ? make("b", { class: "better" }, " ✓ gold") : null), String(votes), bar);
  });
  if (now.votes.length > most) {
    items.push(make("li", { class: "rest" }, `and ${now.votes.length - most} more answers`));
  }
  if (!items.length) items.push(make("li", { class: "rest" }, "nothing revealed yet"));
  $("votes").replaceChildren(...items);
  const finished = now.branches.filter((branch) => branch.end).length;
  const meters = [
    ["Spent, as seen", `${count(episode.spent[moment])} tokens`],
    ["Clock, as seen", `${count(episode.clock[moment])} tokens`],
    ["Branches", `${now.branches.length} open, ${active} active`],
    ["Finished", String(finished)],
    ["Votes", `${total} of ${active} active`],
    ["Gold answer", shown(episode.gold)],
  ];
  $("meters").replaceChildren(...meters.map(([name, value]) =>
    make("div", {}, make("dt", {}, name), make("dd", {}, value))));
}

function show(to) {
  if (!episode) return;
  const last = episode.steps.length;
  moment = Math.max(0, Math.min(to, last));
  const now = at(episode, moment);
  const [name, i] = moment ? episode.steps[moment - 1] : ["", -1];
  $("step").value = moment;
  $("step").setAttribute("aria-valuetext", `step ${moment} of ${last}`);
  $("step-number").textContent = `${count(moment)} of ${count(last)}`;
  const { recording } = episode;
  let told = "Before the first decision";
  if (name) {
    told = i < 0 ? name : `${name}(${i})`;
    if (name === "BRANCH") told += `: opens branch ${now.branches.length - 1}`;
    if (name === "PROBE") {
      const branch = now.branches[i];
      told += `: ${shown(episode.answers[branch.latest])}${branch.end ? ", finished" : ""}`;
    }
    if (name === "ANSWER") {
      told += `: ${shown(recording.answer)}, ${recording.correct ? "right" : "wrong"} `
        + `(gold: ${shown(episode.gold)}). True cost: ${count(recording.tokens)} tokens, `
        + `${count(recording.sequential_tokens)} in sequence.`;
    }
  }
  $("decision").textContent = told;
  $("decisions").replaceChildren(...DECISIONS.map((decision) => make("li",
    { "aria-current": decision === name ? "step" : null }, `${decision} ${count(now.tally[decision])}`)));
  const acted = name === "BRANCH" ? now.branches.length - 1 : i;
  drawPlane(now, acted);
  $("plane").setAttribute("aria-label", `Width–depth plane after ${moment} of ${last} actions: `
    + `${now.branches.length} branches open. ${told}`);
  drawVotes(now);
  cursor();
  if (moment === last) pause();
}

// --- its notes -----------------------------------------------------------------------------------

function notes() {
  const names = Object.keys(episode.notes);
  $("notes").hidden = names.length === 0;
  if (!names.length) return;
  const last = episode.steps.length;
  const hues = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00"];
  // A figure that is noted once is a level to be reached; the slack bounds the trend from below.
  const below = (name) => name === "trend" || name === "slack";
  const lower = names.includes("trend");
  const traces = names.map((name, k) => {
    const pairs = episode.notes[name];
    const level = pairs.length === 1;
    const flip = lower && name === "slack" ? -1 : 1;
    const label = flip < 0 ? "−slack" : name;
    return {
      x: level ? [0, last] : [...pairs.map(([when]) => when), last],
      y: (level ? [pairs[0][1], pairs[0][1]] : [...pairs.map(([, value]) => value), pairs.at(-1)[1]])
        .map((value) => (value == null ? null : flip * value)),
      name: plain(label), mode: "lines",
      line: { shape: "hv", width: level ? 1.5 : 2, dash: level ? "dash" : "solid",
        color: level ? colour("--muted") : hues[k % hues.length] },
      yaxis: lower && below(name) ? "y2" : "y",
      hovertemplate: "%{y:.4g}",
    };
  });
  Plotly.react("plot-notes", traces, layout({
    showlegend: true,
    legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom" },
    margin: { l: 48, r: 14, t: 30, b: 44 },
    hovermode: "x unified",
    xaxis: { title: { text: "actions", standoff: 6 }, range: [0, last], anchor: lower ? "y2" : "y" },
    yaxis: { domain: lower ? [0.45, 1] : [0, 1] },
    yaxis2: lower ? { domain: [0, 0.36], gridcolor: colour("--line"), automargin: true,
      zeroline: true, zerolinecolor: colour("--line"), title: { text: "trend" } } : undefined,
    shapes: [line(moment)],
  }), CONFIG);
}

const line = (x) => ({ type: "line", yref: "paper", y0: 0, y1: 1, x0: x, x1: x,
  line: { color: colour("--ink"), width: 1.5 } });

let drawing = false;
function cursor() {
  if ($("notes").hidden || drawing) return;
  drawing = true;
  requestAnimationFrame(() => {
    drawing = false;
    if (!$("notes").hidden) Plotly.relayout("plot-notes", { shapes: [line(moment)] });
  });
}

// --- which episode -------------------------------------------------------------------------------

const unique = (values) => [...new Set(values)];
const has = (env, question) => data.episodes.some((e) => e.env === env && e.question === question);

/** Fill the choices from the first on, keeping what still exists of those that were made. */
function choices(wanted = {}) {
  const chosen = (id, key) => wanted[key] ?? ($(id).value === "" ? null : Number($(id).value));
  let left = data.episodes;
  for (const [id, key, text] of [
    ["episode-env", "env", (env) => data.environments[env].name],
    ["episode-row", "row", rowName],
    ["episode-question", "question", (question) => questionName(Number($("episode-env").value), question)],
    ["episode-seed", "seed", String],
  ]) {
    const values = unique(left.map((e) => e[key])).sort((a, b) => a - b);
    const choice = chosen(id, key);
    fill($(id), values.map((value) => [value, text(value)]), choice);
    left = left.filter((e) => e[key] === Number($(id).value));
  }
  return left[0];
}

function questionName(env, question) {
  const { numbers, seeds, rows } = data.questions[env];
  const k = numbers.indexOf(question);
  const row = Number($("episode-row").value);
  return `${question} (${rows[row].right[k]} of ${seeds} right)`;
}

async function open(wanted) {
  pause();
  const recording = choices(wanted);
  const mine = ++asked;
  const found = await decode(recording);
  if (mine !== asked) return;
  episode = found;
  const text = data.texts[recording.env]?.[recording.question] ?? "";
  $("question-text").textContent = text;
  $("question-text").hidden = text === "";
  $("step").max = episode.steps.length;
  $("stage").dataset.episode = [recording.env, recording.row, recording.question, recording.seed];
  moment = episode.steps.length;
  notes();
  show(moment);
}

/** Open a question in the viewer: by row A, else B, else whoever is there. */
function watch(env, question) {
  if (!has(env, question)) {
    $("questions-summary").textContent = `Question ${question} is not among the episodes that can `
      + "be watched: they are a sample.";
    return;
  }
  const there = data.episodes.filter((e) => e.env === env && e.question === question);
  const by = (row) => there.find((e) => e.row === row);
  const { row, seed } = by(Number($("row-a").value)) ?? by(Number($("row-b").value)) ?? there[0];
  open({ env, row, question, seed });
  $("viewer").scrollIntoView({ behavior: "smooth" });
  $("stage").focus({ preventScroll: true });
}

function pause() {
  clearInterval(playing);
  playing = null;
  playButton("play");
}
function playButton(what) {
  // What flies past is not read out.
  $("decision").setAttribute("aria-live", what === "play" ? "polite" : "off");
  $("play").replaceChildren(icon(what), what);
}
function play() {
  if (playing) return pause();
  if (moment >= episode.steps.length) show(0);
  const stride = Math.max(1, Math.round(episode.steps.length / 300));
  playing = setInterval(() => show(moment + stride), 40);
  playButton("pause");
}

function viewer() {
  const total = data.episodes.length;
  $("viewer-body").hidden = total === 0;
  $("viewer-note").textContent = total === 0
    ? "There is no episode to watch: none was asked for, or what was played is no longer there."
    : `${count(total)} episodes, played once more and equal to those of the benchmark: the same `
      + "questions and branch orders for every agent of an environment, from the easiest question to "
      + "the hardest, each in the branch order over which the agents differ most."
      + (data.limited ? ` ${count(data.wanted)} were chosen; the page's size limit left out the others.`
        : "");
  if (total === 0) return;
  if (!("DecompressionStream" in window)) {
    $("viewer-body").hidden = true;
    $("viewer-note").textContent = "This browser cannot unpack the episodes (DecompressionStream).";
    return;
  }
  for (const id of ["episode-env", "episode-row", "episode-question", "episode-seed"]) {
    $(id).onchange = () => open();
  }
  for (const name of ["first", "previous", "next", "last"]) $(name).replaceChildren(icon(name));
  const go = (to) => () => { pause(); show(to()); };
  $("first").onclick = go(() => 0);
  $("previous").onclick = go(() => moment - 1);
  $("next").onclick = go(() => moment + 1);
  $("last").onclick = go(() => episode.steps.length);
  $("play").onclick = play;
  $("step").oninput = (event) => { pause(); show(Number(event.target.value)); };
  $("viewer").addEventListener("keydown", (event) => {
    if (event.target.matches("select, input") || event.altKey || event.ctrlKey || event.metaKey) return;
    const leap = event.shiftKey ? 10 : 1;
    const keys = {
      ArrowLeft: () => show(moment - leap), ArrowRight: () => show(moment + leap),
      Home: () => show(0), End: () => show(episode.steps.length),
    };
    if (event.key === " " && !event.target.matches("button")) play();
    else if (keys[event.key]) { pause(); keys[event.key](); } else return;
    event.preventDefault();
  });
  const help = $("cell").textContent;
  $("plane").addEventListener("pointermove", (event) => {
    const { left, top, across, down } = geometry();
    const k = Math.floor((event.offsetX - left) / across), i = Math.floor((event.offsetY - top) / down);
    const branch = at(episode, moment).branches[i];
    $("cell").textContent = !branch || k < 0 || k >= branch.requested ? help
      : `Branch ${i}${branch.pruned ? " (pruned)" : ""}, interval ${k + 1}: `
        + (branch.cells[k] === undefined ? "requested, not looked at" : shown(episode.answers[branch.cells[k]]))
        + (branch.end === k + 1 ? ", its end" : "");
  });
  $("plane").addEventListener("pointerleave", () => { $("cell").textContent = help; });
  // The richest to begin with: an agent that notes what it thinks, half way along its knob.
  // The first two are the easiest and the hardest question.
  const half = data.rows.findIndex((r) => r.agent === state.schedule && r.beta === 0.5);
  const its = data.episodes.filter((e) => e.env === data.episodes[0].env && e.row === half);
  const { env, row, question, seed } = its[2] ?? its[0] ?? data.episodes[0];
  open({ env, row, question, seed });
}

// --- all of it -----------------------------------------------------------------------------------

function plots() {
  legend();
  for (const cost of Object.keys(COSTS)) frontier(cost);
}

function draw() {
  scopeNote();
  schedule();
  plots();
  table();
}

facts();
scopes();
$("beta").value = state.beta;
$("scope").onchange = (event) => {
  state.scope = Number(event.target.value);
  const { average, environments } = scopeNow();
  if (!average) {
    $("questions-env").value = environments[0];
    questions();
  }
  draw();
};
$("beta").oninput = (event) => { state.beta = Number(event.target.value); schedule(); plots(); };
$("schedule-agent").onchange = (event) => {
  state.schedule = Number(event.target.value);
  schedule();
  plots();
};
$("reference").onchange = (event) => { state.reference = Number(event.target.value); table(); };
questionControls();
draw();
questions();
viewer();
dark.addEventListener("change", () => {
  draw();
  questions();
  if (episode) { notes(); show(moment); }
});
let resized;
addEventListener("resize", () => {
  cancelAnimationFrame(resized);
  resized = requestAnimationFrame(() => { if (episode) show(moment); });
});
document.documentElement.dataset.ready = "true";
})();
