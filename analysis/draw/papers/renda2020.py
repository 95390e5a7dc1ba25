"""Figures 1 to 12 and tables 1 and 2 of Renda, Frankle & Carbin, ICLR 2020.

Which panels a figure has, and where its y axis is cut, is as in the authors' published plotting
scripts (rewinding-iclr20-public, vision/plot); what it shows, as caption and text say. Changes are
against the dense network, seed by seed. Times of the translation are in epochs of Table 1: its
rows count half passes, of which 10 are its 5 epochs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial

import numpy as np
import pandas as pd

from analysis.draw.drawing import Sheet, abreast
from analysis.draw.looks import METHOD_LABELS
from analysis.draw.panels import AXES, Axis, Panel, Zone, change_axis, holds_enough
from analysis.draw.papers.content import PaperChart, PaperTable, accuracy_cell, cell
from analysis.draw.papers.notes import chart_notes
from analysis.draw.papers.registry import PaperFigure
from analysis.draw.papers.scenes import (
    Scene,
    Source,
    SourcePoints,
    at_compression,
    both,
    extremes,
    facets,
    lacking,
    levels,
    of_methods,
    place,
    points_in,
    scenes_in,
    source_points,
)
from analysis.draw.papers.tables import dense_networks, table_of
from analysis.questions.claims import SAFE_ZONE
from analysis.questions.headline import (
    NO_DROP,
    SMALL_DROP,
    costs_at_headlines,
    outperforming,
    safe_zone,
)
from analysis.reference import compared, published
from analysis.reference.renda2020 import EPOCHS_A_PASS, METHOD_NAMES
from analysis.table.columns import BadRows
from analysis.table.metrics import metric_named
from analysis.table.points import choose_retrain_epochs, how_chosen
from analysis.table.spreads import marks_text
from analysis.table.text import times

PAPER = "Renda et al. 2020"
KNOWN = tuple(METHOD_NAMES.values())
MAIN = ("finetune", "weight_rewind", "lr_rewind")
WITHOUT_REINIT = (*MAIN, "low_lr_weight_rewind")
ALL = (*WITHOUT_REINIT, "reinit")

NEAR, FAR, FARTHEST = (-0.03, 0.01), (-0.05, 0.01), (-0.06, 0.01)
NEAR_BLEU, FAR_BLEU = (-0.06, 0.015), (-0.08, 0.015)
"""Where the published figures cut their y axes."""


DATA = {"resnet34": "imagenet", "resnet50": "imagenet", "gnmt": "wmt16_en_de"}
"""Of the other networks: cifar10."""


def unstructured(kind: str, limits: Mapping[str, tuple[float, float]]) -> tuple[Scene, ...]:
    return tuple(
        Scene(
            network=network,
            dataset=DATA.get(network, "cifar10"),
            schedule_kind=kind,
            limits=cut,
        )
        for network, cut in limits.items()
    )


def filters(limits: Mapping[str, tuple[float, float]]) -> tuple[Scene, ...]:
    """By name of their rates."""
    return tuple(
        Scene(
            network=name.partition("-")[0],
            dataset=DATA.get(name.partition("-")[0], "cifar10"),
            structure="filters",
            rates=name,
            limits=cut,
        )
        for name, cut in limits.items()
    )


THREE = {"resnet56": NEAR, "resnet50": NEAR, "gnmt": NEAR_BLEU}
VISION = ("resnet20", "resnet56", "resnet110", "resnet50")
FIVE = dict.fromkeys(VISION, NEAR) | {"gnmt": NEAR_BLEU}
RATES = dict.fromkeys(
    (
        *("resnet56-A", "resnet56-B", "resnet110-A", "resnet110-B"),
        *("resnet34-A", "resnet34-B"),
    ),
    NEAR,
)

Pick = Callable[[pd.DataFrame], pd.DataFrame]


# figures 1, 2, 5 to 8: accuracy against compression


def tradeoff(
    main: Source,
    beside: Source | None,
    *,
    number: int,
    scenes: Sequence[Scene],
    methods: Sequence[str],
    pick: Pick,
    how: Callable[[pd.DataFrame], str],
) -> PaperChart:
    """pick: of a panel's points the ones that are drawn; how: of all of these, a sentence."""
    one, two = _materials(main, beside, methods)
    found, missing = scenes_in(one.points, scenes)
    panels, drawn = [], []
    for scene in found:
        theirs = published_in(two, scene)
        theirs = None if theirs is None else pick(theirs)
        drawn += [] if theirs is None else [theirs]
        for protocol, points in facets(points_in(one.points, scene), main.paper):
            chosen = pick(points)
            drawn.append(chosen)
            missing += lacking(scene, chosen, methods)
            panels.append(
                change_panel(
                    scene.title + protocol,
                    joined(chosen, theirs, x="compression_ratio"),
                    AXES["compression_ratio"],
                    scene,
                    metric=points["metric"].iloc[0],
                    dots=dots(number, scene, x="compression_ratio"),
                )
            )
    words = how(pd.concat(drawn))
    return chart([Sheet(rows=abreast(panels, 3))], one, two, words, missing)


