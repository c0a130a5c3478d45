"""A session made of generated arrays: what widgets ask of the real one, without a model and without torch.

For tests of widgets, ours and others'. Numbers depend on the arguments alone; names of classes, clusters and samples
hold markup on purpose, so that a widget which interprets text from the data shows itself.
"""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np

from workbench.core.comparisons import Comparison
from workbench.core.edits import Edits
from workbench.core.effects import Effect, Intervention, LeaveOneOut, OutputChange
from workbench.core.errors import UnknownComponentError, UnknownLabelError, UnknownLayerError, UnknownSampleError
from workbench.core.ids import ComponentId, Fingerprint
from workbench.core.results import (
    Attribution,
    Edit,
    Ranking,
    SanityCheck,
)
from workbench.core.sampling import evenly
from workbench.session.compared import OpenVariants, chances, compared, in_words
from workbench.session.decisions import DecisionBook
from workbench.session.journal import PinBook
from workbench.session.lane import Lane, current_job
from workbench.session.notes import ComponentNotes
from workbench.session.selection import Selection
from workbench.testing.fake_data import CLASSES as CLASSES
from workbench.testing.fake_data import FakeData as FakeData
from workbench.testing.fake_data import View as View
from workbench.testing.fake_data import scene as scene
from workbench.testing.fake_findings import FakeFindings
from workbench.testing.fake_tables import FakeTables

__all__ = ["FakeSession"]


class FakeSession(FakeTables, FakeFindings):
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

    def _output(self, target, sample):
        """Number of the output that a target means; labels and outputs share their numbers."""
        index = int(self.data.labels[sample]) if target == "label" else int(str(target).split(":")[1])
        if index < 0:
            raise UnknownLabelError("No output to explain: the label is unknown.", [sample], hint="Use Target.top().")
        return index

    def _explain(self, sample, target, record, rule=None, progress=None):
        self._begin("explain")
        top = self.predict(sample, n=len(self._classes))
        chosen = top[0] if target in (None, "top") else next(t for t in top if t[0] == self._output(target, sample))
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

    def label_outputs(self, samples=None):
        """The labels, which number the outputs here."""
        return self.data.labels if samples is None else self.data.labels[np.asarray(samples, dtype=np.int64)]

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
        chosen = first if target in (None, "top") else np.array([self._output(target, i) for i in ids])
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
        edits = Edits.of(edits)
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
        ids = evenly(n, int(ids)) if ids.ndim == 0 else ids
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
