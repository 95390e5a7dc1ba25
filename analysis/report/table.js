// The table

function columnsOf() {
  const varying = ["network", "dataset", "structure", "schedule_kind", "protocol", "criterion"];
  const names = { dataset: "data set", schedule_kind: "schedule" };
  const told = varying.filter((name) => texts[name].values.length > 1);
  const number = (key, title, format) => {
    return { key, title, format, value: (point) => points[key][point] };
  };
  const levels = new Set(points.level).size > 1 ? [number("level", "level", count)] : [];
  const diverged = points.n_diverged.some(Boolean) ? [number("n_diverged", "diverged", count)] : [];
  return [
    { key: "line", title: "method", value: (point) => lines[points.line[point]].label },
    ...told.map((name) => ({
      key: name,
      title: names[name] ?? name,
      value: (point) => textOf(name, point),
    })),
    number("retrain_epochs", "retraining", count),
    ...levels,
    number("compression_ratio", "compression", times),
    { key: "accuracy", title: "accuracy", format: percent, value: (point) => accuracyOf(point).y },
    { key: "low", title: "low", format: percent, value: (point) => accuracyOf(point).low },
    { key: "high", title: "high", format: percent, value: (point) => accuracyOf(point).high },
    { key: "change", title: "change", format: signed, value: (point) => accuracyOf(point).change },
    number("val_accuracy", "validation", percent),
    number("speedup", "speedup", times),
    number("search_cost_epochs", "search cost", count),
    number("n_seeds", "seeds", count),
    ...diverged,
  ];
}

const columns = size ? columnsOf() : [];

function buildTable(place) {
  const search = make("input", { type: "search", placeholder: "method, network, …" });
  search.addEventListener("input", () => {
    state.words = search.value;
    state.shown = PAGE;
    renderTable();
  });
  const download = make("button", { type: "button" }, "Download CSV");
  download.addEventListener("click", downloadCsv);
  const head = make("tr");
  for (const { key, title, format } of columns) {
    const button = make("button", { type: "button", className: "sort" }, title);
    button.addEventListener("click", () => {
      state.sort = { key, down: state.sort.key === key ? !state.sort.down : false };
      renderTable();
    });
    const cell = make("th", { scope: "col", className: format ? "number" : "" }, button);
    cell.dataset.key = key;
    head.append(cell);
  }
  const parts = {
    head,
    body: make("tbody"),
    status: make("p", { className: "note", role: "status" }),
    more: textButton("show more", () => {
      state.shown += 10 * PAGE;
      renderTable();
    }),
  };
  const table = make("table", { className: "points" }, make("thead", {}, head), parts.body);
  const label = make("span", {}, "Only lines with");
  const filter = make("label", { className: "choice" }, label, search);
  const region = { className: "scroll", tabIndex: 0, role: "region", "aria-label": "All points" };
  place.append(
    make("div", { className: "choices" }, filter, download),
    make("div", region, table),
    parts.status,
    parts.more,
  );
  Object.assign(place, { parts });
}

/** As filtered and sorted. */
function tableLines() {
  const words = state.words.toLowerCase().split(/\s+/).filter(Boolean);
  const told = Object.keys(texts);
  const matches = (point) => {
    const names = [lines[points.line[point]].label, ...told.map((name) => textOf(name, point))];
    const all = `${names.join(" ")} ${times(points.compression_ratio[point])}`.toLowerCase();
    return words.every((word) => all.includes(word));
  };
  const { value } = columns.find(({ key }) => key === state.sort.key);
  const sign = state.sort.down ? -1 : 1;
  const keyed = visiblePoints().filter(matches).map((point) => [value(point), point]);
  keyed.sort(([a], [b]) => {
    if (a === null || b === null) return (a === null) - (b === null);
    return sign * (typeof a === "string" ? a.localeCompare(b) : a - b);
  });
  return keyed.map(([, point]) => point);
}

function renderTable() {
  const { head, body, status, more } = places.table.parts;
  const found = tableLines();
  const shown = found.slice(0, state.shown);
  body.replaceChildren(
    ...shown.map((point) => {
      const row = make("tr");
      for (const { key, format, value } of columns) {
        const content = format ? format(value(point)) : value(point);
        if (key === "line") {
          const cell = make("th", { scope: "row" }, glyph(lines[points.line[point]]), content);
          row.append(cell);
        } else row.append(make("td", { className: format ? "number" : "" }, content));
      }
      return row;
    }),
  );
  for (const cell of head.children) {
    const sorted = cell.dataset.key === state.sort.key;
    const way = state.sort.down ? "descending" : "ascending";
    if (sorted) cell.setAttribute("aria-sort", way);
    else cell.removeAttribute("aria-sort");
  }
  const total = data.all_points > size ? `; the page holds ${size} of all ${data.all_points}` : "";
  status.textContent = `${shown.length} of ${found.length} points${total}.`;
  more.hidden = shown.length === found.length;
}

function downloadCsv() {
  const names = Object.keys(texts);
  const own = ["panel", "line", "size", "spread"]; // the page's
  const numbers = Object.keys(points).filter((name) => !own.includes(name));
  const head = ["label", ...names, ...numbers, "stage_ids"];
  const body = tableLines().map((point) => [
    lines[points.line[point]].label,
    ...names.map((name) => textOf(name, point)),
    ...numbers.map((name) => points[name][point] ?? ""),
    membersOf[point].map((member) => members.stage_id[member]).join(" "),
  ]);
  const quoted = (value) =>
    /[",\n\r]/.test(value) ? `"${String(value).replaceAll('"', '""')}"` : value;
  const content = [head, ...body].map((line) => line.map(quoted).join(",")).join("\n");
  const link = make("a", { download: "points.csv" });
  link.href = URL.createObjectURL(new Blob([`${content}\n`], { type: "text/csv" }));
  link.click();
  URL.revokeObjectURL(link.href);
}
