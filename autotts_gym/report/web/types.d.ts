// Types of the page: the data that Python embeds (see page_data.py), and what scripts share.

/** [value, low, high]; null where a number does not exist. */
type Interval = [number | null, number | null, number | null];

/** How an agent is drawn in all plots. */
interface AgentStyle {
  color: string;
  marker: number;
}

interface Agent extends AgentStyle {
  name: string;
  billing: string;
}

interface Environment {
  name: string;
  split: string;
  synthetic: boolean;
  questions: number;
  branches: number;
  interval: number;
  depth: number;
  details: Record<string, string>;
}

/** An agent at one β; null for an agent without β. */
interface Row {
  agent: number;
  beta: number | null;
  name: string;
}

/** The metrics of a row on a scope. */
interface ScopeRow {
  row: number;
  episodes: number;
  failed: number;
  correct: Interval;
  tokens: Interval;
  sequential_tokens: Interval;
  actions: Interval;
  probes: Interval;
  /** Whether no other row is as accurate for at most both costs. */
  undominated: boolean;
  /** Share of the bootstrap replicates in which it is so. */
  undominated_share: number | null;
}

type Cost = "tokens" | "sequential_tokens";
type Metric = Cost | "correct" | "actions" | "probes";

/** What an agent's β sweep needs for a row's accuracy: cost and ratio, with intervals. */
interface Within {
  agent: number;
  row: number;
  tokens: (number | null)[];
  sequential_tokens: (number | null)[];
}

/** An environment, or the average of several. */
interface Scope {
  name: string;
  split: string;
  average: boolean;
  environments: number[];
  synthetic: boolean;
  missing: string[];
  bounds: [name: string, value: number | null][];
  rows: ScopeRow[];
  /** pairs[a][b]: accuracy difference, token ratio, sequential ratio; nine numbers. */
  pairs: (number | null)[][][];
  /** β sweeps at the accuracy of rows, within both of their costs. */
  within: Within[];
  /** By agent and index of β: accuracy, tokens, sequential tokens. */
  positions: Record<number, ([number, number, number] | null)[]>;
}

interface Schedule {
  fields: string[];
  comments: string[];
  values: string[][];
}

interface QuestionTable {
  numbers: number[];
  seeds: number;
  rows: Record<number, {
    correct: number[];
    tokens: number[];
    /** The most frequent incorrect answer of each question and its count; empty if there is none. */
    wrong: [answer: string, count: number][][];
  }>;
}

interface Recording {
  row: number;
  env: number;
  question: number;
  seed: number;
  correct: boolean;
  answer: string;
  tokens: number;
  sequential_tokens: number;
  packed: string;
}

interface NotePanel {
  names: string[];
  signed: boolean;
}

interface PageData {
  run: {
    version: string;
    protocol: string;
    order: string;
    seeds: number[];
    config: {
      max_branches: number;
      budget: number | null;
      step_limit: number | null;
      probe_tokens: number | "recorded";
      latency_weight: number;
    };
    replicates: number;
    failed: number;
    incomplete: string[];
  };
  agents: Agent[];
  environments: Environment[];
  rows: Row[];
  scopes: Scope[];
  schedules: Record<number, Schedule>;
  betas: number[];
  questions: Record<number, QuestionTable>;
  episodes: Recording[];
  texts: Record<number, Record<number, string>>;
  /** By agent; see note_panels.py. */
  note_panels: Record<number, NotePanel[]>;
  /** By action id: the name of the action, and its branch or -1. */
  actions: [name: string, branch: number][];
  answer_colors: string[];
  episodes_selected: number;
  size_limited: boolean;
  problems: string[];
}

/** The content of `Recording.packed`. */
interface PackedEpisode {
  answers: string[];
  nulls: number[];
  gold: string;
  actions: number[];
  spent: number[];
  clock: number[];
  shown: [answer: number, end: number][];
  notes: Record<string, [step: number, value: number | null][]>;
}