def best_times(
    main: Source,
    beside: Source | None,
    *,
    number: int,
    scenes: Sequence[Scene],
    methods: Sequence[str],
) -> PaperChart:
    return tradeoff(
        main,
        beside,
        number=number,
        scenes=scenes,
        methods=methods,
        pick=choose_retrain_epochs,
        how=how_chosen,
    )


LEAST = 0.8
"""Of a share of T; 90% of 182 epochs are 164, and the published trials nearest below had 150."""


def algorithm(
    main: Source,
    beside: Source | None,
    *,
    number: int,
    scenes: Sequence[Scene],
    shares: Mapping[str, float],
) -> PaperChart:
    """Of each method the longest retraining time up to its share of T, as the authors pick it."""
    longest = ", ".join(f"{METHOD_LABELS[name]} {share:.0%}" for name, share in shares.items())

    def pick(points: pd.DataFrame) -> pd.DataFrame:
        most = (_looked_up(points["method"], shares) * points["dense_epochs"]).round()
        near = points[points["retrain_epochs"].between(LEAST * most, most)]
        longest = near.groupby("method")["retrain_epochs"].transform("max")
        return near[near["retrain_epochs"] == longest]

    content = tradeoff(
        main,
        beside,
        number=number,
        scenes=scenes,
        methods=tuple(shares),
        pick=pick,
        how=lambda _: f"Retraining time, at most, of the original training: {longest}.",
    )
    if all(panel.points.empty for panel in content.panels):
        raise BadRows(
            f"none of these rows fits; the figure shows retraining for shares of T: {longest}; T "
            "is known from rows of dense networks"
        )
    return content


# figures 3, 4, 9, 10: accuracy against retraining time


def at_headlines(
    main: Source, beside: Source | None, *, scenes: Sequence[Scene], methods: Sequence[str] = MAIN
) -> PaperChart:
    """Figures 3 and 4: at the highest compressions at which any method keeps its accuracy."""
    one, two = _materials(main, beside, methods)
    found, missing = scenes_in(one.points, scenes)
    parts = []
    for scene in found:
        for protocol, points in facets(points_in(one.points, scene), main.paper):
            # Knobs of single methods don't make scenarios of their own
            heads = costs_at_headlines(points.assign(variant=""), (NO_DROP, SMALL_DROP))
            missing += lacking(scene, points, methods)
            for drop in (NO_DROP, SMALL_DROP):
                part = heads[heads["max_drop"] == drop]
                words = drop_in_words(drop, scene)
                if part.empty:
                    missing.append(f"{scene.name}: no method stays within {words}")
                else:
                    ratio = part["compression_ratio"].median()
                    title = f"{scene.title}{protocol}\n{words}: {times(ratio)}"
                    parts.append((scene, title, ratio, part))
    if not parts:
        raise BadRows(f"none of these rows fits: {'; '.join(missing)}")
    leads = outperforming(pd.concat([part for *_, part in parts]))
    zone = safe_zone(leads)
    panels = []
    for scene, title, ratio, part in parts:
        theirs = published_in(two, scene)
        theirs = None if theirs is None else at_compression(theirs, ratio)
        panels.append(time_panel(title, part, theirs, scene, zones(part, zone)))
    if zone is None:
        missing.append("retraining times at which both rewindings beat fine-tuning in every panel")
    how = (
        "At the highest compression at which the median test accuracy of any method, at any time, "
        "stays within the drop: found by test accuracy."
    )
    return chart([Sheet(rows=abreast(panels, 2))], one, two, how, missing)


