"""Verdicts, headlines and comparisons of the trials of Renda et al. 2020, the verdicts of Mikler
2022's points: computed once more.

By itself: no module of this project, no pandas, no scipy.stats. pyarrow reads the published
numbers, everything else is lists and sums; t's distribution is an incomplete beta function.

  python -m tests.analysis.questions.independent_verdicts        prints how many there are of each
"""

from __future__ import annotations

import csv
from itertools import combinations
from math import isnan, log, nan, sqrt
from pathlib import Path
from statistics import fmean, median, stdev

import pyarrow.parquet
from scipy.special import betainc, betaincinv

DATA = Path(__file__).parents[3] / "analysis" / "reference"
NAMES = {
    "finetune": "finetune",
    "lottery": "weight_rewind",
    "lr_finetune": "lr_rewind",
    "lr_lottery": "low_lr_weight_rewind",
    "reinit": "reinit",
}
DENSE_TIME = {"resnet34": 90, "resnet50": 90, "gnmt": 5}  # else 182
MARGIN, ALPHA = 0.005, 0.05


def read(name):
    return pyarrow.parquet.read_table(DATA / name).to_pylist()


def unit(network):
    return 100 if network == "gnmt" else 1


def levelled(densities):
    """Density -> the highest within 0.05% of it: the same level."""
    found, top = {}, None
    for density in sorted(densities):
        top = density if top is None or density >= top * 1.0005 else top
        found[density] = top
    return found


def load():
    """(network, technique, iterative) -> method -> level -> time -> trial -> (test, val)."""
    cells: dict = {}
    rows = read("renda2020_trials.parquet")
    panels: dict = {}
    for row in rows:
        key = (row["network"], row["prune_method"], bool(row["is_iterative"]))
        panels.setdefault(key, set()).add(row["density"])
    levels = {key: levelled(found) for key, found in panels.items()}
    for row in rows:
        key = (row["network"], row["prune_method"], bool(row["is_iterative"]))
        level = round(log(row["density"]) / log(0.8)) if key[2] else -levels[key][row["density"]]
        whole = unit(row["network"])
        cells.setdefault(key, {}).setdefault(NAMES[row["retrain_method"]], {}).setdefault(
            level, {}
        ).setdefault(row["retrain_time"], {})[row["trial"]] = (
            row["test_acc"] / whole,
            row["val_acc"] / whole,
            row["density"],
        )
    return cells


def dense():
    found: dict = {}
    for row in read("renda2020_baselines.parquet"):
        found.setdefault(row["network"], []).append(row["test_acc"] / unit(row["network"]))
    return {network: fmean(values) for network, values in found.items()}


def chosen(times):
    """The retraining time with the best median validation accuracy; of equals the shortest."""
    best = max(times, key=lambda t: (median(v for _, v, _ in times[t].values()), -t))
    return {trial: cell[0] for trial, cell in times[best].items()}


# Student's t


def two_sided(t, freedom):
    return float(betainc(freedom / 2, 0.5, freedom / (freedom + t * t)))


def quantile(p, freedom):
    """Upper: P(T > t) = p."""
    x = float(betaincinv(freedom / 2, 0.5, 2 * p))
    return sqrt(freedom * (1 - x) / x)


def paired(a, b):
    """a, b: unit -> value. Difference, error, degrees of freedom, units."""
    gaps = [a[unit] - b[unit] for unit in a if unit in b]
    return fmean(gaps), stdev(gaps) / sqrt(len(gaps)), len(gaps) - 1, len(gaps)


def unpaired(groups):
    """groups: of each network the values of a and of b."""
    weights = [min(len(a), len(b)) for a, b in groups]
    total = sum(weights)
    gap = sum(w * (fmean(a) - fmean(b)) for w, (a, b) in zip(weights, groups, strict=True)) / total
    parts = [
        (w / total) ** 2 * (stdev(a) ** 2 / len(a) + stdev(b) ** 2 / len(b))
        for w, (a, b) in zip(weights, groups, strict=True)
    ]
    freedom = sum(parts) ** 2 / sum(
        part**2 / (w - 1) for part, w in zip(parts, weights, strict=True)
    )
    return gap, sqrt(sum(parts)), freedom, sum(len(a) for a, _ in groups)


def p_of(found):
    gap, error, freedom, n = found
    if error < 1e-9:
        return 1.0 if abs(gap) < 1e-9 else 2 / 2**n
    return two_sided(gap / error, freedom)


