/** The frontier plots: accuracy against total tokens, sequential tokens, and both. */
import {
  PLOT_CONFIG, agentColor, agentMarker, agentSwatch, atLeastOne, cssColor, logAxis, plotLayout,
} from "./charts.js";
import { byId, element, fillSelect, selectById } from "./dom.js";
import { escapeMarkup, formatCount, formatPercent, formatTokens } from "./format.js";
import { selectedPosition } from "./schedule.js";
import { data, rowName, selectedScope, state } from "./state.js";

/** @type {Record<Cost, string>} */
const COST_TITLES = {
  tokens: "mean total tokens per question",
  sequential_tokens: "mean sequential tokens per question",
};

/** @type {Record<Cost, Cost>} */
const OTHER_COST = { tokens: "sequential_tokens", sequential_tokens: "tokens" };

/** @param {ScopeRow[]} rows */
function agentsOf(rows) {
  return [...new Set(rows.map((row) => data.rows[row.row].agent))];
}

function drawLegend() {
  const severalBillings = new Set(data.agents.map((agent) => agent.billing)).size > 1;
  byId("legend").replaceChildren(...agentsOf(selectedScope().rows).map((agent) => element("span",
    {}, agentSwatch(data.agents[agent]), data.agents[agent].name,
    severalBillings && element("small", {}, `billed by ${data.agents[agent].billing}`))));
  const bounds = selectedScope().bounds.map(([name, value]) => `${name} ${formatPercent(value)}%`);
  byId("bounds").textContent = bounds.length
    ? `Bounds from the recorded branches: ${bounds.join(", ")}.` : "";
}

/** @param {ScopeRow} row */
function hoverText(row) {
  /**
   * @param {string} name
   * @param {Interval} interval
   * @param {(value: number | null) => string} format
   */
  const line = (name, [value, low, high], format, unit = "") =>
    `${name} ${format(value)}${unit}${low == null ? "" : ` [${format(low)}, ${format(high)}]`}`;
  return [
    `<b>${escapeMarkup(rowName(row.row))}</b>`,
    line("accuracy", row.correct, formatPercent, "%"),
    line("total tokens", row.tokens, formatTokens),
    line("sequential tokens", row.sequential_tokens, formatTokens),
    line("actions", row.actions, formatCount),
    line("probes", row.probes, formatCount),
    `${formatCount(row.episodes)} episodes${row.failed ? `, ${formatCount(row.failed)} failed` : ""}`,
  ].join("<br>");
}

/**
 * Error bars for plotly.
 * @param {Interval[]} intervals
 * @param {number} scale
 */
function errorBars(intervals, scale) {
  /** @param {number | null} a @param {number | null} b */
  const distance = (a, b) => (a == null || b == null ? 0 : scale * Math.max(a - b, 0));
  return {
    type: "data",
    symmetric: false,
    array: intervals.map(([value, , high]) => distance(high, value)),
    arrayminus: intervals.map(([value, low]) => distance(value, low)),
    thickness: 0.8,
    width: 0,
  };
}

/** @param {Interval} interval */
const percent = ([value]) => 100 * (value ?? 0);

/** @param {Interval[]} intervals */
const numbersOf = (intervals) => intervals.flatMap((interval) =>
  interval.flatMap((value) => (value == null ? [] : [value])));

/**
 * Whether a row has at most the other cost of the row that sets the limit.
 * @param {ScopeRow} row
 * @param {Cost} cost
 */
function isWithin(row, cost) {
  const other = OTHER_COST[cost];
  const limit = selectedScope().rows.find(({ row: id }) => id === state.limit)?.[other][0];
  return limit == null || (row[other][0] ?? Infinity) <= limit;
}

/**
 * The rows within the limit that are more accurate than all cheaper ones.
 * @param {Scope} scope
 * @param {Cost} cost
 */
function frontierRows(scope, cost) {
  let best = -Infinity;
  return scope.rows.filter((row) => row[cost][0] != null && isWithin(row, cost))
    .sort((a, b) => (a[cost][0] ?? 0) - (b[cost][0] ?? 0) || percent(b.correct) - percent(a.correct))
    .filter((row) => {
      const better = percent(row.correct) > best;
      best = Math.max(best, percent(row.correct));
      return better;
    });
}

/**
 * The step function of the Pareto frontier.
 * @param {Scope} scope
 * @param {Cost} cost
 */
function frontierTrace(scope, cost) {
  const rows = frontierRows(scope, cost);
  return {
    x: rows.map((row) => atLeastOne(row[cost][0])),
    y: rows.map((row) => percent(row.correct)),
    mode: "lines",
    line: { shape: "hv", dash: "dot", width: 1.5, color: cssColor("--muted") },
    hoverinfo: "skip",
  };
}