def every_compression(
    main: Source,
    beside: Source | None,
    *,
    number: int,
    scenes: Sequence[Scene],
    methods: Sequence[str] = ALL,
) -> PaperChart:
    """Figures 9 and 10: a sheet a network, a panel a compression."""
    one, two = _materials(main, beside, methods)
    found, missing = scenes_in(one.points, scenes)
    sheets, left_out = [], []
    for scene in found:
        others = published_in(two, scene)
        for protocol, points in facets(points_in(one.points, scene), main.paper):
            expected = [m for m in methods if m != "reinit" or scene.schedule_kind == "one-shot"]
            missing += lacking(scene, points, expected)
            panels, too_low = [], []
            limits = scene.limits if holds_enough(scene.limits, points["accuracy_change"]) else None
            by_level = levels(points)
            shown = [times(ratio) for ratio, _ in by_level]
            for ratio, part in by_level:
                title = times(ratio) if shown.count(times(ratio)) == 1 else f"{ratio:.4g}×"
                if limits and (part["accuracy_change"] < limits[0]).all():
                    too_low.append(title)
                    continue
                theirs = at_compression(others, ratio) if others is not None else None
                black = dots(number, scene, x="retrain_epochs", ratio=ratio)
                panels.append(time_panel(title, part, theirs, scene, zones(part, None), black))
            if too_low:
                left_out.append(f"{scene.name} {too_low[0]} to {too_low[-1]}")
            heading = scene.name + protocol.replace("\n", ", ")
            sheets.append(Sheet(rows=abreast(panels, 5), heading=heading, share="all"))
    how = "Times are those of each iteration." if number == 9 else ""
    if left_out:
        how += f" Left out, for all is below the axis: {', '.join(left_out)}."
    return chart(sheets, one, two, how, missing)


def drop_in_words(drop: float, scene: Scene) -> str:
    if drop == NO_DROP:
        return "no drop"
    return "drop of 1 BLEU" if scene.dataset in EPOCHS_A_PASS else "drop of 1 point"


def zones(part: pd.DataFrame, computed: tuple[float, float] | None) -> tuple[Zone, ...]:
    """The safe zone as published, and where the rows have one, both in this panel's epochs."""
    network = part.iloc[0]
    total = network["dense_epochs"] / EPOCHS_A_PASS.get(network["dataset"], 1)
    if pd.isna(total):
        return ()
    found = [("safe zone as published", SAFE_ZONE, False)]
    if computed:
        found.append(("both rewindings ahead in all panels", computed, True))
    return tuple(
        Zone(
            start=start * total,
            end=end * total,
            label=f"{words}: {start:.0%} to {end:.0%} of the original training",
            filled=filled,
        )
        for words, (start, end), filled in found
    )


# figures 11 and 12: theoretical speedup


def speedups(
    main: Source, beside: Source | None, *, over: str, scenes: Sequence[Scene]
) -> PaperChart:
    """over: "dense" or "finetune". Of trials whose FLOPs are known; chosen among these."""
    one, two = _materials(_with_speedup(main), _with_speedup(beside) if beside else None, MAIN)
    found, missing = scenes_in(one.points, scenes)
    ratio = {"dense": over_dense, "finetune": over_finetune}[over]
    panels, drawn = [], []
    for scene in found:
        theirs = published_in(two, scene)
        theirs = ratio(theirs, two) if two and theirs is not None else None
        drawn += [] if theirs is None else [theirs]
        for protocol, points in facets(points_in(one.points, scene), main.paper):
            chosen = ratio(points, one)
            drawn.append(chosen)
            missing += lacking(scene, chosen if len(chosen) else points, MAIN)
            if len(chosen):
                panels.append(
                    Panel(
                        title=scene.title + protocol,
                        points=both(chosen, theirs),
                        x=AXES["compression_ratio"],
                        y=AXES[f"speedup_over_{over}"],
                    )
                )
    if not panels:
        raise BadRows("none of these rows fits: the figure compares with fine-tuning's FLOPs")
    how = how_chosen(pd.concat(drawn))
    return chart([Sheet(rows=abreast(panels, 2))], one, two, how, missing, SPEEDUP_MARKS[over])


SPEEDUP_MARKS = {
    "dense": "Medians over seeds, bars from the lowest to the highest.",
    "finetune": "Ratios of medians over seeds, bars from lowest over highest FLOPs to the reverse.",
}


def _with_speedup(source: Source) -> Source:
    rows = source.rows[source.rows["speedup"].notna()]
    if not (rows["level"] > 0).any():
        raise BadRows("none of these rows fits: the figure shows speedups, and no row has one")
    return replace(source, rows=rows)


