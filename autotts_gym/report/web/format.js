/** Formats of numbers and answers. */
import { element } from "./dom.js";

/** Shown where a number does not exist. */
export const NONE = "–";

/** @param {number | null | undefined} value */
export function formatCount(value) {
  if (value == null) return NONE;
  return value.toLocaleString("en-US", { maximumFractionDigits: 0 });
}

/** @param {number | null} value */
export function formatTokens(value) {
  if (value == null) return NONE;
  if (value >= 999_950) return `${(value / 1e6).toFixed(2)}M`;
  return value >= 1000 ? `${(value / 1000).toFixed(1)}k` : formatCount(value);
}

/**
 * A share in percent, without the sign.
 * @param {number | null} share
 */
export function formatPercent(share) {
  return share == null ? NONE : (100 * share).toFixed(1);
}

/**
 * A difference of shares in percentage points, with its sign.
 * @param {number | null} share
 */
export function formatDifference(share) {
  if (share == null) return NONE;
  const size = Math.abs(100 * share).toFixed(1);
  return size === "0.0" ? size : `${share < 0 ? "−" : "+"}${size}`;
}

/** @param {number | null} ratio */
export function formatRatio(ratio) {
  if (ratio == null) return NONE;
  return `${ratio.toFixed(ratio < 0.095 ? 3 : ratio < 9.995 ? 2 : 0)}×`;
}

/** @param {string} answer */
export function formatAnswer(answer) {
  return answer === "" ? "(empty)" : answer;
}

/**
 * @param {number} count
 * @param {string} noun
 */
export function plural(count, noun) {
  return `${formatCount(count)} ${noun}${count === 1 ? "" : "s"}`;
}

/**
 * A value, with its interval in small type.
 * @param {(number | null)[]} interval
 * @param {(value: number | null) => string} format
 */
export function intervalElement(interval, format) {
  const [value, low, high] = interval;
  const span = element("span", {}, format(value));
  if (low != null) span.append(" ", element("small", {}, `[${format(low)}, ${format(high)}]`));
  return span;
}

/**
 * Escape a text for plotly, which interprets some markup.
 * @param {string} text
 */
export function escapeMarkup(text) {
  return text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
}
