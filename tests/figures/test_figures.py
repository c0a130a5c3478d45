"""What every figure keeps to: a description in words, escaped data, the right numbers in the right place."""

from __future__ import annotations

import json

import numpy as np
import plotly.graph_objects as go
import pytest
import torch

from workbench.core.bars import Bars
from workbench.core.comparisons import Comparison, Differences
from workbench.core.corrections import Reevaluation, TrainingCurve
from workbench.core.effects import Effect, Intervention, LeaveOneOut
from workbench.core.errors import BadValueError, UnknownComponentError, UnknownNameError
from workbench.core.registry import FIGURES as REGISTERED
from workbench.core.results import (
    DIRECTION_NUMBERS,
    SENSITIVITY_NUMBERS,
    ActivationTable,
    Atlas,
    Attribution,
    ConceptSensitivity,
    Direction,
    DirectionSet,
    PointMap,
    Ranking,
    ReferenceSet,
    SanityCheck,
)
from workbench.core.rounds import LifeCycle, Round
from workbench.session.compared import compared

MARKUP = "<b>bold</b> & <script>x</script>"


def references(n_components=5, n_refs=4) -> ReferenceSet:
    ids = torch.arange(n_components * n_refs).reshape(n_components, n_refs)
    values = torch.linspace(9, 1, n_components * n_refs).reshape(n_components, n_refs)
    n_valid = torch.full((n_components,), n_refs)
    ids[3, 2:], values[3, 2:], n_valid[3] = -1, -torch.inf, 2  # fewer references than slots
    ids[4], values[4], n_valid[4] = -1, -torch.inf, 0  # never active
    return ReferenceSet("layer<1>", "unit", "activation", ids, values, n_valid, n_samples=20, n_origins=7)


def table() -> ActivationTable:
    values = torch.rand(6, 5, generator=torch.Generator().manual_seed(0))
    values[:, 2] += 3
    values[5] = torch.nan
    valid = torch.tensor([True] * 5 + [False])
    return ActivationTable("features.3", "unit", "activation", "max", values, valid, coverage=5 / 6)


def effect() -> Effect:
    n = 6
    return Effect(
        interventions=(Intervention("layer/unit/1"),),
        target_text=MARKUP,
        samples=np.arange(n),
        origins=np.arange(n),
        before=np.linspace(3, 4, n, dtype=np.float32),
        after=np.linspace(2, 4, n, dtype=np.float32),
        decision_before=np.zeros(n, int),
        decision_after=np.array([0, 0, 1, 1, 0, 0]),
        labels=np.zeros(n, int),
        outputs=np.array([-0.5, 0.25], np.float32),
        control=np.random.default_rng(0).normal(0, 0.1, (5, n)),
        moved=None,
        n_planned=n,
        classes=(MARKUP, "b"),
    )


def left_out() -> LeaveOneOut:
    names = ("l/unit/1", "l/unit/2")
    return LeaveOneOut(3, "top", MARKUP, 8.1, names, np.array([2.0, 1.0]), np.array([-2.5, 0.5]))


def attribution(n=2, *, pictures=True, recorded=True, gap=0.03) -> Attribution:
    generator = torch.Generator().manual_seed(1)
    heatmap = torch.randn(n, 12, 18, generator=generator)
    heatmap[0, 1, 16] = 50.0
    return Attribution(
        samples=tuple(range(14, 14 + n)),
        heatmap=heatmap,
        target=torch.full((n,), 3),
        score=torch.full((n,), 8.25),
        gap=torch.full((n,), gap),
        output=torch.randn(n, 7, generator=generator),
        relevance={"features.3": torch.tensor([[0.5, -2.0, 0.0, 1.0]] * n)} if recorded else {},
        rule="EpsilonPlusFlat",
        target_text="top",
        pictures=[np.full((12, 18, 3), 90, np.uint8)] * n if pictures else (),
        labels=(MARKUP,) * n,
    )


def atlas(n=12) -> Atlas:
    grid = np.stack(np.meshgrid(np.linspace(0, 1, 4), np.linspace(0, 1, 3)), -1).reshape(-1, 2)[:n]
    columns = {
        "activation": np.linspace(0, 5, n),
        "relevance": np.linspace(-1, 3, n),
        "cluster": np.arange(n) % 10,
        MARKUP: np.array([MARKUP] * n),
    }
    return Atlas("bn2", "unit", grid, columns, references(n), cluster_names=("ears", MARKUP), layout="PCA, seed 0")


