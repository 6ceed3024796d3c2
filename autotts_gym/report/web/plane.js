/** The width-depth plane of an episode, drawn on a canvas. */
import { cssColor } from "./charts.js";
import { byId } from "./dom.js";

const LEFT = 34, TOP = 20;

function canvasElement() {
  return /** @type {HTMLCanvasElement} */ (byId("plane"));
}

/**
 * The CSS color of an answer.
 * @param {Episode} episode
 * @param {number} answer
 */
export function answerColor(episode, answer) {
  const color = episode.colors[answer];
  return color.startsWith("--") ? cssColor(color) : color;
}

/** @typedef {{ ink: string, muted: string, line: string, unseen: string, paper: string, answers: string[] }} Palette */

/**
 * The colors of a drawing. Looking up a CSS variable is slow, so this is done once per drawing.
 * @param {Episode} episode
 * @returns {Palette}
 */
function paletteOf(episode) {
  return {
    ink: cssColor("--ink"),
    muted: cssColor("--muted"),
    line: cssColor("--line"),
    unseen: cssColor("--unseen"),
    paper: cssColor("--paper"),
    answers: episode.colors.map((_, answer) => answerColor(episode, answer)),
  };
}

/** @param {Episode} episode */
function cellSize({ branches, depth }) {
  const width = canvasElement().clientWidth;
  return {
    width: Math.min((width - LEFT - 4) / depth, 44),
    height: branches <= 16 ? 20 : branches <= 36 ? 13 : 9,
  };
}

/**
 * The branch and the interval (from 0) at a position on the canvas.
 * @param {Episode} episode
 * @param {number} x
 * @param {number} y
 */
export function cellAt(episode, x, y) {
  const { width, height } = cellSize(episode);
  return { branch: Math.floor((y - TOP) / height), interval: Math.floor((x - LEFT) / width) };
}

/**
 * Hatching: requested, not revealed.
 * @param {CanvasRenderingContext2D} g
 * @param {number} x
 * @param {number} y
 * @param {{ width: number, height: number }} size
 * @param {string} color
 */
function drawHatching(g, x, y, { width, height }, color) {
  g.strokeStyle = color;
  g.lineWidth = 0.8;
  g.beginPath();
  for (let d = 2; d < width + height; d += 4) {
    g.moveTo(x + Math.max(0, d - height), y + Math.min(d, height - 1));
    g.lineTo(x + Math.min(d, width - 1), y + Math.max(0, d - width + 1));
  }
  g.stroke();
}

/**
 * @param {CanvasRenderingContext2D} g
 * @param {number} depth
 * @param {number} width
 * @param {string} color
 */
function drawDepthNumbers(g, depth, width, color) {
  g.fillStyle = color;
  g.textAlign = "center";
  const step = width > 22 ? 1 : width * 5 > 26 ? 5 : 10;
  for (let k = step === 1 ? 1 : 0; k <= depth; k += step) {
    const number = Math.max(k, 1);
    g.fillText(String(number), LEFT + width * (number - 0.5), 12);
  }
}

/**
 * @param {CanvasRenderingContext2D} g
 * @param {Episode} episode
 * @param {BranchState} branch
 * @param {number} y
 * @param {{ width: number, height: number }} size
 * @param {Palette} palette
 */
function drawBranch(g, episode, branch, y, size, palette) {
  const { width, height } = size;
  g.globalAlpha = branch.pruned ? 0.28 : 1;
  for (let k = 0; k < branch.requested; k++) {
    const x = LEFT + width * k;
    const answer = branch.cells[k];
    if (answer === undefined) drawHatching(g, x, y, size, palette.unseen);
    else {
      // An answer of a single branch is smaller, so that agreement stands out.
      const single = episode.single[answer] && !episode.nulls[answer];
      const edge = single ? Math.min(width, height) / 5 : 0;
      g.fillStyle = palette.answers[answer];
      g.fillRect(x + edge, y + edge, Math.max(width - 1 - 2 * edge, 1), height - 1 - 2 * edge);
    }
    if (branch.end === k + 1) {
      g.beginPath();
      g.arc(x + (width - 1) / 2, y + (height - 1) / 2,
        Math.max(Math.min(width, height) / 4.5, 1.6), 0, 7);
      g.lineWidth = 1.4;
      g.strokeStyle = palette.paper;
      g.stroke();
    }
  }
  g.globalAlpha = 1;
}

/**
 * Draw the plane.
 * @param {Episode} episode
 * @param {EpisodeState} current
 * @param {number} acted the branch of the last action, or -1
 */
export function drawPlane(episode, current, acted) {
  const canvas = canvasElement();
  const palette = paletteOf(episode);
  const size = cellSize(episode);
  const { width, height } = size;
  const canvasHeight = TOP + height * episode.branches + 4;
  const scale = devicePixelRatio || 1;
  canvas.width = Math.round(canvas.clientWidth * scale);
  canvas.height = Math.round(canvasHeight * scale);
  canvas.style.height = `${canvasHeight}px`;
  const g = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  g.scale(scale, scale);
  g.font = "10px system-ui, sans-serif";
  drawDepthNumbers(g, episode.depth, width, palette.muted);
  g.textBaseline = "middle";
  g.textAlign = "right";
  for (let i = 0; i < episode.branches; i++) {
    const y = TOP + height * i;
    if (i === acted || height > 10 || i % 4 === 0) {
      g.fillStyle = i === acted ? palette.ink : palette.muted;
      g.fillText(`${i === acted ? "▸" : ""}${i}`, LEFT - 4, y + height / 2);
    }
    g.fillStyle = palette.line;
    g.fillRect(LEFT, y + height - 0.5, width * episode.depth, 0.5);
    const branch = current.branches[i];
    if (!branch) continue;
    drawBranch(g, episode, branch, y, size, palette);
    if (i === acted) {
      g.strokeStyle = palette.ink;
      g.lineWidth = 1.5;
      g.strokeRect(LEFT + width * (branch.requested - 1) - 0.5, y - 0.5, width, height);
    }
  }
}
