"""The samples as a table: what is known of each without running the model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from workbench.methods.columns import label_names, named
from workbench.session.trying import Trying

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Samples"]


class Samples(Trying):
    """The part of a session that lists samples. See `Session`."""

    def samples(self, ids: Sequence[int] | None = None) -> pd.DataFrame:
        """What is known of the samples; the model does not run.

        Parameters
        ----------
        ids : sequence of int, optional
            Rows in this order. Default: all.

        Returns
        -------
        pandas.DataFrame
            Index ``sample``. Columns: ``name`` (the file, or the set's own name), ``label`` and ``prediction`` (names;
            empty where unknown, predictions also where no sweep with relevance has stored them), ``origin`` (which
            original picture it is a view of), ``tags`` (tuple of names), and for each tag a bool column ``tag:NAME``.
        """
        import pandas as pd

        data = self.data
        rows = np.arange(len(data)) if ids is None else np.array([self._check_sample(i) for i in ids], dtype=np.int64)
        keys = data.keys
        tagged = dict(sorted(data.tagged().items()))
        labels = label_names(data, rows)
        columns: dict[str, object] = {
            "name": [str(keys[i]) for i in rows],
            "label": [""] * len(rows) if labels is None else labels.tolist(),
            "prediction": named(self._predictions()[rows], self.class_names()).tolist(),
            "origin": data.origins[rows],
        }
        names: dict[int, list[str]] = {}
        for name, samples in tagged.items():
            for i in samples:
                names.setdefault(i, []).append(name)
        columns["tags"] = [tuple(names.get(i, ())) for i in rows.tolist()]
        columns |= {f"tag:{name}": np.isin(rows, samples) for name, samples in tagged.items()}
        return pd.DataFrame(columns, index=pd.Index(rows, name="sample"))

    def _predictions(self) -> np.ndarray:
        """(sample,) int64 largest output of each sample, as a sweep with relevance stored it; -1 where none did."""
        for layer in self.model.layers:
            found = self._find("relevances", layer)
            if found is not None:
                target = found.whole("target").numpy()
                return np.where(found.whole("is_valid").numpy(), target, -1)
        return np.full(len(self.data), -1)
