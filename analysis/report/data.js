// What the page carries, and what of it the filters leave.

const data = JSON.parse(document.getElementById("data").textContent);
const { panels, lines, points, members, texts, curves } = data;
const size = points.line.length;

const PAGE = 50; // lines of the table

const axes = {
  compression_ratio: { label: "compression ratio", format: times, more: true },
  speedup: { label: "theoretical speedup", format: times, more: true },
  search_cost_epochs: { label: "search cost (epochs of retraining)", format: count, cost: true },
  search_cost_flops: { label: "search cost (multiply-adds)", format: count, cost: true },
};
const metrics = {
  test_accuracy: { label: "test accuracy (%)", format: percentTick, accuracy: true },
  val_accuracy: { label: "validation accuracy (%)", format: percentTick, accuracy: true },
  train_loss: { label: "training loss", format: count },
  lr: { label: "learning rate", format: count },
};
const ranges = {
  auto: "10 points, if most lie there",
  all: "all",
  0.1: "10 points",
  0.03: "3 points",
  0.01: "1 point",
};

const every = Array.from({ length: size }, (_, point) => point);

const state = {
  lines: new Set(lines.keys()),
  networks: new Set(panels.map((panel) => panel.network)),
  seed: null,
  range: "auto",
  frontier: "compression_ratio",
  cost: fewCosts() ? "search_cost_flops" : "search_cost_epochs",
  metric: "test_accuracy",
  level: "",
  sort: { key: "compression_ratio", down: false },
  words: "",
  shown: PAGE,
};

// Points, as the filters leave them

const membersOf = Array.from({ length: size }, () => []);
members.point.forEach((point, member) => membersOf[point].push(member));

const textOf = (name, point) => texts[name].values[texts[name].at[point]];
/** What the point got: the median over seeds, or what the chosen seed got; null if nothing. */
function accuracyOf(point) {
  if (state.seed === null)
    return {
      y: points.test_accuracy[point],
      low: points.test_accuracy_min[point],
      high: points.test_accuracy_max[point],
      change: points.accuracy_change[point],
    };
  const member = membersOf[point].find((each) => members.seed[each] === state.seed);
  const y = member === undefined || members.diverged[member] ? null : members.test_accuracy[member];
  return { y, low: y, high: y, change: y === null ? null : members.accuracy_change[member] };
}
function isVisible(point) {
  const { network } = panels[points.panel[point]];
  return state.lines.has(points.line[point]) && state.networks.has(network);
}
function visiblePoints() {
  return every.filter(isVisible);
}
function visiblePanels() {
  return [...panels.keys()].filter((panel) => state.networks.has(panels[panel].network));
}
/** Whether most points cost the same number of epochs: then multiply-adds tell more. */
function fewCosts() {
  const groups = [...groupBy(points.search_cost_epochs, (cost) => cost).values()];
  return Math.max(0, ...groups.map((group) => group.length)) > size / 2;
}

/** Those that no other beats: best x first, each must be more accurate than all before it. */
function nondominated(marks, more) {
  const ordered = [...marks].sort((a, b) => (more ? b.x - a.x : a.x - b.x) || b.y - a.y);
  let best = { x: null, y: -Infinity };
  return ordered.filter((mark) => {
    if (mark.y > best.y) best = mark;
    return mark.y === best.y && mark.x === best.x;
  });
}

function groupBy(items, key) {
  const groups = new Map();
  for (const item of items) {
    const name = key(item);
    if (!groups.has(name)) groups.set(name, []);
    groups.get(name).push(item);
  }
  return groups;
}
