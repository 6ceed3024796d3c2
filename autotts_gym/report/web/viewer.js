/** The episode viewer: the current step, the vote, and the controls. */
import { byId, element, fillSelect, icon, inputById, selectById } from "./dom.js";
import { decodeEpisode, stateAfter } from "./episode.js";
import { formatAnswer, formatCount } from "./format.js";
import { drawNotes, moveStepLine } from "./notes.js";
import { answerColor, cellAt, drawPlane } from "./plane.js";
import { hasEpisode } from "./questions.js";
import { data, rowName, state } from "./state.js";

const MAX_VOTES = 8;

/** Milliseconds between frames, and the most frames, of an episode that plays. */
const FRAME_TIME = 40, MAX_FRAMES = 300;

/** @typedef {{ env: number, row: number, question: number, seed: number }} EpisodeKey */

/** @type {Episode | null} */
let episode = null;
let step = 0;
/** @type {number | undefined} */
let timer;
let lastRequest = 0; // decoding is asynchronous: only the latest request counts

// --- the current step ----------------------------------------------------------------------------

/**
 * @param {Episode} episode
 * @param {EpisodeState} current
 */
function drawVotes(episode, current) {
  const total = current.votes.reduce((sum, [, votes]) => sum + votes, 0);
  const items = current.votes.slice(0, MAX_VOTES).map(([answer, votes]) => {
    const swatch = element("span", { class: "swatch" });
    const bar = element("span", { class: "bar" });
    swatch.style.background = bar.style.background = answerColor(episode, answer);
    bar.style.width = `${(100 * votes) / total}%`;
    const text = formatAnswer(episode.answers[answer]);
    const gold = episode.answers[answer] === episode.gold;
    return element("li", {}, swatch, element("span", { class: "text", title: text }, text,
      gold && element("b", { class: "better" }, " ✓ gold")), String(votes), bar);
  });
  const more = current.votes.length - MAX_VOTES;
  if (more > 0) items.push(element("li", { class: "rest" }, `and ${more} more answers`));
  if (!items.length) items.push(element("li", { class: "rest" }, "nothing revealed yet"));
  byId("votes").replaceChildren(...items);
  const active = current.branches.filter((branch) => !branch.pruned).length;
  const finished = current.branches.filter((branch) => branch.end).length;
  const meters = [
    ["Visible tokens", formatCount(episode.spent[step])],
    ["Visible clock", `${formatCount(episode.clock[step])} tokens`],
    ["Branches", `${current.branches.length} open, ${active} active`],
    ["Finished", String(finished)],
    ["Votes", `${total} of ${active} active`],
    ["Gold answer", formatAnswer(episode.gold)],
  ];
  byId("meters").replaceChildren(...meters.map(([name, value]) =>
    element("div", {}, element("dt", {}, name), element("dd", {}, value))));
}

/**
 * @param {Episode} episode
 * @param {EpisodeState} current
 */
function actionText({ steps, answers, gold, recording }, current) {
  if (!step) return "Before the first action";
  const [name, i] = steps[step - 1];
  const action = i < 0 ? name : `${name}(${i})`;
  if (name === "BRANCH") return `${action}: opens branch ${current.branches.length - 1}`;
  if (name === "PROBE") {
    const branch = current.branches[i];
    return `${action}: ${formatAnswer(answers[branch.latest])}${branch.end ? ", finished" : ""}`;
  }
  if (name === "ANSWER") {
    return `${action}: ${formatAnswer(recording.answer)}, `
      + `${recording.correct ? "correct" : "incorrect"} (gold answer: ${formatAnswer(gold)}). `
      + `True cost: ${formatCount(recording.tokens)} total tokens, `
      + `${formatCount(recording.sequential_tokens)} sequential tokens.`;
  }
  return action;
}

