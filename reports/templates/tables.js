(() => {
  "use strict";
  const FEWEST_ROWS = 8; // below that many a filter is no help

  const make = (tag, values = {}, ...children) => {
    const element = Object.assign(document.createElement(tag), values);
    element.append(...children);
    return element;
  };
  const plain = (text) => text.normalize("NFKC").replace(/[\u2010\u2011\u2212]/g, "-").toLowerCase();
  const text = (cell) => plain(cell.textContent.trim());

  // Numbers carry their value in data-sort, empty where there is none: those stay last both ways.
  const key = (row, column) => {
    const cell = row.cells[column];
    const value = cell.dataset.sort;
    if (value !== undefined) return value === "" ? null : Number(value);
    return ["", "-"].includes(text(cell)) ? null : text(cell);
  };
  const compare = (a, b) =>
    typeof a === "number" && typeof b === "number" ? (a < b ? -1 : a > b ? 1 : 0)
      : String(a).localeCompare(String(b), "en", { numeric: true });
  const sorted = (rows, column, direction) => {
    const keyed = rows.map((row) => [key(row, column), row]);
    return keyed.sort(([a], [b]) =>
      a === null || b === null ? (a === null) - (b === null) : direction * compare(a, b)
    ).map(([, row]) => row);
  };

  const sortable = (table, rows, total) => {
    const body = table.tBodies[0];
    const headers = [...table.tHead.rows[0].cells];
    headers.forEach((header, column) => {
      const button = make("button", { type: "button", className: "sort" }, ...header.childNodes);
      header.append(button);
      button.addEventListener("click", () => {
        const before = header.getAttribute("aria-sort");
        const after = { ascending: "descending", descending: null }[before];
        const next = after === undefined ? "ascending" : after;
        headers.forEach((other) => other.removeAttribute("aria-sort"));
        if (next) header.setAttribute("aria-sort", next);
        const order = next ? sorted(rows, column, next === "ascending" ? 1 : -1) : rows;
        body.append(...order, ...total); // the third press gives the printed order back
      });
    });
  };

  const filterable = (table, rows) => {
    const title = table.caption.textContent.trim();
    const field = make("input", { type: "search", autocomplete: "off", spellcheck: false });
    field.setAttribute("aria-label", `Filter the rows of: ${title}`);
    const count = make("output", { textContent: `${rows.length} rows` });
    count.setAttribute("aria-live", "polite");
    field.addEventListener("input", () => {
      const words = plain(field.value).split(/\s+/).filter(Boolean);
      let shown = 0;
      for (const row of rows) {
        const all = [...row.cells].map(text).join(" ");
        row.hidden = !words.every((word) => all.includes(word));
        shown += row.hidden ? 0 : 1;
      }
      count.textContent = words.length ? `${shown} of ${rows.length} rows` : `${rows.length} rows`;
    });
    const tools = make("div", { className: "tools" }, make("label", {}, "Filter ", field), count);
    table.closest(".scroll").before(tools);
  };

  for (const table of document.querySelectorAll("table.data")) {
    const all = [...table.tBodies[0].rows];
    const rows = all.filter((row) => !row.classList.contains("total"));
    const total = all.filter((row) => row.classList.contains("total"));
    if (rows.length > 1) sortable(table, rows, total);
    if (rows.length >= FEWEST_ROWS) filterable(table, rows);
  }
})();
