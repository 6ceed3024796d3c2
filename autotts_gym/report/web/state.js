/** The data of the page, and what the user has selected. */
import { byId } from "./dom.js";

/** @type {PageData} */
export const data = JSON.parse(byId("data").textContent ?? "");

export const state = {
  /** Index of the scope: the first average, or the first environment. */
  scope: Math.max(data.scopes.findIndex((scope) => scope.average), 0),
  /** Index of β. */
  beta: 50,
  /** Agent whose schedule is shown. */
  scheduledAgent: Number(Object.keys(data.schedules)[0] ?? -1),
  /** Row with which the others are compared. */
  reference: data.scopes[0].rows[0].row,
  /** Row whose costs limit the frontiers; -1 for no limit. */
  limit: -1,
  /** @type {SortOrder} */
  rowOrder: { key: "order", descending: false },
  /** @type {SortOrder} */
  withinOrder: { key: "agent", descending: false },
  /** @type {SortOrder} */
  questionOrder: { key: "advantage", descending: true },
};

export function selectedScope() {
  return data.scopes[state.scope];
}

/** @param {number} row */
export function rowName(row) {
  return data.rows[row].name;
}
