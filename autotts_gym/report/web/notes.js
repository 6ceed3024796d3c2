/** The plot of an agent's notes: named numbers over the steps of an episode. */
import { PLOT_CONFIG, cssColor, plotLayout } from "./charts.js";
import { byId } from "./dom.js";
import { escapeMarkup } from "./format.js";
import { data } from "./state.js";

const COLORS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00"];

// Vertical ranges of the panels, the first panel at the top; by the number of panels.
const DOMAINS = [[[0, 1]], [[0.45, 1], [0, 0.36]]];

/**
 * The panels of an episode's notes.
 * @param {Episode} episode
 */
function panelsOf(episode) {
  const { agent } = data.rows[episode.recording.row];
  const panels = (data.note_panels[agent] ?? []).map(({ names, signed }) => ({
    names: names.filter((name) => name in episode.notes), signed,
  }));
  return panels.filter(({ names }) => names.length);
}

/**
 * A series, or a horizontal line for a name that is noted once.
 * @param {Episode} episode
 * @param {string} name
 * @param {string} color
 * @param {boolean} mirrored draw a line at the negative value as well
 */
function noteTrace(episode, name, color, mirrored) {
  const pairs = episode.notes[name];
  const last = episode.steps.length;
  const value = pairs.at(-1)?.[1] ?? null;
  if (pairs.length === 1) {
    const both = mirrored && value != null;
    return {
      x: both ? [0, last, null, 0, last] : [0, last],
      y: both ? [value, value, null, -value, -value] : [value, value],
      name: (both ? "±" : "") + escapeMarkup(name),
      line: { shape: "hv", width: 1.5, dash: "dash", color: cssColor("--muted") },
    };
  }
  return {
    x: [...pairs.map(([step]) => step), last],
    y: [...pairs.map(([, number]) => number), value],
    name: escapeMarkup(name),
    line: { shape: "hv", width: 2, dash: "solid", color },
  };
}

/**
 * Draw the plot; hide it if the agent noted nothing.
 * @param {Episode} episode
 * @param {number} step
 */
export function drawNotes(episode, step) {
  const panels = panelsOf(episode);
  byId("notes").hidden = panels.length === 0;
  if (!panels.length) return;
  /** @type {object[]} */
  const traces = [];
  let color = 0;
  panels.forEach(({ names, signed }, panel) => {
    for (const name of names) {
      const isLevel = episode.notes[name].length === 1;
      traces.push({
        ...noteTrace(episode, name, COLORS[color % COLORS.length], signed),
        mode: "lines",
        yaxis: panel ? "y2" : "y",
        hovertemplate: "%{y:.4g}",
      });
      if (!isLevel) color++;
    }
  });
  const domains = DOMAINS[panels.length - 1];
  const secondAxis = {
    domain: domains[1], gridcolor: cssColor("--line"), automargin: true, zeroline: true,
    zerolinecolor: cssColor("--line"),
  };
  Plotly.react("plot-notes", traces, plotLayout({
    showlegend: true,
    legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom" },
    margin: { l: 48, r: 14, t: 30, b: 44 },
    hovermode: "x unified",
    xaxis: {
      title: { text: "step", standoff: 6 }, range: [0, episode.steps.length],
      anchor: domains[1] ? "y2" : "y",
    },
    yaxis: { domain: domains[0] },
    yaxis2: domains[1] ? secondAxis : undefined,
    shapes: [stepLine(step)],
  }), PLOT_CONFIG);
}

/** @param {number} step */
function stepLine(step) {
  return {
    type: "line", yref: "paper", y0: 0, y1: 1, x0: step, x1: step,
    line: { color: cssColor("--ink"), width: 1.5 },
  };
}

let pending = false;
let latestStep = 0;

/**
 * Move the line at the current step, at most once per frame.
 * @param {number} step
 */
export function moveStepLine(step) {
  latestStep = step;
  if (byId("notes").hidden || pending) return;
  pending = true;
  requestAnimationFrame(() => {
    pending = false;
    if (!byId("notes").hidden) Plotly.relayout("plot-notes", { shapes: [stepLine(latestStep)] });
  });
}
