/** Elements of the page: access, creation, tables. */

/** @param {string} id */
export function byId(id) {
  return /** @type {HTMLElement} */ (document.getElementById(id));
}

/** @param {string} id */
export function inputById(id) {
  return /** @type {HTMLInputElement} */ (document.getElementById(id));
}

/** @param {string} id */
export function selectById(id) {
  return /** @type {HTMLSelectElement} */ (document.getElementById(id));
}

/**
 * Create an element. Text is never parsed as markup.
 * @param {string} tag
 * @param {Record<string, any>} attributes names that start with "on" are event listeners
 * @param {(Node | string | null | undefined | false)[]} children
 * @returns {HTMLElement}
 */
export function element(tag, attributes = {}, ...children) {
  const isSvg = tag === "svg" || tag === "path";
  const node = isSvg ? document.createElementNS("http://www.w3.org/2000/svg", tag)
    : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== false && value != null) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(.../** @type {(Node | string)[]} */ (children.filter((child) => child != null
    && child !== false)));
  return /** @type {HTMLElement} */ (node);
}

/**
 * Fill a selection with options, and select one of them.
 * @param {HTMLSelectElement} select
 * @param {[number, string][]} options
 * @param {number | null} [selected]
 */
export function fillSelect(select, options, selected) {
  select.replaceChildren(...options.map(([value, text]) => element("option", { value }, text)));
  if (selected != null && options.some(([value]) => value === selected)) {
    select.value = String(selected);
  }
}

/**
 * Draw a table that is sorted by a click on a heading.
 * @template {{ id: number, class?: string | false }} R
 * @param {HTMLElement} table
 * @param {Column<R>[]} columns
 * @param {R[]} rows
 * @param {SortOrder} order updated when the user sorts
 */
export function drawSortableTable(table, columns, rows, order) {
  const column = columns.find((c) => c.key === order.key) ?? columns[0];
  const value = column.value ?? (() => null);
  const sorted = rows.map((row, k) => ({ key: value(row), k, row }));
  sorted.sort((a, b) => {
    if (a.key == null || b.key == null) {
      return Number(a.key == null) - Number(b.key == null) || a.k - b.k;
    }
    return (a.key < b.key ? -1 : a.key > b.key ? 1 : 0) * (order.descending ? -1 : 1) || a.k - b.k;
  });
  /** @param {Column<R>} c */
  const sortBy = (c) => {
    order.descending = order.key === c.key ? !order.descending : Boolean(c.descending);
    order.key = c.key;
    drawSortableTable(table, columns, rows, order);
    /** @type {HTMLElement} */ (table.querySelector(`button[data-key="${c.key}"]`)).focus();
  };
  const heads = columns.map((c) => element("th", {
    scope: "col",
    class: c.text,
    "aria-sort": c === column ? (order.descending ? "descending" : "ascending") : "none",
  }, c.value === undefined ? c.title
    : element("button", { type: "button", "data-key": c.key, onclick: () => sortBy(c) }, c.title)));
  const body = sorted.map(({ row }) => element("tr", { class: row.class, "data-row": row.id },
    ...columns.map((c) => element("td", { class: c.text }, c.cell(row)))));
  table.replaceChildren(element("thead", {}, element("tr", {}, ...heads)),
    element("tbody", {}, ...body));
}

/** @type {Record<string, string>} */
const ICONS = {
  first: "M3 3h2v10H3ZM13 3v10L6 8Z",
  previous: "M12 3v10L4 8Z",
  next: "M4 3v10l8-5Z",
  last: "M11 3h2v10h-2ZM3 3v10l7-5Z",
  play: "M4 3v10l8-5Z",
  pause: "M4 3h3v10H4ZM9 3h3v10H9Z",
};

/** @param {string} name */
export function icon(name) {
  return element("svg", { width: 16, height: 16, "aria-hidden": "true" },
    element("path", { d: ICONS[name], fill: "currentColor" }));
}