def over_dense(points: pd.DataFrame, material: SourcePoints) -> pd.DataFrame:
    """Chosen points with the dense network's FLOPs over theirs."""
    chosen = choose_retrain_epochs(points)
    low, high = extremes(chosen, material, "speedup")
    return chosen.assign(x=chosen["compression_ratio"], y=chosen["speedup"], low=low, high=high)


def over_finetune(points: pd.DataFrame, material: SourcePoints) -> pd.DataFrame:
    """Chosen points with fine-tuning's FLOPs over theirs; least over greatest, and the reverse.

    None of a compression at which there is no fine-tuning.
    """
    chosen = over_dense(points, material)
    tuned = chosen[chosen["method"] == "finetune"]
    nearest = [at_compression(tuned, ratio) for ratio in chosen["compression_ratio"]]
    chosen = chosen[[len(line) > 0 for line in nearest]]
    theirs = pd.DataFrame(
        [line.iloc[0] for line in nearest if len(line)], index=chosen.index, columns=tuned.columns
    )
    return chosen.assign(
        y=chosen["y"] / theirs["y"],
        low=chosen["low"] / theirs["high"],
        high=chosen["high"] / theirs["low"],
    )


# what these have in common


def _materials(
    main: Source, beside: Source | None, methods: Sequence[str]
) -> tuple[SourcePoints, SourcePoints | None]:
    """With the points of the figure's methods only."""

    def of(source: Source) -> SourcePoints:
        material = source_points(source)
        points = material.points[material.points["accuracy_change"].notna()]
        if points.empty:
            raise BadRows("no pruned row has both a test_accuracy and a baseline_test_accuracy")
        points = of_methods(points, methods, KNOWN)
        return replace(material, points=points if source.paper else with_rates(points))

    return of(main), of(beside) if beside else None


def published_in(two: SourcePoints | None, scene: Scene) -> pd.DataFrame | None:
    """The points to lay over a panel, if there are any."""
    found = None if two is None else points_in(two.points, scene)
    return None if found is None or found.empty else found


def with_rates(points: pd.DataFrame) -> pd.DataFrame:
    """Rates of filters that are in no variant, because all rows have the same: by the densities.

    Those whose published densities are all of the points', to 1%; their own networks may have
    other heads than the published ones.
    """
    unnamed = points[(points["structure"] == "filters") & (points["rates"] == "")]
    for network, group in unnamed.groupby("network"):
        for name, densities in published_densities().items():
            off = np.abs(np.divide.outer(group["density"].to_numpy(), densities) - 1).min(axis=1)
            if name.startswith(f"{network}-") and (off < 0.01).all():
                points = points.assign(
                    rates=points["rates"].mask(points.index.isin(group.index), name)
                )
    return points


@cache
def published_densities() -> dict[str, np.ndarray]:
    rows = published("renda2020")
    rows = rows[rows["structure"] == "filters"]
    return {name: group.unique() for name, group in rows.groupby("prune_rates")["density"]}


def joined(points: pd.DataFrame, theirs: pd.DataFrame | None, x: str) -> pd.DataFrame:
    """Changes of accuracy against ``x``, of main and beside, with their lines."""

    def placed(points: pd.DataFrame) -> pd.DataFrame:
        passes = _looked_up(points["dataset"], EPOCHS_A_PASS).fillna(1)
        passes = passes if x == "retrain_epochs" else 1
        return points.assign(
            x=points[x].astype("float64") / passes,
            y=points["accuracy_change"],
            low=points["accuracy_change_min"],
            high=points["accuracy_change_max"],
        )

    return both(placed(points), None if theirs is None else placed(theirs))


def _looked_up(names: pd.Series, numbers: Mapping[str, float]) -> pd.Series:
    """NaN for names without a number; ``map`` would make texts of nothing but these."""
    return pd.Series([numbers.get(name, np.nan) for name in names], names.index, dtype="float64")


def change_panel(
    title: str,
    points: pd.DataFrame,
    x: Axis,
    scene: Scene,
    zones: tuple[Zone, ...] = (),
    dots: pd.DataFrame | None = None,
    *,
    metric: str,
) -> Panel:
    return Panel(
        title=title,
        points=points,
        x=x,
        y=change_axis(metric),
        dense=(0.0, 0.0, 0.0),
        dots=dots,
        zones=zones,
        limits=scene.limits,
    )


