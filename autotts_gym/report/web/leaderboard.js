/** Entry point of a leaderboard's page. */
import { byId, drawSortableTable, element, fillSelect, inputById, selectById } from "./dom.js";
import {
  NONE, formatCount, formatDifference, formatPercent, formatRatio, formatTokens, intervalElement,
  plural,
} from "./format.js";

/** @type {LeaderboardData} */
const data = JSON.parse(byId("data").textContent ?? "");

/** @typedef {{ key: CellFigure, title: string, format: (value: number | null) => string, descending?: boolean }} Figure */

/** @type {Figure[]} */
const FIGURES = [
  { key: "correct", title: "accuracy (%)", format: formatPercent, descending: true },
  { key: "tokens", title: "total tokens", format: formatTokens },
  { key: "sequential_tokens", title: "sequential tokens (latency)", format: formatTokens },
  { key: "probes", title: "probes", format: formatCount },
  {
    key: "difference", title: "accuracy difference to self_consistency (points)",
    format: formatDifference, descending: true,
  },
  { key: "ratio", title: "tokens relative to self_consistency", format: formatRatio },
];

let figure = FIGURES[0];

/**
 * A figure of a row; beside the accuracy, also its tokens.
 * @param {LeaderboardCell | null} cell
 */
function cellElement(cell) {
  const interval = cell?.[figure.key];
  if (!cell || !interval) return NONE;
  const value = intervalElement(interval, figure.format);
  if (figure.key === "correct") {
    value.append(element("small", { class: "second" }, `${formatTokens(cell.tokens[0])} tokens`));
  }
  return value;
}

/**
 * @param {LeaderboardPart} part
 * @returns {Column<LeaderboardRow & { id: number }>[]}
 */
function columns(part) {
  return [
    {
      key: "name", title: "controller", text: "text", value: (row) => row.name,
      cell: (row) => element("span", {}, row.name,
        row.failed ? element("small", {}, ` ${formatCount(row.failed)} failed`) : null),
    },
    ...part.columns.map((column, k) => ({
      key: `column-${k}`,
      title: column.synthetic ? `${column.name} (synthetic)` : column.name,
      descending: figure.descending,
      /** @param {LeaderboardRow} row */
      value: (row) => row.cells[k]?.[figure.key]?.[0] ?? null,
      /** @param {LeaderboardRow} row */
      cell: (row) => cellElement(row.cells[k]),
    })),
  ];
}

/**
 * @param {LeaderboardPart} part
 * @param {number} number
 */
function partElement(part, number) {
  const all = inputById("all-rows").checked;
  const rows = part.rows.map((row, id) => ({ ...row, id })).filter((row) => all || row.main);
  const table = element("table", { id: `part-${number}` });
  drawSortableTable(table, columns(part), rows,
    { key: "column-0", descending: Boolean(figure.descending) });
  return [element("h3", {}, part.title), element("div", {
    class: "scroll", tabindex: 0, role: "region", "aria-label": part.title,
  }, table)];
}

function drawBoards() {
  let number = 0;
  byId("boards").replaceChildren(...data.boards.map((board) => element("section", {},
    element("h2", {}, board.setting),
    ...board.parts.flatMap((part) => partElement(part, number++)))));
}

/**
 * @param {string} id
 * @param {string[]} heads
 * @param {(string | Node)[][]} rows
 * @param {number} texts number of columns with text, from the left
 */
function drawTable(id, heads, rows, texts) {
  /** @param {number} k */
  const textClass = (k) => k < texts && "text";
  byId(id).replaceChildren(
    element("thead", {}, element("tr", {}, ...heads.map((head, k) =>
      element("th", { scope: "col", class: textClass(k) }, head)))),
    element("tbody", {}, ...rows.map((cells) => element("tr", {}, ...cells.map((cell, k) =>
      element("td", { class: textClass(k) }, cell))))));
}

/**
 * The start of a digest; the whole digest is its tooltip.
 * @param {string} text
 */
function digest(text) {
  return element("code", { title: text }, text.slice(0, 16));
}

function drawFacts() {
  const episodes = data.folders.reduce((sum, folder) => sum + folder.episodes, 0);
  const replayed = data.folders.reduce((sum, folder) => sum + folder.replayed, 0);
  byId("summary").textContent = `${plural(data.controllers.length, "controller")} on `
    + `${plural(data.environments.length, "environment")}, from `
    + `${plural(data.folders.length, "results folder")} with ${plural(episodes, "episode")}. All `
    + "figures are computed from the episodes. Brackets: 95% intervals, a bootstrap over questions "
    + "and seeds. To see whether a row differs from self_consistency by more than chance, show the "
    + "accuracy difference, which is paired.";
  byId("verification").textContent = "Every episode is correct exactly if its answer is, and every "
    + `row has all of its episodes. ${formatCount(replayed)} episodes were played again by `
    + `autotts_gym ${data.version} and ended as recorded: `
    + (data.sample == null ? "all. " : `up to ${data.sample} of every row, drawn with seed `
      + `${data.sample_seed}. The others were not.`);
  drawTable("controllers", ["controller", "replayed", "results folders", "sha256"],
    data.controllers.map((row) =>
      [row.name, row.replayed, row.folders.join(", "), digest(row.digest)]), 4);
  drawTable("environments", ["environment", "split", "model", "fingerprint", "questions digest",
    "questions", "recorded branches"],
  data.environments.map((env) => [env.synthetic ? `${env.name} (synthetic)` : env.name,
    env.split || NONE, env.model || NONE, digest(env.fingerprint), digest(env.benchmark),
    formatCount(env.questions), formatCount(env.branches)]), 5);
  drawTable("folders", ["folder", "autotts_gym", "protocol", "sha256 of the episodes", "rows",
    "episodes", "replayed"],
  data.folders.map((folder) => [folder.name, folder.version, folder.protocol || NONE,
    digest(folder.digest), formatCount(folder.runs), formatCount(folder.episodes),
    formatCount(folder.replayed)]), 4);
  byId("problems").hidden = data.refused.length === 0;
  byId("problems").replaceChildren(...data.refused.map(([name, reason]) =>
    element("li", {}, `Refused: ${name}: ${reason}`)));
}

drawFacts();
fillSelect(selectById("figure"), FIGURES.map(({ title }, k) => [k, title]), 0);
selectById("figure").onchange = () => {
  figure = FIGURES[Number(selectById("figure").value)];
  drawBoards();
};
inputById("all-rows").onchange = drawBoards;
drawBoards();
document.documentElement.dataset.ready = "true";
