// Charts as SVG. Colours, strokes and letters are classes, so a change of theme or a printer needs
// no redrawing; names enter as text nodes only.

const SVG = "http://www.w3.org/2000/svg";
const MARGIN = { top: 10, right: 14, bottom: 40, left: 60 };
const NEAR = 28; // pixels from which a pointer finds a mark
const RADIUS = 4;

// In the order of MARKERS and LINES in drawing.py
const MARKERS = [
  "M-1,0A1,1 0 1 0 1,0A1,1 0 1 0 -1,0Z",
  "M-.9,-.9H.9V.9H-.9Z",
  "M0,-1.15L1.1,.85H-1.1Z",
  "M0,-1.25L1.1,0L0,1.25L-1.1,0Z",
  "M0,1.15L1.1,-.85H-1.1Z",
  "M-.4,-1.1H.4V-.4H1.1V.4H.4V1.1H-.4V.4H-1.1V-.4H-.4Z",
  "M-1.1,-.6L-.6,-1.1L0,-.5L.6,-1.1L1.1,-.6L.5,0L1.1,.6L.6,1.1L0,.5L-.6,1.1L-1.1,.6L-.5,0Z",
  "M-1.15,0L.85,-1.1V1.1Z",
  "M1.15,0L-.85,-1.1V1.1Z",
];
const DASHES = ["", "7 3", "8 3 2 3", "2 2.5"];

function svg(tag, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

function markPath(marker, x, y, radius = RADIUS) {
  return { d: MARKERS[marker], transform: `translate(${x},${y}) scale(${radius})` };
}

function lineAttributes(look) {
  return { class: `line c${look.colour}`, "stroke-dasharray": DASHES[look.dash] };
}

/** A short line with its mark, for legends. */
function glyph(look) {
  return svg(
    "svg",
    { class: "glyph", viewBox: "0 0 34 12", width: 34, height: 12, "aria-hidden": "true" },
    svg("path", { d: "M1,6H33", ...lineAttributes(look) }),
    svg("path", { class: `mark c${look.colour}`, ...markPath(look.marker, 17, 6) }),
  );
}

function scale(domain, range, log) {
  const at = log ? Math.log : Number;
  const [low, high] = domain.map(at);
  const width = high - low || 1;
  return (value) => range[0] + ((at(value) - low) / width) * (range[1] - range[0]);
}

/** Round values inside the domain, about `count` of them. */
function niceTicks([low, high], count = 5) {
  const raw = (high - low || 1) / count;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].find((each) => each * power >= raw * 0.999) * power;
  const ticks = [];
  for (let n = Math.ceil(low / step - 1e-9); n * step <= high + step * 1e-9; n++)
    ticks.push(Number((n * step).toPrecision(12)));
  return ticks;
}

/** Of the values, those that lie at least a `count`-th of a logarithmic axis apart. */
function spreadTicks(values, count) {
  const ordered = [...new Set(values)].sort((a, b) => b - a);
  const apart = Math.max(Math.log(ordered[0] / ordered.at(-1)) / count, 1e-3);
  const kept = [];
  for (const value of ordered)
    if (!kept.length || Math.log(kept.at(-1) / value) >= apart * 0.999) kept.push(value);
  return kept.reverse();
}

function extent(values) {
  let low = Infinity;
  let high = -Infinity;
  for (const value of values) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  return [low, high];
}

function padded([low, high], share, log) {
  if (log) {
    const factor = Math.max((high / low) ** share, 1.03);
    return [low / factor, high * factor];
  }
  const room = (high - low) * share || Math.abs(high) * 0.02 || 0.01;
  return [low - room, high + room];
}

let clips = 0;

/**
 * series: [{look, path: [[x, y], …], marks: [{x, y, low, high, hollow, datum}]}]; a mark without
 * `bare: true` is drawn, all are found by the pointer. dense: [median, low, high] or null.
 * Gives the element and what can be found in it, left to right.
 */