/**
 * An agent's points, connected in the order of β.
 * @param {Scope} scope
 * @param {Cost} cost
 * @param {number} agent
 */
function agentTrace(scope, cost, agent) {
  const rows = scope.rows.filter((row) => data.rows[row.row].agent === agent)
    .sort((a, b) => (data.rows[a.row].beta ?? 0) - (data.rows[b.row].beta ?? 0));
  const color = agentColor(data.agents[agent]);
  return {
    x: rows.map((row) => atLeastOne(row[cost][0])),
    y: rows.map((row) => percent(row.correct)),
    error_x: { ...errorBars(rows.map((row) => row[cost]), 1), color },
    error_y: { ...errorBars(rows.map((row) => row.correct), 100), color },
    mode: "lines+markers+text",
    line: { color, width: 2 },
    marker: {
      color, size: 11, symbol: agentMarker(data.agents[agent]),
      opacity: rows.map((row) => (isWithin(row, cost) ? 1 : 0.25)),
      line: { color: cssColor("--paper"), width: 1 },
    },
    text: betaLabels(rows, cost, scope),
    textposition: "bottom right",
    textfont: { color: cssColor("--ink"), size: 11 },
    cliponaxis: false,
    hovertext: rows.map(hoverText),
    hoverinfo: "text",
  };
}

/**
 * Labels of points with β: the ends first, then those that do not overlap others.
 * @param {ScopeRow[]} rows
 * @param {Cost} cost
 * @param {Scope} scope
 */
function betaLabels(rows, cost, scope) {
  /** @param {number[]} values */
  const spread = (values) => Math.max(...values) - Math.min(...values) || 1;
  /** @param {ScopeRow} row */
  const x = (row) => Math.log(atLeastOne(row[cost][0]));
  const width = spread(scope.rows.map(x));
  const height = spread(numbersOf(scope.rows.map((row) => row.correct)));
  /** @type {ScopeRow[]} */
  const labeled = [];
  const labels = rows.map(() => "");
  for (const k of [0, rows.length - 1, ...rows.keys()]) {
    const { beta } = data.rows[rows[k].row];
    const overlaps = labeled.some((row) => Math.abs(x(row) - x(rows[k])) < 0.1 * width
      && Math.abs(percent(row.correct) - percent(rows[k].correct)) < 5 * height);
    if (beta == null || overlaps) continue;
    labeled.push(rows[k]);
    labels[k] = `β ${beta}`;
  }
  return labels;
}

/**
 * A star at the selected β of the selected agent.
 * @param {Cost} cost
 */
function selectionTraces(cost) {
  const position = selectedPosition();
  if (!position) return [];
  return [{
    x: [atLeastOne(position[cost])],
    y: [100 * position.accuracy],
    mode: "markers",
    marker: {
      symbol: "star", size: 15, color: agentColor(data.agents[position.agent]),
      line: { color: cssColor("--ink"), width: 1.5 },
    },
    hovertext: [
      `<b>β = ${data.betas[state.beta]}</b>, ${position.played ? "played" : "interpolated"}`
      + `<br>accuracy ${formatPercent(position.accuracy)}%`
      + `<br>total tokens ${formatTokens(position.tokens)}`
      + `<br>sequential tokens ${formatTokens(position.sequential_tokens)}`,
    ],
    hoverinfo: "text",
  }];
}

/**
 * Bounds within the plot, by value: equal bounds share a line and a label.
 * @param {Scope} scope
 * @param {number} limit
 * @returns {[value: number, names: string[]][]}
 */
function visibleBounds(scope, limit) {
  /** @type {Map<number, string[]>} */
  const bounds = new Map();
  for (const [name, value] of scope.bounds) {
    if (value != null && value < limit) bounds.set(value, [...bounds.get(value) ?? [], name]);
  }
  return [...bounds];
}

