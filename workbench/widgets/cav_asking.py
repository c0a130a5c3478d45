"""What is asked for in the direction viewer, and in which order it comes: directions, then all that is said of one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from workbench.session.deliver import deliver, gate
from workbench.session.lane import Job
from workbench.widgets.base import SessionWidget
from workbench.widgets.cav_answers import DirectionAnswers, Wish

__all__ = ["WISHED", "Asking"]

# Traits that make other directions.
WISHED = (
    "layer", "concept", "positive_ids", "negatives", "negative_ids", "methods", "scope", "pooling",
)  # fmt: skip


class Asking(SessionWidget):
    """The part of `DirectionViewer` that fetches what its traits say; expects them.

    Directions come first (`found`), closed forms before those that are searched for; what is said of the one on show
    (`strip`, `tails`, `place`, `tested`) comes between, so that there is always something to look at.
    """

    if TYPE_CHECKING:
        layer: Any
        concept: Any
        positive_ids: Any
        negatives: Any
        negative_ids: Any
        methods: Any
        scope: Any
        pooling: Any
        direction: Any
        sample: Any
        samples: Any
        target: Any
        tail_size: Any
        test_classes: Any
        n_tested: Any
        n_random: Any
        found: Any
        strip: Any
        tails: Any
        tested: Any
        place: Any
        _answers: DirectionAnswers
        _made_for: Wish | None
        _looked_on: Wish | None
        _method_on_show: str

    # What is wanted, and asking for it --------------------------------------------------------------------------------

    def _wish(self) -> Wish | None:
        if not self.concept or (self.concept == "selected" and not self.positive_ids):
            return None
        negatives = self.negatives or ("given" if self.concept == "given" else "others")
        return Wish(
            layer=self.layer,
            concept=self.concept,
            positive_ids=self.positive_ids if self.concept == "selected" else (),
            negatives=negatives,
            negative_ids=self.negative_ids if negatives == "selected" else (),
            methods=tuple(self.methods),
            scope=self.scope,
            pooling=self.pooling,
        )

    @property
    def shown(self) -> str:
        """Address of the direction on show; empty if there is none."""
        there = [row["direction"] for row in self.found.get("rows", ()) if "direction" in row]
        return self.direction if self.direction in there else there[0] if there else ""

    @property
    def cav(self) -> Any:
        """The fitted method of the direction on show; None if there is none."""
        return self._answers.fitted(self.shown) if self.shown else None

    def _fetch_options(self) -> None:
        self.submit(self._answers.options, into="options", title="What there is", quiet=True)

    def _fetch(self) -> None:
        wish = self._wish()
        if wish is None:
            self._made_for = None
            with self.hold_sync():
                self.found, self.strip, self.tails, self.tested, self.place = {}, {}, {}, {}, {}
            self._report()
            return
        is_underway = any(job.topic == "found" for job in list(self._pending.values()))
        if wish == self._made_for and self.found.get("is_whole") and not is_underway:
            self._report()
            return
        with gate():  # or what is being delivered may ask for more of what has passed, and this would give way to it
            self._looked_on = None
            self.submit(self._look, wish, topic="found", title=f"Directions in {wish.layer}")

    def _fetch_again(self) -> None:
        """Where the sample or target changed; and all over, where the last attempt failed."""
        if self._made_for is None and self._wish() is not None and not self._pending:
            self._fetch()
        self._fetch_place()
        self._report()

    def _fetch_shown(self) -> None:
        """What is said of the direction on show; then the methods that take longer."""
        shown, number = self.shown, self._number()
        if shown and not self._is_of(self.strip, shown):
            self.submit(self._project, shown, number, topic="strip", title=f"Projections on {shown}")
        elif self.found:
            if shown and not (self._is_of(self.tails, shown) and self.tails.get("wanted") == self.tail_size):
                self.submit(self._tails, self.strip, self.tail_size, into="tails", title="Tails", quiet=True)
            self._fetch_place()
            is_wanted = self._made_for == self._wish()  # or what was asked for since would give way to it
            if not self.found["is_whole"] and is_wanted and self._made_for != self._looked_on:
                self._looked_on = wish = self._made_for
                lacking = ", ".join(self.found["lacking"])
                self.submit(self._look_on, wish, topic="found", title=lacking, quiet=not lacking)
            self._fetch_classes()
        self._report()

    def _fetch_classes(self) -> None:
        shown = self.shown
        how = {"n_tested": self.n_tested, "n_random_asked": self.n_random, "made": self._number()}
        is_wanted = self.test_classes and shown and self.found.get("is_whole")
        is_there = self._fits(self.tested, shown) and all(self.tested.get(k) == v for k, v in how.items())
        title = f"Dependence of the classes on {shown}"
        self.submit_unless(not is_wanted or is_there, self._test, shown, how, into="tested", title=title)

    def _fetch_place(self) -> None:
        shown, sample = self.shown, self._sample_shown()
        if not shown or sample is None:
            return
        wanted = {"sample": sample, "target": self.target or "", "made": self._number()}
        is_there = self._fits(self.place, shown) and all(self.place.get(k) == v for k, v in wanted.items())
        title, quiet = f"The direction in sample {sample}", bool(self.place)
        self.submit_unless(is_there, self._place, shown, wanted, into="place", title=title, quiet=quiet)

    def _sample_shown(self) -> int | None:
        """The selected sample, or the one with the largest projection."""
        if self.sample is not None or not len(self.strip.get("samples", ())):
            return self.sample
        return int(self.strip["samples"][0])

    def _number(self) -> int:
        """Counts fits: a direction keeps its address while its samples change."""
        return int(self.found.get("made", 0))

    def _is_of(self, have: dict[str, Any], direction: str) -> bool:
        """Whether a payload belongs to this direction as it was fitted last."""
        return self._fits(have, direction) and have.get("made") == self._number()

    @staticmethod
    def _fits(have: dict[str, Any], direction: str) -> bool:
        return bool(have) and have.get("direction") == direction

    def _selected_elsewhere(self, change: Any) -> None:
        """What others select becomes the positives of a concept of selected samples; what is brushed here does not."""
        if self.concept == "selected" and len(self.samples) and self.shared.origin != self.model_id:
            self.positive_ids = self.samples

    def _tags_changed(self) -> None:
        if self._is_closed:
            return
        self._answers.forget("tag:")
        self._fetch_options()
        if "tag" in (self.concept.partition(":")[0], self.negatives.partition(":")[0]):
            self._made_for = None
            self._fetch()

    def _put(self, trait: str, value: Any, job: Job) -> None:
        """Take a result, unless the view has come back meanwhile to what it shows."""
        if trait in ("tails", "place", "tested"):
            wanted: dict[str, dict[str, Any]] = {
                "tails": {"wanted": self.tail_size},
                "place": {"sample": self._sample_shown(), "target": self.target or ""},
                "tested": {"n_tested": self.n_tested, "n_random_asked": self.n_random},
            }
            now = wanted[trait]
            if not self._is_of(value, self.shown) or any(value.get(k) != v for k, v in now.items()):
                return
        super()._put(trait, value, job)

    # The work, on the lane --------------------------------------------------------------------------------------------

    def _look(self, wish: Wish, progress: Any = None) -> None:
        deliver(self._take, wish, self._answers.first(wish, progress))

    def _look_on(self, wish: Wish, progress: Any = None) -> None:
        def tell(found: dict[str, Any]) -> None:
            deliver(self._take, wish, found)

        deliver(self._take, wish, self._answers.rest(wish, tell, progress))

    def _take(self, wish: Wish, found: dict[str, Any]) -> None:
        if self._is_closed or wish != self._wish():
            return
        before = {row["direction"]: row for row in self.found.get("rows", ()) if "direction" in row}
        goes_on = wish == self._made_for and bool(before)
        number = self._number() if goes_on else self._number() + 1
        self._method_on_show = before.get(self.direction, {}).get("method") or self._method_on_show
        if not goes_on:
            self._looked_on = None
        self._made_for = wish
        if self._problem and "found" in self._failed_topics:
            self._failed_topics.discard("found")
        with self.hold_sync():
            if self._problem and not self._failed_topics:
                self._problem = {}
            self.found = {**found, "made": number}
            there = {row["direction"]: row for row in found["rows"] if "direction" in row}
            if self.direction and self.direction not in there and found["is_whole"]:
                # Of another concept or layer the same method is shown.
                alike = (one for one, row in there.items() if row["method"] == self._method_on_show)
                self.direction = next(alike, "")
        self._fetch_shown()

    def _project(self, direction: str, number: int, progress: Any = None) -> None:
        strip = {**self._answers.strip(direction), "made": number}

        def put() -> None:
            if not self._is_closed and self.shown == direction and self._number() == number:
                self.strip = strip
                self._fetch_shown()

        deliver(put)

    def _tails(self, strip: dict[str, Any], n: int) -> dict[str, Any]:
        return {**self._answers.tails(strip["direction"], strip, n), "made": strip.get("made"), "wanted": n}

    def _test(self, direction: str, how: dict[str, Any], progress: Any = None) -> dict[str, Any]:
        made = self._answers.classes(direction, how["n_tested"], how["n_random_asked"], progress)
        return {**made, **how}

    def _place(self, direction: str, wanted: dict[str, Any]) -> dict[str, Any]:
        return {**self._answers.place(direction, wanted["sample"], wanted["target"]), "made": wanted["made"]}
