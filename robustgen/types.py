"""Shapes of the tensors that cross a module boundary, as types.

Names of the axes: `batch` images, `view` variations of one image, `layer` style
layers of the generator, `dim` width of a style code, `cls` classes.
"""

from collections.abc import Callable
from typing import TypeAlias

from jaxtyping import Bool, Float, Int64
from torch import Tensor

Images: TypeAlias = Float[Tensor, "batch channel height width"]
"""Pixels in [0, 1]. Classifiers normalize internally; nothing else ever does."""

Masks: TypeAlias = Float[Tensor, "batch 1 height width"]
"""Weights in [0, 1] of the pixels that a loss may look at."""

Logits: TypeAlias = Float[Tensor, "batch cls"]
"""Scores before the softmax; at least two classes."""

Labels: TypeAlias = Int64[Tensor, " batch"]
"""True classes."""

Latents: TypeAlias = Float[Tensor, "batch z"]
"""Inputs `z` of the mapping network."""

Styles: TypeAlias = Float[Tensor, "batch dim"]
"""Style codes `w`, one per image."""

StylesPlus: TypeAlias = Float[Tensor, "batch layer dim"]
"""Style codes `w_plus`, one per image and layer."""

PerSample: TypeAlias = Float[Tensor, " batch"]
"""One number per image."""

Flags: TypeAlias = Bool[Tensor, " batch"]
"""One truth value per image."""

LogitsFn: TypeAlias = Callable[[Images], Logits]
"""Anything that classifies images."""
