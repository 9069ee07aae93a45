"use strict";
// Filters and sorts the table, and shows the first 500 rows until asked for all: laying out ten thousand takes seconds.
// Without it, the table is whole, and newest first.
(() => {
  const table = document.getElementById("runs");
  if (!table) return;
  const body = table.tBodies[0];
  const all = Array.from(body.rows);
  const text = new Map(all.map((row) => [row, row.textContent.toLowerCase()]));
  const [find, cluster, runbook, outcome, counted, more] =
    ["find", "cluster", "runbook", "outcome", "counted", "more"].map((id) => document.getElementById(id));
  let limit = 500;

  const filter = () => {
    const words = find.value.toLowerCase().split(/\s+/).filter(Boolean);
    let left = 0;
    for (const row of all) {
      const fits = (!cluster.value || row.dataset.cluster === cluster.value)
        && (!runbook.value || row.dataset.runbook === runbook.value)
        && (!outcome.value || row.className === outcome.value)
        && words.every((word) => text.get(row).includes(word));
      left += fits;
      row.hidden = !fits || left > limit;
    }
    counted.textContent = (left === all.length ? `${all.length} runs` : `${left} of ${all.length} runs`)
      + (left > limit ? `, the first ${limit} are shown` : "");
    more.hidden = left <= limit;
  };

  const value = (row, column) => {
    const cell = row.cells[column];
    return cell.dataset.value === undefined ? cell.textContent.toLowerCase() : Number(cell.dataset.value);
  };
  const sort = (heading) => {
    const rising = heading.getAttribute("aria-sort") === "descending";
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", rising ? "ascending" : "descending");
    const keys = new Map(all.map((row) => [row, value(row, heading.cellIndex)]));
    const compare = (a, b) => (a < b ? -1 : a > b ? 1 : 0);
    all.sort((a, b) => compare(keys.get(a), keys.get(b)) * (rising ? 1 : -1));
    filter();
    body.append(...all);
  };

  for (const heading of table.tHead.rows[0].cells) {
    if ("unsorted" in heading.dataset) continue;
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = heading.textContent;
    heading.replaceChildren(button);
    button.addEventListener("click", () => sort(heading));
  }
  more.addEventListener("click", () => {
    limit = Infinity;
    filter();
  });
  for (const control of [find, cluster, runbook, outcome]) control.addEventListener("input", filter);
  document.querySelector(".filter").hidden = false;
  filter();
})();