def verdict(found, strict):
    gap, error, freedom, _ = found
    reach = quantile(ALPHA / 2, freedom) * error
    low, high = gap - reach, gap + reach
    inside = low > -MARGIN and high < MARGIN
    if not strict and inside:
        return "equivalent"
    if low > 0 or (not strict and low > -MARGIN and not high < 0):
        return "supported"
    if high < 0:
        return "contradicted"
    return "equivalent" if inside else "not decided"


# Claims


def is_paired(key):
    """Iterative chains of images each had their own dense network (docs/reference.md)."""
    return not key[2] or key[0] == "gnmt"


def judged(key, pairs):
    """pairs: of each place the trials of a and of b. First per trial, then over trials."""
    a, b = (
        {trial: fmean(pair[side][trial] for pair in pairs) for trial in pairs[0][side]}
        for side in (0, 1)
    )
    if is_paired(key):
        return paired(a, b)
    return unpaired([(list(a.values()), list(b.values()))])


def claims(cells, baselines):
    """(claim, network, technique, iterative, method, other) -> (verdict, difference)."""
    found = {}

    def add(claim, key, method, other, pairs, strict):
        if pairs:
            result = judged(key, pairs)
            found[(claim, *key, method, other)] = (verdict(result, strict), result[0])

    for key, methods in cells.items():
        best = {m: {lv: chosen(times) for lv, times in of.items()} for m, of in methods.items()}

        def meet(a, b):
            return [(a[level], b[level]) for level in a if level in b]

        for method in ("lr_rewind", "weight_rewind"):
            pairs = meet(best[method], best["finetune"])
            add("finetune_is_worse", key, method, "finetune", pairs, True)
        pairs = meet(best["lr_rewind"], best["weight_rewind"])
        add("lr_rewind_at_least_as_good", key, "lr_rewind", "weight_rewind", pairs, False)
        total = DENSE_TIME.get(key[0], 182)
        whole = {
            level: {trial: cell[0] for trial, cell in times[total].items()}
            for level, times in methods["lr_rewind"].items()
            if total in times
        }
        for other in ("finetune", "weight_rewind", "low_lr_weight_rewind", "reinit"):
            if other in best:
                pairs = meet(whole, best[other])
                add("whole_time_is_best", key, "lr_rewind", other, pairs, False)
        if key[1] == "Unstructured" and not key[2]:
            kept = headline_levels(methods, baselines[key[0]])
            for method in ("lr_rewind", "weight_rewind"):
                pairs = [
                    tuple(
                        {trial: cell[0] for trial, cell in methods[m][level][time].items()}
                        for m in (method, "finetune")
                    )
                    for level in kept
                    for time in methods[method].get(level, {})
                    if 0.25 <= time / total <= 0.9 and time in methods["finetune"].get(level, {})
                ]
                add("safe_zone", key, method, "finetune", pairs, True)
    return found


def headline_levels(methods, baseline):
    """The highest compressions at which anything stays within 0.05 points, and within 1."""
    kept = set()
    for drop in (0.0005, 0.01):
        within = [
            level
            for of in methods.values()
            for level, times in of.items()
            for trials in times.values()
            if median(test - baseline for test, _, _ in trials.values()) >= -drop
        ]
        kept.add(max(within))  # levels count up with compression, one-shot from -1
    return kept


# Mikler's points: medians of 2 or 3 trials, with their 10th and 90th percentiles

TRIALS = {"1?": 1, "2": 2, "2 equal?": 2, "": 3}
"""Of "1?" the number is unknown; as a single one it has no spread."""
EXPECTED_RANGE = {2: 1.12838, 3: 1.69257}
"""Of n normal trials, in standard deviations (Tippett 1925); 0.8 of it between the percentiles."""
THEIR_NAMES = {
    "finetuning": "finetune",
    "lr_rewinding": "lr_rewind",
    "weight_rewinding": "weight_rewind",
}


def mikler_points():
    """(network, data, structure, panel, step) -> method -> sparsity -> accuracy, deviation, n."""
    found: dict = {}
    with open(DATA / "mikler2022_figures.csv", newline="") as file:
        for row in csv.DictReader(file):
            if row["method"] == "baseline":
                continue
            n = TRIALS[row["trials_inferred"]]
            spread = nan
            if n > 1 and row["ci_low"]:
                width = float(row["ci_high"]) - float(row["ci_low"])
                spread = width / 100 / (0.8 * EXPECTED_RANGE[n])
            place = tuple(row[name] for name in ("network", "dataset", "pruning", "panel"))
            levels = found.setdefault((*place, row["step_size"]), {}).setdefault(
                THEIR_NAMES[row["method"]], {}
            )
            levels.setdefault(row["sparsity"], (float(row["accuracy"]) / 100, spread, n))
    return found