/** @param {Cost} cost */
function drawPlot(cost) {
  const scope = selectedScope();
  const traces = [
    frontierTrace(scope, cost),
    ...agentsOf(scope.rows).map((agent) => agentTrace(scope, cost, agent)),
    ...selectionTraces(cost),
  ];
  const accuracies = numbersOf(scope.rows.map((row) => row.correct));
  const low = Math.min(...accuracies), high = Math.max(...accuracies);
  const room = Math.max(0.06 * (high - low), 0.01);
  // A bound far above the points would compress the plot; it is only listed in the text.
  const bounds = visibleBounds(scope, high + 0.25 * (high - low));
  const top = Math.max(high, ...bounds.map(([value]) => value));
  // Labels of bounds are at the side with fewer points.
  const side = cost === "tokens" ? { x: 0, xanchor: "left" } : { x: 1, xanchor: "right" };
  Plotly.react(`plot-${cost}`, traces, plotLayout({
    xaxis: logAxis(numbersOf(scope.rows.map((row) => row[cost])).map(atLeastOne),
      COST_TITLES[cost]),
    yaxis: {
      title: { text: "accuracy (%)", standoff: 4 },
      range: [100 * (low - room), 100 * (top + 1.5 * room)],
    },
    shapes: bounds.map(([value]) => ({
      type: "line", xref: "paper", x0: 0, x1: 1, y0: 100 * value, y1: 100 * value,
      line: { color: cssColor("--muted"), width: 1, dash: "dash" },
    })),
    annotations: bounds.map(([value, names]) => ({
      ...side, xref: "paper", y: 100 * value, yanchor: "bottom", showarrow: false,
      text: `${escapeMarkup(names.join(", "))}: ${formatPercent(value)}%`,
      font: { size: 11, color: cssColor("--muted") },
    })),
  }), PLOT_CONFIG);
}

/** Colours of sequential tokens, from few to many, as in the figures of the benchmark. */
const LATENCY_COLORS = [[0, "#9ecae1"], [0.25, "#41b6c4"], [0.5, "#225ea8"], [0.75, "#4a1486"],
  [1, "#1a0633"]];

/** Accuracy against total tokens; sequential tokens are the colour of the points. */
function drawTradeoff() {
  const scope = selectedScope();
  /** @param {ScopeRow} row */
  const latency = (row) => Math.log10(atLeastOne(row.sequential_tokens[0]));
  const latencies = scope.rows.map(latency);
  const low = Math.min(...latencies), high = Math.max(...latencies);
  const ticks = [0, 0.5, 1].map((share) => low + share * (high - low));
  const traces = agentsOf(scope.rows).map((agent, k) => {
    const rows = scope.rows.filter((row) => data.rows[row.row].agent === agent)
      .sort((a, b) => (data.rows[a.row].beta ?? 0) - (data.rows[b.row].beta ?? 0));
    return {
      x: rows.map((row) => atLeastOne(row.tokens[0])),
      y: rows.map((row) => percent(row.correct)),
      mode: "lines+markers+text",
      line: { color: cssColor("--muted"), width: 1 },
      marker: {
        color: rows.map(latency), cmin: low, cmax: Math.max(high, low + 0.01),
        colorscale: LATENCY_COLORS, size: 12, symbol: agentMarker(data.agents[agent]),
        line: {
          color: cssColor("--ink"), width: rows.map((row) => (row.undominated ? 2.5 : 0)),
        },
        ...(k === 0 && {
          colorbar: {
            thickness: 12, tickvals: ticks, ticktext: ticks.map((tick) => formatTokens(10 ** tick)),
            title: { text: "sequential tokens", side: "right" },
          },
        }),
      },
      text: betaLabels(rows, "tokens", scope),
      textposition: "bottom right",
      textfont: { color: cssColor("--ink"), size: 11 },
      cliponaxis: false,
      hovertext: rows.map((row) => `${hoverText(row)}<br>${dominanceText(row)}`),
      hoverinfo: "text",
    };
  });
  const accuracies = scope.rows.map((row) => percent(row.correct));
  const room = Math.max(0.08 * (Math.max(...accuracies) - Math.min(...accuracies)), 1);
  Plotly.react("plot-tradeoff", traces, plotLayout({
    xaxis: logAxis(scope.rows.map((row) => atLeastOne(row.tokens[0])), COST_TITLES.tokens),
    yaxis: {
      title: { text: "accuracy (%)", standoff: 4 },
      range: [Math.min(...accuracies) - room, Math.max(...accuracies) + room],
    },
  }), PLOT_CONFIG);
}

/** @param {ScopeRow} row */
function dominanceText(row) {
  const share = row.undominated_share;
  return (row.undominated ? "undominated" : "dominated")
    + (share == null ? "" : ` (undominated in ${formatPercent(share)}% of the replicates)`);
}

/** Fill the choice of the row that sets the limit. */
function fillLimits() {
  const rows = selectedScope().rows.map(({ row }) => row);
  if (!rows.includes(state.limit)) state.limit = -1;
  fillSelect(selectById("limit"), [[-1, "none"], ...rows.map((row) =>
    /** @type {[number, string]} */ ([row, rowName(row)]))], state.limit);
}

export function drawFrontiers() {
  fillLimits();
  drawLegend();
  drawPlot("tokens");
  drawPlot("sequential_tokens");
  drawTradeoff();
}