/** @param {number} to */
function showStep(to) {
  if (!episode) return;
  const last = episode.steps.length;
  step = Math.max(0, Math.min(to, last));
  const current = stateAfter(episode, step);
  const [name, branch] = step ? episode.steps[step - 1] : ["", -1];
  const text = actionText(episode, current);
  inputById("step").value = String(step);
  byId("step").setAttribute("aria-valuetext", `step ${step} of ${last}`);
  byId("step-number").textContent = `${formatCount(step)} of ${formatCount(last)}`;
  byId("action").textContent = text;
  byId("actions").replaceChildren(...Object.entries(current.counts).map(([action, count]) =>
    element("li", { "aria-current": action === name ? "step" : null },
      `${action} ${formatCount(count)}`)));
  drawPlane(episode, current, name === "BRANCH" ? current.branches.length - 1 : branch);
  byId("plane").setAttribute("aria-label", `Width-depth plane after ${step} of ${last} actions: `
    + `${current.branches.length} branches open. ${text}`);
  drawVotes(episode, current);
  moveStepLine(step);
  if (step === last) pause();
}

// --- the selected episode ------------------------------------------------------------------------

/** @param {number} env @param {number} question */
function questionName(env, question) {
  const { numbers, seeds, rows } = data.questions[env];
  const correct = rows[Number(selectById("episode-row").value)].correct[numbers.indexOf(question)];
  return `${question} (${correct} of ${seeds} correct)`;
}

/** @type {[id: string, key: keyof EpisodeKey, text: (value: number) => string][]} */
const SELECTIONS = [
  ["episode-env", "env", (env) => data.environments[env].name],
  ["episode-row", "row", rowName],
  ["episode-question", "question",
    (question) => questionName(Number(selectById("episode-env").value), question)],
  ["episode-seed", "seed", String],
];

/**
 * Fill the selections one after the other, and keep previous choices that still exist.
 * @param {Partial<EpisodeKey>} wanted
 */
function fillSelections(wanted) {
  let episodes = data.episodes;
  for (const [id, key, text] of SELECTIONS) {
    const select = selectById(id);
    const values = [...new Set(episodes.map((e) => e[key]))].sort((a, b) => a - b);
    const choice = wanted[key] ?? (select.value === "" ? null : Number(select.value));
    fillSelect(select, values.map((value) => [value, text(value)]), choice);
    episodes = episodes.filter((e) => e[key] === Number(select.value));
  }
  return episodes[0];
}

/** @param {Partial<EpisodeKey>} [wanted] */
async function open(wanted = {}) {
  pause();
  const recording = fillSelections(wanted);
  const request = ++lastRequest;
  const decoded = await decodeEpisode(recording);
  if (request !== lastRequest) return;
  episode = decoded;
  const { env, row, question, seed } = recording;
  const text = data.texts[env]?.[question] ?? "";
  byId("question-text").textContent = text;
  byId("question-text").hidden = text === "";
  inputById("step").max = String(episode.steps.length);
  byId("stage").dataset.episode = [env, row, question, seed].join(",");
  step = episode.steps.length;
  drawNotes(episode, step);
  showStep(step);
}

/**
 * Open a question: the episode of row A, of row B, or else of any row.
 * @param {number} env
 * @param {number} question
 */
export function openQuestion(env, question) {
  if (!hasEpisode(env, question)) {
    byId("questions-summary").textContent = `The page contains no episode of question ${question}.`;
    return;
  }
  const episodes = data.episodes.filter((e) => e.env === env && e.question === question);
  /** @param {string} id */
  const episodeOf = (id) => episodes.find((e) => e.row === Number(selectById(id).value));
  const { row, seed } = episodeOf("row-a") ?? episodeOf("row-b") ?? episodes[0];
  open({ env, row, question, seed });
  byId("viewer").scrollIntoView({ behavior: "smooth" });
  byId("stage").focus({ preventScroll: true });
}

/** The first episode to show: of an agent with a schedule, in the middle of its sweep over β. */
function initialEpisode() {
  const { env } = data.episodes[0];
  const sweep = [...data.rows.keys()].filter((k) => data.rows[k].agent === state.scheduledAgent)
    .sort((a, b) => (data.rows[a].beta ?? 0) - (data.rows[b].beta ?? 0));
  const middle = sweep[Math.floor(sweep.length / 2)];
  const episodes = data.episodes.filter((e) => e.env === env && e.row === middle);
  // The first two are of the easiest and of the hardest question.
  return episodes[2] ?? episodes[0] ?? data.episodes[0];
}