def point_map(of="components", n=12) -> PointMap:
    one = atlas(n)
    near = (np.arange(n)[:, None] + np.arange(1, n)).astype(np.int32) % n
    near[4] = -1
    return PointMap(
        of,
        "bn2",
        "unit",
        "activation",
        np.arange(n) * (7 if of == "samples" else 1),
        one.position.astype(np.float32),
        near,
        np.where(near < 0, np.inf, 0.5).astype(np.float32),
        near[:, 0] < 0,
        {**one.columns, "class_relevance": np.ones(n)},
        np.stack([np.linspace(-1, 1, n), np.full(n, np.nan)]).astype(np.float32),
        classes=(MARKUP, "bee"),
        cluster_names=("ears", MARKUP),
        layout="UMAP, 5 neighbours, seed 0",
    )


def direction(index=0, n=30, *, held_out=True) -> Direction:
    rng = np.random.default_rng(index)
    is_positive = np.arange(n) % 3 == 0
    score = (rng.normal(size=n) + 2 * is_positive).astype(np.float32)
    vector = rng.normal(size=7).astype(np.float32)
    numbers = {name: 0.5 for name in DIRECTION_NUMBERS}
    if not held_out:
        numbers |= {"auc": np.nan, "auc_error": np.nan}
    return Direction(
        layer="layer<1>", basis="cav-x", index=index, concept=f"{MARKUP} {index}", estimator="pattern", pooling="max",
        scope="all", vector=vector / np.linalg.norm(vector), samples=np.arange(n), is_positive=is_positive,
        class_=np.full(n, -1), score=score, held_out=score if held_out else np.full(n, np.nan, np.float32),
        reference=np.zeros(7, np.float32), **numbers,
    )  # fmt: skip


def sensitivity(n=2, k=3) -> ConceptSensitivity:
    arrays = {name: np.random.default_rng(0).random((n, k)) for name in SENSITIVITY_NUMBERS}
    arrays["score"][0, 1] = np.nan
    names = tuple(f"{MARKUP} {i}" for i in range(k))
    return ConceptSensitivity(
        "layer<1>", "cav-x", names[:n], names, tuple(range(k)), np.full(k, 9), n_random=5, **arrays
    )


def curve(*, attacked=True) -> TrainingCurve:
    line = np.linspace(0.4, 0.9, 4)
    loss = np.array([np.nan, 1, 0.5, 0.25])
    nan = np.full(4, np.nan)
    return TrainingCurve(MARKUP, loss, nan, line[::-1], line, line / 2 if attacked else nan, n_planned=3, best=3)


def reevaluation(n=40) -> Reevaluation:
    rng = np.random.default_rng(0)
    two = np.array([0.5, 0.25])
    return Reevaluation(
        models=("net", MARKUP), artifact=MARKUP, samples=np.arange(n), labels=np.zeros(n, int),
        clean=rng.random((2, n)) < 0.9, attacked=rng.random((2, n)) < 0.6, relevance=rng.random((2, 5)),
        relevance_area=0.1, sensitivity=two, sensitivity_error=two, sensitivity_after=two, probe_layer=two,
        probe_logits=two, others={MARKUP: rng.random((2, n)) < 0.7},
    )  # fmt: skip


def differences(n=40, **options) -> Differences:
    rng = np.random.default_rng(0)
    before = rng.normal(0, 1, (n, 3))
    given = {"labels": rng.integers(0, 3, n), "origins": np.arange(n), "classes": (MARKUP, "b", "c"), **options}
    return compared(("net", MARKUP), np.arange(n), before, before + rng.normal(0, 1, (n, 3)), **given)


def comparison() -> Comparison:
    before, after = np.array([3.0, 1.0, -2.0], np.float32), np.array([0.5, 1.0, 2.0], np.float32)
    chance = [np.exp(one) / np.exp(one).sum() for one in (before, after)]
    return Comparison(("net", MARKUP), 4, 0, before, after, *chance, (MARKUP, "b", "c"))


