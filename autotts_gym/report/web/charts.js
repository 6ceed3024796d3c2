/** What all plots share: colors, markers, layout, logarithmic axes. */
import { element } from "./dom.js";

const darkMode = matchMedia("(prefers-color-scheme: dark)");

/**
 * The value of a CSS variable.
 * @param {string} name
 */
export function cssColor(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

/** @param {() => void} listener called when the color scheme changes */
export function onColorSchemeChange(listener) {
  darkMode.addEventListener("change", listener);
}

// Markers of plotly, and the same shapes for the legend.
const MARKERS = ["circle", "square", "diamond", "triangle-down", "triangle-up", "cross", "x"];
const MARKER_PATHS = [
  "M8 3a5 5 0 1 0 .01 0Z", "M3.5 3.5h9v9h-9Z", "M8 2l6 6-6 6-6-6Z", "M2.5 4h11L8 13Z",
  "M2.5 12.5h11L8 3Z", "M6 2.5h4V6h3.5v4H10v3.5H6V10H2.5V6H6Z",
  "M3 5.2 5.2 3 8 5.8 10.8 3 13 5.2 10.2 8 13 10.8 10.8 13 8 10.2 5.2 13 3 10.8 5.8 8Z",
];

/** @param {AgentStyle} agent */
export function agentColor({ color }) {
  return color === "#000000" && darkMode.matches ? "#ffffff" : color;
}

/** @param {AgentStyle} agent */
export function agentMarker({ marker }) {
  return MARKERS[marker % MARKERS.length];
}

/** @param {AgentStyle} agent */
export function agentSwatch(agent) {
  const path = MARKER_PATHS[agent.marker % MARKER_PATHS.length];
  return element("svg", { width: 16, height: 16, "aria-hidden": "true" },
    element("path", { d: path, fill: agentColor(agent) }));
}

export const PLOT_CONFIG = {
  responsive: true,
  displaylogo: false,
  modeBarButtons: [["toImage", "resetScale2d"]],
};

/**
 * A layout in the page's colors, with changes.
 * @param {Record<string, any>} changes
 */
export function plotLayout({ xaxis, yaxis, ...changes }) {
  const axis = {
    gridcolor: cssColor("--line"),
    linecolor: cssColor("--line"),
    zeroline: false,
    automargin: true,
  };
  const family = "system-ui, sans-serif";
  return {
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { family, size: 12, color: cssColor("--ink") },
    hoverlabel: {
      bgcolor: cssColor("--sheet"), bordercolor: cssColor("--line"), align: "left",
      font: { family, color: cssColor("--ink"), size: 12 },
    },
    margin: { l: 48, r: 14, t: 12, b: 44 },
    hovermode: "closest",
    showlegend: false,
    modebar: {
      bgcolor: "rgba(0,0,0,0)", color: cssColor("--muted"), activecolor: cssColor("--ink"),
    },
    ...changes,
    xaxis: { ...axis, ...xaxis },
    yaxis: { ...axis, ...yaxis },
  };
}

/**
 * Round numbers in a range, about as many as fit on a logarithmic axis.
 * @param {number} low
 * @param {number} high
 * @param {boolean} [small] for a small plot: fewer numbers
 */
export function logTicks(low, high, small = false) {
  const decades = Math.log10(high / low);
  const digits = decades > 2.4 ? [1] : decades > (small ? 0.4 : 0.9) ? [1, 2, 5]
    : [1, 1.5, 2, 3, 4, 5, 6, 8];
  const values = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power++) {
    for (const digit of digits) values.push(digit * 10 ** power);
  }
  return values.filter((value) => value >= low && value <= high);
}

/** @param {number} value */
function tickText(value) {
  if (value >= 1e6) return `${value / 1e6}M`;
  return value >= 1000 ? `${value / 1000}k` : String(+value.toPrecision(2));
}

/**
 * A logarithmic axis that contains all values.
 * @param {number[]} values
 * @param {string} title
 */
export function logAxis(values, title) {
  const low = Math.min(...values), high = Math.max(...values);
  const room = Math.max((high / low) ** 0.08, 1.15);
  const ticks = logTicks(low / room, high * room);
  return {
    type: "log",
    title: { text: title, standoff: 8 },
    range: [Math.log10(low / room), Math.log10(high * room)],
    tickvals: ticks,
    ticktext: ticks.map(tickText),
  };
}

/**
 * A value for a logarithmic axis, on which 0 cannot be drawn.
 * @param {number | null} value
 */
export function atLeastOne(value) {
  return Math.max(value ?? 1, 1);
}
