"""A session made of generated arrays: what widgets ask of the real one, without a model and without torch.

For tests of widgets, ours and others'. Numbers depend on the arguments alone; names of classes, clusters and samples
hold markup on purpose, so that a widget which interprets text from the data shows itself.
"""

from __future__ import annotations

import threading
import time
import weakref
from dataclasses import dataclass, replace
from types import SimpleNamespace

import numpy as np

from workbench.core.comparisons import Comparison
from workbench.core.effects import Effect, Intervention, LeaveOneOut, OutputChange
from workbench.core.errors import IncompleteError, UnknownComponentError, UnknownLayerError, UnknownSampleError
from workbench.core.findings import KINDS, Findings, checked
from workbench.core.ids import ComponentId, Fingerprint
from workbench.core.progress import SilentProgress
from workbench.core.results import (
    ActivationTable,
    Atlas,
    Attribution,
    ConceptSensitivity,
    Edit,
    PointMap,
    Ranking,
    ReferenceSet,
    SanityCheck,
)
from workbench.data.tags import Tagged
from workbench.methods.reveal import suspects
from workbench.session.compared import OpenVariants, chances, compared, in_words
from workbench.session.decisions import DecisionBook, decide, undo
from workbench.session.facts import (
    Pooled,
    Related,
    Relations,
    at_quantile,
    classes_of,
    contrast_of,
    correlated,
    in_order,
    why_alone,
)
from workbench.session.journal import PinBook
from workbench.session.lane import Lane, current_job
from workbench.session.notes import ComponentNotes
from workbench.session.selection import Selection

__all__ = ["CLASSES", "FakeData", "FakeSession", "View", "scene"]

CLASSES = ("circle", "square", "<b>stripes</b> & dots")


@dataclass(frozen=True)
class View:
    """One reference, as `Session.reference_views` gives it."""

    sample: int
    value: float
    picture: np.ndarray
    caption: str


def scene(i: int, size: int = 96) -> np.ndarray:
    """A picture of one of three kinds, coloured by its number."""
    rng = np.random.default_rng(i)
    y, x = np.mgrid[:size, :size] / size
    ground = 0.55 + 0.25 * np.sin(6 * x + i) * np.cos(5 * y - i)
    picture = ground[..., None] * rng.uniform(0.5, 1.0, 3)
    cy, cx = rng.uniform(0.3, 0.7, 2)
    inside = [
        (x - cx) ** 2 + (y - cy) ** 2 < 0.04,
        (abs(x - cx) < 0.18) & (abs(y - cy) < 0.18),
        ((x * 8).astype(int) % 2 == 0) & (abs(y - cy) < 0.25),
    ][i % 3]
    picture[inside] = rng.uniform(0, 1, 3)
    return (255 * np.clip(picture, 0, 1)).astype(np.uint8)