def time_panel(
    title: str,
    part: pd.DataFrame,
    theirs: pd.DataFrame | None,
    scene: Scene,
    zones: tuple[Zone, ...],
    dots: pd.DataFrame | None = None,
) -> Panel:
    points = joined(part, theirs, x="retrain_epochs")
    metric = part["metric"].iloc[0]
    return change_panel(title, points, AXES["retrain_epochs"], scene, zones, dots, metric=metric)


@cache
def drawn_in(number: int) -> pd.DataFrame:
    """The results of other works that the paper's figure of this number shows."""
    works = compared()
    figures = works["drawn_in"].str.extract(rf"^{PAPER}, figures? (.*)$")[0].fillna("")
    return works[figures.str.findall(r"\d+").map(lambda found: str(number) in found)]


def dots(number: int, scene: Scene, x: str, ratio: float | None = None) -> pd.DataFrame | None:
    """Those of them in this panel."""
    works = drawn_in(number)
    kept = works["variant"] == scene.rates
    for name in ("network", "dataset", "structure", "schedule_kind"):
        kept &= works[name] == getattr(scene, name)
    works = works[kept]
    if ratio is not None:
        works = at_compression(works, ratio)
    if works.empty:
        return None
    return pd.DataFrame(
        {
            "label": works["work"],
            "x": works[x],
            "y": works["accuracy_change"],
            "deviation": works["deviation"],
        }
    )


def chart(
    sheets: Sequence[Sheet],
    one: SourcePoints,
    two: SourcePoints | None,
    how: str,
    missing: Sequence[str],
    marks: str = "",
) -> PaperChart:
    """marks: what marks and bars are, where they are no accuracies and their spread."""
    content = PaperChart(sheets=sheets, missing=tuple(missing))
    drawn = pd.concat([panel.points for panel in content.panels])
    words = f"{marks or marks_text(drawn, 'bars')} {how}".strip()
    return replace(content, notes=chart_notes(content.panels, one, two, words))


# tables 1 and 2

CIFAR_RATES = "0.1, ×0.1 at 91 and 136"
IMAGENET_RATES = "to 0.4 in 5, ×0.1 at 30, 60 and 80"
PRINTED = {
    "resnet20": ("271K", "Nesterov SGD", CIFAR_RATES, "91.71 ± 0.23"),
    "resnet56": ("852K", "Nesterov SGD", CIFAR_RATES, "93.46 ± 0.21"),
    "resnet110": ("1.72M", "Nesterov SGD", CIFAR_RATES, "93.77 ± 0.23"),
    "resnet34": ("21.8M", "Nesterov SGD", IMAGENET_RATES, "73.60 ± 0.27"),
    "resnet50": ("25.5M", "Nesterov SGD", IMAGENET_RATES, "76.17 ± 0.14"),
    "gnmt": ("165M", "Adam", "to 0.002 in 0.125, ×0.5 at 3.75, 4.165 and 4.58", "26.87 ± 0.23"),
}
"""Parameters, optimiser, learning rates by epoch and test accuracy; Tables 1 and 2."""


def networks_table(main: Source, beside: Source | None, *, networks: Sequence[str]) -> PaperTable:
    """What dense networks there are, and their test accuracies: mean and standard deviation."""
    titles = [place(name, DATA.get(name, "cifar10")) for name in networks]
    cells = pd.DataFrame(
        line
        for source in (main, beside)
        if source
        for name, rows in dense_networks(source, titles)
        for line in dense_cells(name, rows, published=bool(source.paper))
    )
    return table_of("network", cells, titles, main, beside)


def dense_cells(name: str, rows: pd.DataFrame, *, published: bool) -> list[dict[str, object]]:
    rows = rows[~rows["source"].str.contains("listed again", na=False)]
    dataset = rows["dataset"].iloc[0]
    epochs = rows["train_epochs"].iloc[0] / EPOCHS_A_PASS.get(dataset, 1)
    bleu = metric_named(rows["metric"].iloc[0]).unit.replace(" %", "")
    accuracy = accuracy_cell(
        name, "test accuracy (%)", rows["test_accuracy"], published=published, unit=bleu
    )
    length = cell(name, "epochs", f"{epochs:g}", value=epochs, published=published)
    if not published:
        known = rows["params_total"].dropna().astype("int64")[:1]
        sizes = [cell(name, "parameters", f"{n:,}", value=n, published=False) for n in known]
        return [*sizes, length, accuracy]
    size, optimiser, rates, as_printed = PRINTED[rows["network"].iloc[0]]
    return [
        cell(name, "parameters", size, published=True),
        cell(name, "optimiser", optimiser, published=True),
        length,
        cell(name, "learning rate", rates, published=True),
        accuracy,
        cell(name, "as printed", as_printed + bleu, published=True),
    ]


