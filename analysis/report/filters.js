// Filters, which are the legend too

const filters = document.getElementById("filters");

function buildFilters() {
  if (!size) return;
  const legend = make("ul", { className: "legend" });
  lines.forEach((look, line) => legend.append(make("li", {}, chip(look, line))));
  const bulk = make("p", { className: "bulk" });
  bulk.append(
    textButton("all", () => setLines(lines.keys())),
    textButton("none", () => setLines([])),
    make("span", {}, "Shift-click: only this one"),
  );
  const group = make("fieldset", { className: "methods" }, make("legend", {}, "Methods"));
  group.append(legend, bulk);
  filters.append(group);
  const networks = [...new Set(panels.map((panel) => panel.network))];
  if (networks.length > 1) filters.append(networkChips(networks));
  filters.append(
    choice("Seeds", seedOptions(), "", (value) => {
      state.seed = value === "" ? null : Number(value);
      render();
    }),
    choice("Accuracy shown, below the dense network's", ranges, state.range, (value) => {
      state.range = value;
      render();
    }),
  );
}

function seedOptions() {
  const each = data.seeds.map((seed) => [` ${seed}`, `seed ${seed}`]);
  return Object.fromEntries([["", "median over all"], ...each]);
}

function chip(look, line) {
  const button = make("button", { type: "button", className: "chip" }, glyph(look));
  button.append(make("span", {}, look.label));
  button.dataset.line = line;
  button.addEventListener("click", (event) => {
    if (event.shiftKey) return setLines([line]);
    const chosen = new Set(state.lines);
    if (!chosen.delete(line)) chosen.add(line);
    return setLines(chosen);
  });
  return button;
}

function setLines(chosen) {
  state.lines = new Set(chosen);
  render();
}

function networkChips(networks) {
  const group = make("fieldset", {}, make("legend", {}, "Networks"));
  for (const network of networks) {
    const box = make("input", { type: "checkbox", checked: true });
    box.addEventListener("change", () => {
      if (!state.networks.delete(network)) state.networks.add(network);
      render();
    });
    group.append(make("label", { className: "box" }, box, make("span", {}, network)));
  }
  return group;
}

function textButton(label, clicked) {
  const button = make("button", { type: "button", className: "text" }, label);
  button.addEventListener("click", clicked);
  return button;
}

function markFilters() {
  for (const button of filters.querySelectorAll(".chip"))
    button.setAttribute("aria-pressed", state.lines.has(Number(button.dataset.line)));
}
