"""Isotropic views: Gaussian noise on the codes of some layers.

Ensembling with Deep Generative Views (Chai et al., CVPR 2021), equation 5. The paper
writes the covariance as `sigma I`; the released code adds noise of *standard
deviation* sigma, and so does this module.
"""

from collections.abc import Sequence

import torch

from robustgen.gan.layers import LayerRange
from robustgen.types import StylesPlus
from robustgen.views.draws import (
    ViewCodes,
    check_size,
    check_views,
    normals,
    view_rngs,
)


def isotropic_codes(
    w_plus: StylesPlus,
    *,
    layers: LayerRange,
    sigma: float,
    count: int,
    seed: int,
    samples: Sequence[int],
) -> ViewCodes:
    """Codes with independent noise `N(0, sigma^2)` per layer and channel.

    Args:
        w_plus: Codes of the projected images `[N, L, D]`.
        layers: Layers that are perturbed; the others stay as they are.
        sigma: Standard deviation of the noise, in units of w. 0 leaves all views
            equal to the projection.
        count: Number of views of an image. The first ones stay the same when more
            are asked for.
        seed: Seed of the suite.
        samples: Index of each image in its data set.

    Returns:
        Codes `[N, count, L, D]`, on the device of `w_plus`.

    Raises:
        RequestError: `sigma`, `count`, `samples` or `layers` do not fit.
    """
    check_views(w_plus, samples, count)
    check_size("sigma", sigma)
    layers.check(w_plus.shape[1])
    noise = torch.stack(
        [
            normals(rng, count, layers.size, w_plus.shape[2])
            for rng in view_rngs(seed, "isotropic", samples)
        ]
    )  # [N, V, size, D]
    codes = w_plus[:, None].repeat(1, count, 1, 1)  # [N, V, L, D]
    codes[:, :, layers.start : layers.stop] += sigma * noise.to(w_plus)
    return codes
