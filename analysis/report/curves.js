// Learning curves

const GREY = { colour: "g", marker: 0, dash: 0, label: "dense" };

function curveCharts() {
  const chains = curves.chains.filter(
    (chain) =>
      state.lines.has(chain.line) &&
      state.networks.has(panels[chain.panel].network) &&
      (state.seed === null || chain.seed === state.seed) &&
      (panels[chain.panel].iterative || isWantedLevel(chain.size, chain.spread)),
  );
  const groups = groupBy(chains, (chain) =>
    JSON.stringify([chain.panel, panels[chain.panel].iterative ? 0 : chain.size]),
  );
  const order = ([a], [b]) => {
    const [[panelA, sizeA], [panelB, sizeB]] = [JSON.parse(a), JSON.parse(b)];
    return panelA - panelB || sizeB - sizeA;
  };
  return [...groups].sort(order).flatMap(([, group]) => curveChart(group));
}

function curveChart(chains) {
  const { panel, size: level } = chains[0];
  const metric = metrics[state.metric];
  // what can't be read isn't among a chain's parts, not even the dense network at its beginning
  const isDense = (part) => curves.stages[part].level === 0;
  const dense = new Set(chains.flatMap((chain) => chain.parts.filter(isDense)));
  const series = [...groupBy(dense, (part) => curves.stages[part].epoch[0]).values()].map((parts) =>
    curveSeries(GREY, parts.map((part) => [part]), chains[0]),
  );
  const byLine = groupBy(chains, (chain) => chain.line);
  for (const [line, group] of [...byLine].sort(([a], [b]) => a - b)) {
    const own = group.map((chain) => chain.parts.filter((part) => !isDense(part)));
    series.push(curveSeries(lines[line], own, group[0]));
  }
  const drawn = series.filter((each) => each.marks.length);
  if (!drawn.length) return [];
  const title = panels[panel].iterative
    ? panels[panel].title
    : `${panels[panel].title} · ${times(1 / level)}`;
  const baseline = panels[panel].dense?.slice(0, 3) ?? null;
  return [
    {
      title,
      series: drawn,
      dense: metric.accuracy ? baseline : null,
      x: { label: "epochs after dense training", format: count, log: false },
      y: metric.accuracy ? accuracyAxis(panel, metric.label) : metric,
      zero: true,
    },
  ];
}

/** Medians over chains, epoch by epoch; several stages of a chain one after the other. */
function curveSeries(look, chains, { retrain_epochs }) {
  const byEpoch = new Map();
  for (const parts of chains)
    for (const part of parts) {
      const stage = curves.stages[part];
      stage.epoch.forEach((epoch, n) => {
        const value = stage[state.metric][n];
        if (value === null) return;
        const key = stage.level * 1e7 + epoch; // the epoch of a pruning belongs to both levels
        if (!byEpoch.has(key)) byEpoch.set(key, { epoch, level: stage.level, values: [] });
        byEpoch.get(key).values.push(value);
      });
    }
  const marks = [...byEpoch.values()]
    .sort((a, b) => a.level - b.level || a.epoch - b.epoch)
    .map(({ epoch, level, values }) => {
      const [low, high] = extent(values);
      const y = median(values);
      const datum = { look, epoch, level, y, low, high, n: values.length, retrain_epochs };
      return { x: epoch, y, bare: true, datum };
    });
  return { look, marks, path: joined(marks) };
}
