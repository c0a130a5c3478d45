"""What the direction viewer shows, asked of the session and made ready for the page; run on the viewer's lane."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from workbench.core import check
from workbench.core.directions import SENSITIVITY_NUMBERS
from workbench.core.errors import BadValueError, CancelledError, WorkbenchError
from workbench.core.sampling import evenly
from workbench.widgets import wire
from workbench.widgets.heat_answers import HeatAnswers, share_inside

__all__ = ["METHODS", "SELECTED", "DirectionAnswers", "Wish", "name_of"]

METHODS = {
    "pattern": ("PatternCAV", "Pattern"),
    "mean-difference": ("MeanDifferenceCAV", "Mean difference"),
    "svm": ("SVMCAV", "Support vectors"),
    "ridge": ("RidgeCAV", "Ridge"),
    "lasso": ("LassoCAV", "Sparse (lasso)"),
    "logistic": ("LogisticCAV", "Logistic"),
    "median-difference": ("MedianDifferenceCAV", "Median difference"),
    "fast": ("FastCAV", "FastCAV"),
}
"""Ways to find a direction: name of the class, and what it is called."""

QUICK = ("pattern", "mean-difference", "fast")
"""Closed forms, which follow a selection while it is made."""

SELECTED = "selection"
"""What the concept of selected samples is called: its directions keep their addresses while samples change."""

_REST_S = 0.4
_MOST_DRAWN = 200_000
_MASKED = 256  # samples that are looked at to know which masks there are
_OTHERS = 8  # further directions of the layer in the matrix
_LEAST_RANDOM = 20
_SHARED = ("layer", "positives", "negatives", "pairs", "scope", "pooling", "concept", "seed")
_NUMBERS = (
    "auc", "auc_error", "average_precision", "stability", "expected_cosine", "agreement", "alignment",
    "alignment_overall", "class_auc", "class_cosine", "length", "threshold", "mean_positive", "mean_negative",
)  # fmt: skip


@dataclass(frozen=True)
class Wish:
    """Which directions are wanted: everything that a fit depends on, by names and ids."""

    layer: str
    concept: str
    positive_ids: tuple[int, ...]
    negatives: str
    negative_ids: tuple[int, ...]
    methods: tuple[str, ...]
    scope: str
    pooling: str

    @property
    def is_live(self) -> bool:
        """Whether the samples come from the selection, so that more changes may follow."""
        return "selected" in (self.concept, self.negatives)

    def without_methods(self) -> Wish:
        """The same samples and settings, whatever they are fitted with."""
        return replace(self, methods=())


def name_of(concept: str) -> str:
    """What a concept is called, by its kind and name."""
    kind, _, name = concept.partition(":")
    return name if kind in ("tag", "mask") else SELECTED if concept == "selected" else ""


class DirectionAnswers:
    """Payloads of the viewer, each with the direction that it belongs to.

    Parameters
    ----------
    session : Session
    given : CAV or None
        The fitted one that the viewer was made with.
    planted : mapping of str to (unit,) array
        True directions that the caller knows.
    """

    def __init__(self, session: Any, given: Any, planted: Any):
        self.session, self.given, self.own_planted = session, given, dict(planted)
        self.heat = HeatAnswers(session)
        self.fits: dict[tuple[Wish, str], Any] = {}
        self._current: dict[str, Any] = {}  # fitted methods on show, by the addresses of their directions
        self._masked: dict[str, np.ndarray] = {}
        self._mask_names: list[dict[str, Any]] | None = None
        self._planted: dict[tuple[str, str], dict[str, np.ndarray]] = {}

    # What there is to choose from -------------------------------------------------------------------------------------

    def options(self, *, masks: bool = True) -> dict[str, Any]:
        """Layers, tags, methods, and masks, which take a look at some samples."""
        session = self.session
        layers = [str(name) for name, layer in session.layers().items() if layer.n_calls == 1]
        tags = [{"name": str(name), "n": len(ids)} for name, ids in sorted(session.data.tagged().items())]
        return {
            "layers": layers,
            "tags": tags,
            "masks": self._known_masks() if masks else self._mask_names or [],
            "methods": [{"name": name, "text": text} for name, (_, text) in METHODS.items()],
            "classes": [str(name) for name in session.data.classes],
            "outputs": [str(name) for name in session.class_names()],
            "n_samples": len(session.data),
            "given": "" if self.given is None else ", ".join(self.given.directions_.concepts),
        }

    def _known_masks(self) -> list[dict[str, Any]]:
        """Masks that some samples have and others lack, as far as a look at some of them tells."""
        if self._mask_names is None:
            data = self.session.data
            n = len(data)
            looked = evenly(n, _MASKED).tolist()
            counts: dict[str, int] = {}
            for i in looked:
                for name in self._masks_of(i):
                    counts[name] = counts.get(name, 0) + 1
            self._mask_names = [
                {"name": name, "share": count / len(looked)}
                for name, count in sorted(counts.items())
                if count < len(looked)
            ]
        return self._mask_names

    def _masks_of(self, sample: int) -> list[str]:
        try:
            found = self.session.data.masks(sample)
        except WorkbenchError:  # the picture cannot be read, and says so elsewhere
            return []
        return [str(name) for name, mask in found.items() if np.asarray(mask).any()]

    def masked(self, name: str, progress: Any = None) -> np.ndarray:
        """Samples that have a mask."""
        if name not in self._masked:
            n, held = len(self.session.data), []
            if progress is not None:
                progress.start(f"looking for masks called {name}", n)
            for i in range(n):
                if name in self._masks_of(i):
                    held.append(i)
                if progress is not None:
                    progress.step()
            if not held:
                names = [one["name"] for one in self._known_masks()]
                check.known("mask", name, names, hint="Masks are those of `s.data.masks(i)`.")
            self._masked[name] = np.array(held, dtype=np.int64)
        return self._masked[name]

    # Fitting ----------------------------------------------------------------------------------------------------------

    def first(self, wish: Wish, progress: Any = None) -> dict[str, Any]:
        """Directions of the closed forms, which take a moment; of the first method, where there are none."""
        quick = [one for one in wish.methods if one in QUICK] or list(wish.methods[:1])
        self._current = {}
        rows, errors = self._rows(wish, quick, progress)
        if len(errors) == len(quick):  # where no closed form can be had, the samples are at fault
            raise errors[0]
        return {**self._listed(wish, rows), "is_whole": False}

    def rest(self, wish: Wish, tell: Callable[[dict[str, Any]], None], progress: Any = None) -> dict[str, Any]:
        """Directions of all methods, and what was planted; `tell` gets what is there so far.

        A method that fails has its reason in its row; if all fail, the first reason is raised.
        """
        rows: dict[str, list[dict[str, Any]]] = {}
        errors: list[WorkbenchError] = []
        for method in sorted(wish.methods, key=lambda one: one not in QUICK):
            is_slow = (wish.without_methods(), method) not in self.fits and method not in QUICK
            if is_slow and wish.is_live:
                _rest(progress)
            more, failed = self._rows(wish, [method], progress)
            rows, errors = rows | more, errors + failed
            if is_slow:
                tell({**self._listed(wish, rows), "is_whole": False})
        if len(errors) == len(wish.methods):
            raise errors[0]
        return {**self._listed(wish, rows, self.planted(wish, progress)), "is_whole": True}

    def _rows(
        self, wish: Wish, methods: list[str], progress: Any
    ) -> tuple[dict[str, list[dict[str, Any]]], list[WorkbenchError]]:
        """What each method finds, and why those that fail do."""
        rows: dict[str, list[dict[str, Any]]] = {}
        errors: list[WorkbenchError] = []
        for method in methods:
            begun = time.perf_counter()
            try:
                fitted = self.fit(wish, method, progress)
            except CancelledError:
                raise
            except WorkbenchError as error:
                errors.append(error)
                rows[method] = [{"method": method, "error": error.message, "hint": error.hint}]
                continue
            took = time.perf_counter() - begun
            self._current |= dict.fromkeys(fitted.components(), fitted)
            rows[method] = [{**_row(one), "seconds": took} for one in fitted.directions_]
        return rows, errors

    def fit(self, wish: Wish, method: str, progress: Any = None) -> Any:
        """The fitted CAV of one method; those of selected samples are refitted from activations at hand."""
        import workbench.methods as methods

        key = (wish.without_methods(), method)
        if (have := self.fits.get(key)) is not None:
            self.session.add_directions(have.directions_)  # a fit with other samples has its address
            return have
        cls = getattr(methods, METHODS[method][0])
        if wish.concept == "given":
            given = self.given
            if given is None:
                raise BadValueError("This viewer was not made with a fitted direction.", hint="Choose a concept.")
            own = given.params()
            is_same = given.estimator == method and (wish.scope, wish.pooling) == (str(own["scope"]), own["pooling"])
            if is_same and wish.negatives == "given" and wish.layer == given.layer:
                self.session.add_directions(given.directions_)
                return self._kept(key, given)
            taken = {name: own[name] for name in _SHARED}
            taken |= {"layer": wish.layer, "scope": wish.scope, "pooling": wish.pooling}
            if wish.negatives != "given":
                taken["negatives"] = self._negatives(wish, self._positives_of(own["positives"]), progress)
            return self._kept(key, self.session.fit(cls(**taken), progress=progress))
        positives = self._positives(wish, progress)
        options = {"negatives": self._negatives(wish, positives, progress)}
        if wish.is_live and (old := self._alike(wish, method)) is not None:
            return self._kept(key, old.refit(positives, **options))
        made = cls(
            wish.layer, positives=positives, **options, scope=wish.scope, pooling=wish.pooling,
            concept=name_of(wish.concept),
        )  # fmt: skip
        return self._kept(key, self.session.fit(made, progress=progress))

    def _kept(self, key: tuple[Wish, str], fitted: Any) -> Any:
        while len(self.fits) >= 32:
            self.fits.pop(next(iter(self.fits)))
        self.fits[key] = fitted
        return fitted

    def _alike(self, wish: Wish, method: str) -> Any:
        """A fit with other samples of the same concept, whose activations are at hand."""
        for (other, name), fitted in reversed(self.fits.items()):
            same = (other.layer, other.concept, other.scope, other.pooling) == (
                wish.layer, wish.concept, wish.scope, wish.pooling,
            )  # fmt: skip
            if same and name == method:
                return fitted
        return None

    def _positives(self, wish: Wish, progress: Any) -> np.ndarray:
        kind, _, name = wish.concept.partition(":")
        if kind == "tag":
            return np.asarray(self.session.data.tag(name), dtype=np.int64)
        if kind == "mask":
            return self.masked(name, progress)
        return np.array(wish.positive_ids, dtype=np.int64)

    def _positives_of(self, given: Any) -> np.ndarray:
        from workbench.methods.directions.sets import concepts_of

        return np.concatenate([one.positives for one in concepts_of(self.session.data, given)])

    def _negatives(self, wish: Wish, positives: np.ndarray, progress: Any) -> Any:
        """Samples without the concept; None for all others."""
        kind, _, name = wish.negatives.partition(":")
        data = self.session.data
        if kind in ("others", "given"):
            return None
        if kind == "selected":
            return np.setdiff1d(np.array(wish.negative_ids, dtype=np.int64), positives)
        if kind == "tag":
            return np.setdiff1d(np.asarray(data.tag(name), dtype=np.int64), positives)
        if kind == "mask":
            return np.setdiff1d(self.masked(name, progress), positives)
        others = np.setdiff1d(np.arange(len(data)), positives)
        if wish.scope == "within-class":  # of other classes they would take no part
            labels = np.asarray(data.labels)
            inside = others[np.isin(labels[others], labels[positives])]
            others = inside if len(inside) else others
        n = min(len(others), max(_LEAST_RANDOM, len(positives)))
        return np.sort(np.random.default_rng(0).choice(others, n, replace=False)) if n else others

    def _listed(
        self, wish: Wish, rows: dict[str, list[dict[str, Any]]], planted: Mapping[str, np.ndarray] | None = None
    ) -> dict[str, Any]:
        """Rows in the order of the methods, and the angles between them and with what was planted."""
        ordered = [row for method in wish.methods for row in rows.get(method, ())]
        records = [self.record(row["direction"]) for row in ordered if "direction" in row]
        others = self._others(wish.layer, {one.id for one in records})
        known = self._planted.get((wish.layer, wish.pooling), {}) if planted is None else planted
        planted = {**known, **self._told(len(records[0].vector) if records else 0)}
        names = [{"direction": one.id, "text": _title(one)} for one in [*records, *others]]
        names += [{"direction": "", "text": f"planted: {name}"} for name in planted]
        vectors = np.array([*(one.vector for one in [*records, *others]), *planted.values()], np.float64)
        for row in ordered:
            if "direction" in row and planted:
                own = np.asarray(self.record(row["direction"]).vector, np.float64)
                row["planted"] = {name: float(own @ vector) for name, vector in planted.items()}
        first = records[0] if records else None
        lacking = [METHODS[one][1] for one in wish.methods if one not in rows]
        return {
            "layer": wish.layer,
            "concept": wish.concept,
            "name": ", ".join(dict.fromkeys(one.concept for one in records)),
            "scope": wish.scope,
            "pooling": wish.pooling,
            "n_positive": 0 if first is None else first.n_positive,
            "n_negative": 0 if first is None else first.n_negative,
            "n_asked": self._n_asked(wish),
            "against": self._against(wish, first),
            "rows": ordered,
            "lacking": lacking,
            "angles": {"names": names, "cosines": (vectors @ vectors.T).astype(np.float32)},
            "planted": list(planted),
        }

    def record(self, address: str) -> Any:
        """What is known of a direction on show, by its address."""
        if (fitted := self._current.get(address)) is not None:
            return fitted.directions_[address]
        basis, _, index = address.rpartition("/")
        known = self.session.directions()
        if basis not in known:
            raise BadValueError(f"The direction {address} has gone meanwhile.", hint="Choose one that is on show.")
        return known[basis].directions[int(index)]

    def fitted(self, address: str) -> Any:
        """The fitted method of a direction on show; None if it is another's."""
        return self._current.get(address)

    def restored(self, address: str) -> Any:
        """The same, having made sure that the address means it: another fit of this name may have taken it."""
        fitted = self._current.get(address)
        if fitted is not None:
            known = self.session.directions().get(f"{fitted.directions_.layer}/{fitted.directions_.basis}")
            if known is not fitted.directions_:
                self.session.add_directions(fitted.directions_)
        return fitted

    def forget(self, kind: str) -> None:
        """Leave fits of samples that may have changed: of ``tag:``."""
        for key in [key for key in self.fits if key[0].concept.startswith(kind) or key[0].negatives.startswith(kind)]:
            del self.fits[key]

    def _others(self, layer: str, shown: set[str]) -> list[Any]:
        known = [one for found in self.session.directions().values() if found.layer == layer for one in found]
        return [one for one in known if one.id not in shown][:_OTHERS]

    def planted(self, wish: Wish, progress: Any = None) -> dict[str, np.ndarray]:
        """Directions of what the data set planted, at a layer; looked for once."""
        key = (wish.layer, wish.pooling)
        if key not in self._planted:
            try:
                self._planted[key] = dict(
                    self.session.planted_directions(wish.layer, pooling=wish.pooling, progress=progress)
                )
            except CancelledError:
                raise
            except WorkbenchError:  # what cannot be known is not shown
                self._planted[key] = {}
        return self._planted[key]

    def _told(self, n: int) -> dict[str, np.ndarray]:
        """Directions that the caller knows, of length 1; those of another layer have another number of entries."""
        told = {}
        for name, vector in self.own_planted.items():
            vector = np.asarray(vector, np.float64).ravel()
            size = float(np.linalg.norm(vector))
            if size > 0 and n in (0, len(vector)):
                told[str(name)] = vector / size
        return told

    def _n_asked(self, wish: Wish) -> int:
        if wish.concept == "given":
            return int(sum(one.n_positive for one in self.given.directions_))
        return len(self._positives(wish, None))

    def _against(self, wish: Wish, record: Any) -> str:
        """What served as negatives, in words."""
        if record is None:
            return ""
        kind, _, name = wish.negatives.partition(":")
        whole = {
            "others": "all others", "random": "drawn at random", "selected": "chosen samples",
            "tag": f"tagged {name}", "mask": f"with the mask {name}",
            "given": "as the direction was made",
        }[kind]  # fmt: skip
        scope = {"within-class": ", within the same classes", "all": ", of all classes"}.get(
            str(record.scope), f", of the class {record.scope}"
        )
        return f"{record.n_negative} samples without it ({whole}{scope})"

    # One direction ----------------------------------------------------------------------------------------------------

    def strip(self, address: str) -> dict[str, Any]:
        """Projections of all samples; held out where that is known."""
        record, session = self.record(address), self.session
        table = session.project(record)
        values = np.asarray(table.values)[:, 0].astype(np.float32)
        kind = np.zeros(len(values), np.uint8)
        kind[record.samples] = np.where(record.is_positive, 1, 2)
        held = ~np.isnan(record.held_out)
        values[record.samples[held]] = record.held_out[held]
        kind[record.samples[held]] += 4
        known = np.flatnonzero(np.isfinite(values))
        drawn = known
        if len(drawn) > _MOST_DRAWN:  # all that took part, and an even choice of the others
            part, rest = known[kind[known] > 0], known[kind[known] == 0]
            n = max(0, _MOST_DRAWN - len(part))
            drawn = np.sort(np.concatenate([part, rest[evenly(len(rest), n)]]))
        order = drawn[np.lexsort((drawn, -values[drawn]))]
        return {
            "direction": address,
            "text": _title(record),
            "samples": order.astype(np.int32),
            "values": values[order],
            "kind": kind[order],
            "class_": np.asarray(session.data.labels)[order].astype(np.int32),
            "threshold": wire.finite(record.threshold),
            "n_held_out": int(held.sum()),
            "n": int(len(known)),
            "n_samples": len(values),
            "pooling": record.pooling,
        }

    def tails(self, address: str, strip: dict[str, Any], n: int) -> dict[str, Any]:
        """Pictures of the samples with the largest and the smallest projections, outermost first."""
        samples = strip["samples"]
        n = min(n, len(samples) // 2 if len(samples) > 1 else len(samples))
        ends = {"high": samples[:n], "low": samples[::-1][:n]}
        made: dict[str, Any] = {"direction": address, "tail_size": n}
        for end, ids in ends.items():
            pictures = self.session.thumbnails(ids.tolist(), 64) if len(ids) else ()
            made[end] = {"samples": ids.tolist(), "sheet": wire.sheet(pictures)}
        return made

    def place(self, address: str, sample: int, target: str) -> dict[str, Any]:
        """Where in a sample the direction lies: by itself, and what flows through it to the target."""
        picture = self.heat.picture(sample)
        self.restored(address)
        own = self.session.explain(sample, given=[address])
        maps = [self._map(own, sample, "The direction by itself")]
        if target:
            through = self.session.explain(sample, target, given=[address])
            name = through.labels[0] if through.labels else target
            maps.append(self._map(through, sample, f"Through it, for {name}"))
        projection = np.asarray(self.session.project(self.record(address), np.array([sample])).values)[sample, 0]
        return {
            "direction": address,
            "sample": sample,
            "target": target,
            "picture": picture,
            "maps": maps,
            "projection": wire.finite(projection),
        }

    def _map(self, found: Any, sample: int, title: str) -> dict[str, Any]:
        heat = np.asarray(found.heatmap[0])
        masks = self.session.data.masks(sample)
        shares = [
            {"name": str(name), "share": share_inside(heat, np.asarray(mask, dtype=bool)), "area": float(np.mean(mask))}
            for name, mask in masks.items()
            if np.asarray(mask).any()
        ]
        return {
            **wire.signed_map(heat),
            "title": title,
            "gap": wire.finite(found.gap[0]),
            "rule": found.rule,
            "in_masks": shares,
        }

    def classes(self, address: str, n_samples: int, n_random: int, progress: Any = None) -> dict[str, Any]:
        """How each class depends on the direction, against random ones."""
        from workbench.methods import TCAV

        fitted = self.fitted(address)
        if fitted is None:
            raise BadValueError("The direction has changed meanwhile.", hint="Test the one on show.")
        made = self.session.fit(TCAV(fitted, n_samples=n_samples, n_random=n_random), progress=progress)
        return {**self.tested(made.result_, fitted.components().index(address)), "direction": address}

    @staticmethod
    def tested(result: Any, index: int) -> dict[str, Any]:
        """One direction's numbers of a `ConceptSensitivity`, a row per class."""
        originals = result.n_samples if result.n_origins is None else result.n_origins
        rows = [
            {"class": str(name), "output": int(output), "n": int(count), "n_origins": int(n_origins),
             **{key: wire.finite(getattr(result, key)[index, j]) for key in SENSITIVITY_NUMBERS}}
            for j, (name, output, count, n_origins) in enumerate(
                zip(result.classes, result.class_index, result.n_samples, originals, strict=True)
            )
        ]  # fmt: skip
        return {"rows": rows, "n_random": int(result.n_random), "warnings": list(result.warnings)}


def _row(record: Any) -> dict[str, Any]:
    return {
        "direction": record.id,
        "concept": record.concept,
        "method": record.estimator,
        "n_positive": record.n_positive,
        "n_negative": record.n_negative,
        "settings": {str(k): v if isinstance(v, str) else wire.finite(v) for k, v in record.settings.items()},
        "warnings": list(record.warnings),
        **{name: wire.finite(getattr(record, name)) for name in _NUMBERS},
    }


def _title(record: Any) -> str:
    text = METHODS[record.estimator][1] if record.estimator in METHODS else record.estimator
    return f"{record.concept} · {text}"


def _rest(progress: Any) -> None:
    """Wait until a selection rests: whoever goes on changing it cancels what waits here, and no solver runs in vain."""
    end = time.monotonic() + _REST_S
    while time.monotonic() < end:
        if progress is not None:
            progress.token.raise_if_cancelled()
        time.sleep(0.01)