FIGURES = {
    "one sample under two models": lambda: comparison().plot(),
    "what differs": lambda: differences().plot(),
    "what differs without decisions": lambda: differences(has_decision=False).plot(),
    "curve": lambda: curve().plot(),
    "curve without attacks": lambda: curve(attacked=False).plot(),
    "models compared": lambda: reevaluation().plot(),
    "rounds": lambda: LifeCycle(
        MARKUP, (Round(1, "kept", "", MARKUP, report=reevaluation()), Round(2, "kept", ""))
    ).plot(),
    "no rounds": lambda: LifeCycle(MARKUP).plot(),
    "direction": lambda: direction().plot(),
    "direction of one": lambda: direction(held_out=False).plot(n=3),
    "directions": lambda: DirectionSet("layer<1>", "cav-x", (direction(0), direction(1))).plot(),
    "a single direction": lambda: DirectionSet("layer<1>", "cav-x", (direction(0),)).plot(),
    "scores": lambda: sensitivity().plot(),
    "sensitivities": lambda: sensitivity().plot(quantity="sensitivity"),
    "slopes": lambda: sensitivity().plot(quantity="slope"),
    "table": lambda: table().plot(),
    "references": lambda: references().plot(),
    "sheet": lambda: references().plot(pictures=lambda i: np.full((20, 30, 3), i * 9, np.uint8)),
    "attribution": lambda: attribution().plot(),
    "attribution alone": lambda: attribution(1, pictures=False, recorded=False).plot(),
    "atlas": lambda: atlas().plot(),
    "effect": lambda: effect().plot(),
    "leave one out": lambda: left_out().plot(),
    "bars": lambda: Bars(MARKUP, MARKUP, [MARKUP, "b"], {MARKUP: [1.0, 2.0]}, limits=[4.0, 0.0]).plot(),
    "atlas by words": lambda: atlas().plot(color=MARKUP),
    "atlas by cluster": lambda: atlas().plot(color="cluster", size="activation"),
    "map": lambda: point_map().plot(target=MARKUP, color="class_relevance", neighbours_of="bn2/unit/3", neighbours=2),
    "map of samples": lambda: point_map("samples").plot(size="activation", highlight=[14]),
    "ranking": lambda: Ranking(("a/unit/1", "a/unit/0"), np.array([2.0, -1.0]), quantity=MARKUP).plot(),
}


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_is_plain_described_and_escaped(name):
    fig = FIGURES[name]()
    assert type(fig) is go.Figure
    assert len(fig.layout.meta["alt"]) > 20
    assert fig.layout.title.text
    fig.layout.meta = None  # words for readers, never read as markup
    assert "<script" not in json.dumps(json.loads(fig.to_json()), ensure_ascii=False)


def test_signed_maps_are_blue_and_orange_around_a_neutral_zero():
    fig = attribution().plot(percentile=100)
    first, second = (t for t in fig.data if isinstance(t, go.Heatmap))
    assert (first.zmin, first.zmid, first.zmax) == (-50.0, 0, 50.0)
    assert second.zmax == pytest.approx(float(attribution().heatmap[1].abs().max()))
    middle = dict(first.colorscale)[0.5]
    assert middle.endswith(",0.000)")  # nothing is laid over the picture where there is no relevance
    assert list(first.colorbar.ticktext) == ["-50", "0", "50"]
    shared = attribution().plot(scale="shared", percentile=100)
    assert {t.zmax for t in shared.data if isinstance(t, go.Heatmap)} == {50.0}


def test_a_single_bright_pixel_does_not_pale_the_rest():
    first = next(t for t in attribution().plot().data if isinstance(t, go.Heatmap))
    assert first.zmax == pytest.approx(float(np.percentile(attribution().heatmap[0].abs(), 99.5)))
    assert first.colorbar.ticktext[2].startswith("≥ ")


def test_attribution_says_score_gap_and_place():
    fig = attribution().plot()
    titles = [a.text for a in fig.layout.annotations]
    assert "score 8.25, gap 3.0%" in titles
    assert any("&lt;b&gt;bold" in t for t in titles)
    assert "Strongest in the upper right" in fig.layout.meta["alt"]
    assert "conditional" in attribution(gap=float("nan")).plot().layout.meta["alt"]


def test_attribution_lists_components_by_size_and_hatches_the_negative():
    bars = next(t for t in attribution().plot().data if isinstance(t, go.Bar))
    assert list(bars.x) == [-2.0, 1.0, 0.5, 0.0]
    assert bars.customdata[0] == "features.3/unit/1"
    assert list(bars.marker.pattern.shape) == ["/", "", "", ""]


def test_only_so_many_pictures_and_the_rest_is_named():
    fig = attribution(6).plot(n=2)
    assert sum(isinstance(t, go.Heatmap) for t in fig.data) == 2
    assert fig.layout.meta["alt"].startswith("First 2 of 6")


def test_a_map_of_zeros_draws():
    empty = attribution(1)
    empty.heatmap.zero_()
    heat = next(t for t in empty.plot().data if isinstance(t, go.Heatmap))
    assert heat.zmax == 1.0


