/** Entry point of the page of a simulation. */
import {
  PLOT_CONFIG, agentColor, agentMarker, agentSwatch, cssColor, logAxis, onColorSchemeChange,
  plotLayout,
} from "./charts.js";
import { byId, drawSortableTable, element, fillSelect, inputById, selectById } from "./dom.js";
import {
  NONE, escapeMarkup, formatCount, formatPercent, formatTokens, plural,
} from "./format.js";

/** @type {SimulationData} */
const data = JSON.parse(byId("data").textContent ?? "");

/** @type {[Percentile, string][]} */
const PERCENTILES = [["p50", "half of the questions"], ["p95", "95% of the questions"],
  ["p99", "99% of the questions"]];

const loads = [...new Set(data.points.map((point) => point.rate))];

const state = {
  rate: loads[Math.floor(loads.length / 2)],
  /** @type {Percentile} */
  percentile: "p95",
  /** @type {SortOrder} */
  order: { key: "order", descending: false },
};

/** @param {number | null} seconds */
function formatSeconds(seconds) {
  if (seconds == null) return NONE;
  if (seconds >= 100) return formatCount(seconds);
  return seconds.toFixed(seconds >= 10 ? 1 : seconds >= 0.1 ? 2 : 4);
}

/** @param {number | null} value */
function formatNumber(value) {
  return value == null ? NONE : String(+value.toPrecision(3));
}

/** @param {number | null} rate */
function formatLoad(rate) {
  return rate == null ? "all at once" : `${formatNumber(rate)} questions per second`;
}

/** @param {SimulationPoint} point */
function agentOf(point) {
  return data.agents.find((agent) => agent.name === point.controller) ?? data.agents[0];
}

/** @param {SimulationPoint} point */
function hoverText(point) {
  return [
    `<b>${escapeMarkup(point.name)}</b>, ${formatLoad(point.rate)}`,
    `accuracy ${formatPercent(point.accuracy)}%`,
    `p50 ${formatSeconds(point.p50)} s, p95 ${formatSeconds(point.p95)} s, `
    + `p99 ${formatSeconds(point.p99)} s`,
    `${formatTokens(point.tokens)} tokens a question`,
    `${formatTokens(point.tokens_per_second)} tokens per second, `
    + `${formatPercent(point.utilisation)}% used`,
    `capacity ${formatNumber(point.capacity)} questions per second`,
    ...(point.cost == null ? [] : [`${formatNumber(point.cost)} for 1,000 questions`]),
    ...(point.overloaded ? ["<b>overloaded</b>"] : []),
  ].join("<br>");
}

/** @param {SimulationPoint[]} points */
function markers(points) {
  const agent = agentOf(points[0]);
  const color = agentColor(agent);
  return {
    line: { color, width: 2 },
    marker: {
      color: points.map((point) => (point.overloaded ? cssColor("--paper") : color)),
      size: 10, symbol: agentMarker(agent), line: { color, width: 2 },
    },
    textposition: "top center",
    textfont: { color: cssColor("--ink"), size: 11 },
    cliponaxis: false,
    hovertext: points.map(hoverText),
    hoverinfo: "text",
  };
}

/** @param {SimulationPoint} point */
function betaLabel(point) {
  return point.beta == null ? "" : `β ${point.beta}`;
}

/**
 * A line per controller, over β, at the selected load.
 * @param {string} target
 * @param {(point: SimulationPoint) => number | null} cost
 * @param {string} title
 */
function drawOverBeta(target, cost, title) {
  const selected = data.points.filter((point) => point.rate === state.rate && cost(point) != null);
  const traces = data.agents.map(({ name }) => selected.filter((p) => p.controller === name)
    .sort((a, b) => (a.beta ?? 0) - (b.beta ?? 0))).filter((points) => points.length)
    .map((points) => ({
      x: points.map(cost),
      y: points.map((point) => 100 * point.accuracy),
      mode: "lines+markers+text",
      text: points.map(betaLabel),
      ...markers(points),
    }));
  Plotly.react(target, traces, plotLayout({
    xaxis: logAxis(selected.map((point) => Math.max(cost(point) ?? 0, 1e-9)), title),
    yaxis: { title: { text: "accuracy (%)", standoff: 4 } },
  }), PLOT_CONFIG);
}

/**
 * A line per controller and β, over the load.
 * @param {string} target
 * @param {(point: SimulationPoint) => number | null} value
 * @param {object} yaxis
 */
