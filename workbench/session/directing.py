"""Directions in a session: activations of any samples, bases of directions, projections on them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from workbench.core import check
from workbench.core.errors import BadValueError, DataError, NotFiniteError, ShapeError, UnknownComponentError
from workbench.core.ids import ComponentId
from workbench.core.progress import Progress
from workbench.core.results import ActivationTable, Direction, DirectionSet, ReferenceSet
from workbench.core.sampling import evenly
from workbench.models.hooks import record
from workbench.session.tables import Tables
from workbench.sweeps.references import Block, top_references

if TYPE_CHECKING:
    from torch import Tensor

    from workbench.data.base import Dataset
    from workbench.models.layers import Layer

__all__ = ["Directing"]

_POOLINGS = ("max", "mean", "token")


class Directing(Tables):
    """The part of a session that knows directions. See `Session`."""

    _directions: dict[tuple[str, str], DirectionSet] | None = None

    def pooled(
        self, layer: str, samples: Any = None, *, pooling: str = "max", progress: Progress | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Pooled activations of some samples: stored ones where there are, the others computed and stored.

        Parameters
        ----------
        layer : str
        samples : (sample,) int array, optional
            Default: those that a sweep has covered; of all data, which is swept, if none has.
        pooling : {"max", "mean", "token"}
            ``"token"`` is the first of a sequence (cls), which sweeps do not keep: default samples are then all.
        progress : Progress, optional
            Of what is computed beside a sweep.

        Returns
        -------
        ids : (sample,) int64 array
            Those that could be read, rising.
        values : (sample, unit) float32 array

        Raises
        ------
        IncompleteError
            If all are asked for, and the sweep kept references alone.
        """
        one = self.model.layers.usable(layer)
        check.one_of("pooling", pooling, _POOLINGS)
        if pooling == "token" and not (one.axis == -1 and len(one.shape) == 2):
            raise BadValueError(
                f'"{layer}" gives {one.shape}, which is no sequence of tokens, so it has no first one.',
                hint='Use pooling="max" or "mean".',
            )
        wanted = None
        if samples is not None:
            wanted = np.unique(np.asarray(samples, dtype=np.int64))
            for i in (wanted[:1].tolist() + wanted[-1:].tolist()) if len(wanted) else ():
                self._check_sample(i)
        if pooling == "token":
            wanted = np.arange(len(self.data)) if wanted is None else wanted
            return self._computed_rows(one, wanted, pooling, progress)
        if wanted is not None and self._find("activations", layer) is None:
            return self._computed_rows(one, wanted, pooling, progress)
        values, is_valid = self._read(
            "activations", layer, lambda found: (found.whole(f"{layer}|{pooling}"), found.whole("is_valid"))
        )
        valid = is_valid.numpy()
        if wanted is None:
            return _rows(values, np.flatnonzero(valid))
        ids, rows = _rows(values, wanted[valid[wanted]])
        lacking = wanted[~valid[wanted]]
        if len(lacking) == 0:
            return ids, rows
        more_ids, more = self._computed_rows(one, lacking, pooling, progress)
        order = np.argsort(np.concatenate([ids, more_ids]), kind="stable")
        return np.concatenate([ids, more_ids])[order], np.concatenate([rows, more])[order]

    def add_directions(self, directions: DirectionSet) -> list[str]:
        """Make directions components of the model, by their addresses; those of the same name make way.

        Afterwards they may stand wherever a component may: in `explain(given=...)`, as a target, in the selection.
        `Session.fit` does it for each method that finds directions.

        Returns
        -------
        list of str
            Their addresses.
        """
        pooling = directions.directions[0].pooling
        self.model.layers.add_directions(directions.layer, directions.basis, directions.vectors, pooling=pooling)
        self._directions = {**(self._directions or {}), (directions.layer, directions.basis): directions}
        return directions.ids()

    def directions(self) -> dict[str, DirectionSet]:
        """The directions that are known, by ``layer/basis``."""
        return {f"{layer}/{basis}": found for (layer, basis), found in (self._directions or {}).items()}

    def project(self, directions: Any, samples: Any = None, *, progress: Progress | None = None) -> ActivationTable:
        """Project samples on directions.

        Parameters
        ----------
        directions : fitted method, DirectionSet, Direction, or address
            An address names one direction, ``layer/basis`` all of a basis.
        samples : (sample,) int array, optional
            Default: all that a sweep has covered.

        Returns
        -------
        ActivationTable
            One column per direction: the pooled activation, pooled as it was for fitting, times the vector. Rows of
            samples that were not asked for, or could not be read, are NaN.
        """
        chosen = self._direction_set(directions)
        pooling = chosen.directions[0].pooling
        ids, rows = self.pooled(chosen.layer, samples, pooling=pooling, progress=progress)
        values = torch.full((len(self.data), len(chosen)), float("nan"))
        values[torch.from_numpy(ids)] = torch.from_numpy(rows @ chosen.vectors.T)
        valid = torch.zeros(len(self.data), dtype=torch.bool)
        valid[torch.from_numpy(ids)] = True
        return ActivationTable(
            chosen.layer, chosen.basis, "activation", pooling, values, valid, coverage=len(ids) / len(self.data)
        )

    def activations(self, layer: str, *, pooling: str = "max", basis: str = "unit") -> ActivationTable:
        """Pooled activations of a layer, (sample, component); swept first if need be.

        Parameters
        ----------
        basis : str
            Of directions: projections, see `project`; pooled as they were for fitting, whatever `pooling`.
        """
        if basis == "unit":
            return super().activations(layer, pooling=pooling)
        return self.project(f"{layer}/{basis}")

    def references(
        self,
        layer: str,
        by: str = "activation",
        k: int = 20,
        per_origin: int = 1,
        *,
        target: Any = None,
        rule: Any = None,
        basis: str = "unit",
    ) -> ReferenceSet:
        """The samples that activate each component most, or on which it is most relevant.

        Parameters
        ----------
        by : {"activation", "relevance"}
        k : int
            References per component; slots beyond the data are empty (sample -1, value -inf).
        per_origin : int
            Most views per original picture; 0 for no limit.
        basis : str
            Of directions: the samples with the largest projections.

        Raises
        ------
        IncompleteError
            If the sweep kept references alone, and other or more ones than these are asked for.
        """
        if basis == "unit":
            return super().references(layer, by, k, per_origin, target=target, rule=rule)
        check.one_of("by", by, ("activation", "relevance"))
        if by == "relevance":
            raise BadValueError(
                "Sweeps keep relevances of units, not of directions.", hint='Use by="activation": by projection.'
            )
        table = self.project(f"{layer}/{basis}")
        return self._projected_references(table, check.positive("k", k), per_origin)

    def planted_directions(
        self, layer: str, *, pooling: str = "max", n: int = 48, progress: Progress | None = None
    ) -> dict[str, np.ndarray]:
        """The true directions of artifacts that were planted, where the data set can leave them out again.

        Parameters
        ----------
        layer : str
        pooling : {"max", "mean", "token"}
        n : int
            Pairs per artifact at most, spread evenly: scenes that carry it alone.
        progress : Progress, optional

        Returns
        -------
        dict of str to (unit,) float32 array
            By the artifact's name: mean difference of the pooled activations of a scene with the artifact and the same
            scene without it, of length 1. Empty where nothing was planted, or is seen here.
        """
        one, data = self.model.layers.usable(layer), self.data
        check.one_of("pooling", pooling, _POOLINGS)
        check.positive("n", n)

        def rows(ids: np.ndarray, clean: Dataset | None = None) -> tuple[np.ndarray, np.ndarray]:
            if clean is None:
                return self.pooled(one.name, ids, pooling=pooling, progress=progress)
            return self._computed_rows(one, ids, pooling, progress, clean)

        found: dict[str, np.ndarray] = {}
        for name, with_, without, clean in _counterparts(data, n):
            (ids, values), (clean_ids, clean_values) = rows(with_), rows(without, clean)
            # One that cannot be read costs its pair.
            kept = np.isin(with_, ids) & np.isin(without, clean_ids)
            on = values[np.searchsorted(ids, with_[kept])]
            off = clean_values[np.searchsorted(clean_ids, without[kept])]
            difference = on.sum(0, dtype=np.float64) - off.sum(0, dtype=np.float64)
            if (size := float(np.linalg.norm(difference))) > 0:
                found[name] = (difference / size).astype(np.float32)
        return found

    # --- inside ------------------------------------------------------------------------------------------------------

    def _projected_references(self, table: ActivationTable, k: int, per_origin: int) -> ReferenceSet:
        origins, n = self.data.origins, len(self.data)
        block = Block(table.values, torch.arange(n), table.is_valid)
        ids, values = top_references([block], origins, k, per_origin=per_origin)
        facts = f"{table.layer}/{table.basis}/{self.model.fingerprint.digest}".encode() + values.numpy().tobytes()
        return ReferenceSet(
            layer=table.layer, basis=table.basis, by="activation", ids=ids, values=values, n_valid=(ids >= 0).sum(1),
            n_samples=int(table.is_valid.sum()), n_origins=len(np.unique(origins[table.is_valid.numpy()])),
            per_origin=per_origin, coverage=table.coverage,
            recipe=hashlib.blake2b(facts + ids.numpy().tobytes(), digest_size=16).hexdigest(),
        )  # fmt: skip

    def _direction_set(self, given: Any) -> DirectionSet:
        found = getattr(given, "directions_", given)
        if isinstance(found, Direction):
            found = DirectionSet(found.layer, found.basis, (found,))
        if isinstance(found, (str, ComponentId)):
            return self._known_directions(str(found))
        if not isinstance(found, DirectionSet):
            raise BadValueError(
                f"{type(given).__name__} is no direction.", hint="Give a fitted CAV, a DirectionSet or an address."
            )
        layer = self.model.layers.usable(found.layer)
        if found.vectors.shape[1] != layer.n_components:
            raise ShapeError(
                f'The directions have {found.vectors.shape[1]} entries, "{layer.name}" has {layer.n_components} units.'
            )
        return found

    def _known_directions(self, address: str) -> DirectionSet:
        layer, _, basis = address.partition("/")
        basis, _, index = basis.partition("/")
        known = self._directions or {}
        if (layer, basis) not in known:
            self.model.layers.basis(layer, basis or "unit")  # explains what there is
            raise UnknownComponentError(
                f'"{address}" names no directions that this session has fitted.',
                hint=f"There are: {', '.join(self.directions()) or 'none'}.",
            )
        found = known[layer, basis]
        if not index:
            return found
        component = self.model.layers.component(address)
        return DirectionSet(layer, basis, (found.directions[component.index],))

    def _computed_rows(
        self, layer: Layer, ids: np.ndarray, pooling: str, progress: Progress | None, clean: Dataset | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Rows of samples that no sweep has, kept under a recipe of their own; of a counterpart if one is given."""
        chosen = [len(ids), hashlib.blake2b(ids.tobytes(), digest_size=8).hexdigest()]
        counterpart = {} if clean is None else {"counterpart": clean.fingerprint.digest}
        recipe = self._recipe(
            "pooled",
            layer=layer.name,
            params={"pooling": pooling, "samples": chosen, "canonizers": ["fold_batch_norm"], **counterpart},
            precision=str(self.model.dtype).removeprefix("torch."),
            title=f"activations of {layer.name}, {len(ids)} samples",
        )  # fmt: skip

        def pool(progress: Progress | None = None) -> Any:
            return self.store.get_or_make(
                recipe, lambda: self._pool(layer, ids, pooling, progress or self.progress, clean)
            )

        found = self.store.get(recipe)
        if found is None:
            found = self._run_shown(pool, progress=progress)
        return np.asarray(found["sample"]), np.asarray(found["values"])

    def _pool(
        self, layer: Layer, ids: np.ndarray, pooling: str, progress: Progress, clean: Dataset | None = None
    ) -> dict[str, Tensor]:
        handle, rows, read_ids = self.model, [], []
        data = self.data if clean is None else clean
        step = 16 if handle.device.type == "cpu" else 64
        progress.start(f"activations of {layer.name}", len(ids))

        def see(_: str, output: Tensor) -> None:
            maps = layer.components_first(output)
            pooled = maps.amax(2) if pooling == "max" else maps.mean(2) if pooling == "mean" else maps[:, :, 0]
            rows.append(pooled.float().cpu())

        for first in range(0, len(ids), step):
            part = ids[first : first + step].tolist()
            x, read, _ = data.batch(part)
            if read:
                with torch.no_grad(), handle.edited(), record(handle.module, [layer.name], see):
                    handle.module(handle.put(x))
                read_ids += read
            progress.step(len(part))
        if not rows:
            raise DataError(f"None of the {len(ids)} samples can be read.")
        values = torch.cat(rows)
        if not bool(torch.isfinite(values).all()):
            raise NotFiniteError(f'"{layer.name}" is not finite.')
        return {"sample": torch.tensor(read_ids), "values": values}


def _rows(values: Tensor, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The rows of some samples; all of them without a copy."""
    array = values.numpy()
    return ids, array if len(ids) == len(array) else array[ids]


def _counterparts(data: Any, n: int) -> Iterator[tuple[str, np.ndarray, np.ndarray, Dataset | None]]:
    """Per planted artifact its name, samples with it, their counterparts without it, and the data set of those if it is
    another; at most `n`, spread evenly.
    """
    if getattr(data, "has_artifact", None) is None:
        return
    pairs = getattr(data, "pairs", None)
    if pairs is not None:  # every sample twice in one data set
        with_, without = np.asarray(pairs, dtype=np.int64).reshape(-1, 2)[evenly(len(pairs), n)].T
        if len(with_):
            yield str(data.artifact_name), with_, without, None
        return
    if (make_clean := getattr(data, "clean", None)) is None:
        return
    clean = make_clean().using(data.transform)
    names = tuple(getattr(data, "artifact_names", ("artifact",)))
    planted = np.asarray(getattr(data, "planted", data.has_artifact[:, None]), dtype=bool)
    for place, name in enumerate(names):
        ids = np.flatnonzero(planted[:, place] & (planted.sum(1) == 1))
        ids = ids[evenly(len(ids), n)]
        if len(ids):
            yield str(name), ids, ids, clean