// --- controls ------------------------------------------------------------------------------------

/** @param {"play" | "pause"} label */
function labelPlayButton(label) {
  // Screen readers should not read every frame.
  byId("action").setAttribute("aria-live", label === "play" ? "polite" : "off");
  byId("play").replaceChildren(icon(label), label);
}

function pause() {
  clearInterval(timer);
  timer = undefined;
  labelPlayButton("play");
}

function togglePlay() {
  if (timer !== undefined) {
    pause();
    return;
  }
  if (!episode) return;
  if (step >= episode.steps.length) showStep(0);
  const stride = Math.max(1, Math.round(episode.steps.length / MAX_FRAMES));
  timer = window.setInterval(() => showStep(step + stride), FRAME_TIME);
  labelPlayButton("pause");
}

/** @param {KeyboardEvent} event */
function onKey(event) {
  const target = /** @type {HTMLElement} */ (event.target);
  if (target.matches("select, input") || event.altKey || event.ctrlKey || event.metaKey) return;
  const stride = event.shiftKey ? 10 : 1;
  /** @type {Record<string, number>} */
  const steps = { ArrowLeft: step - stride, ArrowRight: step + stride, Home: 0, End: Infinity };
  if (event.key === " " && !target.matches("button")) togglePlay();
  else if (event.key in steps) {
    pause();
    showStep(steps[event.key]);
  } else return;
  event.preventDefault();
}

/**
 * A text for the cell at the pointer; null beside the plane.
 * @param {PointerEvent} event
 */
function cellText(event) {
  if (!episode) return null;
  const { branch: i, interval: k } = cellAt(episode, event.offsetX, event.offsetY);
  const branch = stateAfter(episode, step).branches[i];
  if (!branch || k < 0 || k >= branch.requested) return null;
  const answer = branch.cells[k];
  return `Branch ${i}${branch.pruned ? " (pruned)" : ""}, interval ${k + 1}: `
    + (answer === undefined ? "requested, not revealed" : formatAnswer(episode.answers[answer]))
    + (branch.end === k + 1 ? ", end of the branch" : "");
}

function initControls() {
  for (const [id] of SELECTIONS) selectById(id).onchange = () => open();
  for (const name of ["first", "previous", "next", "last"]) byId(name).replaceChildren(icon(name));
  /** @param {() => number} to */
  const goTo = (to) => () => {
    pause();
    showStep(to());
  };
  byId("first").onclick = goTo(() => 0);
  byId("previous").onclick = goTo(() => step - 1);
  byId("next").onclick = goTo(() => step + 1);
  byId("last").onclick = goTo(() => Infinity);
  byId("play").onclick = togglePlay;
  byId("step").oninput = goTo(() => Number(inputById("step").value));
  byId("viewer").addEventListener("keydown", onKey);
  const help = byId("cell").textContent;
  byId("plane").addEventListener("pointermove", (event) => {
    byId("cell").textContent = cellText(event) ?? help;
  });
  byId("plane").addEventListener("pointerleave", () => {
    byId("cell").textContent = help;
  });
}

/** Draw the current step again, in another size. */
export function resizeViewer() {
  showStep(step);
}

/** Draw the current episode again, in other colors. */
export function redrawViewer() {
  if (episode) drawNotes(episode, step);
  showStep(step);
}

export function initViewer() {
  const total = data.episodes.length;
  const supported = "DecompressionStream" in window;
  byId("viewer-body").hidden = total === 0 || !supported;
  byId("viewer-note").textContent = total === 0
    ? "The page contains no episodes: none were requested, or their sources are missing."
    : !supported ? "This browser cannot decompress the episodes (it has no DecompressionStream)."
      : `${formatCount(total)} episodes of the benchmark, played again with equal results. All `
        + "agents of an environment play the same questions, from the easiest to the hardest, each "
        + "in the branch order for which the agents differ most."
        + (data.size_limited ? ` ${formatCount(data.episodes_selected)} were selected; some were `
          + "omitted because of the page's size limit." : "");
  if (byId("viewer-body").hidden) return;
  initControls();
  const { env, row, question, seed } = initialEpisode();
  open({ env, row, question, seed });
}