interface Episode {
  recording: Recording;
  answers: string[];
  nulls: number[];
  gold: string;
  steps: [name: string, branch: number][];
  shown: [answer: number, end: number][];
  notes: Record<string, [step: number, value: number | null][]>;
  /** Visible tokens after each step; the first entry is before the first step. */
  spent: number[];
  clock: number[];
  branches: number;
  depth: number;
  /** Color of each answer: a color, or the name of a CSS variable. */
  colors: string[];
  /** Whether only one branch ever gives the answer. */
  single: boolean[];
}

interface BranchState {
  requested: number;
  latest: number;
  cells: number[];
  pruned: boolean;
  /** Depth of the end, 0 until it is revealed. */
  end: number;
}

interface EpisodeState {
  branches: BranchState[];
  /** Number of actions by name. */
  counts: Record<string, number>;
  /** [answer, votes], the most votes first. */
  votes: [answer: number, votes: number][];
}

/** A column of a sortable table; without `value`, it does not sort. */
interface Column<R> {
  key: string;
  title: string;
  text?: string;
  descending?: boolean;
  value?: (row: R) => number | string | null;
  cell: (row: R) => Node | string;
}

interface SortOrder {
  key: string;
  descending: boolean;
}

/** The part of plotly.js that is used. */
declare const Plotly: {
  react(target: string, traces: object[], layout: object, config: object): Promise<unknown>;
  relayout(target: string, update: object): Promise<unknown>;
};

/** An element after `Plotly.react`. */
interface PlotElement extends HTMLElement {
  on(event: "plotly_click", listener: (event: { points: { x: number }[] }) => void): void;
  removeAllListeners?(event: string): void;
}

// The data of a leaderboard's page (see leaderboard/tables.py).

type CellFigure = "correct" | "tokens" | "sequential_tokens" | "probes" | "difference" | "ratio";

/** The figures of a row in a column; the last two only where self_consistency was played. */
interface LeaderboardCell {
  correct: Interval;
  tokens: Interval;
  sequential_tokens: Interval;
  probes: Interval;
  difference?: Interval;
  ratio?: Interval;
}

interface LeaderboardRow {
  name: string;
  /** Whether the row is shown at first. */
  main: boolean;
  failed: number;
  cells: (LeaderboardCell | null)[];
}

/** One split of a board. */
interface LeaderboardPart {
  title: string;
  columns: { name: string; synthetic: boolean }[];
  rows: LeaderboardRow[];
}

interface LeaderboardData {
  version: string;
  /** Most episodes of every row that were replayed; null for all. */
  sample: number | null;
  sample_seed: number;
  replicates: number;
  boards: { setting: string; parts: LeaderboardPart[] }[];
  environments: {
    name: string; split: string; synthetic: boolean; model: string; questions: number;
    branches: number; fingerprint: string; benchmark: string;
  }[];
  controllers: { name: string; digest: string; replayed: string; folders: string[] }[];
  folders: {
    name: string; version: string; protocol: string; runs: number; episodes: number;
    replayed: number; digest: string;
  }[];
  /** Name and fault of every refused folder. */
  refused: [string, string][];
}

// The data of a simulation's page (see simulation/simulation_result.py).

/** One controller at one β under one load; see simulation/simulation_points.py. */
interface SimulationPoint {
  controller: string;
  name: string;
  beta: number | null;
  rate: number | null;
  accuracy: number;
  tokens: number;
  seconds: number;
  p50: number;
  p95: number;
  p99: number;
  tokens_per_second: number | null;
  utilisation: number | null;
  capacity: number | null;
  overloaded: boolean;
  cost: number | null;
  cost_at_capacity: number | null;
}

type Percentile = "p50" | "p95" | "p99";

interface SimulationData {
  version: string;
  environments: { name: string; synthetic: boolean; questions: number }[];
  seeds: number[];
  max_branches: number;
  questions: number;
  arrivals: "poisson" | "given";
  seed: number;
  warm_up: number;
  fleet: {
    servers: number;
    routing: string;
    max_episodes: number;
    gpus_per_server: number;
    gpu_hour: number | null;
    max_tokens_per_second: number;
  };
  curve: {
    concurrency: number[];
    tokens_per_second: number[];
    max_sequences: number;
  };
  points: SimulationPoint[];
  agents: (AgentStyle & { name: string })[];
}
