"""SampleGrid: which data are these?"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import traitlets

from workbench.core import check
from workbench.core.errors import BadValueError, CancelledError, DataError, StaleError, UnknownSampleError
from workbench.core.words import count
from workbench.session.deliver import deliver
from workbench.session.lane import Job
from workbench.widgets import linking, wire
from workbench.widgets.base import SessionWidget, on, register_widget
from workbench.widgets.esm import css, esm
from workbench.widgets.handlers import at_most, many, one_of
from workbench.widgets.keeping import Offer
from workbench.widgets.pacing import Paced
from workbench.widgets.recording import Recording
from workbench.widgets.sample_rows import SampleRows, outlined, with_columns
from workbench.widgets.sample_still import IN_STILL, bars_of, still_of
from workbench.widgets.stills import Still

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["SampleGrid"]

_MOST = 10_000_000
_PAGE = 64  # thumbnails of a page that is recorded
_RECORDED = 1024
_LONG_S = 0.3  # work on the model that took longer may have stored something


@register_widget("samples")
class SampleGrid(SessionWidget):
    """The samples of a session as a grid of thumbnails, which can be filtered, sorted, grouped, chosen and tagged.

    A click selects the current sample for all widgets of the session; Ctrl-click, Shift-click and a box drawn with the
    mouse choose a set, which can be tagged. What is chosen elsewhere is outlined here, or shown alone.

    Parameters
    ----------
    source : Session
    columns : mapping of str to sequence, or DataFrame indexed by sample, optional
        More to sort, group, filter by and show: scores, deviations, groups of one's own. One value per sample.
    **view
        `filter`, `sort`, `ascending`, `group_by`, `overlay`, `tile`, `only_selected` and the other traits.

    Notes
    -----
    A `filter` is a few words that must all occur in a sample's name, label, prediction or tags. ``label:zebra`` looks
    in one column, ``label=zebra`` wants all of it, ``origin<100`` compares numbers, ``tag:bird`` has a tag, and
    ``is:wrong``, ``is:tagged`` and ``is:untagged`` say what they mean. ``-`` before a word turns it round, and quotes
    keep words together.

    Examples
    --------
    >>> grid = SampleGrid(s, filter="is:wrong", group_by="label")  # doctest: +SKIP
    >>> grid.selection = "label == 'circle'"  # doctest: +SKIP
    >>> grid.tag("round")  # doctest: +SKIP
    """

    _esm = esm("samples")
    _css = css("samples")
    follows = ("sample", "samples")
    stands_for = "sample"

    sample = traitlets.Any(None, allow_none=True, help="Id of the current sample, or None.").tag(sync=True)
    samples = traitlets.Any((), help="Ids of the chosen samples, in the order of choosing.").tag(
        sync=True, **linking.members
    )
    filter = traitlets.Unicode("", help='Words that samples on show must fit, like "circle tag:odd -is:wrong".').tag(
        sync=True, view=True
    )
    sort = traitlets.Unicode("sample", help="Column that orders the samples.").tag(sync=True, view=True)
    ascending = traitlets.Bool(True, help="Whether the smallest come first; what is unknown always comes last.").tag(
        sync=True, view=True
    )
    group_by = traitlets.Unicode("", help="Column that divides the samples into groups; empty for none.").tag(
        sync=True, view=True
    )
    overlay = traitlets.List(
        traitlets.Unicode(), ["label", "tags"], maxlen=4, help="Columns that are written below the thumbnails."
    ).tag(sync=True, view=True)
    tile = traitlets.Enum([64, 96], 96, help="Side of a thumbnail in pixels.").tag(sync=True, view=True)
    show_masks = traitlets.Bool(False, help="Outline the data set's masks, as of planted artifacts.").tag(
        sync=True, view=True
    )
    only_selected = traitlets.Bool(False, help="Show the chosen samples alone instead of outlining them.").tag(
        sync=True, view=True
    )
    rows = traitlets.Dict(help="Number of samples, digest of the data, and what each column is.").tag(
        sync=True, **wire.arrays
    )
    values = traitlets.Dict(help="Each column's values, one per sample.").tag(sync=True, **wire.arrays)
    marks = traitlets.Dict(help="Names and counts of the tags, and a bit for each sample.").tag(
        sync=True, **wire.arrays
    )

    def __init__(self, source: Any = None, *, columns: Any = None, **options: Any):
        self._given_columns = columns
        self._known: SampleRows | None = None
        self._still_pictures: dict[int, np.ndarray] = {}
        self._still_masks = False
        super().__init__(source, **options)

    def bind(self, source: Any) -> None:
        if self.session is None:
            raise BadValueError(
                f"SampleGrid shows the samples of a session; got {type(source).__name__}.",
                hint="Give it what open_session returned.",
            )
        self.observe(self._try_again, names=["sample", "samples"])
        self._look_again = Paced(lambda: deliver(self.refresh, key=(id(self), "samples")), 1.0)
        self._last_ended = max((job.number for job in self.session.jobs()), default=0)
        self._undo += [self._look_again.stop, self.session.on_jobs(self._notice)]
        self.refresh()

    # What is on show --------------------------------------------------------------------------------------------------

    def refresh(self) -> None:
        """Look again at what is known of the samples; done by itself after sweeps and when tags change."""
        with contextlib.suppress(CancelledError):  # closed a moment ago
            job = self.submit(self._load, topic="samples", title="Samples", quiet=self._known is not None)
            job.add_done_callback(self._loaded)

    def _notice(self) -> None:
        # On the threads that work, at every step: a sweep that has ended may have stored predictions.
        newest = next((job for job in self.session.jobs() if job.has_ended), None)
        if newest is not None and newest.number > self._last_ended:
            self._last_ended = newest.number
            if newest.seconds > _LONG_S:
                self._look_again()

    def _try_again(self, change: Any) -> None:
        if self._known is None and not self._pending and not self._is_closed:
            self.refresh()

    def _load(self) -> SampleRows:
        rows = SampleRows(with_columns(self.session.samples(), self._given_columns))
        rows.values()  # made here, beside the notebook, and kept by the rows
        return rows

    def _loaded(self, job: Job) -> None:
        if job.state == "done":
            deliver(self._show, job.result(0))

    def _show(self, rows: SampleRows) -> None:
        if self._is_closed:
            return
        if self.rows and self._known is not None and rows.frame.equals(self._known.frame):
            return
        is_first, self._known = not self.rows, rows
        wrong = self._leave_what_is_gone()
        with self.hold_sync():
            self.values = rows.values()
            self.marks = rows.marks()
            self.rows = {
                "digest": self._digest(),
                "n": len(rows),
                "columns": rows.facts(),
                "is_named": rows.is_named,
                "n_classes": len(rows.column("label").get("names", ())),
            }
            if self._problem and not self._failed_topics:
                self._problem = {}
        if is_first and hasattr(self.session.data, "on_tags"):
            self._undo.append(self.session.data.on_tags(self._tags_changed))
        self._report()
        if wrong is not None:
            self._fail("The view", wrong)

    def _leave_what_is_gone(self) -> BadValueError | None:
        """Columns that are not there, like those of tags that have gone, are no longer shown or sorted by."""
        rows, wrong = self._rows(), None
        for name, default in (("sort", "sample"), ("group_by", "")):
            if (value := getattr(self, name)) and value not in rows.names:
                setattr(self, name, default)
                wrong = None if value.startswith("tag:") else _no_column(value, rows)
        if missing := [name for name in self.overlay if name not in rows.names]:
            self.overlay = [name for name in self.overlay if name in rows.names]
            wrong = wrong if missing[0].startswith("tag:") else _no_column(missing[0], rows)
        return wrong

    @traitlets.validate("sort", "group_by", "overlay")
    def _is_column(self, proposal: Any) -> Any:
        value = proposal["value"]
        if self._known is not None:
            for name in value if isinstance(value, list) else [value] if value else []:
                if name not in self._known.names:
                    raise _no_column(name, self._known)
        if proposal["trait"].name == "sort":
            return value or "sample"
        return list(dict.fromkeys(value)) if isinstance(value, list) else value

    def _digest(self) -> str:
        return str(self.session.digests()["data"])

    def _rows(self) -> SampleRows:
        """What is known of the samples; looked up at once where nobody has waited for it."""
        if self._known is None:
            self._known = self._load()
        return self._known

    def _order(self) -> np.ndarray:
        return self._rows().order(
            query=self.filter,
            sort=self.sort,
            ascending=self.ascending,
            group_by=self.group_by,
            only=self.samples if self.only_selected else None,
        )

    # Tags -------------------------------------------------------------------------------------------------------------

    def tag(self, name: str, samples: Any = None) -> Job:
        """Give the chosen samples, or those named, a tag; what is chosen is the set, else the current sample."""
        return self.submit(self._tag, name, self._chosen(samples), True, title=f"Tag {name}")

    def untag(self, name: str, samples: Any = None) -> Job:
        """Take a tag from the chosen samples, or from those named."""
        return self.submit(self._tag, name, self._chosen(samples), False, title=f"Untag {name}")

    def _chosen(self, samples: Any) -> list[int]:
        if samples is None:
            samples = self.samples or (() if self.sample is None else (self.sample,))
        chosen = list(samples)
        if not chosen:
            raise BadValueError(
                "No sample is chosen.", hint="Choose some in the grid, or name them: tag(name, [3, 4])."
            )
        return chosen

    def _tag(self, name: str, samples: Sequence[int], is_on: bool) -> dict[str, Any]:
        data = self.session.data
        left = data.tag(name, samples) if is_on else data.untag(name, samples)
        return {"name": name, "n": len(left), "tagged": len(samples), "is_on": is_on}

    def _tags_changed(self) -> None:
        deliver(self._look_at_tags, key=(id(self), "tags"))

    def _look_at_tags(self) -> None:
        with contextlib.suppress(CancelledError):
            job = self.submit(self._retagged, topic="tags", title="Tags", quiet=True)
            job.add_done_callback(self._tags_read)

    def _tags_read(self, job: Job) -> None:
        if job.state == "done":
            deliver(self._show_tags, job.result(0))

    def _retagged(self) -> SampleRows:
        return self._rows().with_tags(self.session.data.tagged())

    def _show_tags(self, rows: SampleRows) -> None:
        if not self._is_closed:
            self._known = rows
            with self.hold_sync():
                self._leave_what_is_gone()
                self.marks = rows.marks()

    # Questions from the page ------------------------------------------------------------------------------------------

    @on("thumbnails", digest=str, samples=many(at_most(_MOST), wire.SHEET_TILES), size=one_of(64, 96), masks=bool)
    def _on_thumbnails(self, digest: str, samples: list[int], size: int, masks: bool) -> Job:
        """Thumbnails of some samples on one sheet."""
        self._check_samples(digest, samples)
        return self.submit(self._sheet, samples, size, masks, title="Thumbnails", quiet=True)

    @on("tag", digest=str, name=str, samples=many(at_most(_MOST), _MOST), is_on=bool)
    def _on_tag(self, digest: str, name: str, samples: list[int], is_on: bool) -> Job:
        """Tag or untag some samples."""
        self._check_samples(digest, samples)
        return self.submit(self._tag, name, samples, is_on, title=f"{'Tag' if is_on else 'Untag'} {name}")

    def _check_samples(self, digest: str, samples: list[int]) -> None:
        if digest != self._digest():
            raise StaleError("The page asks about other data than those on show.", hint="Run its cell again.")
        n = len(self._rows())
        if wrong := [i for i in samples if i >= n]:
            raise UnknownSampleError(f"No sample {wrong[0]}.", hint=f"There are {n}, from 0.")

    def _sheet(self, samples: Sequence[int], size: int, masks: bool) -> dict[str, Any]:
        return {"size": size, "sheet": wire.sheet(self._pictures(samples, size, masks))}

    def _pictures(self, samples: Sequence[int], size: int, masks: bool) -> list[np.ndarray]:
        pictures = list(self.session.thumbnails(list(samples), size)) if len(samples) else []
        return [self._outlined(i, one) for i, one in zip(samples, pictures, strict=True)] if masks else pictures

    def _outlined(self, sample: int, picture: np.ndarray) -> np.ndarray:
        try:
            masks = self.session.data.masks(int(sample))
        except DataError:  # the picture cannot be read, and shows it
            return picture
        return outlined(picture, masks.values())

    # In Python --------------------------------------------------------------------------------------------------------

    def table(self) -> pd.DataFrame:
        """The samples on show in the order on show, with all columns."""
        return self._rows().frame.iloc[self._order()]

    def selected(self) -> list[Any]:
        return list(dict.fromkeys([*([self.sample] if self.sample is not None else []), *self.samples]))

    @property
    def selection(self) -> pd.DataFrame:
        """The current sample and the chosen ones, on show or not; assigning takes ids, masks, frames and queries."""
        return self._rows().frame.loc[self.selected()]

    @selection.setter
    def selection(self, wanted: Any) -> None:
        from workbench.widgets.choosing import ids_of

        self.select(ids_of(wanted, self.table()))

    def select(self, ids: list[Any]) -> None:
        """Choose samples by their ids; the first becomes the current one."""
        chosen = [self.shared.check("sample", one) for one in ids]
        self.samples = tuple(chosen) if len(chosen) > 1 else ()
        self.sample = chosen[0] if chosen else None

    def plot(self, *, by: str = "", **layout: Any) -> Any:
        """Bars of how many samples on show there are of each kind, and how many of them are chosen.

        Parameters
        ----------
        by : str
            Column that divides them; what they are grouped by, else the label, if not given.
        """
        return bars_of(self, by or self.group_by or "label").plot(**layout)

    # Keeping ----------------------------------------------------------------------------------------------------------

    def source_code(self) -> str:
        return "s" if self._given_columns is None else "s, columns=columns"

    def prepare_still(self) -> None:
        if self._known is not None:
            if self._still_masks != self.show_masks:
                self._still_pictures, self._still_masks = {}, self.show_masks
            wanted = [i for i in self._order()[:IN_STILL].tolist() if i not in self._still_pictures]
            made = self._pictures(wanted, 64, self.show_masks)
            self._still_pictures.update(zip(wanted, made, strict=True))

    def still(self) -> Still:
        return still_of(self)

    def offers(self) -> Offer:
        return Offer(samples=tuple(self._order()[:_RECORDED].tolist()))

    def _recorded(self) -> list[int]:
        """What a page without a kernel shows thumbnails of: what is chosen, then the first on show."""
        chosen, first = self.selected()[:_RECORDED], self._order()[:_RECORDED].tolist()
        return list(dict.fromkeys([*chosen, *first]))[:_RECORDED]

    def recorded_state(self) -> dict[str, Any]:
        if not self.rows:
            return {}
        recorded = {"samples": np.array(self._recorded(), np.uint32), "page": _PAGE, "masks": self.show_masks}
        return {"rows": {**self.rows, "recorded": recorded}}

    def recordings(self, wanted: Offer) -> Iterator[Recording]:
        """Whole pages of thumbnails, and single ones of what other widgets lead to."""
        samples, masks = self._recorded(), self.show_masks
        pages = [samples[i : i + _PAGE] for i in range(0, len(samples), _PAGE)]
        for page in [*pages, *([one] for one in wanted.samples if one not in set(samples))]:
            body = {"digest": self._digest(), "samples": page, "size": 64, "masks": masks}
            yield Recording(
                lambda page=page: self._sheet(page, 64, masks),  # type: ignore[misc]
                question=("thumbnails", body),
                what="sheets of thumbnails",
            )

    def describe(self) -> str:
        if self._known is None:
            return ""
        chosen = f", {count(len(self.samples))} chosen" if self.samples else ""
        return f"{count(len(self._known), 'sample')}{chosen}"


def _no_column(name: str, rows: SampleRows) -> Any:
    try:
        check.known("column", name, rows.names)
    except Exception as error:
        return error
    return None
