"""Domain cards: what ships, what is refused."""

from pathlib import Path

import pytest

from robustgen.domain import Domain, domain_names, load_domain
from robustgen.errors import RequestError
from robustgen.gan.load import load_gan

RELEASED = {
    # resolution, layers, coarse, fine: what the released code sets for each domain
    "celebahq": (1024, 18, (0, 4), (10, 18), 500),
    "car": (512, 16, (0, 4), (10, 16), 500),
    "cat": (256, 14, (0, 4), (10, 14), 500),
    "cifar10": (32, 8, None, (7, 8), 200),
}


def card(folder: Path, text: str) -> Path:
    path = folder / "card.yaml"
    path.write_text(
        "version: 1\nname: mine\nresolution: 32\nstyle_layers: 8\n" + text,
        encoding="utf-8",
    )
    return path


def refused(path: Path) -> str:
    with pytest.raises(RequestError) as caught:
        load_domain(str(path))
    return str(caught.value).removeprefix(str(path))


def test_the_cards_that_ship():
    assert domain_names() == [
        *("car", "cat", "celebahq", "cifar10", "digits", "faces", "mnist", "smiles"),
    ]


@pytest.mark.parametrize("name", RELEASED)
def test_released_domains_have_the_released_numbers(name: str):
    domain = load_domain(name)
    resolution, layers, coarse, fine, steps = RELEASED[name]
    assert (domain.resolution, domain.style_layers) == (resolution, layers)
    assert domain.ranges.get("coarse") == coarse
    assert domain.ranges["fine"] == fine
    assert domain.ranges["all"] == (0, layers)
    assert domain.released_steps == steps
    # A StyleGAN2 of this resolution has that many style layers.
    assert layers == 2 * (resolution.bit_length() - 1) - 2


def test_released_strengths():
    grids = {
        name: (views.sigma.coarse, views.sigma.fine, views.beta.fine)
        for name in ("celebahq", "car", "cat")
        if (views := load_domain(name).views)
    }
    assert grids == {
        "celebahq": ((0.1, 0.2, 0.3), (0.1, 0.2, 0.3), (1, 2, 3)),
        "car": ((1.0, 1.5, 2.0), (0.3, 0.5, 0.7), (1, 2, 3)),
        "cat": ((0.5, 0.7, 1.0), (0.1, 0.2, 0.3), (0.5, 0.7, 1.0)),
    }
    assert load_domain("car").strength("sigma", "fine") == 0.5
    assert load_domain("cifar10").strength("sigma", "fine") is None
    assert load_domain("car").strength("beta", "middle") is None


@pytest.mark.parametrize("name", ["faces", "digits"])
def test_cards_of_shipped_generators_fit_them(name: str):
    gan, domain = load_gan(name), load_domain(name)
    assert (gan.resolution, gan.num_layers) == (domain.resolution, domain.style_layers)
    split = domain.ranges["coarse"][1]
    assert domain.ranges["fine"] == (split, gan.num_layers)


def test_an_unknown_name_gets_the_nearest():
    with pytest.raises(RequestError, match=r"Unknown domain 'cars'.*'car'"):
        load_domain("cars")


def test_a_card_of_ones_own(tmp_path: Path):
    card(tmp_path, "layers: {fine: [5, 8]}\n")
    domain = load_domain("card.yaml", tmp_path)
    assert domain.ranges == {"fine": (5, 8), "all": (0, 8)}
    assert domain.jitter.flip is False
    assert domain == Domain.model_validate(domain.model_dump())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "layers: {fine: [5, 9]}\n",
            ":5: layers: fine [5, 9] is no range of 8 layers.",
        ),
        (
            "layers: {fin: [5, 8]}\n",
            ":5: layers.fin: unknown key. Did you mean 'fine'?",
        ),
        (
            "layers: {}\nalignment: {mask: grey}\n",
            ":6: alignment: `grey_threshold` belongs to `mask: grey`, and only there.",
        ),
        (
            "layers: {}\nalignment: {method: box_center}\n",
            ":6: alignment: method 'box_center' needs `content`.",
        ),
        (
            "layers: {}\nviews: {sigma: {fine: [0]}}\n",
            ":6: views.sigma.fine.0: should be greater than 0",
        ),
    ],
)
def test_faults_name_the_line(tmp_path: Path, text: str, message: str):
    assert refused(card(tmp_path, text)).startswith(message)
