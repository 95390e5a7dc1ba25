// What a mark tells

const tip = document.getElementById("tip");
let pinned = false;

function describe(datum) {
  return datum.point === undefined ? describeEpoch(datum) : describePoint(datum.point);
}

function nameOf({ point, look }) {
  return point === undefined ? look.label : lines[points.line[point]].label;
}

function describePoint(point) {
  const { y, low, high, change } = accuracyOf(point);
  const n = state.seed === null ? points.n_seeds[point] : 1;
  const panel = panels[points.panel[point]];
  const unit = panel.metric.unit;
  const told = (name, format, after) => {
    const value = points[name][point];
    return value === null ? "" : format(value) + after;
  };
  const details = [
    [panel.metric.name, spreadOf(percent, unit, { y, low, high, n })],
    ["change", change === null ? "" : `${signed(change)} ${panel.metric.step}s against dense`],
    ["validation", told("val_accuracy", percent, unit)],
    ["density", told("density", (density) => (100 * density).toPrecision(3), " %")],
    ["speedup", told("speedup", times, "")],
    ["retraining", told("retrain_epochs", count, ` epochs, level ${points.level[point]}`)],
    ["search cost", told("search_cost_epochs", count, " epochs")],
    ["", told("search_cost_flops", count, " multiply-adds")],
    ["diverged", points.n_diverged[point] ? String(points.n_diverged[point]) : ""],
  ];
  const list = make("ul", { className: "stages" });
  const own = membersOf[point].filter((m) => state.seed === null || members.seed[m] === state.seed);
  for (const member of own.slice(0, 6)) {
    const accuracy = percent(members.test_accuracy[member]) + unit;
    const got = members.diverged[member] ? "diverged" : accuracy;
    const id = make("code", {}, members.stage_id[member]);
    list.append(make("li", {}, id, ` seed ${members.seed[member]}, ${got}`));
  }
  if (own.length > 6) list.append(make("li", {}, `and ${own.length - 6} more`));
  const title = `${lines[points.line[point]].label} · ${times(points.compression_ratio[point])}`;
  return [make("strong", {}, title), make("p", {}, panel.name), definitions(details), list];
}

function describeEpoch({ look, epoch, level, y, low, high, n, retrain_epochs }) {
  const { format, label, accuracy } = metrics[state.metric];
  const details = [
    [label, spreadOf(accuracy ? percent : format, "", { y, low, high, n })],
    ["epoch", level ? `${epoch} after dense training, level ${level}` : `${epoch}`],
    ["retraining", level ? `${count(retrain_epochs)} epochs` : ""],
  ];
  return [make("strong", {}, look.label), definitions(details)];
}

function spreadOf(format, unit, { y, low, high, n }) {
  const among = n > 1 ? ` (${format(low)}–${format(high)}, n = ${n})` : "";
  return format(y) + unit + among;
}

function definitions(pairs) {
  const list = make("dl");
  for (const [name, value] of pairs)
    if (value) list.append(make("dt", {}, name), make("dd", {}, value));
  return list;
}

/** Pointer, keys and touch find the marks of a chart. */
function makeReachable({ element, found }) {
  const ring = svg("circle", { class: "ring", r: 8, visibility: "hidden" });
  element.append(ring);
  let current = -1;
  const show = (hit) => {
    ring.setAttribute("visibility", hit ? "visible" : "hidden");
    if (!hit) return hideTip();
    current = found.indexOf(hit);
    ring.setAttribute("cx", hit.px);
    ring.setAttribute("cy", hit.py);
    const close = ({ px, py }) => Math.hypot(px - hit.px, py - hit.py) < 3;
    return showTip(hit, found.filter((each) => each !== hit && close(each)), element);
  };
  const hitAt = (event) => {
    const box = element.getBoundingClientRect();
    const zoom = element.viewBox.baseVal.width / box.width;
    return nearest(found, (event.clientX - box.left) * zoom, (event.clientY - box.top) * zoom);
  };
  element.addEventListener("pointermove", (event) => pinned || show(hitAt(event)));
  element.addEventListener("pointerleave", () => pinned || show(null));
  element.addEventListener("click", (event) => {
    setPinned(false);
    const hit = hitAt(event);
    show(hit);
    setPinned(hit !== null);
  });
  element.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1 }[event.key];
    if (!step || !found.length) return;
    event.preventDefault();
    setPinned(false);
    const from = current < 0 && step < 0 ? 0 : current;
    show(found[(from + step + found.length) % found.length]);
  });
  element.addEventListener("blur", () => pinned || show(null));
}

function showTip(hit, others, element) {
  const names = [...new Set(others.map(({ datum }) => nameOf(datum)))];
  const more = names.length > 4 ? [...names.slice(0, 4), `${names.length - 4} more`] : names;
  const note = names.length ? [make("p", {}, `Also here: ${more.join(", ")}`)] : [];
  tip.replaceChildren(...describe(hit.datum), ...note);
  tip.hidden = false;
  const box = element.getBoundingClientRect();
  const zoom = box.width / element.viewBox.baseVal.width;
  const [x, y] = [box.left + hit.px * zoom, box.top + hit.py * zoom];
  const { offsetWidth: width, offsetHeight: height } = tip;
  const left = x + 16 + width > innerWidth ? x - 16 - width : x + 16;
  tip.style.left = `${Math.max(4, Math.min(left, innerWidth - width - 4))}px`;
  tip.style.top = `${Math.max(4, Math.min(y - height / 2, innerHeight - height - 4))}px`;
}

function hideTip() {
  setPinned(false);
  tip.hidden = true;
}

function setPinned(value) {
  pinned = value;
  tip.classList.toggle("pinned", value);
}