def _cut(picture, size, mode="whole", seed=0):
    """A picture at a size: whole, a part of it, or dimmed around its middle."""
    from PIL import Image

    image = Image.fromarray(picture)
    if mode == "crop":
        rng = np.random.default_rng(seed)
        side = min(image.size) // 2
        left, top = (int(rng.integers(0, s - side + 1)) for s in image.size)
        image = image.crop((left, top, left + side, top + side))
    found = np.asarray(image.resize((size, size)))
    if mode == "mask":
        y, x = np.mgrid[:size, :size] / size
        found = np.where(((x - 0.5) ** 2 + (y - 0.5) ** 2 < 0.1)[..., None], found, found // 4 + 160).astype(np.uint8)
    return found


class FakeTags:
    """Tags in memory."""

    def __init__(self):
        self._tags = {}

    def read(self, data):
        """All tags."""
        return dict(self._tags)

    def change(self, data, change):
        """Put what `change` makes of the tags in their place."""
        self._tags = change(dict(self._tags))
        return self._tags


class FakeData(Tagged):
    """The little of a data set that widgets ask for."""

    def __init__(self, n, pictures=None, labels=None, classes=CLASSES):
        self.name, self.classes, self.n = "fake", classes, n
        self.labels = np.arange(n) % len(classes) if labels is None else np.asarray(labels)
        self.origins = np.arange(n) // 2
        self.keys = [f"scenes/<i>{i:04d}</i>.png" for i in range(n)]
        self._pictures, self._tag_book = pictures, FakeTags()
        self.fingerprint = Fingerprint("fa" * 16, "fake")

    def __len__(self):
        return self.n

    def _index(self, i):
        if not isinstance(i, (int, np.integer)) or isinstance(i, bool) or not 0 <= i < self.n:
            raise UnknownSampleError(f"No sample {i!r} in fake.", hint=f"It has {self.n}, numbered from 0.")
        return int(i)

    def masks(self, i):
        """A block in the middle of every third picture."""
        mask = np.zeros((64, 64), bool)
        mask[20:40, 27:47] = True
        return {"<u>block</u>": mask} if i % 3 == 0 else {}

    def picture(self, i):
        """(y, x, 3) uint8."""
        return scene(i) if self._pictures is None else self._pictures[i]


class FakeSession:
    """Answers as a session would.

    Parameters
    ----------
    n, components : int
        Samples, and components of `layer`; a second layer, ``blocks.4``, has 40.
    layer : str
    delay : float
        Seconds that each answer takes; those on one component alone take none.
    pictures : sequence of (y, x, 3) uint8 arrays, optional
        Drawn scenes if not given.

    Attributes
    ----------
    fail : dict
        Error to raise, by the name of the method.
    asked : list of (str, str)
        Methods that were called, each with the thread's name.
    n_calls : dict
        Calls per forward pass of layers that run another number of times than once, by name; those that are not
        among the layers are added.
    coverage : dict
        Share of the data that was swept, by layer.
    tiers : dict
        What `memory` gives, by tier, instead of what is made up.
    """

    def __init__(
        self, *, n=24, components=64, layer="bn2", delay=0.0, pictures=None, labels=None, classes=CLASSES, seed=0
    ):
        self.data = FakeData(n, pictures, labels, classes)
        self.name, self.made_by, self._of = "fake", (), self
        self.is_closed, self._open, self._listed_in = False, OpenVariants(), None
        self._classes = tuple(classes)
        self.n_components, self.layer_name = {layer: components, "blocks.4": 40}, layer
        self.delay, self.fail, self.asked = delay, {}, []
        self._quick = threading.local()
        self.lane = Lane("fake-model")
        self.rng = np.random.default_rng(seed)
        k = max(3, components // 30)
        self.cluster_at = self.rng.random((k, 2))
        self.cluster = {name: self.rng.integers(0, k, m) for name, m in self.n_components.items()}
        self.values = {
            name: np.maximum(0, self.rng.normal(0, 1, (n, m))).astype(np.float32)
            for name, m in self.n_components.items()
        }
        for values in self.values.values():
            values[:, 3] = 0  # a component that never answers
        self.n_calls, self.coverage, self.tiers = {}, {}, {}
        self._directions = {}
        self.journal = PinBook(None, lambda: ("data", "model"), self.digests)
        self.notes = ComponentNotes(None, lambda: Fingerprint("fb" * 16, "fake"), self._component)
        self.decisions = DecisionBook(None, lambda: ("data", "model"))
        self.opened_by = ""
        self.selection = self._new_selection()
        self._groups = {"": self.selection}

    def group(self, name):
        """The selection of a group."""
        if name not in self._groups:
            self._groups[name] = self._new_selection()
        return self._groups[name]

    def _new_selection(self):
        tables = {**{f"{name}/unit/": f"fake-{m}" for name, m in self.n_components.items()}, "sample": "fake-data"}
        return Selection(component=self._component, sample=self._sample, tables=lambda: tables)

    def digests(self):
        """Names and digests that change with the size of the layers."""
        what = sum(map(ord, str(self.made_by))) if self.made_by else 0
        model = f"{self.name}@{sum(self.n_components.values()) + 65536 * what:08x}"
        return {"model": model, "data": f"fake@{len(self.data):08x}"}

    def class_names(self):
        """Names of the outputs."""
        return self._classes

    # Addresses
    def _component(self, value):
        address = ComponentId.parse(value)
        if address.layer not in self.n_components:
            raise UnknownLayerError(f'No layer "{address.layer}" in fake.', hint='Nearest: "bn2".')
        n = self.n_components[address.layer]
        if address.basis != "unit":
            known = self._directions.get((address.layer, address.basis))
            if known is None:
                raise UnknownComponentError(f'No basis "{address.basis}" at {address.layer}.', hint='There is "unit".')
            n = len(known)
        if address.index >= n:
            raise UnknownComponentError(f"No component {address}.", hint=f"{address.layer} has {n}.")
        return str(address)

    def _sample(self, value):
        if not isinstance(value, (int, np.integer)) or not 0 <= value < len(self.data):
            raise UnknownSampleError(f"No sample {value!r}.", hint=f"There are {len(self.data)}.")
        return int(value)

    def _begin(self, name, progress=None):
        of = self._of  # variants answer as slowly as their base, and fail with it
        of.asked.append((name, threading.current_thread().name))
        job = current_job()
        is_quick = job is not None and getattr(self._quick, "job", None) is job
        for _ in range(200 if of.delay and not is_quick else 0):
            time.sleep(of.delay / 200)
            if job is not None:
                job.progress.token.raise_if_cancelled()
        if name in of.fail:
            raise of.fail[name]

    def _begin_quickly(self, name):
        """Facts on one component come at once, and pictures for them: a card asks for many after its references."""
        self._quick.job = current_job()
        self._begin(name)

    def _begin_slowly(self, progress):
        """Work in small steps, for as long as an answer takes."""
        progress.start("slow", 1000)
        for _ in range(1000):
            time.sleep(max(self.delay, 0.5) / 1000)
            progress.step()

    # Work
    def submit(self, fn, *args, **kwargs):
        """Queue work on the session's lane."""
        return self.lane.submit(fn, *args, **kwargs)

    def run(self, fn, *args, **kwargs):
        """Do work on the lane and wait for it."""
        return self.lane.run(fn, *args, **kwargs)

    def jobs(self):
        """What runs, waits and has ended."""
        return self.lane.facts()

    def on_jobs(self, listener):
        """Be told when that changes."""
        return self.lane.listen(listener)

    def cancel(self, number):
        """Cancel a job by its number."""
        return self.lane.cancel(number)

    def memory(self):
        """Tiers of a store that is half full, and the host."""
        self._begin("memory")
        counts = {"hits": 40, "misses": 10, "evictions": 1, "entries": 12}
        return self.tiers or {
            "memory": {"bytes": 250_000_000, "budget_bytes": 1_000_000_000, **counts},
            "disk": {"bytes": 9_500_000_000, "budget_bytes": 20_000_000_000, **counts, "entries": 31},
            "host": {"bytes": 1_800_000_000, "budget_bytes": 16_000_000_000},
        }

    def layers(self):
        """Two layers, and those of `n_calls`."""
        names = dict.fromkeys([*self.n_components, *self.n_calls])
        return {
            name: SimpleNamespace(
                name=name,
                kind="Conv2d" if name in self.n_components else "ReLU",
                shape=(self.n_components.get(name, 16), 12, 8),
                n_calls=self.n_calls.get(name, 1),
                n_components=self.n_components.get(name, 16),
                order=order,
                is_leaf=True,
            )
            for order, name in enumerate(names)
        }

    # Sweeps
    def stored(self):
        """What `coverage` says, of each usable layer."""
        self._begin("stored")
        return {
            name: SimpleNamespace(
                activations=share,
                relevances=share / 2,
                references=share,
                coverage=share,
                bytes=int(1000 * share * layer.n_components),
                is_unfinished=0 < share < 1,
            )
            for name, layer in self.layers().items()
            if layer.n_calls == 1
            for share in [self.coverage.get(name, 0.0)]
        }

    def plan(self, layers, *, relevance=True, samples=None, keep="tables"):
        """A plan without a recipe."""
        self._begin("plan")
        chosen = range(len(self.data)) if samples is None else range(min(samples, len(self.data)))
        n = sum(self.n_components[name] for name in layers)
        return SimpleNamespace(
            layers=tuple(layers),
            samples=np.array(chosen),
            n_data=len(self.data),
            rule="EpsilonPlusFlat" if relevance else None,
            keep=keep,
            batch=16,
            seconds_per_sample=0.03 if relevance else 0.01,
            disk_bytes=16 * n * len(chosen),
            passing_bytes=0,
            memory_bytes=120_000_000,
        )

    def swept(self, planned):
        """What the layer covers that covers least."""
        return min(self.coverage.get(name, 0.0) for name in planned.layers)

    def sweep(self, layers, *, relevance=True, samples=None, keep="tables", progress=None):
        """Steps over the data; what is done stays done when it is cancelled."""

        def sweep(progress):
            self._begin("sweep")
            n = len(self.data) if samples is None else min(samples, len(self.data))
            begun = round(n * min(self.coverage.get(name, 0.0) for name in layers))
            progress.start("Sweep", n)
            for i in range(n):
                time.sleep(self.delay / n)
                if i >= begun:
                    self.coverage.update(dict.fromkeys(layers, (i + 1) / len(self.data)))
                progress.step()

        self.run(sweep)
        return self.plan(layers, relevance=relevance, samples=samples, keep=keep)

    # Tables
    def activations(self, layer):
        """Pooled activations, with exact zeros."""
        self._begin("activations")
        return self._table(layer, "activation", self.values[layer])

    def relevances(self, layer):
        """Pooled relevances, of both signs."""
        return self._table(layer, "relevance", self.values[layer] - 0.4 * (self.values[layer] > 0))

    def _table(self, layer, quantity, values):
        pooling = "max" if quantity == "activation" else "sum"
        return ActivationTable(layer, "unit", quantity, pooling, values, np.ones(len(values), bool))

    def references(self, layer, by="activation", k=20, per_origin=1):
        """Exact references by either quantity."""
        values = self._table(layer, by, self.values[layer]).values
        order = np.argsort(-values, axis=0, kind="stable")[:k].T
        found = np.take_along_axis(values.T, order, axis=1)
        return ReferenceSet(
            layer,
            "unit",
            by,
            order,
            found,
            (found > 0).sum(1),
            len(values),
            len(values) // 2,
            per_origin,
            target_text="top" if by == "relevance" else "",
        )

    def reference_views(self, component, by="activation", n=12, mode="crop", size=96, *, quantile=1.0, progress=None):
        """Pictures of the references, those with a value above zero where the strongest are asked for."""
        self._begin("reference_views")
        address = ComponentId.parse(component)
        if quantile == 1:
            chosen = self.references(address.layer, by=by)
            ids, values, first = chosen.ids[address.index][:n], chosen.values[address.index][:n], 1
        else:
            found = self.references_at(component, quantile, by, n)
            ids, values, first = found.samples, found.values, found.first
        views = []
        for rank, (sample, value) in enumerate(zip(ids, values, strict=True), first):
            if value <= 0 and quantile == 1:
                continue
            picture = self._resized(self.data.picture(int(sample)), size, mode, address.index + int(sample))
            name = self._classes[int(self.data.labels[sample])]
            views.append(View(int(sample), float(value), picture, f"{rank}. {name}, original {int(sample) // 2}"))
        return views

    # One component
    def references_at(self, component, quantile=1.0, by="activation", n=12):
        """References around a quantile, exactly; of those that were kept where `activations` has nothing."""
        address = ComponentId.parse(component)
        try:
            table = self._read(address.layer, by)
            values = np.asarray(table.values[:, address.index], dtype=np.float32)
            # As `references` here, which takes every view for an original of its own.
            order, is_kept = in_order(values, np.arange(len(values))), False
            found = values[order]
        except IncompleteError:
            kept = self.references(address.layer, by=by)
            order, found, is_kept = kept.ids[address.index], kept.values[address.index], True
        return at_quantile(order, found, quantile, n, is_kept=is_kept)

    def component_classes(self, component, by="activation", n=5):
        """Classes with the largest mean, grouped by label."""
        self._begin_quickly("component_classes")
        address = ComponentId.parse(component)
        column = np.asarray(self._read(address.layer, by).values[:, address.index])
        return classes_of(column, self.data.labels, self._classes, by=by, n=n)

    def related(self, component, n=5):
        """Correlated components of both layers."""
        self._begin_quickly("related")
        address = ComponentId.parse(component)
        column = np.asarray(self._read(address.layer, "activation").values[:, address.index])
        names = list(self.n_components)
        at = names.index(address.layer)

        def of(layer, without=None):
            if not layer:
                return Related()
            values = self._read(layer, "activation").values
            table = Pooled(values, np.isfinite(values).all(1))
            found, correlation, used = correlated(column, table, n, without=without)
            return Related(layer, tuple(f"{layer}/unit/{i}" for i in found), correlation, used)

        before, after = names[at - 1] if at else "", names[at + 1] if at + 1 < len(names) else ""
        near = of(address.layer, address.index)
        if why := why_alone(column):
            return Relations(Related(before), near, Related(after), why)
        return Relations(of(before), near, of(after))

    def contrasts(self, component, n=6, *, anchors=3, low=0.1):
        """Samples alike to the last layer."""
        self._begin_quickly("contrasts")
        address = ComponentId.parse(component)
        layer = list(self.n_components)[-1]
        values = self._read(layer, "activation").values
        return contrast_of(
            np.asarray(self._read(address.layer, "activation").values[:, address.index]),
            Pooled(values, np.isfinite(values).all(1)),
            self.data.origins,
            without=address.index if layer == address.layer else None,
            anchors=anchors, low=low, n=n, layer=layer,
        )  # fmt: skip

    def class_statistics(self, layer, quantity="relevance"):
        """Means and counts per label; the last class has no sample where there are more than three."""
        self._begin("class_statistics")
        values, labels = self._read(layer, quantity).values, np.asarray(self.data.labels)
        counts = np.bincount(labels, minlength=len(self._classes))
        means = np.full((len(counts), values.shape[1]), np.nan, np.float32)
        for i in np.flatnonzero(counts):
            means[i] = values[labels == i].mean(0)
        return means, counts

    def _read(self, layer, by):
        return self.activations(layer) if by == "activation" else self.relevances(layer)

    def _resized(self, picture, size, mode="whole", seed=0):
        return _cut(picture, size, mode, seed)

    def peak_crops(self, layer, components, size=64):
        """One tile per component."""
        self._begin("peak_crops")
        best = np.argmax(self.values[layer], axis=0)
        return np.stack([_cut(self.data.picture(int(best[c])), size, "crop", int(c)) for c in components])

    def thumbnails(self, samples, size=96):
        """Whole pictures of samples."""
        self._begin("thumbnails")
        return np.stack([_cut(self.data.picture(self._sample(int(i))), size) for i in samples])

    # Explaining
    def predict(self, sample, n=5):
        """Outputs that favour the sample's label."""
        self._begin("predict")
        return self._predict(sample, n)

    def _predict(self, sample, n):
        logits = np.random.default_rng(sample).normal(0, 2, len(self._classes))
        logits[int(self.data.labels[sample])] += 6
        logits += self._push(self.made_by, int(sample))
        p = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
        order = np.argsort(-logits)[:n]
        return [(int(c), self._classes[c], float(logits[c]), float(p[c])) for c in order]

    def heat(self, sample, seed=0, size=(64, 64)):
        """A signed map of some blobs."""
        rng = np.random.default_rng(1000 * sample + seed)
        y, x = np.mgrid[: size[0], : size[1]] / np.array(size)[:, None, None]
        heat = np.zeros(size)
        for sign in (1, 1, -0.6):
            (cy, cx), width = rng.uniform(0.2, 0.8, 2), rng.uniform(0.004, 0.02)
            heat += sign * np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / width)
        return (heat * 0.02).astype(np.float32)

    def explain(self, sample, target=None, *, rule=None, given=None, record=()):
        """An attribution whose relevances depend on the sample; of a direction that is given, another map."""
        if given:
            found = self.run(self._explain, sample, target, record, "EpsilonPlusFlat")
            text = f"component:{given[0]}" if target is None else target
            return replace(found, given=tuple(given), target_text=text)
        return self.run(self._explain, sample, target, record, rule)

    def _explain(self, sample, target, record, rule=None, progress=None):
        self._begin("explain")
        top = self.predict(sample, n=len(self._classes))
        chosen = top[0] if target in (None, "top") else next(t for t in top if t[0] == int(target.split(":")[1]))
        heat = self.heat(sample, chosen[0] if rule is None else 100 + len(rule))[None]
        rng = np.random.default_rng(sample + 7)
        relevance = {name: rng.normal(0.1, 1, (1, self.n_components[name])).astype(np.float32) ** 3 for name in record}
        if self.made_by:
            heat = heat + 0.2 * float(np.tanh(self._push(self.made_by, sample)[chosen[0]])) * self.heat(sample, 77)
            for one in self.made_by:
                if one.layer in relevance:
                    relevance[one.layer] *= 0.9
                    relevance[one.layer][0, list(one.indices)] = 0
        score = np.array([chosen[2]], np.float32)
        return Attribution(
            (sample,),
            heat,
            np.array([chosen[0]]),
            score,
            np.array([0.021], np.float32),
            np.zeros((1, len(self._classes))),
            relevance,
            rule=rule or "EpsilonPlusFlat",
            target_text="top output" if target in (None, "top") else target,
            pictures=(self.data.picture(sample),),
            labels=(chosen[1],),
        )

    def explainers(self):
        """Names of the ways to explain."""
        return ("EpsilonPlusFlat", "EpsilonPlus", "gradient")

    def rank_in_region(self, sample, region, layer, *, n=32, target="top", rule=None):
        """Components by what their maps hold in the region."""
        self._begin("rank_in_region")
        wanted = [f"{layer}/unit/{i}" for i in range(min(n, self.n_components[layer]))]
        maps = self.concept_maps(sample, wanted)
        height, width = maps.shape[1:]
        top, left = int(region["y"] * height), int(region["x"] * width)
        below, right = top + max(1, int(region["height"] * height)), left + max(1, int(region["width"] * width))
        inside = maps[:, top:below, left:right].sum((1, 2))
        order = np.argsort(-inside, kind="stable")
        return Ranking(tuple(wanted[i] for i in order), inside[order].astype(np.float32), "relevance_inside")

    def sanity_check(self, sample, *, target="top", rule=None, seed=0):
        """A map of other blobs beside the sample's own."""
        base = self.explain(sample, target=target or "top")
        other = replace(base, heatmap=self.heat(sample, 991)[None])
        return SanityCheck(base, other, 0.125, seed)

    def concept_maps(self, sample, components, target="top"):
        """A map per component."""
        self._begin("concept_maps")
        return np.stack([0.3 * self.heat(sample, 50 + ComponentId.parse(c).index) for c in components])

    # Steering: each component pushes the outputs its own way
    def _push(self, interventions, sample):
        """(class_,) change of the outputs of a sample."""
        change = np.zeros(len(self._classes))
        for one in interventions:
            size = {"suppress": -1, "project": -1, "boost": 1, "set": 0.5, "add": 0.5}[one.operation] * one.strength
            for address in one.addresses:
                index = ComponentId.parse(self._component(address)).index
                way = np.random.default_rng(index).normal(0, 2, len(self._classes))
                change += size * way * (0.5 + 0.5 * np.random.default_rng([index, sample]).random())
        return change / max(1.0, sum(len(one.addresses) for one in interventions) / 4)

    def _outputs(self, sample):
        logits = np.zeros(len(self._classes))
        for c, _, logit, _ in self._predict(sample, len(self._classes)):
            logits[c] = logit
        return logits

    def predict_under(self, sample, interventions, n=5, *, also=()):
        """Leading outputs before and after."""
        return self.run(self._predict_under, sample, interventions, n, also)

    def _predict_under(self, sample, interventions, n, also, progress=None):
        self._begin("predict_under")
        before = self._outputs(sample)
        after = before + self._push(interventions, sample)
        chance = [np.exp(one - one.max()) / np.exp(one - one.max()).sum() for one in (before, after)]
        wanted = {*np.argsort(-before)[:n].tolist(), *np.argsort(-after)[:n].tolist(), *also}
        return [
            OutputChange(i, self._classes[i], before[i], after[i], chance[0][i], chance[1][i])
            for i in sorted(wanted, key=lambda i: -before[i])
        ]

    def explain_under(self, sample, interventions, *, target="top", rule=None):
        """A map that loses a part of itself."""
        self._begin("explain_under")
        base = self.explain(sample, target or "top", rule=rule)
        change = self._push(interventions, sample)
        index = int(base.target[0])
        lost = 0.2 * float(np.tanh(change[index])) * self.heat(sample, 77)[None]
        return replace(base, heatmap=base.heatmap + lost, score=base.score + np.float32(change[index]))

    def leave_one_out(self, sample, layer, n=8, *, target="top", progress=None):
        """The leading components, each left out."""
        self._begin("leave_one_out")
        base = self.explain(sample, target or "top", record=(layer,))
        ranking = base.top(layer, n)
        index = int(base.target[0])
        change = [self._push([Intervention(one)], sample)[index] for one in ranking.components]
        return LeaveOneOut(
            sample, target or "top", base.labels[0], float(base.score[0]), tuple(ranking.components),
            np.asarray(ranking.scores, np.float32), np.array(change, np.float32),
        )  # fmt: skip

    def activation_range(self, addresses):
        """From zero up."""
        self._begin("activation_range")
        return 0.0, 2.5

    def steer(self, interventions, samples=None, *, target=None, watch=None, controls=8, seed=0, see=None):
        """An effect that is handed out in four parts."""
        return self.run(self._steer, interventions, samples, target, controls, see)

    def _steer(self, interventions, samples, target, controls, see, progress):
        self._begin("steer")
        ids = np.arange(len(self.data)) if samples is None else np.asarray(samples)
        ids = np.arange(min(int(ids), len(self.data))) if ids.ndim == 0 else ids
        before = np.array([self._outputs(int(i)) for i in ids])
        after = before + np.array([self._push(interventions, int(i)) for i in ids])
        labels, first = self.data.labels[ids], before.argmax(1)
        chosen = first if target in (None, "top") else np.full(len(ids), int(str(target).split(":")[1]))
        rows = np.arange(len(ids))
        margins = []
        for one in (before, after):
            others = one.copy()
            others[rows, labels] = -np.inf
            margins.append((one[rows, labels] - others.max(1)).astype(np.float32))
        moved = Ranking(("blocks.4/unit/7", "blocks.4/unit/2"), np.array([-1.5, 0.5], np.float32), "change")
        rng, found = np.random.default_rng(0), None
        progress.start("steering", len(ids))
        for part in np.array_split(rows, 4):
            end = int(part[-1]) + 1 if len(part) else 0
            if not len(part):
                continue
            found = Effect(
                interventions=tuple(interventions), target_text=target or "top", samples=ids[:end],
                origins=self.data.origins[ids[:end]], before=before[rows, chosen][:end].astype(np.float32),
                after=after[rows, chosen][:end].astype(np.float32), decision_before=first[:end],
                decision_after=after.argmax(1)[:end], labels=labels[:end],
                outputs=(after - before)[:end].mean(0).astype(np.float32),
                control=rng.normal(0, 0.2, (controls, end)).astype(np.float32), moved=moved, n_planned=len(ids),
                classes=self._classes, recipe="recipe-effect", margin_before=margins[0][:end],
                margin_after=margins[1][:end],
            )  # fmt: skip
            if see is not None:
                see(found)
            time.sleep(self.delay / 4)
            progress.step(len(part))
        return found

    def edits(self, interventions):
        """One for each intervention."""
        return [Edit("scale", one.layer, one.indices, 0.0) for one in interventions]

    def variant(self, name, edits):
        """Another session on the same data, whose outputs are those under interventions instead of the edits."""
        self._begin("variant")
        made = FakeSession(
            n=len(self.data), components=self.n_components[self.layer_name], layer=self.layer_name,
            classes=self._classes,
        )  # fmt: skip
        acts = [Intervention([f"{e.where}/unit/{i}" for i in e.components]) for e in edits if e.components]
        made.name, made.made_by, made.edits_, made.data = name, (*self.made_by, *acts), tuple(edits), self.data
        made._of, made._listed_in = self._of, self._open
        self._open.add(name, made)
        return made

    # Comparing
    edits_ = ()

    def variants(self):
        """Those that are open."""
        return self._open.now()

    def on_variants(self, listener):
        """Be told when one is opened or closed."""
        return self._open.listen(listener)

    def changes(self):
        """The edits in words."""
        return in_words(self.edits_)

    def changed_layers(self):
        """Where they are."""
        return tuple(dict.fromkeys(one.where for one in self.edits_ if one.where in self.n_components))

    def close(self):
        """Nothing more can be asked of it."""
        self.is_closed = True
        self.lane.close()
        if self._listed_in is not None:
            self._listed_in.drop(self)

    def compare(self, other, sample, *, target=None, record=(), rule=None, maps=True):
        """One sample under two models."""
        return self.run(self._compare, other, self._sample(sample), target, record, maps)

    def _compare(self, other, sample, target, record, maps, progress=None):
        self._begin("compare")
        scores = [one._outputs(sample).astype(np.float32) for one in (self, other)]
        chance = [chances(one[None])[0].astype(np.float32) for one in scores]
        pair = None
        if maps:
            base = self._explain(sample, target, record)
            pair = (base, other.run(other._explain, sample, f"logit:{int(base.target[0])}", record))
        return Comparison(
            models=(self.name, other.name), sample=sample, label=int(self.data.labels[sample]), before=scores[0],
            after=scores[1], probability_before=chance[0], probability_after=chance[1], classes=self._classes,
            attributions=pair,
        )  # fmt: skip

    def differences(self, other, samples=None, *, progress=None):
        """What differs over many samples."""
        return self.run(self._differences, other, samples)

    def _differences(self, other, samples, progress):
        self._begin("differences")
        n = len(self.data)
        ids = np.arange(n) if samples is None else np.asarray(samples)
        ids = np.unique(np.linspace(0, n - 1, min(int(ids), n)).round().astype(int)) if ids.ndim == 0 else ids
        progress.start("Outputs of fake", len(ids))
        rows = []
        for i in ids:
            rows.append([one._outputs(int(i)) for one in (self, other)])
            progress.step()
        before, after = np.array(rows).transpose(1, 0, 2)
        return compared(
            (self.name, other.name), ids, before, after, labels=np.asarray(self.data.labels)[ids],
            origins=np.asarray(self.data.origins)[ids], classes=self._classes, recipe=f"recipe-{other.name}",
        )  # fmt: skip

    # Samples
    def samples(self, ids=None):
        """What is known of the samples: a third has no stored prediction."""
        import pandas as pd

        self._begin("samples")
        rows = np.arange(len(self.data)) if ids is None else np.array([self._sample(i) for i in ids], dtype=np.int64)
        tagged = dict(sorted(self.data.tagged().items()))
        labels = [self.data.classes[i] for i in self.data.labels[rows]]
        names = {}
        for name, samples in tagged.items():
            for i in samples:
                names.setdefault(i, []).append(name)
        columns = {
            "name": [self.data.keys[i] for i in rows],
            "label": labels,
            "prediction": ["" if i % 3 == 1 else name for i, name in zip(rows, labels, strict=True)],
            "origin": self.data.origins[rows],
            "tags": [tuple(names.get(i, ())) for i in rows.tolist()],
        }
        columns |= {f"tag:{name}": np.isin(rows, ids) for name, ids in tagged.items()}
        return pd.DataFrame(columns, index=pd.Index(rows, name="sample"))

    # Auditing
    def findings(self, layer="", *, kinds=(), classes=None, n=50, progress=None):
        """Findings of most kinds from the arrays, as a session makes them."""
        return self.run(self._findings, layer or self.layer_name, checked(tuple(kinds)) or tuple(KINDS), n)

    def _findings(self, layer, kinds, n, progress=None):
        self._begin("findings")
        values, labels, ids = self.values[layer], np.asarray(self.data.labels), np.arange(len(self.data))
        apart = np.linalg.norm(values[:, None] - values[None], axis=2)
        np.fill_diagonal(apart, np.inf)
        near = np.argsort(apart, axis=1, kind="stable")[:, : min(12, len(ids) - 1)]
        far = np.take_along_axis(apart, near, 1)
        cluster = np.where(ids % 7 < 3, 1, 0)
        groups = SimpleNamespace(
            columns={"cluster": cluster, "outlier": far.mean(1) / np.median(far)}, index=ids, neighbours=near,
            cluster_names=("strategy 1", "strategy 2"),
        )  # fmt: skip
        of_class, references = self._classes[0], self.references(layer, k=6).ids
        correlation = np.corrcoef(values.T + 1e-9 * np.random.default_rng(1).normal(size=values.T.shape))
        np.fill_diagonal(correlation, -1)
        alike = np.argsort(-correlation, axis=1, kind="stable")[:, :3]
        looks = suspects.unit_rows(values, np.ones(len(ids), bool))
        recipe = f"recipe-{layer}"
        found = [
            *suspects.group_findings(groups, of_class, layer, relevance=values, recipe=recipe),
            *suspects.outlier_findings(groups, of_class, layer, limit=0.5, n=4, recipe=recipe),
            *suspects.label_findings(
                ids, near, labels, self.data.origins, self._classes, layer, least=0.4, n=8, recipe=recipe,
                predicted=["" if i % 3 == 1 else self._classes[labels[i]] for i in ids],
            ),
            *suspects.redundant_findings(layer, alike, 0.3 * (1 - np.take_along_axis(correlation, alike, 1)) - 0.2,
                                         references, n=3, recipe=recipe),
            *suspects.unclear_findings(layer, looks, references, layer, n=4, recipe=recipe),
            *suspects.silent_findings(layer, values, recipe=recipe),
        ]  # fmt: skip
        kept = [one for kind in KINDS for one in [f for f in found if f.kind == kind][:n] if kind in kinds]
        left = ("direction: no direction is known.",) if "direction" in kinds else ()
        return Findings(tuple(kept), layer, left, weakref.ref(self))

    def decide(self, finding, verdict, *, new=None, who="", note=""):
        """Keep a verdict."""
        self._begin("decide")
        return decide(self, finding, verdict, new=new, who=who, note=note)

    def undo_decision(self, who="", *, decision=None):
        """Take the last one back."""
        self._begin("undo_decision")
        return undo(self, who, decision=decision)

    # Maps
    def point_map(self, layer=None, of="components", *, preview=False):
        """A map of a layer's components or of the samples, with exact neighbours; component 3 lies apart.

        A preview has other coordinates and no neighbours.
        """
        layer = layer or self.layer_name
        atlas, values = self.atlas(layer), self.values[layer]
        is_components = of == "components"
        rows = (values.T if is_components else values) - (values.T if is_components else values).mean(1, keepdims=True)
        length = np.linalg.norm(rows, axis=1)
        n, apart = len(rows), length < 1e-6
        far = 1 - (rows / np.where(apart, 1, length)[:, None]) @ (rows / np.where(apart, 1, length)[:, None]).T
        far[apart] = far[:, apart] = np.inf
        np.fill_diagonal(far, np.inf)
        near = np.argsort(far, axis=1, kind="stable")[:, : 0 if preview else min(30, n - 1)]
        distances = np.take_along_axis(far, near, 1)
        rng = np.random.default_rng(6 + preview)
        if is_components:
            position, names, cluster = atlas.position.copy(), atlas.cluster_names, atlas.columns["cluster"]
            columns = {name: v for name, v in atlas.columns.items() if name != "cluster"}
            relevance = rng.normal(0.2, 1, (len(self._classes), n)).astype(np.float32)
            columns |= {"class_relevance": relevance.max(0), "class": np.array(self._classes)[relevance.argmax(0)]}
        else:
            position, names, cluster = rng.random((n, 2)), self._classes, self.data.labels
            columns = {"label": np.array(self._classes)[cluster], "activation": values.mean(1)}
            relevance = np.zeros((0, n), np.float32)
        position = rng.random((n, 2)) if preview else position
        position[~apart, 1] = 0.08 + 0.92 * position[~apart, 1]
        position[apart, 1] = 0
        return PointMap(
            of, layer, "unit", "activation", np.arange(n), position.astype(np.float32),
            np.where(np.isinf(distances), -1, near).astype(np.int32), distances.astype(np.float32), apart,
            {**columns, "cluster": np.where(apart, len(names), cluster)}, relevance, self._classes,
            (*names, "no direction") if apart.any() else tuple(names), "PCA, preview" if preview else "fake, seed 0",
            "correlation", 0.9, recipe=f"recipe-{layer}",
        )  # fmt: skip

    def fit(self, method, *, progress=None):
        """An atlas or an embedding map, as if the method had been fitted; directions are fitted."""
        self._begin("fit")
        if hasattr(method, "positives"):
            self.run(method.fit, self)
            self.add_directions(method.directions_)
        elif type(method).name == "tcav":
            method.result_ = self.sensitivity(method, progress)
        elif type(method).name == "embedding-map":
            method.map_ = self.point_map(method.layer, method.of)
            method.embedding_ = method.map_.position
        else:
            method.atlas_ = self.atlas(method.layer)
            method.embedding_ = method.atlas_.position
        method.session_ = self
        return method

    def has_fitted(self, method):
        """Nothing is kept."""
        return False

    def preview(self, method, *, progress=None):
        """A first look at an embedding map."""
        self._begin("preview")
        return self.point_map(method.layer, method.of, preview=True)

    # Directions
    @property
    def progress(self):
        """Of the job that runs, else a silent one."""
        job = current_job()
        return SilentProgress() if job is None else job.progress

    def planted_directions(self, layer, *, pooling="max", n=48, progress=None):
        """The direction that `pooled` adds to every third sample, those with a mask."""
        vector = np.random.default_rng(11).normal(0, 1, self.n_components[layer])
        return {"<u>block</u>": (vector / np.linalg.norm(vector)).astype(np.float32)}

    def pooled(self, layer, samples=None, *, pooling="max", progress=None):
        """Activations, larger along a direction where a sample has a mask."""
        self._begin("pooled")
        if layer not in self.n_components:
            raise UnknownLayerError(f'No layer "{layer}" in fake.', hint='Nearest: "bn2".')
        ids = np.arange(len(self.data)) if samples is None else np.unique(np.asarray(samples, dtype=np.int64))
        planted = self.planted_directions(layer)["<u>block</u>"]
        return ids, (self.values[layer][ids] + 2 * (ids % 3 == 0)[:, None] * planted).astype(np.float32)

    def add_directions(self, directions):
        """Make directions components."""
        self._directions[directions.layer, directions.basis] = directions
        return directions.ids()

    def directions(self):
        """The directions that are known, by ``layer/basis``."""
        return {f"{layer}/{basis}": found for (layer, basis), found in self._directions.items()}

    def project(self, direction, samples=None, *, progress=None):
        """Projections on one direction."""
        self._begin("project")
        ids, rows = self.pooled(direction.layer, samples, pooling=direction.pooling)
        values = np.full((len(self.data), 1), np.nan, np.float32)
        values[ids, 0] = rows @ direction.vector
        is_valid = np.isfinite(values[:, 0])
        return ActivationTable(direction.layer, direction.basis, "activation", direction.pooling, values, is_valid)

    def sensitivity(self, method, progress=None):
        """Scores of every class along the directions; the last class has none."""
        record, k = method.cav.directions_, len(self._classes)
        progress = self.progress if progress is None else progress
        progress.start("derivatives along directions", k)
        for _ in range(k):
            self._begin("sensitivity")
            progress.step()
        rng, shape = np.random.default_rng(8), (len(record), k)
        score = np.round(rng.random(shape), 2)
        score[:, -1] = np.nan
        slope = rng.normal(0, 0.2, shape)
        numbers = {
            "score": score, "score_low": score - 0.05, "score_high": np.minimum(1, score + 0.05),
            "score_positions": score, "sensitivity": np.abs(slope) + 0.1, "sensitivity_error": 0.01 + 0 * slope,
            "slope": slope, "zeros": 0 * slope, "null_low": 0.3 + 0 * slope, "null_high": 0.7 + 0 * slope,
            "null_sensitivity": 0.1 + 0 * slope, "p": np.where(np.isnan(score), np.nan, 0.02),
            "p_holm": np.where(np.isnan(score), np.nan, 0.04),
        }  # fmt: skip
        return ConceptSensitivity(
            layer=record.layer, basis=record.basis, concepts=record.concepts, classes=self._classes,
            class_index=tuple(range(k)), n_samples=np.full(k, 8), n_random=method.n_random, **numbers,
        )  # fmt: skip

    # Atlas
    def atlas(self, layer=None):
        """The atlas of a layer, clustered."""
        layer = layer or self.layer_name
        m, cluster = self.n_components[layer], self.cluster[layer]
        rng = np.random.default_rng(5)
        position = self.cluster_at[cluster] + rng.normal(0, 0.05, (m, 2))
        position = ((position - position.min(0)) / np.ptp(position, axis=0)).astype(np.float32)
        names = tuple(f"<em>group</em> {i}" if i == 0 else f"group {i}" for i in range(len(self.cluster_at)))
        columns = {
            "activation": self.values[layer].max(0),
            "relevance": (rng.normal(0.2, 0.4, m)).astype(np.float32),
            "frequency": (self.values[layer] > 0).mean(0).astype(np.float32),
            "cluster": cluster.astype(np.int64),
        }
        return Atlas(layer, "unit", position, columns, self.references(layer), names, "PCA", f"recipe-{layer}")
