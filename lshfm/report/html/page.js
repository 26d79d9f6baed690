"use strict";
// Tables sort by a press of their headings; a button changes between light and dark.
for (const table of document.querySelectorAll("table")) {
  table.querySelectorAll("thead th").forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    const hint = head.querySelector("small");
    button.append(...[...head.childNodes].filter((node) => node !== hint));
    head.prepend(button);
    head.setAttribute("aria-sort", "none");
    button.addEventListener("click", () => sort(table, head, column));
  });
}

function key(row, column) {
  const cell = row.cells[column];
  const text = cell.dataset.sort ?? (cell.textContent === "–" ? "" : cell.textContent.trim());
  const number = text === "" ? NaN : Number(text);
  return { text, number, empty: text === "" };
}

function compare(a, b) {
  return Number.isNaN(a.number) || Number.isNaN(b.number) ? a.text.localeCompare(b.text) : a.number - b.number;
}

function sort(table, head, column) {
  const up = head.getAttribute("aria-sort") === "descending" || !head.classList.contains("number");
  const ascending = head.getAttribute("aria-sort") === "ascending" ? false : up;
  const rows = [...table.tBodies[0].rows].map((row) => [key(row, column), row]);
  // What has no value comes last, whichever way.
  rows.sort(([a], [b]) => a.empty - b.empty || (ascending ? compare(a, b) : compare(b, a)));
  table.tBodies[0].append(...rows.map(([, row]) => row));
  for (const other of table.querySelectorAll("thead th")) other.setAttribute("aria-sort", "none");
  head.setAttribute("aria-sort", ascending ? "ascending" : "descending");
}

const root = document.documentElement;
const button = document.getElementById("theme");
const dark = () => (root.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
const say = () => { button.textContent = dark() ? "☀ light" : "☾ dark"; };
button.hidden = false;
button.addEventListener("click", () => { root.dataset.theme = dark() ? "light" : "dark"; say(); });
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", say);
say();
