"""The fixed words for axes, and shape aliases that tests check with beartype.

========== =====================================================
sample     items of a data set
component  channels, units, heads, dictionary features, directions
channel    colour or feature channels of a map
y, x       rows and columns of a map or image
token      positions of a sequence
dim        entries of an embedding
class_     entries of a classifier's output
ref        reference samples of a component, strongest first
draw       draws of a noisy or Bayesian explanation
========== =====================================================
"""

from __future__ import annotations

from jaxtyping import Bool, Float, Int
from torch import Tensor

__all__ = [
    "ComponentRef",
    "ComponentRefId",
    "ImageBatch",
    "MapBatch",
    "Sample",
    "SampleClass",
    "SampleComponent",
    "SampleComponentMap",
    "SampleMask",
]

Sample = Float[Tensor, "sample"]
SampleClass = Float[Tensor, "sample class_"]
SampleComponent = Float[Tensor, "sample component"]
SampleComponentMap = Float[Tensor, "sample component *position"]
SampleMask = Bool[Tensor, "sample"]
ImageBatch = Float[Tensor, "sample channel *position"]
MapBatch = Float[Tensor, "sample *position"]
ComponentRef = Float[Tensor, "component ref"]
ComponentRefId = Int[Tensor, "component ref"]
