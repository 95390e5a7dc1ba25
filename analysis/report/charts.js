// Sections of charts

const MAX_CHARTS = 24; // a section
const MAX_MARKS = 6000; // a section

const places = Object.fromEntries(
  [...document.querySelectorAll("[data-chart]")].map((place) => [place.dataset.chart, place]),
);

/** A bar of choices, the charts, what was left out, and a legend for paper and narrow screens. */
function buildPlace(place, ...choices) {
  const parts = {
    grid: make("div", { className: "charts" }),
    note: make("p", { className: "note" }),
    legend: make("ul", { className: "legend printed" }),
  };
  place.append(make("div", { className: "choices" }, ...choices), ...Object.values(parts));
  Object.assign(place, { parts });
}

function rerender(name) {
  return (value) => {
    state[name] = value;
    render();
  };
}

/** What a frontier weighs. Of search costs it would rise by itself: the best so far, by luck too. */
function sizes() {
  return Object.fromEntries(Object.entries(axes).filter(([, axis]) => !axis.cost));
}

function labelsOf(options) {
  return Object.fromEntries(Object.entries(options).map(([key, { label }]) => [key, label]));
}

function buildPlaces() {
  if (places.frontier)
    buildPlace(
      places.frontier,
      choice("Accuracy against", labelsOf(sizes()), state.frontier, rerender("frontier")),
    );
  if (places.cost) {
    const costs = Object.entries(axes).filter(([, axis]) => axis.cost);
    buildPlace(
      places.cost,
      choice("Search cost in", labelsOf(Object.fromEntries(costs)), state.cost, rerender("cost")),
      ...levelChoice(),
    );
  }
  if (places.curves)
    buildPlace(
      places.curves,
      choice("Curves of", labelsOf(metrics), state.metric, rerender("metric")),
      ...levelChoice(),
    );
}

const MAX_LEVELS = 60; // in the menu of compressions

function levelChoice() {
  const ratios = [...new Set(points.size.map((level) => times(1 / level)))];
  if (ratios.length < 2) return [];
  ratios.sort((a, b) => parseFloat(a) - parseFloat(b));
  const step = Math.max(1, ratios.length / MAX_LEVELS);
  const offered = ratios.filter((_, n) => Math.floor(n / step) > Math.floor((n - 1) / step));
  const named = Object.fromEntries(offered.map((ratio) => [ratio, ratio]));
  const options = { "": "some, evenly spread", ...named };
  const made = choice("Compression", options, state.level, (value) => {
    state.level = value;
    for (const select of document.querySelectorAll(".level select")) select.value = value;
    render();
  });
  made.classList.add("level");
  return [made];
}

/** charts: [{title, series, dense, x, y}] */
function showCharts(place, charts) {
  const { grid, note, legend } = place.parts;
  const shown = charts.slice(0, MAX_CHARTS);
  grid.replaceChildren();
  grid.classList.toggle("single", shown.length === 1);
  const figures = shown.map(({ title }) => {
    const figure = make("figure", {}, make("figcaption", {}, title));
    grid.append(figure);
    return figure;
  });
  const width = Math.max(260, figures[0]?.clientWidth ?? 0);
  const height = Math.round(Math.min(400, Math.max(240, width * 0.6)));
  const counts = { left: charts.length - shown.length, thinned: 0, below: 0 };
  shown.forEach((chart, index) => {
    const { series, dropped } = thinned(chart.series, Math.floor(MAX_MARKS / shown.length));
    const y = chart.y.accuracy ? { ...chart.y, domain: rangeOf(chart) } : chart.y;
    const label = `${chart.title}: ${chart.y.label} against ${chart.x.label}`;
    const drawn = drawChart({ ...chart, series, y, width, height, label });
    counts.thinned += dropped;
    counts.below += drawn.hidden;
    figures[index].append(drawn.element);
    makeReachable(drawn);
  });
  note.textContent = charts.length ? notesOf(counts, shown) : "No point is left to show.";
  legend.replaceChildren(...legendOf(shown));
}

/** A share of the marks, the joined ones first, where there are too many to draw. */
function thinned(series, limit) {
  const total = series.reduce((sum, each) => sum + each.marks.length, 0);
  if (total <= limit) return { series, dropped: 0 };
  const share = limit / total;
  let kept = 0;
  const fewer = series.map((each) => {
    const room = Math.max(2, Math.floor(each.marks.length * share));
    const ordered = [...each.marks].sort((a, b) => Boolean(a.hollow) - Boolean(b.hollow));
    const step = ordered.length / room;
    const marks = Array.from({ length: room }, (_, n) => ordered[Math.floor(n * step)]);
    kept += marks.length;
    return { ...each, marks };
  });
  return { series: fewer, dropped: total - kept };
}