def mikler_claims(points):
    """(claim, place, method, other) -> (verdict, difference)."""
    asked = [("finetune_is_worse", m, "finetune") for m in ("lr_rewind", "weight_rewind")]
    asked += [("lr_rewind_at_least_as_good", "lr_rewind", "weight_rewind")]
    asked += [("whole_time_is_best", "lr_rewind", m) for m in ("finetune", "weight_rewind")]
    found = {}
    for place, methods in points.items():
        for claim, method, other in asked:
            a, b = methods.get(method, {}), methods.get(other, {})
            pairs = [(a[level], b[level]) for level in a if level in b]
            if pairs:
                result = summed(pairs)
                strict = claim == "finetune_is_worse"
                told = verdict(result, strict) if result[2] else "not decided"
                found[(claim, *place, method, other)] = (told, result[0])
    return found


def summed(pairs):
    """All compressions go up and down together: the error of their mean is their errors' mean."""
    known = [(a, b) for a, b in pairs if not isnan(a[1] + b[1])]
    used = known or pairs
    gap = fmean(a[0] - b[0] for a, b in used)
    if not known:
        return gap, nan, 0, 1
    error = fmean(sqrt(a[1] ** 2 / a[2] + b[1] ** 2 / b[2]) for a, b in known)
    n = min(min(a[2], b[2]) for a, b in known)
    return gap, error, n - 1, n


# Headlines


def headlines(cells, baselines):
    """(network, technique, iterative, method, drop) -> compression, NaN if never within."""
    found = {}
    for key, methods in cells.items():
        for method, levels in methods.items():
            for drop in (0.0005, 0.01):
                ratios = []
                for times in levels.values():
                    best = max(
                        times, key=lambda t: (median(v for _, v, _ in times[t].values()), -t)
                    )
                    trials = times[best].values()
                    if median(test - baselines[key[0]] for test, _, _ in trials) >= -drop:
                        ratios.append(1 / median(density for _, _, density in trials))
                found[(*key, method, drop)] = max(ratios, default=nan)
    return found


# Comparisons


def comparisons(cells):
    """Of every pair and place (difference, p), and overall of every pair and metric."""
    single, together = {}, {}
    for key, methods in cells.items():
        best = {m: {lv: chosen(times) for lv, times in of.items()} for m, of in methods.items()}
        for a, b in combinations(sorted(methods), 2):
            meet = [level for level in best[a] if level in best[b]]
            for level in meet:
                result = judged(key, [(best[a][level], best[b][level])])
                single[(*key, level, a, b)] = (result[0], p_of(result))
            metric = "bleu" if key[0] == "gnmt" else "accuracy"
            group = together.setdefault((a, b, metric, is_paired(key)), {})
            for trial in best[a][meet[0]]:
                places = group.setdefault((key[0], trial), [])
                places += [(best[a][level][trial], best[b][level][trial]) for level in meet]
    overall = {}
    for name, units in together.items():
        means = {
            unit: tuple(fmean(pair[side] for pair in pairs) for side in (0, 1))
            for unit, pairs in units.items()
        }
        if name[3]:
            result = paired(
                *({unit: mean[side] for unit, mean in means.items()} for side in (0, 1))
            )
        else:
            networks = sorted({network for network, _ in means})
            result = unpaired(
                [
                    tuple(
                        [mean[side] for (net, _), mean in means.items() if net == network]
                        for side in (0, 1)
                    )
                    for network in networks
                ]
            )
        overall[name] = (result[0], p_of(result), result[3])
    return single, overall


def holm(ps):
    """Of each whether it holds at ALPHA together with all others."""
    order = sorted(range(len(ps)), key=ps.__getitem__)
    shown = [False] * len(ps)
    for rank, index in enumerate(order):
        if ps[index] * (len(ps) - rank) > ALPHA:
            break
        shown[index] = True
    return shown


def main():
    cells, baselines = load(), dense()
    found = claims(cells, baselines)
    for name in ("supported", "equivalent", "contradicted", "not decided"):
        print(sum(v == name for v, _ in found.values()), "verdicts", name)
    theirs = mikler_claims(mikler_points())
    print(
        len(theirs), "of Mikler's,", sum(v == "supported" for v, _ in theirs.values()), "supported"
    )
    heads = headlines(cells, baselines)
    print(len(heads), "headlines, of which never within:", sum(map(isnan, heads.values())))
    single, overall = comparisons(cells)
    shown = sum(holm([p for _, p in single.values()]))
    print(len(single), "comparisons,", shown, "shown;", len(overall), "overall")


if __name__ == "__main__":
    main()
