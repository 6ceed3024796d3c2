/** The comparison of two rows, A and B, question by question. */
import { PLOT_CONFIG, atLeastOne, cssColor, logTicks, plotLayout } from "./charts.js";
import { byId, drawSortableTable, element, fillSelect, selectById } from "./dom.js";
import { NONE, escapeMarkup, formatAnswer, formatRatio, formatTokens } from "./format.js";
import { data, rowName, state } from "./state.js";

/**
 * @typedef {object} Comparison
 * @property {number} id number of the question
 * @property {number} correctA seeds that A answers correctly
 * @property {number} correctB
 * @property {number} tokensA
 * @property {number} tokensB
 * @property {[string, number] | undefined} wrongA the most frequent incorrect answer
 * @property {[string, number] | undefined} wrongB
 * @property {number | null} ratio tokens of A divided by tokens of B
 * @property {number} advantage of A, for sorting
 */

const COLOR_A = "#0072B2", COLOR_B = "#D55E00";

/** @type {(env: number, question: number) => void} */
let openEpisode = () => {};

/**
 * Whether the page contains an episode of a question.
 * @param {number} env
 * @param {number} question
 */
export function hasEpisode(env, question) {
  return data.episodes.some((e) => e.env === env && e.question === question);
}

function selection() {
  return {
    env: Number(selectById("questions-env").value),
    a: Number(selectById("row-a").value),
    b: Number(selectById("row-b").value),
  };
}

/**
 * Accuracy decides; between equal accuracies, fewer tokens.
 * @param {number} correct difference
 * @param {number} tokensA
 * @param {number} tokensB
 */
function advantage(correct, tokensA, tokensB) {
  const logRatio = Math.log(atLeastOne(tokensA) / atLeastOne(tokensB));
  const cheaper = tokensA < tokensB ? 0.4 : tokensA > tokensB ? -0.4 : 0;
  return correct + (cheaper * Math.min(Math.abs(logRatio), 5)) / 5;
}

/** @returns {Comparison[]} empty if A or B was not played on the environment */
function comparisons() {
  const { env, a, b } = selection();
  const { numbers, rows } = data.questions[env];
  const [rowA, rowB] = [rows[a], rows[b]];
  if (!rowA || !rowB) return [];
  return numbers.map((number, k) => ({
    id: number,
    correctA: rowA.correct[k],
    correctB: rowB.correct[k],
    tokensA: rowA.tokens[k],
    tokensB: rowB.tokens[k],
    wrongA: rowA.wrong[k][0],
    wrongB: rowB.wrong[k][0],
    ratio: rowB.tokens[k] ? rowA.tokens[k] / rowB.tokens[k] : null,
    advantage: advantage(rowA.correct[k] - rowB.correct[k], rowA.tokens[k], rowB.tokens[k]),
  }));
}

/** @param {Comparison} question */
function betterRow({ correctA, correctB }) {
  return correctA === correctB ? NONE : correctA > correctB ? "A" : "B";
}

/**
 * @param {Comparison} question
 * @param {number} seeds
 */
function details(question, seeds) {
  const { correctA, correctB, ratio } = question;
  const parts = [`A is correct for ${correctA} of ${seeds} seeds, B for ${correctB}`];
  if (ratio != null) parts.push(`A spends ${formatRatio(ratio)} the tokens of B`);
  for (const [name, wrong] of /** @type {const} */ ([["A", question.wrongA],
    ["B", question.wrongB]])) {
    if (wrong) {
      parts.push(`most frequent incorrect answer of ${name}: ${formatAnswer(wrong[0])} `
        + `(${wrong[1]} of ${seeds})`);
    }
  }
  return parts.join("; ");
}

/**
 * @param {Comparison[]} list
 * @param {number} seeds
 */