/** Of accuracies; undefined for all that there are. */
function rangeOf({ dense, series }) {
  if (!dense) return undefined;
  const marks = series.flatMap((each) => each.marks);
  const lowest = dense[0] - (state.range === "auto" ? 0.1 : Number(state.range));
  const inside = marks.filter((mark) => mark.y >= lowest).length;
  const squeezed =
    inside >= 0.6 * marks.length && marks.some((mark) => mark.y < lowest - 0.1);
  if (state.range === "all" || (state.range === "auto" && !squeezed)) return undefined;
  const highest = Math.max(dense[2], ...marks.map((mark) => mark.high ?? mark.y));
  return [lowest, highest + (highest - lowest) * 0.05];
}

function notesOf({ left, thinned: dropped, below }, shown) {
  const notes = [...new Set(shown.flatMap((chart) => chart.remark ?? []))];
  if (left) notes.push(`Not drawn: ${left} more panels; choose fewer networks.`);
  if (dropped) notes.push(`Not drawn, for speed: ${dropped} marks; the table has all points.`);
  if (below) notes.push(`Below the accuracies shown: ${below} points; the filters can show all.`);
  return notes.join(" ");
}

function legendOf(charts) {
  const used = new Set(charts.flatMap((chart) => chart.series.map((each) => each.look)));
  return lines
    .filter((look) => used.has(look))
    .map((look) => make("li", {}, glyph(look), make("span", {}, look.label)));
}

function axisOf(name) {
  return { ...axes[name], log: true };
}
function accuracyAxis(panel, label = "test accuracy (%)") {
  const { axis } = panels[panel];
  const quantity = axis.replace("test ", "");
  return {
    label: label.replace("test accuracy (%)", axis).replace("accuracy (%)", quantity),
    format: percentTick,
    accuracy: true,
  };
}
function marksOf(candidates, name) {
  const marks = [];
  for (const point of candidates) {
    const x = points[name][point];
    const { y, low, high } = accuracyOf(point);
    if (x !== null && x > 0 && y !== null) marks.push({ x, y, low, high, datum: { point } });
  }
  return marks;
}
const byX = (a, b) => a.x - b.x;
const joined = (marks) => marks.map((mark) => [mark.x, mark.y]);

function frontierCharts() {
  const name = state.frontier;
  const chosen = visiblePoints().filter((point) => points.chosen[point]);
  const byPanel = groupBy(chosen, (point) => points.panel[point]);
  return visiblePanels().flatMap((panel) => {
    const byLine = groupBy(byPanel.get(panel) ?? [], (point) => points.line[point]);
    const series = [...byLine].sort(([a], [b]) => a - b).flatMap(([line, candidates]) => {
      const marks = marksOf(candidates, name).sort(byX);
      if (!marks.length) return [];
      const best = new Set(nondominated(marks, axes[name].more));
      for (const mark of marks) mark.hollow = !best.has(mark);
      return [{ look: lines[line], marks, path: joined(marks.filter((mark) => best.has(mark))) }];
    });
    return chartOf(panel, panels[panel].title, series, axisOf(name));
  });
}

function chartOf(panel, title, series, x) {
  if (!series.length) return [];
  const dense = panels[panel].dense?.slice(0, 3) ?? null;
  return [{ title, series, x, y: accuracyAxis(panel), dense }];
}

function isWantedLevel(level, spread) {
  return state.level === "" ? spread : times(1 / level) === state.level;
}

const ONE_COST =
  "Where each method reached a compression at one search cost only, these charts compare methods " +
  "and say nothing of what more search would bring.";

/** A chart a compression: through several ones accuracy would change with size, not with cost. */
function costCharts() {
  const byPanel = groupBy(visiblePoints(), (point) => points.panel[point]);
  return visiblePanels().flatMap((panel) => {
    const candidates = byPanel.get(panel) ?? [];
    const alike = groupBy(candidates, (point) => `${points.line[point]} ${points.size[point]}`);
    const several = [...alike.values()].some(
      (group) => new Set(group.map((point) => points[state.cost][point])).size > 1,
    );
    const wanted = candidates.filter((point) =>
      isWantedLevel(points.size[point], points.spread[point]),
    );
    const groups = groupBy(wanted, (point) => points.size[point]);
    return [...groups].sort(([a], [b]) => b - a).flatMap(([level, group]) => {
      const byLine = groupBy(group, (point) => points.line[point]);
      const series = [...byLine].sort(([a], [b]) => a - b).flatMap(([line, each]) => {
        const marks = marksOf(each, state.cost).sort(byX);
        return marks.length ? [{ look: lines[line], marks, path: joined(marks) }] : [];
      });
      const title = `${panels[panel].title} · ${times(1 / level)}`;
      const made = chartOf(panel, title, series, axisOf(state.cost));
      return several ? made : made.map((chart) => ({ ...chart, remark: ONE_COST }));
    });
  });
}
