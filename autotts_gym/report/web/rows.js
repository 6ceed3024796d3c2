/** The table of all rows, with differences from a reference row. */
import { agentSwatch } from "./charts.js";
import { byId, drawSortableTable, element, fillSelect, selectById } from "./dom.js";
import {
  NONE, formatCount, formatDifference, formatPercent, formatRatio, formatTokens, intervalElement,
} from "./format.js";
import { data, rowName, selectedScope, state } from "./state.js";

/** @typedef {ScopeRow & { id: number, order: number, pair: (number | null)[], class: string | false }} TableRow */
/** @typedef {(value: number | null) => string} Format */

/**
 * A difference or ratio with its interval; bold if the interval excludes equality.
 * @param {(number | null)[]} interval
 * @param {Format} format
 * @param {number} equal the value for no difference
 * @param {boolean} lessIsBetter
 */
function comparison(interval, format, equal, lessIsBetter) {
  const [value, low, high] = interval;
  const cell = intervalElement(interval, format);
  if (value == null || low == null || high == null) return cell;
  if ((low <= equal && high >= equal) || value === equal) return cell;
  const better = (value < equal) === lessIsBetter;
  return element("b", { class: better ? "better" : "worse" }, cell);
}

/**
 * @param {Metric} key
 * @param {string} title
 * @param {Format} format
 * @returns {Column<TableRow>}
 */
function metricColumn(key, title, format) {
  return {
    key, title, descending: true, value: (row) => row[key][0],
    cell: (row) => intervalElement(row[key], format),
  };
}

/**
 * @param {Metric} key
 * @returns {Column<TableRow>}
 */
function meanColumn(key) {
  return {
    key, title: key, descending: true, value: (row) => row[key][0],
    cell: (row) => formatCount(row[key][0]),
  };
}

/**
 * @param {string} key
 * @param {string} title
 * @param {number} from index in `pair`
 * @param {Format} format
 * @param {number} equal
 * @param {boolean} lessIsBetter
 * @returns {Column<TableRow>}
 */
function comparisonColumn(key, title, from, format, equal, lessIsBetter) {
  return {
    key, title, descending: !lessIsBetter, value: (row) => row.pair[from],
    cell: (row) => (row.id === state.reference ? NONE
      : comparison(row.pair.slice(from, from + 3), format, equal, lessIsBetter)),
  };
}

/** @param {TableRow} row */
function agentCell(row) {
  const { agent } = data.rows[row.row];
  return element("span", { class: "agent" }, agentSwatch(data.agents[agent]), data.agents[agent].name);
}

/** @type {Column<TableRow>[]} */
const COLUMNS = [
  { key: "order", title: "agent", text: "text", value: (row) => row.order, cell: agentCell },
  {
    key: "beta", title: "β", value: (row) => data.rows[row.row].beta,
    cell: (row) => String(data.rows[row.row].beta ?? ""),
  },
  metricColumn("correct", "accuracy (%)", formatPercent),
  metricColumn("tokens", "total tokens", formatTokens),
  metricColumn("sequential_tokens", "sequential tokens", formatTokens),
  meanColumn("actions"),
  meanColumn("probes"),
  {
    key: "episodes", title: "episodes", descending: true, value: (row) => row.episodes,
    cell: (row) => formatCount(row.episodes)
      + (row.failed ? `, ${formatCount(row.failed)} failed` : ""),
  },
  {
    key: "undominated", title: "undominated", descending: true,
    value: (row) => (row.undominated ? 1 : 0) + (row.undominated_share ?? 0),
    cell: (row) => (row.undominated ? "yes" : "no")
      + (row.undominated_share == null ? "" : ` (${formatPercent(row.undominated_share)}%)`),
  },
  comparisonColumn("d-accuracy", "accuracy difference", 0, formatDifference, 0, false),
  comparisonColumn("d-tokens", "token ratio", 3, formatRatio, 1, true),
  comparisonColumn("d-sequential", "sequential ratio", 6, formatRatio, 1, true),
];

/** @typedef {Within & { id: number }} WithinRow */

/**
 * @param {Cost} cost
 * @param {string} title
 * @returns {Column<WithinRow>[]}
 */
function withinColumns(cost, title) {
  return [
    {
      key: cost, title, value: (row) => row[cost][0],
      cell: (row) => intervalElement(row[cost].slice(0, 3), formatTokens),
    },
    {
      key: `ratio-${cost}`, title: "ratio", value: (row) => row[cost][3],
      cell: (row) => comparison(row[cost].slice(3), formatRatio, 1, true),
    },
  ];
}

/** @type {Column<WithinRow>[]} */
const WITHIN_COLUMNS = [
  {
    key: "agent", title: "agent, over β", text: "text", value: (row) => row.agent,
    cell: (row) => element("span", { class: "agent" }, agentSwatch(data.agents[row.agent]),
      data.agents[row.agent].name),
  },
  ...withinColumns("tokens", "total tokens, at most its latency"),
  ...withinColumns("sequential_tokens", "sequential tokens, at most its tokens"),
];

/** The β sweeps at the accuracy of the reference row, within both of its costs. */
function drawWithin() {
  const rows = selectedScope().within.filter((row) => row.row === state.reference)
    .map((row) => ({ ...row, id: row.agent }));
  byId("within").hidden = rows.length === 0;
  byId("within-row").textContent = rowName(state.reference);
  drawSortableTable(byId("within-table"), WITHIN_COLUMNS, rows, state.withinOrder);
}

export function drawRows() {
  const scope = selectedScope();
  if (!scope.rows.some((row) => row.row === state.reference)) {
    state.reference = scope.rows[0]?.row;
  }
  fillSelect(selectById("reference"), scope.rows.map((row) => [row.row, rowName(row.row)]),
    state.reference);
  const reference = scope.rows.findIndex((row) => row.row === state.reference);
  const rows = scope.rows.map((row, k) => ({
    ...row, order: k, pair: scope.pairs[k][reference], id: row.row,
    class: /** @type {string | false} */ (k === reference && "reference"),
  }));
  drawSortableTable(byId("table"), COLUMNS, rows, state.rowOrder);
  drawWithin();
}