function drawPlot(list, seeds) {
  const order = [...list].sort((p, q) => q.advantage - p.advantage);
  const x = order.map((_, k) => k);
  const hovertext = order.map((q) => `<b>question ${q.id}</b><br>`
    + escapeMarkup(details(q, seeds)).replaceAll("; ", "<br>"));
  const numbered = order.length <= 40 && innerWidth > 700;
  const ratios = order.map((q) => (q.ratio ? q.ratio : null));
  const known = ratios.flatMap((ratio) => (ratio == null ? [] : [ratio]));
  const low = Math.min(0.8, ...known) / 1.1, high = Math.max(1.25, ...known) * 1.1;
  const ticks = logTicks(low, high, true);
  Plotly.react("plot-questions", [
    {
      type: "bar", x, y: order.map((q) => (100 * (q.correctA - q.correctB)) / seeds),
      marker: { color: order.map((q) => (q.correctA > q.correctB ? COLOR_A : COLOR_B)) },
      hovertext, hoverinfo: "text",
    },
    {
      x, y: ratios, yaxis: "y2", mode: "markers",
      marker: { color: ratios.map((r) => (r != null && r < 1 ? COLOR_A : COLOR_B)), size: 6 },
      hovertext, hoverinfo: "text",
    },
  ], plotLayout({
    bargap: 0.15,
    xaxis: {
      tickvals: numbered ? x : [], ticktext: order.map((q) => q.id), showgrid: false,
      tickangle: 0, title: { text: "questions, in the order of A's advantage", standoff: 6 },
      anchor: "y2", range: [-1, order.length],
    },
    yaxis: {
      domain: [0.46, 1], title: { text: "accuracy A − B" }, zeroline: true,
      zerolinecolor: cssColor("--muted"),
    },
    yaxis2: {
      domain: [0, 0.38], type: "log", title: { text: "tokens A / B" }, automargin: true,
      range: [Math.log10(low), Math.log10(high)], gridcolor: cssColor("--line"), tickvals: ticks,
      ticktext: ticks.map((v) => `${+v.toPrecision(2)}×`), zeroline: false,
    },
    shapes: [{
      type: "line", xref: "paper", x0: 0, x1: 1, yref: "y2", y0: 1, y1: 1,
      line: { color: cssColor("--muted"), width: 1 },
    }],
  }), PLOT_CONFIG);
  const plot = /** @type {PlotElement} */ (byId("plot-questions"));
  plot.removeAllListeners?.("plotly_click");
  const { env } = selection();
  plot.on("plotly_click", (event) => openEpisode(env, order[event.points[0].x].id));
}

/**
 * @param {Comparison[]} list
 * @param {number} seeds
 */
function drawTable(list, seeds) {
  const { env } = selection();
  /** @param {number} question */
  const openButton = (question) => element("button", {
    type: "button",
    "aria-label": `Open question ${question} in the episode viewer`,
    onclick: () => openEpisode(env, question),
  }, "open");
  drawSortableTable(byId("question-table"), /** @type {Column<Comparison>[]} */ ([
    { key: "id", title: "question", value: (q) => q.id, cell: (q) => String(q.id) },
    {
      key: "advantage", title: "better", text: "text", descending: true,
      value: (q) => q.advantage, cell: betterRow,
    },
    {
      key: "correctA", title: "A correct", descending: true, value: (q) => q.correctA,
      cell: (q) => `${q.correctA} of ${seeds}`,
    },
    {
      key: "correctB", title: "B correct", descending: true, value: (q) => q.correctB,
      cell: (q) => `${q.correctB} of ${seeds}`,
    },
    {
      key: "tokensA", title: "A tokens", descending: true, value: (q) => q.tokensA,
      cell: (q) => formatTokens(q.tokensA),
    },
    {
      key: "tokensB", title: "B tokens", descending: true, value: (q) => q.tokensB,
      cell: (q) => formatTokens(q.tokensB),
    },
    {
      key: "ratio", title: "token ratio", descending: true, value: (q) => q.ratio,
      cell: (q) => formatRatio(q.ratio),
    },
    { key: "details", title: "details", text: "long", cell: (q) => details(q, seeds) },
    {
      key: "open", title: "episode", text: "text",
      cell: (q) => (hasEpisode(env, q.id) ? openButton(q.id) : ""),
    },
  ]), list, state.questionOrder);
}

export function drawQuestions() {
  const { env, a, b } = selection();
  const { seeds } = data.questions[env];
  const list = comparisons();
  const better = list.filter((q) => q.correctA > q.correctB).length;
  const worse = list.filter((q) => q.correctA < q.correctB).length;
  byId("questions-summary").textContent = list.length
    ? `A (${rowName(a)}) is more accurate on ${better} of ${list.length} questions, B `
      + `(${rowName(b)}) on ${worse}. Bars: accuracy of A minus accuracy of B. Dots: tokens of A `
      + "divided by tokens of B. Click a question to open it in the episode viewer below, if the "
      + "page contains an episode of it."
    : "A or B was not played on this environment.";
  drawPlot(list, seeds);
  drawTable(list, seeds);
}

/**
 * Fill the selections.
 * @param {(env: number, question: number) => void} open called with a question to open
 */
export function initQuestions(open) {
  openEpisode = open;
  /** @type {[number, string][]} */
  const rows = data.rows.map((row, k) => [k, row.name]);
  fillSelect(selectById("row-a"), rows, rows.length - 1);
  fillSelect(selectById("row-b"), rows, 0);
  fillSelect(selectById("questions-env"), Object.keys(data.questions).map((env) =>
    [Number(env), data.environments[Number(env)].name]));
  for (const id of ["row-a", "row-b", "questions-env"]) selectById(id).onchange = drawQuestions;
}
