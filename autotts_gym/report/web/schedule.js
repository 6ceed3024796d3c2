/** The schedule of an agent at the selected β. */
import { byId, element, fillSelect, inputById, selectById } from "./dom.js";
import { formatPercent, formatTokens } from "./format.js";
import { data, selectedScope, state } from "./state.js";

/** The accuracy and the costs at the selected β on the selected scope; null if unknown. */
export function selectedPosition() {
  const position = selectedScope().positions[state.scheduledAgent]?.[state.beta];
  if (!position) return null;
  const [accuracy, tokens, sequential_tokens] = position;
  const played = data.rows.some((row) => row.agent === state.scheduledAgent
    && row.beta === data.betas[state.beta]);
  return { agent: state.scheduledAgent, accuracy, tokens, sequential_tokens, played };
}

/** @param {number} beta */
function positionText(beta) {
  const position = selectedPosition();
  if (!position) {
    const played = data.rows.filter((row) => row.agent === state.scheduledAgent)
      .map((row) => row.beta ?? 0).sort((a, b) => a - b);
    return `β = ${beta} is outside the range that was played (${played[0]} to ${played.at(-1)}).`;
  }
  const how = position.played ? `β = ${beta} was played.`
    : `β = ${beta} was not played; the figures are interpolated between the neighboring β, `
      + "linearly in β and in the logarithm of tokens.";
  return `${how} On ${selectedScope().name}: accuracy ${formatPercent(position.accuracy)}%, `
    + `${formatTokens(position.tokens)} total tokens, `
    + `${formatTokens(position.sequential_tokens)} sequential tokens (the star in the plots).`;
}

export function drawSchedule() {
  const agents = Object.keys(data.schedules).map(Number);
  byId("schedule").hidden = agents.length === 0;
  if (!agents.length) return;
  fillSelect(selectById("schedule-agent"), agents.map((agent) => [agent, data.agents[agent].name]),
    state.scheduledAgent);
  const { fields, comments, values } = data.schedules[state.scheduledAgent];
  const beta = data.betas[state.beta];
  byId("beta-value").textContent = String(beta);
  inputById("beta").setAttribute("aria-valuetext", `β = ${beta}`);
  byId("parameters").replaceChildren(...fields.map((field, k) => element("div", {},
    element("dt", {}, field.replaceAll("_", " ")),
    element("dd", { class: "value", "data-field": field }, values[state.beta][k]),
    comments[k] && element("dd", { class: "meaning" }, comments[k]))));
  byId("position").textContent = positionText(beta);
}
