"""Corrections in a session: variants and contexts, files, explanations of the corrected model, and the comparison."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

import workbench as wb
from workbench.core.edits import Edits
from workbench.core.errors import BadValueError, ShapeError, StaleError, UnknownLayerError, UnknownNameError
from workbench.core.results import Edit
from workbench.data.torch_data import TorchData
from workbench.methods import ArtifactMasks, PatternCAV, PClArC, RClArC, RRClArC
from workbench.models.bird_training import bird_card
from workbench.models.birds import BirdVGG
from workbench.testing.small import CLASSES, Listed, small_net

ON = [0, 1, 2, 5, 9]


def cav(layer="relu_b", **options):
    return PatternCAV(layer, positives=ON, scope="all", resamples=0, **options)


class Stamped(Listed):
    """The same pictures with a bright square in a corner."""

    def __init__(self, n=24, corner=0):
        super().__init__(n)
        at = slice(0, 4) if corner == 0 else slice(8, 12)
        self.pictures = self.pictures.copy()
        self.pictures[:, at, at] = (255, 0, 255)


def stamped(corner=0, n=24):
    return TorchData(Stamped(n, corner), classes=CLASSES, name=f"stamped-{corner}")


@pytest.fixture
def attacked(small):
    return stamped().using(small.data.transform)


def test_the_base_stays_and_undo_is_switching_back(small):
    x = torch.stack([small.data.tensor(i) for i in range(6)])
    before, state = small.model(x), {k: v.clone() for k, v in small.model.base.state_dict().items()}
    for method in (PClArC(cav()), RClArC(cav(), detector=cav()), RRClArC(cav(), epochs=1)):
        edits = small.fit(method).edits()
        with small.variant("fixed", edits) as fixed:
            assert not torch.equal(fixed.model(x), before)
            assert fixed.model.fingerprint != small.model.fingerprint
        with small.corrected(method) as fixed:
            assert fixed.name == "corrected" and torch.equal(fixed.model(x), small.model.variant(edits)(x))
        assert torch.equal(small.model(x), before)
    assert all(torch.equal(state[k], v) for k, v in small.model.base.state_dict().items())
    assert not any(m._forward_hooks or "forward" in vars(m) for m in small.model.module.modules())


def test_a_variant_takes_a_fitted_correction(small):
    x = torch.stack([small.data.tensor(i) for i in range(6)])
    method = small.fit(PClArC(cav()))
    with small.variant("fixed", method) as fixed, small.variant("same", list(method.edits())) as same:
        assert torch.equal(fixed.model(x), same.model(x)) and not torch.equal(fixed.model(x), small.model(x))
        assert fixed.model.fingerprint == same.model.fingerprint
    for enter in (small.corrected, lambda given: small.variant("x", given)):
        with pytest.raises(BadValueError, match=r"PClArC is not fitted yet. session.fit"):
            with enter(PClArC(cav())):
                pass
        for wrong, named in ((Edit("scale", "relu_b"), "Edit"), (small.fit(cav()), "PatternCAV"), ("fixed", "str"),
                             (None, "NoneType"), (PClArC, "type"), ({"a": 1}, "dict"), (["a"], "a list with str"),
                             (small, "Session")):  # fmt: skip
            with pytest.raises(BadValueError, match=f"a fitted correction is needed; got {named}"):
                with enter(wrong):
                    pass
    both = method.edits() + small.fit(RRClArC(cav(), epochs=1))
    assert [e.operation for e in both] == ["shift", *["replace"] * (len(both) - 1)] and len(both) > 1
    with pytest.raises(BadValueError, match="got str"):
        method.edits() + "more"


def test_corrections_go_together(small):
    one, two = small.fit(PClArC(cav())).edits(), small.fit(RRClArC(cav("relu_a"), epochs=1)).edits()
    x = torch.stack([small.data.tensor(i) for i in range(6)])
    with small.variant("both", one + two) as both, small.variant("one", one) as first:
        with first.variant("two", two) as chained:
            assert torch.equal(both.model(x), chained.model(x))
            assert both.model.fingerprint == chained.model.fingerprint


def test_files_know_their_model(small, open_small, tmp_path):
    path = small.fit(RClArC(cav(), condition="both", classes=[0, 2], detector=cav())).save(tmp_path / "reactive")
    found = small.load_edits(path)
    assert isinstance(found, Edits) and [e.describe() for e in found] == [
        e.describe() for e in small.fit(RClArC(cav(), condition="both", classes=[0, 2], detector=cav())).edits()
    ]
    x = torch.stack([small.data.tensor(i) for i in range(6)])
    with small.corrected(found) as fixed:
        fixed.model(x)
        with pytest.raises(StaleError, match="made for Small@"):
            fixed.load_edits(path)
    other = small_net()
    with torch.no_grad():
        other.head.bias += 1
    foreign = open_small(other)
    with pytest.raises(StaleError, match="any_model=True"):
        foreign.load_edits(path)
    assert len(foreign.load_edits(path, any_model=True)) == 1
    Edits([Edit("shift", "relu_b", array=np.ones((1, 3)))], model=found.model).save(tmp_path / "narrow")
    with pytest.raises(ShapeError):
        small.load_edits(tmp_path / "narrow", any_model=True)
    Edits([Edit("scale", "relu_c")], model=found.model).save(tmp_path / "elsewhere")
    with pytest.raises(UnknownLayerError):
        small.load_edits(tmp_path / "elsewhere", any_model=True)


@pytest.mark.parametrize("at", ["position", "sample"])
def test_explanations_go_through_the_corrected_pass(small, at):
    """To zero all relevance passes the shift (the gap is that of the plain model's rule); its score is the new one."""
    found = small.fit(PClArC(cav("relu_a"), at=at, reference="zero"))
    with small.corrected(found) as fixed:
        made = fixed.explain([3, 4], "logit:1", rule="EpsilonPlus", record=["relu_a", "relu_b"])
        x = torch.stack([small.data.tensor(i) for i in (3, 4)])
        torch.testing.assert_close(made.score, fixed.model(x)[:, 1])
        assert not torch.allclose(made.heatmap, small.explain([3, 4], "logit:1", rule="EpsilonPlus").heatmap)
        before = fixed.explain([3, 4], "logit:1", rule="EpsilonPlus", record=["a"]).relevance["a"].sum(1)
        torch.testing.assert_close(before, made.relevance["relu_a"].sum(1), rtol=0.02, atol=1e-3)


def test_models_are_compared_pair_by_pair(small, attacked, counting):
    c = small.fit(cav(pooling="mean"))
    fixed = small.variant("fixed", small.fit(PClArC(c)).edits())
    masks = {i: np.pad(np.ones((4, 4)), ((0, 8), (0, 8))) for i in range(24)}
    found = small.reevaluate(
        fixed, attacked=attacked, cav=c, masks=masks, besides={"other": stamped(1).using(small.data.transform)}
    )
    assert (
        found.models == (small.name, "fixed") and found.samples.tolist() == list(range(24)) and found.layer == "relu_b"
    )
    x = [torch.stack([d.tensor(i) for i in range(24)]) for d in (small.data, attacked)]
    for row, session in enumerate((small, fixed)):
        for kind, batch in zip(("clean", "attacked"), x, strict=True):
            right = session.model(batch).argmax(1).numpy() == small.data.labels
            assert (getattr(found, kind)[row] == right).all()
    assert found.sensitivity[0] > 0 and found.sensitivity[1] < 1e-4 * found.sensitivity[0]
    assert found.relevance.shape == (2, 24) and found.relevance_area == pytest.approx(1 / 9)
    assert ((found.relevance >= 0) & (found.relevance <= 1)).all()
    assert found.probe_layer[1] <= found.probe_layer[0] and set(found.others) == {"other"}
    counts = counting(small), counting(fixed)
    again = small.reevaluate(
        {"renamed": fixed},
        attacked=attacked,
        cav=c,
        masks=masks,
        besides={"other": stamped(1).using(small.data.transform)},
    )
    assert [one.calls for one in counts] == [0, 0] and again.models[1] == "renamed"
    assert again.to_frame().reset_index(drop=True).equals(found.to_frame().reset_index(drop=True))
    assert "re-evaluation on 24 pairs" in repr(found) and found.plot().data
    fixed.close()


def test_pairs_of_one_data_set_serve_as_well(open_small):
    both = Listed(24)
    both.pictures, both.targets = np.concatenate([both.pictures, Stamped(24).pictures]), both.targets * 2
    both.__class__ = type("Both", (Listed,), {"__len__": lambda self: 48})
    s = open_small(data=TorchData(both, classes=CLASSES, name="both"))
    pairs = [(i + 24, i) for i in range(24)]
    found = s.reevaluate(attacked=pairs)
    assert found.samples.tolist() == list(range(24)) and np.isnan(found.sensitivity).all()
    assert any("Without a direction" in text for text in found.warnings)
    x = torch.stack([s.data.tensor(i) for i in range(48)])
    right = s.model(x).argmax(1).numpy() == s.data.labels
    assert (found.clean[0] == right[:24]).all() and (found.attacked[0] == right[24:]).all()
    with pytest.raises(BadValueError, match="in two pairs"):
        s.reevaluate(attacked=[(24, 0), (25, 0)])
    with pytest.raises(BadValueError, match="`samples` are chosen by the pairs"):
        s.reevaluate(attacked=pairs, samples=[1])


class Views(TorchData):
    """Stamped or not, each picture `k` times as views of one original."""

    def __init__(self, k, is_stamped):
        listed = Stamped(24) if is_stamped else Listed(24)
        listed.pictures, listed.targets = np.tile(listed.pictures, (k, 1, 1, 1)), listed.targets * k
        super().__init__(listed, classes=CLASSES, name=f"views-{k}-{is_stamped}")
        self._origins = np.tile(np.arange(24), k)


def test_views_of_one_original_narrow_nothing(open_small):
    """Each pair three times: intervals, errors and tests are those of the 24, and no probe has seen another view."""
    found = {}
    for k in (1, 3):
        s = open_small(data=Views(k, False))
        own = PatternCAV("relu_b", positives=[i + 24 * j for i in ON for j in range(k)], scope="all", resamples=0)
        c = s.fit(own)
        masks = {i: np.pad(np.ones((4, 4)), ((0, 8), (0, 8))) for i in range(24 * k)}
        fixed = s.variant("fixed", s.fit(PClArC(c)).edits())
        attacked = Views(k, True).using(s.data.transform)
        found[k] = s.reevaluate(fixed, attacked=attacked, cav=c, masks=masks, n_explained=24 * k)
        fixed.close()
    one, many = found[1].to_frame(), found[3].to_frame()
    assert found[3].n_origins == 24 and "72 pairs of 24 originals" in repr(found[3])
    probes = ["probe_layer", "probe_logits"]
    pd.testing.assert_frame_equal(many.drop(columns=probes), one.drop(columns=probes), rtol=1e-3, atol=1e-6)
    assert (np.abs(many[probes] - one[probes]) < 0.15).all(axis=None)


def test_a_result_of_samples_that_were_taken_for_originals_is_not_returned(small, attacked, counting):
    """The same pictures, some as views of others: another question, whatever is stored."""
    small.reevaluate(attacked=attacked)
    small.data._origins = np.arange(24) // 2
    counter = counting(small)
    found = small.reevaluate(attacked=attacked)
    assert counter.calls and found.n_origins == 12


def test_masks_may_be_those_of_a_method(small, attacked):
    c = small.fit(cav(pooling="mean"))
    made = small.fit(ArtifactMasks(c, samples=[0, 3, 7, 11]))
    found = small.reevaluate(attacked=attacked, cav=c, masks=made)
    shown = [i for i, mask in zip(made.index_.tolist(), made.masks_, strict=True) if mask.any()]
    assert found.relevance.shape == (1, len(shown)) and len(shown)
    assert found.relevance_origins.tolist() == shown
    known = dict(zip(made.index_.tolist(), made.masks_, strict=True))
    np.testing.assert_array_equal(found.relevance, small.reevaluate(attacked=attacked, cav=c, masks=known).relevance)
    n = 24 - len(shown)
    assert f"{n} of the 24 samples that are explained have no mask: relevance is that of the other {len(shown)}." in (
        found.warnings
    )


def test_masks_that_are_not_there_are_refused(small, attacked, tmp_path):
    world = wb.data.PartWorld(9, n_classes=3, size=32)
    net = BirdVGG(3, widths=(4, 6, 8)).eval()
    with wb.open_session(lambda: (net, bird_card("vgg", world)), data=world.clean(), store=tmp_path) as s:
        with pytest.raises(UnknownNameError, match=r'No mask "timestmp".*"timestamp".*9 samples.*: beak, bird, body'):
            s.reevaluate(attacked=world.attacked(), masks="timestmp")
        assert s.reevaluate(attacked=world.attacked(), masks="timestamp").relevance.shape == (1, 9)
        some = s.reevaluate(attacked=world, masks="timestamp")  # planted on some of the first class alone
        n = int(world.has_artifact.sum())
        assert 0 < n < 9 and some.relevance.shape == (1, n)
        assert f'{9 - n} of the 9 samples that are explained have no mask "timestamp"' in some.warnings[0]
    with pytest.raises(UnknownNameError, match="have none"):
        small.reevaluate(attacked=attacked, masks="artifact")
    with pytest.raises(BadValueError, match="which is not fitted"):
        small.reevaluate(attacked=attacked, masks=ArtifactMasks(cav()))
    with pytest.raises(BadValueError, match="fitted ArtifactMasks; got int"):
        small.reevaluate(attacked=attacked, masks=3)
    with pytest.raises(BadValueError, match="among the 1 masks"):
        small.reevaluate(attacked=attacked, masks={99: np.ones((12, 12))})
    with pytest.raises(ShapeError, match="mask of sample 3"):
        small.reevaluate(attacked=attacked, masks={3: np.ones(12)})
    assert small.reevaluate(attacked=attacked).relevance.shape == (1, 0), "by default there may be none"


def test_what_does_not_belong_together_is_refused(small, attacked):
    with pytest.raises(ShapeError, match="go by the same ids"):
        small.reevaluate(attacked=stamped(n=20).using(small.data.transform))
    with pytest.raises(BadValueError, match="must be a data set"):
        small.reevaluate(attacked=attacked, besides={"x": [1, 2]})
    with pytest.raises(BadValueError, match="compared by its session"):
        small.reevaluate(small.fit(PClArC(cav())).edits(), attacked=attacked)


def test_correcting_one_artifact_says_that_the_other_did_not_fall(tmp_path):
    """A head that reads two artifacts, each along its own axis; projecting the first out leaves the second."""
    from workbench.testing.latent import Latent, LatentNet

    clean = Latent(200, artifact="none", seed=1)

    def with_mark(axis):
        made = Latent(200, artifact="none", seed=1)
        values = clean.values.clone()
        values[:, axis] += 6
        made.values = values
        made.dataset.data = values[:, :, None, None]
        made.name = f"mark-{axis}"
        return made

    net = LatentNet()
    with torch.no_grad():
        net.head.weight.zero_()
        net.head.bias.zero_()
        net.head.weight[1, 0], net.head.weight[1, 3], net.head.weight[1, 5] = 4.0, 3.0, 3.0
        net.head.bias[1] = -10.0
    first, second = with_mark(3), with_mark(5)
    both = TorchData(_Joined(clean, first), classes=("zero", "one"), name="joined")
    with (
        wb.open_session(net.eval(), data=both, store=tmp_path) as s,
        wb.open_session(net, data=clean, store=tmp_path) as test,
    ):
        c = s.fit(PatternCAV("latent", positives=range(200, 400), pooling="mean", concept="first", resamples=0))
        assert abs(c.direction_[3]) > 0.999
        with test.variant("fixed", s.fit(PClArC(c)).edits()) as fixed:
            found = test.reevaluate(fixed, attacked=first, cav=c, besides={"second": second}, artifact="first")
    assert found.gap(0)[0] > 0.2 and abs(found.gap(1)[0]) < 0.05
    assert found.unmoved(1) == ["second"] and any('"second" did not fall' in text for text in found.warnings)
    assert found.probe_logits[1] < 0.6 < found.probe_logits[0]


class _Joined:
    def __init__(self, *parts):
        self.data = torch.cat([one.values[:, :, None, None] for one in parts])
        self.targets = [int(k) for one in parts for k in one.labels]

    def __len__(self):
        return len(self.targets)

    def __getitem__(self, i):
        return self.data[i], self.targets[i]
