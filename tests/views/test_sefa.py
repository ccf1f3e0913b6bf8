import pytest
import torch
from torch import Tensor

from robustgen.errors import RequestError
from robustgen.gan.layers import LayerRange
from robustgen.gan.stylegan2 import GanConfig, StyledConv, StyleGAN2
from robustgen.rngs import rng_for
from robustgen.views.sefa import factorize, sefa_directions, style_weights

CONFIG = GanConfig(
    resolution=8, channels=(6, 5), z_dim=4, w_dim=4, mapping_layers=1, img_channels=3
)


def _gan() -> StyleGAN2:
    """Codes 0, 1 and 2 are read by convolutions, 1 and 3 by RGB layers."""
    return StyleGAN2(CONFIG, rng_for(0, "tests", "gan")).requires_grad_(False)


def _fill(gan: StyleGAN2, code: int, rows: list[list[float]], *, rgb: bool) -> None:
    """Makes the affine weights of a layer repeat `rows`."""
    for index, layer in gan.styled_layers():
        if index == code and isinstance(layer, StyledConv) != rgb:
            weight = layer.affine.weight
            filled = torch.tensor(rows).repeat(len(weight), 1)[: len(weight)]
            weight.copy_(filled)


def test_each_code_counts_by_its_convolution_or_the_last_rgb_layer():
    gan = _gan()
    layers = {
        (code, isinstance(layer, StyledConv)): layer.affine.weight.double()
        for code, layer in gan.styled_layers()
    }
    expected = [layers[0, True], layers[1, True], layers[2, True], layers[3, False]]
    found = style_weights(gan, LayerRange(0, 4))
    assert torch.equal(found, torch.cat(expected))
    assert torch.equal(style_weights(gan, LayerRange(1, 2)), layers[1, True])


def test_known_weights_give_known_directions():
    # Rows of any length count the same: 4 rows along the third axis, 2 along the first.
    gan = _gan()
    _fill(gan, 0, [[0.0, 0, 9, 0], [0, 0, -1, 0], [5, 0, 0, 0]], rgb=False)
    made = sefa_directions(gan, layers=LayerRange(0, 1), seed=0)
    assert made.vectors[:, 0].tolist() == [[0, 0, 1, 0], [1, 0, 0, 0]]
    assert made.evidence["eigenvalue"].tolist() == [4.0, 2.0]
    assert made.names == ("eigenvector 0", "eigenvector 1")
    assert made.layers == LayerRange(0, 1)


def test_the_scale_is_the_spread_of_the_styles():
    gan = _gan()
    made = sefa_directions(gan, layers=LayerRange(0, 4), seed=0)
    z = torch.randn(40_000, 4, generator=rng_for(1, "tests", "z"))
    along = gan.map(z) @ made.vectors[:, 0].T
    torch.testing.assert_close(made.scale, along.std(dim=0), rtol=0.03, atol=0)


def test_directions_are_orthonormal_and_sorted():
    weights = torch.randn(50, 12, generator=rng_for(0, "tests", "weights")).double()
    vectors, values = factorize(weights, 12)
    torch.testing.assert_close(vectors @ vectors.T, torch.eye(12).double())
    assert torch.equal(values, values.sort(descending=True).values)
    # Rows of unit length: the trace of A A^T is their number.
    assert values.sum().item() == pytest.approx(50)
    unit = weights / weights.norm(dim=1, keepdim=True)
    torch.testing.assert_close((unit @ vectors.T).square().sum(dim=0), values)
    largest = vectors.abs().argmax(dim=1, keepdim=True)
    assert (vectors.gather(1, largest) > 0).all()
    first, _ = factorize(weights, 3)
    assert torch.equal(first, vectors[:3])


def test_directions_that_move_no_style_are_left_out():
    rows = torch.tensor([[1.0, 0, 0], [1, 1, 0], [0, 0, 0]]).double()
    vectors, _ = factorize(rows, 3)
    assert vectors.shape == (2, 3)
    assert torch.equal(vectors[:, 2], torch.zeros(2).double())


def test_a_range_without_layers_is_refused():
    class Bare:
        z_dim = 2
        num_classes = 0

        def styled_layers(self) -> list[tuple[int, StyledConv]]:
            return []

        def map(
            self, z: Tensor, labels: Tensor | None = None, truncation: float = 1.0
        ) -> Tensor:
            return z

    with pytest.raises(RequestError, match=r"Layers \[0, 2\] .* no style weights"):
        sefa_directions(Bare(), layers=LayerRange(0, 2), seed=0)
