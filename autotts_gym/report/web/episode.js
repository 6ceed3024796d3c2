/** Recorded episodes: decoding, and the state after a number of steps. */
import { data } from "./state.js";

/** Names of the actions; id 0 is the plain ANSWER, which is listed last. */
const ACTION_NAMES = [...new Set(data.actions.slice(1).map(([name]) => name))];

/** @param {number[]} differences */
function cumulativeSums(differences) {
  let sum = 0;
  return differences.map((difference) => (sum += difference));
}

/**
 * Colors of the answers: the answers that are shown most have a color each, the others share one.
 * @param {PackedEpisode} packed
 */
function answerColors({ answers, nulls, shown }) {
  const weights = answers.map(() => 0);
  for (const [answer, end] of shown) weights[answer] += end ? 5 : 1; // ends decide the vote
  const ranked = [...weights.keys()].filter((k) => !nulls[k])
    .sort((a, b) => weights[b] - weights[a]);
  return answers.map((_, k) => (nulls[k] ? "--null"
    : data.answer_colors[ranked.indexOf(k)] ?? "--rare"));
}

/**
 * Unpack a recording.
 * @param {Recording} recording
 * @returns {Promise<Episode>}
 */
export async function decodeEpisode(recording) {
  const bytes = Uint8Array.from(atob(recording.packed), (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  /** @type {PackedEpisode} */
  const packed = JSON.parse(await new Response(stream).text());
  const steps = cumulativeSums(packed.actions).map((id) => data.actions[id]);
  /** @type {Set<number>[]} */
  const givers = packed.answers.map(() => new Set()); // branches that ever give an answer
  let probe = 0;
  for (const [name, branch] of steps) {
    if (name === "PROBE") givers[packed.shown[probe++][0]].add(branch);
  }
  const episode = {
    recording,
    answers: packed.answers,
    nulls: packed.nulls,
    gold: packed.gold,
    steps,
    shown: packed.shown,
    notes: packed.notes,
    spent: [0, ...cumulativeSums(packed.spent)],
    clock: [0, ...cumulativeSums(packed.clock)],
    branches: 0,
    depth: 1,
    colors: answerColors(packed),
    single: givers.map((branches) => branches.size < 2),
  };
  const { branches } = stateAfter(episode, steps.length);
  episode.branches = branches.length;
  episode.depth = Math.max(1, ...branches.map((branch) => branch.requested));
  return episode;
}

/**
 * The state of an episode after a number of steps.
 * @param {Episode} episode
 * @param {number} steps
 * @returns {EpisodeState}
 */
export function stateAfter(episode, steps) {
  /** @type {BranchState[]} */
  const branches = [];
  /** @type {Record<string, number>} */
  const counts = Object.fromEntries(ACTION_NAMES.map((name) => [name, 0]));
  let probe = 0;
  for (const [name, i] of episode.steps.slice(0, steps)) {
    counts[name]++;
    const branch = branches[i];
    if (name === "BRANCH") {
      branches.push({ requested: 1, latest: -1, cells: [], pruned: false, end: 0 });
    } else if (name === "CONTINUE") branch.requested++;
    else if (name === "PRUNE") branch.pruned = true;
    else if (name === "PROBE") {
      const [answer, end] = episode.shown[probe++];
      if (end) branch.requested = branch.end = end;
      branch.latest = branch.cells[branch.requested - 1] = answer;
    }
  }
  return { branches, counts, votes: countVotes(branches) };
}

/**
 * Votes in the order of the branches, so that ties keep the order in which they are decided.
 * @param {BranchState[]} branches
 */
function countVotes(branches) {
  /** @type {Map<number, number>} */
  const votes = new Map();
  for (const { pruned, latest } of branches) {
    if (!pruned && latest >= 0) votes.set(latest, (votes.get(latest) ?? 0) + 1);
  }
  return [...votes].sort(([, a], [, b]) => b - a);
}
