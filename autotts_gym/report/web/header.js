/** The header: summary, facts, environments, problems; and the selection of the scope. */
import { byId, element } from "./dom.js";
import { NONE, formatCount, plural } from "./format.js";
import { data, selectedScope, state } from "./state.js";

const MAX_PROBLEMS = 8;

/** @type {Record<string, string>} */
const BILLINGS = { tokens: "generated tokens", interval: "started intervals in full" };

function seedsText() {
  const { seeds } = data.run;
  const consecutive = seeds.every((seed, k) => k === 0 || seed === seeds[k - 1] + 1);
  return consecutive && seeds.length > 1 ? `${seeds[0]} to ${seeds.at(-1)}` : seeds.join(", ");
}

/** @param {number | "recorded"} tokens */
function probeCostText(tokens) {
  if (tokens === "recorded") return "recorded tokens";
  return tokens ? `${formatCount(tokens)} tokens` : "free";
}

function drawSummary() {
  const environments = data.environments.length;
  byId("summary").textContent = `${plural(data.agents.length, "agent")} in `
    + `${plural(data.rows.length, "row")} on ${plural(environments, "environment")}. Every row `
    + "plays every question once per seed.";
  const synthetic = data.environments.filter((env) => env.synthetic).length;
  if (synthetic) {
    byId("summary").append(" ", element("span", { class: "badge" },
      synthetic === environments ? "SYNTHETIC TRACES" : `${synthetic} SYNTHETIC`),
    " Synthetic traces are generated, not sampled from a language model.");
  }
}

function drawFacts() {
  const { run } = data;
  const { config } = run;
  /** @type {Map<string, string[]>} */
  const agentsByBilling = new Map();
  for (const { billing, name } of data.agents) {
    agentsByBilling.set(billing, [...agentsByBilling.get(billing) ?? [], name]);
  }
  const billings = [...agentsByBilling].map(([billing, names]) =>
    (BILLINGS[billing] ?? billing) + (agentsByBilling.size > 1 ? ` (${names.join(", ")})` : ""));
  /** @type {[string, string | null][]} */
  const facts = [
    ["Seeds (branch orders)", seedsText()],
    ["Branch order", run.order === "published" ? "one for all questions of a seed (published)"
      : "different for each question and seed"],
    ["Width", `up to ${config.max_branches} branches`],
    ["Budget", config.budget == null ? "none" : `${formatCount(config.budget)} tokens per episode`],
    ["Cost of a probe", probeCostText(config.probe_tokens)],
    ["Billing", billings.join("; ")],
    ["Protocol", run.protocol === "paper" ? "published (paper)" : run.protocol || null],
    ["Weight of latency", config.latency_weight ? String(config.latency_weight) : null],
    ["Action limit", config.step_limit ? formatCount(config.step_limit) : null],
    ["Failed episodes", run.failed ? `${formatCount(run.failed)}, counted as incorrect` : null],
    ["Version", `autotts_gym ${run.version}`],
  ];
  byId("facts").replaceChildren(...facts.filter(([, value]) => value != null).map(
    ([name, value]) => element("div", {}, element("dt", {}, name), element("dd", {}, value))));
}

function drawEnvironments() {
  const head = ["environment", "split", "traces", "model", "benchmark", "questions", "branches",
    "Δ (tokens)", "depth"];
  /** @param {number} column */
  const textClass = (column) => column < 5 && "text";
  const rows = data.environments.map((env) => [
    env.name, env.split || NONE, env.synthetic ? "synthetic" : "recorded",
    env.details.model ?? NONE, env.details.benchmark ?? NONE, formatCount(env.questions),
    formatCount(env.branches), String(env.interval), String(env.depth),
  ]);
  byId("environments").querySelector("table")?.replaceChildren(
    element("thead", {}, element("tr", {}, ...head.map((name, k) =>
      element("th", { scope: "col", class: textClass(k) }, name)))),
    element("tbody", {}, ...rows.map((cells) => element("tr", {}, ...cells.map((cell, k) =>
      element("td", { class: textClass(k) }, cell))))));
  /** @type {HTMLDetailsElement} */ (byId("environments")).open = rows.length <= 4;
}

function drawIntervals() {
  byId("intervals").textContent = "The 95% intervals are percentiles of "
    + `${formatCount(data.run.replicates)} bootstrap replicates. Each replicate samples, with `
    + "replacement, the questions of every environment and the seeds (branch orders) of every "
    + "question. Environments and recorded branches are fixed: an average is the unweighted mean "
    + "over its environments, and does not describe other models or benchmarks. All rows use the "
    + "same samples, so differences between rows are paired. An environment with one question has "
    + "no interval. Failed episodes count as incorrect, with the tokens that they spent.";
}

function drawProblems() {
  const problems = [...data.run.incomplete.map((text) => `Not completed, and omitted: ${text}`),
    ...data.problems];
  const more = problems.length - MAX_PROBLEMS;
  byId("problems").hidden = problems.length === 0;
  byId("problems").replaceChildren(
    ...problems.slice(0, MAX_PROBLEMS).map((text) => element("li", {}, text)),
    more > 0 ? element("li", {}, `and ${more} more`) : "");
}

export function drawHeader() {
  drawSummary();
  drawFacts();
  drawEnvironments();
  drawIntervals();
  drawProblems();
}

export function fillScopes() {
  /**
   * @param {string} label
   * @param {boolean} average
   */
  const group = (label, average) => {
    const options = data.scopes.flatMap((scope, k) => (scope.average === average
      ? [element("option", { value: k, selected: k === state.scope },
        average ? `${scope.name} of ${scope.environments.length}` : scope.name)] : []));
    return options.length ? [element("optgroup", { label }, ...options)] : [];
  };
  byId("scope").replaceChildren(...group("Averages", true), ...group("Environments", false));
}

export function drawScopeNote() {
  const scope = selectedScope();
  const badges = [];
  if (scope.synthetic) badges.push(element("span", { class: "badge" }, "SYNTHETIC"));
  if (scope.split) badges.push(element("span", { class: "badge plain" }, scope.split));
  if (scope.missing.length) {
    badges.push(element("small", {}, "without rows that were not played on all environments: "
      + scope.missing.join(", ")));
  }
  byId("scope-note").replaceChildren(...badges.flatMap((badge) => [badge, " "]));
}