function drawOverLoad(target, value, yaxis) {
  const names = [...new Set(data.points.map((point) => point.name))];
  const traces = names.map((name) => {
    const points = data.points.filter((point) => point.name === name)
      .sort((a, b) => (a.rate ?? 0) - (b.rate ?? 0));
    return {
      x: points.map((point) => point.rate),
      y: points.map(value),
      mode: "lines+markers+text",
      text: points.map((point, k) => (k === points.length - 1 ? betaLabel(point) : "")),
      ...markers(points),
      textposition: "middle right",
    };
  });
  const high = Math.max(...loads.map((rate) => rate ?? 0));
  Plotly.react(target, traces, plotLayout({
    xaxis: {
      title: { text: "questions per second", standoff: 8 },
      range: [0, 1.12 * high],
      ...(loads.length <= 8 && {
        tickvals: loads, ticktext: loads.map((rate) => formatNumber(rate)),
      }),
    },
    yaxis,
    shapes: [{
      type: "line", yref: "paper", y0: 0, y1: 1, x0: state.rate, x1: state.rate, layer: "below",
      line: { color: cssColor("--muted"), width: 1, dash: "dot" },
    }],
  }), PLOT_CONFIG);
}

function drawCurve() {
  const { concurrency, tokens_per_second: rates } = data.curve;
  const totals = concurrency.map((count, k) => count * rates[k]);
  Plotly.react("plot-curve", [{
    x: concurrency, y: totals, mode: "lines+markers",
    line: { color: cssColor("--accent"), width: 2 },
    hovertext: concurrency.map((count, k) => `${plural(count, "sequence")}<br>`
      + `${formatTokens(totals[k])} tokens per second, ${formatNumber(rates[k])} each`),
    hoverinfo: "text",
  }], plotLayout({
    xaxis: logAxis(concurrency, "concurrent sequences"),
    yaxis: { title: { text: "tokens per second", standoff: 4 }, rangemode: "tozero" },
  }), PLOT_CONFIG);
}

/** The most accurate point within the limit of the time, in a sentence. */
function drawChoice() {
  const limit = parseFloat(inputById("limit").value);
  if (!(limit >= 0)) {
    byId("choice").textContent = "Give a limit of the time to see the most accurate choice within it.";
    return;
  }
  const within = data.points.filter((point) => point.rate === state.rate && !point.overloaded
    && point[state.percentile] <= limit)
    .sort((a, b) => b.accuracy - a.accuracy || a[state.percentile] - b[state.percentile]);
  byId("choice").textContent = within.length
    ? `At ${formatLoad(state.rate)}, ${within[0].name} is the most accurate with ${state.percentile}`
      + ` within ${formatNumber(limit)} s: accuracy ${formatPercent(within[0].accuracy)}%, `
      + `${state.percentile} ${formatSeconds(within[0][state.percentile])} s, `
      + `${formatPercent(within[0].utilisation)}% used.`
    : `At ${formatLoad(state.rate)}, nothing has ${state.percentile} within `
      + `${formatNumber(limit)} s.`;
}

/** @param {Percentile} key @returns {Column<SimulationPoint & { id: number }>} */
function timeColumn(key) {
  return {
    key, title: `${key} (s)`, value: (point) => point[key],
    cell: (point) => formatSeconds(point[key]) + (point.overloaded ? "!" : ""),
  };
}

/** @type {Column<SimulationPoint & { id: number }>[]} */
const COLUMNS = [
  {
    key: "order", title: "controller", text: "text", value: (point) => point.id,
    cell: (point) => element("span", { class: "agent" }, agentSwatch(agentOf(point)), point.name),
  },
  {
    key: "rate", title: "questions/s", value: (point) => point.rate,
    cell: (point) => formatNumber(point.rate),
  },
  {
    key: "accuracy", title: "accuracy (%)", descending: true, value: (point) => point.accuracy,
    cell: (point) => formatPercent(point.accuracy),
  },
  timeColumn("p50"), timeColumn("p95"), timeColumn("p99"),
  {
    key: "tokens", title: "tokens", value: (point) => point.tokens,
    cell: (point) => formatTokens(point.tokens),
  },
  {
    key: "tokens_per_second", title: "tokens/s", value: (point) => point.tokens_per_second,
    cell: (point) => formatTokens(point.tokens_per_second),
  },
  {
    key: "utilisation", title: "used (%)", value: (point) => point.utilisation,
    cell: (point) => formatPercent(point.utilisation),
  },
  {
    key: "capacity", title: "capacity (questions/s)", descending: true,
    value: (point) => point.capacity, cell: (point) => formatNumber(point.capacity),
  },
  {
    key: "cost", title: "cost of 1,000", value: (point) => point.cost,
    cell: (point) => formatNumber(point.cost),
  },
  {
    key: "cost_at_capacity", title: "at capacity", value: (point) => point.cost_at_capacity,
    cell: (point) => formatNumber(point.cost_at_capacity),
  },
];