function drawChart({ width, height, label, series, dense, x, y, zero = false }) {
  const right = width - MARGIN.right;
  const bottom = height - MARGIN.bottom;
  const all = series.flatMap((each) => each.marks);
  const xs = all.map((mark) => mark.x);
  const xDomain = padded(extent(xs), 0.04, x.log);
  const yDomain = y.domain ?? padded(extent(valuesOf(all, dense)), 0.05);
  const toX = scale(xDomain, [MARGIN.left, right], x.log);
  const toY = scale(yDomain, [bottom, MARGIN.top]);
  const clip = `clip-${++clips}`;
  const room = Math.max(2, Math.floor((right - MARGIN.left) / 64));
  const xTicks = x.log ? spreadTicks(xs, room) : niceTicks(xDomain, room);

  const grid = svg("g", { class: "grid" });
  const letters = svg("g", { class: "letters" });
  for (const tick of niceTicks(yDomain)) {
    grid.append(svg("path", { d: `M${MARGIN.left},${toY(tick)}H${right}` }));
    letters.append(text(y.format(tick), MARGIN.left - 8, toY(tick) + 4, "end"));
  }
  for (const tick of xTicks) {
    grid.append(svg("path", { d: `M${toX(tick)},${MARGIN.top}V${bottom}` }));
    letters.append(text(x.format(tick), toX(tick), bottom + 17, "middle"));
  }
  if (zero) grid.append(svg("path", { class: "zero", d: `M${toX(0)},${MARGIN.top}V${bottom}` }));
  letters.append(
    text(x.label, (MARGIN.left + right) / 2, height - 4, "middle", "axis"),
    svg(
      "text",
      {
        class: "axis",
        "text-anchor": "middle",
        transform: `translate(11,${(MARGIN.top + bottom) / 2}) rotate(-90)`,
      },
      y.label,
    ),
  );

  const plot = svg("g", { "clip-path": `url(#${clip})` });
  if (dense) {
    const [middle, low, high] = dense.map(toY);
    const [left, wide] = [MARGIN.left, right - MARGIN.left];
    plot.append(
      svg("rect", { class: "dense-band", x: left, y: high, width: wide, height: low - high }),
      svg("path", { class: "dense-line", d: `M${left},${middle}H${right}` }),
    );
  }
  const found = [];
  for (const { look, path, marks } of series) {
    const points = path.map(([px, py]) => `${toX(px).toFixed(1)},${toY(py).toFixed(1)}`);
    const d = `M${points.join("L")}`;
    if (points.length > 1) plot.append(svg("path", { d, ...lineAttributes(look) }));
    for (const mark of marks) {
      const [px, py] = [toX(mark.x), toY(mark.y)];
      if (py > MARGIN.top - 1 && py < bottom + 1) found.push({ px, py, datum: mark.datum });
      if (mark.bare) continue;
      if (mark.high > mark.low && !mark.hollow) {
        const bar = `M${px},${toY(mark.low)}V${toY(mark.high)}`;
        plot.append(svg("path", { class: `bar c${look.colour}`, d: bar }));
      }
      const kind = `mark c${look.colour}${mark.hollow ? " hollow" : ""}`;
      plot.append(svg("path", { class: kind, ...markPath(look.marker, px, py) }));
    }
  }
  found.sort((a, b) => a.px - b.px || a.py - b.py);

  const element = svg(
    "svg",
    {
      viewBox: `0 0 ${width} ${height}`,
      width,
      height,
      role: "img",
      tabindex: "0",
      "aria-label": `${label}. ${found.length} points; the arrow keys step through them.`,
    },
    svg(
      "defs",
      {},
      svg(
        "clipPath",
        { id: clip },
        svg("rect", {
          x: MARGIN.left - RADIUS - 2,
          y: MARGIN.top - RADIUS - 2,
          width: right - MARGIN.left + 2 * RADIUS + 4,
          height: bottom - MARGIN.top + RADIUS + 3,
        }),
      ),
    ),
    grid,
    plot,
    letters,
  );
  return { element, found, hidden: all.length - found.length };
}

function valuesOf(marks, dense) {
  const values = marks.flatMap((mark) => [mark.y, mark.low ?? mark.y, mark.high ?? mark.y]);
  return dense ? [...values, ...dense] : values;
}

function text(content, x, y, anchor, name = "tick") {
  return svg("text", { class: name, x, y, "text-anchor": anchor }, content);
}

function nearest(found, x, y) {
  let best = null;
  let least = NEAR * NEAR;
  for (const each of found) {
    const distance = (each.px - x) ** 2 + (each.py - y) ** 2;
    if (distance < least) [best, least] = [each, distance];
  }
  return best;
}