def test_references_skip_empty_slots():
    fig = references().plot(components=[0, "layer<1>/unit/3", 4])
    assert [len(t.x) for t in fig.data] == [4, 2, 0]
    assert list(fig.data[1].customdata) == [12, 13]
    assert "no reference" in fig.layout.meta["alt"]
    assert "20 views of 7 originals (at most 1 each)" in fig.layout.title.text


def test_sheet_asks_for_the_pictures_it_shows_only():
    asked = []

    def picture(sample):
        asked.append(sample)
        return np.zeros((10, 40, 3), np.uint8)

    fig = references().plot(components=[0, 3], n=3, pictures=picture, size=24)
    assert asked == [0, 1, 2, 12, 13]
    assert len(fig.layout.images) == 5
    assert fig.layout.images[0].source.startswith("data:image/jpeg;base64,")


def test_crops_are_cut_around_the_peak():
    import base64
    import io
    from dataclasses import replace

    from PIL import Image

    record = replace(references(), peak=torch.full((5, 4), 5, dtype=torch.int32), shape=(2, 4))  # row 1, column 1
    picture = np.zeros((40, 80, 3), np.uint8)
    picture[20:40, 20:40] = 255  # the cell of the peak: y 20 to 40, x 20 to 40
    fig = record.plot(components=[0], n=1, pictures=lambda i: picture, crop=0.5, size=200)
    shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(fig.layout.images[0].source.split(",")[1]))))
    assert shown.shape == (20, 20, 3) and shown.min() > 240
    with pytest.raises(BadValueError, match="peak"):
        references().plot(pictures=lambda i: picture, crop=0.5)


def test_table_leaves_out_what_was_not_read():
    fig = table().plot(n=2)
    assert fig.data[0].name == "features.3/unit/2"  # the one raised by 3
    assert [len(t.y) for t in fig.data] == [5, 5]
    assert "83% of the data" in fig.layout.title.text


def test_atlas_points_carry_addresses():
    fig = atlas().plot()
    assert list(fig.data[0].customdata)[:2] == ["bn2/unit/0", "bn2/unit/1"]
    assert fig.data[0].marker.cmid == 0 and fig.data[0].marker.cmax == 3.0  # both signs: zero is neutral
    assert atlas().plot(color="activation").data[0].marker.cmid is None
    assert "bn2/unit/11" in fig.layout.meta["alt"]


def test_atlas_shows_eight_groups_and_other():
    fig = atlas().plot(color="cluster")
    assert len(fig.data) == 9 and fig.data[-1].name == "other"
    assert fig.data[0].name == "ears"
    assert len({t.marker.symbol for t in fig.data}) == 9


def test_atlas_outlines_what_is_named():
    record = atlas()
    object.__setattr__(record.references, "layer", "bn2")
    fig = record.plot(highlight=["bn2/unit/3"])
    assert list(fig.data[-1].customdata) == ["bn2/unit/3"]


@pytest.mark.parametrize(
    ("draw", "error", "words"),
    [
        (lambda: atlas().plot(color="relevanc"), UnknownNameError, "relevance"),
        (lambda: attribution().plot(scale="own"), BadValueError, "each"),
        (lambda: table().plot(components=["bn2/unit/1"]), UnknownComponentError, "features.3"),
        (lambda: table().plot(components=[9]), UnknownComponentError, "5"),
        (lambda: references().plot(components=[9]), UnknownComponentError, "5"),
        (lambda: Ranking((), np.array([])).plot(n=0), BadValueError, "at least 1"),
    ],
)
def test_wrong_wishes_are_explained(draw, error, words):
    with pytest.raises(error, match=words):
        draw()


def test_an_empty_ranking_draws():
    assert len(Ranking((), np.array([])).plot().data[0].x) == 0


def test_every_registered_figure_is_tried_here():
    one = attribution()
    sanity = SanityCheck(one, one, 0.25, 0)
    assert "rank correlation 0.25" in str(sanity.plot().layout.annotations)
    made = (table(), references(), one, atlas(), point_map(), Ranking((), np.array([])), sanity, effect(), left_out())
    made += (
        direction(),
        DirectionSet("l", "cav-x", (direction(),)),
        sensitivity(),
        curve(),
        reevaluation(),
        LifeCycle("net"),
    )
    made += (comparison(), differences())
    records = {type(r).__name__ for r in made}
    assert records | {"Bars"} == set(REGISTERED)


