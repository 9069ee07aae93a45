// What itables' table lacks in a panel: rows that change without the person's order, filter, page and selection being
// lost, selection by keys, and words for screen readers. itables' own script comes with the widget; DataTables'
// documented interface does the rest.

async function load(source) {
  const url = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
  try {
    return (await import(url)).default;
  } finally {
    URL.revokeObjectURL(url);
  }
}

// itables would build the table anew for every change: it is given the model without changes.
function still(model) {
  return { get: (name) => (name === "selected_rows" ? [] : model.get(name)), on() {}, set() {}, save_changes() {} };
}

function moveFocus(event, rows) {
  const at = rows.indexOf(event.target);
  const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: rows.length - 1 }[event.key];
  if (to === undefined || rows[to] === undefined) return false;
  rows[to].focus();
  return true;
}

async function render({ model, el }) {
  const itables = await load(model.get("_itables"));
  itables.render({ model: still(model), el });
  const api = el.querySelector("table.opskit-table").api;
  const table = api.table().node();
  const body = api.table().body();
  const keyed = (node) => api.row(node).data()?.key;
  let told = true; // whether what is selected here is what the person did

  el.dataset.lmSuppressShortcuts = "true"; // JupyterLab would move through its cells by the same keys
  table.setAttribute("role", "grid");
  table.setAttribute("aria-label", model.get("_label"));

  function fill() {
    const { keys, data } = JSON.parse(model.get("_rows"));
    told = false;
    const page = api.page();
    api.clear();
    api.rows.add(data.map((cells, at) => Object.assign(cells, { key: keys[at] }))).draw(false);
    if (page < api.page.info().pages && page !== api.page()) api.page(page).draw(false);
    told = true;
    choose();
  }

  function choose() {
    const chosen = new Set(model.get("_chosen"));
    told = false;
    api.rows((at, row) => !chosen.has(row.key)).deselect();
    api.rows((at, row) => row.key && chosen.has(row.key)).select();
    told = true;
    tell();
  }

  function tell() {
    const rows = [...body.querySelectorAll("tr")].filter((row) => keyed(row) !== undefined);
    const current = rows.find((row) => row === document.activeElement)
      ?? rows.find((row) => row.classList.contains("selected")) ?? rows[0];
    for (const row of rows) {
      row.tabIndex = row === current ? 0 : -1;
      row.setAttribute("aria-selected", String(row.classList.contains("selected")));
    }
  }

  api.on("draw.opskit", () => {
    tell();
    el.querySelector(".dt-paging nav")?.setAttribute("aria-label", `Pages of ${model.get("_label")}`);
  });
  api.on("user-select.opskit", (event, dt, kind, cell) => {
    if (!api.row(cell.index().row).data().key) event.preventDefault();
  });
  api.on("select.opskit deselect.opskit", () => {
    tell();
    if (!told) return;
    model.set("_chosen", api.rows({ selected: true }).data().toArray().map((row) => row.key));
    model.save_changes();
  });
  body.addEventListener("keydown", (event) => {
    const rows = [...body.querySelectorAll("tr")];
    if (!rows.includes(event.target)) return;
    if (event.key === " " || event.key === "Enter") {
      const row = api.row(event.target);
      if (!keyed(event.target)) return;
      if (event.target.classList.contains("selected")) row.deselect();
      else row.select();
    } else if (event.key === "PageDown" || event.key === "PageUp") {
      api.page(event.key === "PageDown" ? "next" : "previous").draw(false);
      body.querySelector("tr")?.focus();
    } else if (!moveFocus(event, rows)) return;
    event.preventDefault();
    event.stopPropagation();
  });
  body.addEventListener("focusin", tell);

  fill();
  model.on("change:_rows", fill);
  model.on("change:_chosen", choose);
  return () => {
    model.off("change:_rows", fill);
    model.off("change:_chosen", choose);
    api.destroy();
  };
}

export default { render };