ONE_SHOT = (
    *unstructured("one-shot", {"resnet56": NEAR}),
    *filters({"resnet56-B": NEAR, "resnet34-A": NEAR}),
    *unstructured("one-shot", {"resnet50": NEAR, "gnmt": NEAR_BLEU}),
)
ITERATIVE = unstructured("iterative", THREE)
EVERY_TIME = FIVE | {"resnet50": FAR}

FIGURES = {
    "renda2020.fig1": PaperFigure(
        says="accuracy against compression, one-shot, best retraining time",
        make=partial(best_times, number=1, scenes=ONE_SHOT, methods=MAIN),
    ),
    "renda2020.fig2": PaperFigure(
        says="accuracy against compression, iterative, best retraining time, and other works",
        make=partial(best_times, number=2, scenes=ITERATIVE, methods=MAIN),
    ),
    "renda2020.fig3": PaperFigure(
        says="accuracy against retraining time, unstructured, and the rewinding safe zone",
        make=partial(
            at_headlines,
            scenes=unstructured(
                "one-shot", {"resnet56": NEAR, "resnet50": FARTHEST, "gnmt": FAR_BLEU}
            ),
        ),
    ),
    "renda2020.fig4": PaperFigure(
        says="accuracy against retraining time, filters, and the rewinding safe zone",
        make=partial(
            at_headlines, scenes=filters({"resnet56-B": FARTHEST, "resnet34-A": FARTHEST})
        ),
    ),
    "renda2020.fig5": PaperFigure(
        says="Algorithm 1: iterative learning-rate rewinding for the whole time",
        make=partial(algorithm, number=5, scenes=ITERATIVE, shares={"lr_rewind": 1.0}),
    ),
    "renda2020.fig6": PaperFigure(
        says="Algorithm 2: the same with fine-tuning, and weight rewinding for 90%",
        make=partial(
            algorithm,
            number=6,
            scenes=ITERATIVE,
            shares={"finetune": 1.0, "weight_rewind": 0.9, "lr_rewind": 1.0},
        ),
    ),
    "renda2020.fig7": PaperFigure(
        says="figure 1 with more networks and methods",
        make=partial(
            best_times,
            number=7,
            scenes=(*unstructured("one-shot", FIVE), *filters(RATES)),
            methods=ALL,
        ),
    ),
    "renda2020.fig8": PaperFigure(
        says="figure 2 with more networks and low-LR weight rewinding",
        make=partial(
            best_times, number=8, scenes=unstructured("iterative", FIVE), methods=WITHOUT_REINIT
        ),
    ),
    "renda2020.fig9": PaperFigure(
        says="accuracy against retraining time at every compression, unstructured",
        make=partial(
            every_compression,
            number=9,
            scenes=tuple(
                scene
                for network, cut in EVERY_TIME.items()
                for kind in ("one-shot", "iterative")
                for scene in unstructured(kind, {network: cut})
            ),
        ),
    ),
    "renda2020.fig10": PaperFigure(
        says="accuracy against retraining time at every compression, filters",
        make=partial(
            every_compression,
            number=10,
            scenes=filters(RATES | {"resnet34-A": FAR, "resnet34-B": FAR}),
        ),
    ),
    "renda2020.fig11": PaperFigure(
        says="theoretical speedup over the dense network, iterative",
        make=partial(
            speedups,
            over="dense",
            scenes=unstructured("iterative", dict.fromkeys(VISION, NEAR)),
        ),
    ),
    "renda2020.fig12": PaperFigure(
        says="theoretical speedup over fine-tuning, iterative",
        make=partial(
            speedups,
            over="finetune",
            scenes=unstructured("iterative", dict.fromkeys(VISION, NEAR)),
        ),
    ),
    "renda2020.table1": PaperFigure(
        says="the networks, how they were trained, and their accuracy",
        make=partial(networks_table, networks=("resnet56", "resnet34", "resnet50", "gnmt")),
    ),
    "renda2020.table2": PaperFigure(
        says="table 1 with ResNet-20 and ResNet-110",
        make=partial(networks_table, networks=tuple(PRINTED)),
    ),
}