def test_kinds_of_changes_have_their_own_marks():
    fig, found = differences().plot(), differences()
    marked = {t.name.split(" (")[0]: len(t.x) for t in fig.data if t.mode == "markers"}
    counts = found.counts
    assert marked["right, now wrong"] == counts["lost"] and marked["wrong, now right"] == counts["gained"]
    assert len({t.marker.symbol for t in fig.data if t.mode == "markers"}) == len(marked) == 4
    assert list(comparison().plot().data[1].x) == [2.0, 0.5, 1.0]  # the largest change first


def test_a_map_joins_a_point_with_its_neighbours():
    fig = point_map().plot(neighbours_of="bn2/unit/3", neighbours=2)
    lines = fig.data[0]
    place = point_map().position
    assert lines.mode == "lines" and len(lines.x) == 6 and lines.x[2] is lines.x[5] is None
    np.testing.assert_allclose([lines.x[0], lines.x[1], lines.x[3], lines.x[4]], place[[3, 4, 3, 5], 0])
    assert list(fig.data[-1].customdata) == ["bn2/unit/3"]
    assert "1 without a direction" in fig.layout.annotations[0].text
    assert [len(t.x) for t in point_map().plot(neighbours_of=4, color=None).data] == [12, 1]


def test_a_map_is_coloured_for_a_class():
    fig = point_map().plot(color="class_relevance", target=0)
    np.testing.assert_allclose(fig.data[0].marker.color, np.linspace(-1, 1, 12), rtol=1e-6)
    for wrong, message in (({"target": "bee"}, "No sample"), ({"color": "beauty"}, "beauty")):
        with pytest.raises((BadValueError, UnknownNameError), match=message):
            point_map().plot(**wrong)
    with pytest.raises(UnknownComponentError):
        point_map().plot(neighbours_of="bn2/unit/12")


def test_bars_stand_before_what_they_could_be_at_most():
    fig = Bars("Memory", "bytes", ["a", MARKUP], {"used": [1.0, 2.0]}, limits=[4.0, 0.0]).plot(width=300)
    assert [list(bar.x) for bar in fig.data] == [[4.0, 0.0], [1.0, 2.0]] and fig.layout.width == 300
    shares = Bars("Coverage", "share", ["a"], {"x": [0.5], "y": [0.1]}, is_share=True).plot()
    assert [bar.marker.pattern.shape for bar in shares.data] == ["", "/"] and tuple(shares.layout.xaxis.range) == (0, 1)


def test_a_direction_shows_both_sets_the_threshold_and_its_units():
    one = direction()
    fig = one.plot()
    off, on = (t for t in fig.data if isinstance(t, go.Histogram))
    np.testing.assert_array_equal(on.x, one.held_out[one.is_positive])
    np.testing.assert_array_equal(off.x, one.held_out[~one.is_positive])
    bars = next(t for t in fig.data if isinstance(t, go.Bar))
    np.testing.assert_allclose(bars.x, one.vector[np.argsort(-np.abs(one.vector))], rtol=1e-6)
    assert fig.layout.shapes[0].x0 == one.threshold and "held-out AUC 0.500" in fig.layout.title.text


def test_scores_have_intervals_and_undefined_ones_are_counted():
    fig = sensitivity().plot()
    assert "1 undefined" in fig.layout.title.text and tuple(fig.layout.xaxis.range) == (-0.03, 1.03)
    points = [t for t in fig.data if t.mode == "markers"]
    assert len(points) == 2 and np.isnan(points[0].x[1]) and points[0].error_x.symmetric is False


@pytest.mark.parametrize("quantity", ["score", "sensitivity", "slope"])
def test_bands_are_those_of_random_directions(quantity):
    made, ending = sensitivity(), "" if quantity == "score" else f"_{quantity}"
    fig = made.plot(quantity=quantity)
    bands, points = [t for t in fig.data if t.mode == "lines"], [t for t in fig.data if t.mode == "markers"]
    assert len(bands) == len(points) == 2
    for i, (one, point) in enumerate(zip(bands, points, strict=True)):
        np.testing.assert_array_equal(one.x[0::3], getattr(made, f"null{ending}_low")[i])
        np.testing.assert_array_equal(one.x[1::3], getattr(made, f"null{ending}_high")[i])
        assert f"p {getattr(made, f'p{ending}_holm')[i, 0]:.2g}" in point.hovertext[0]
        if quantity != "score":
            np.testing.assert_allclose(point.error_x.array, 1.96 * getattr(made, f"{quantity}_error")[i])