function drawTable() {
  const priced = data.points.some((point) => point.cost != null);
  drawSortableTable(byId("points"), COLUMNS.filter(({ key }) => priced || !key.startsWith("cost")),
    data.points.map((point, id) => ({ ...point, id })), state.order);
}

function drawHeader() {
  const { fleet } = data;
  const names = data.environments.map((env) => (env.synthetic ? `${env.name} (synthetic)` : env.name));
  byId("summary").textContent = `${plural(fleet.servers, "server")} that generate up to `
    + `${formatTokens(fleet.max_tokens_per_second)} tokens per second, simulated with recorded `
    + `episodes. ${plural(data.questions, "question")} at each load`
    + (data.arrivals === "poisson" ? " arrive as a Poisson process." : ", at given times.");
  const facts = [
    ["environments", names.join(", ")],
    ["questions recorded", formatCount(data.environments.reduce((sum, e) => sum + e.questions, 0))],
    ["orders of branches", formatCount(data.seeds.length)],
    ["most branches", formatCount(data.max_branches)],
    ["sequences of a server", formatCount(data.curve.max_sequences)],
    ["routing", fleet.routing.replace("_", " ")],
    ["questions in progress", `at most ${formatCount(fleet.max_episodes)}`],
    ["not counted at the start", `${formatPercent(data.warm_up)}%`],
    ...(fleet.gpu_hour == null ? [] : [["price of a GPU hour", formatNumber(fleet.gpu_hour)]]),
  ];
  byId("facts").replaceChildren(...facts.map(([name, value]) =>
    element("div", {}, element("dt", {}, name), element("dd", {}, value))));
  byId("legend").replaceChildren(...data.agents.map((agent) =>
    element("span", {}, agentSwatch(agent), agent.name)));
  const over = data.points.filter((point) => point.overloaded).length;
  byId("problems").hidden = over === 0;
  byId("problems").replaceChildren(element("li", {}, `${plural(over, "point")} of `
    + `${formatCount(data.points.length)} overloaded: their times depend on how many questions are `
    + "simulated."));
}

function draw() {
  const { percentile } = state;
  const priced = data.points.some((point) => point.cost_at_capacity != null);
  drawOverBeta("plot-accuracy", (point) => point[percentile], `${percentile} of the time to answer (s)`);
  byId("sizing-caption").textContent = priced
    ? "Accuracy against the cost of 1,000 questions, with as many servers as they need"
    : "Accuracy against the questions per second that the servers can answer";
  drawOverBeta("plot-sizing", (point) => (priced ? point.cost_at_capacity : point.capacity),
    priced ? "cost of 1,000 questions" : "questions per second");
  byId("over-load").hidden = loads.length < 2;
  if (loads.length > 1) {
    drawOverLoad("plot-time", (point) => point[percentile],
      logAxis(data.points.map((point) => Math.max(point[percentile], 1e-9)), `${percentile} (s)`));
    drawOverLoad("plot-utilisation", (point) => 100 * (point.utilisation ?? 0),
      { title: { text: "used (%)", standoff: 4 }, rangemode: "tozero" });
  }
  drawCurve();
  drawChoice();
}

drawHeader();
fillSelect(selectById("load"), loads.map((rate, k) => [k, formatLoad(rate)]),
  loads.indexOf(state.rate));
fillSelect(selectById("percentile"), PERCENTILES.map(([key, title], k) => [k, `${key}: ${title}`]), 1);
selectById("load").onchange = () => {
  state.rate = loads[Number(selectById("load").value)];
  draw();
};
selectById("percentile").onchange = () => {
  [state.percentile] = PERCENTILES[Number(selectById("percentile").value)];
  draw();
};
inputById("limit").oninput = drawChoice;
drawTable();
draw();
onColorSchemeChange(() => {
  drawHeader();
  drawTable();
  draw();
});
document.documentElement.dataset.ready = "true";
