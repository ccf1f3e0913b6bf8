"""Draws of a random forward: which ones each image meets, and what they average."""

from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from robustgen.adaptive.victim import (
    Draw,
    ExpectedLogits,
    Forward,
    Rows,
    Stream,
    connected,
    draw_ids,
)
from robustgen.errors import RequestError

Seen = list[tuple[int, str, int]]
"""Row, stream and number of every draw that was asked for."""


def noting(seen: Seen) -> Forward:
    """Logits `(0, number * mean)`, noting who asks."""

    def forward(images: Tensor, rows: Rows, draw: Draw) -> Tensor:
        seen.extend((row, draw.stream, draw.number) for row in rows.tolist())
        mean = images.mean(dim=(1, 2, 3))
        return torch.stack([0 * mean, draw.number * mean], dim=1)

    return forward


def images(count: int) -> Tensor:
    return torch.linspace(0.1, 0.9, count).view(-1, 1, 1, 1).expand(-1, 1, 2, 2)


def test_every_call_takes_fresh_draws_of_its_stream():
    seen: Seen = []
    expected = ExpectedLogits(
        noting(seen), nn.Linear(1, 1), count=2, draws=2, stream="select", start=5
    )
    expected(images(2))
    expected(images(2))
    assert seen == [
        (row, "select", number) for number in (5, 6, 7, 8) for row in (0, 1)
    ]


def test_logits_and_gradient_are_the_means_over_draws():
    expected = ExpectedLogits(noting([]), nn.Linear(1, 1), count=1, draws=4, start=1)
    x = torch.full((1, 1, 2, 2), 0.5, requires_grad=True)
    logits = expected(x)
    # Draws 1 to 4 have the factors 1, 2, 3, 4: 2.5 on average, a quarter per pixel.
    assert logits.tolist() == [[0.0, 1.25]]
    (gradient,) = torch.autograd.grad(logits[0, 1], x)
    torch.testing.assert_close(gradient, torch.full_like(x, 2.5 / 4))


def test_partial_batches_keep_their_rows_and_an_order_of_their_own():
    seen: Seen = []
    expected = ExpectedLogits(noting(seen), nn.Linear(1, 1), count=3, start=1)
    expected.of(torch.tensor([2]))(images(1))
    found = expected.of(torch.tensor([1, 2, 0, 2]))(images(4))
    # Row 2 was asked about before, so it is one draw ahead of the others.
    assert seen == [
        (2, "attack", 1),
        (1, "attack", 1),
        (0, "attack", 1),
        (2, "attack", 2),
        (2, "attack", 2),
    ]
    factors = torch.tensor([1.0, 2.0, 1.0, 2.0])
    torch.testing.assert_close(found[:, 1], factors * images(4).mean(dim=(1, 2, 3)))


@settings(max_examples=20)
@given(st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=4), max_size=5))
def test_what_is_asked_about_others_changes_no_draw(asked: list[list[int]]):
    together: Seen = []
    alone: Seen = []
    whole = ExpectedLogits(noting(together), nn.Linear(1, 1), count=4)
    one = ExpectedLogits(noting(alone), nn.Linear(1, 1), count=1)
    whole(images(1))  # as the framework asks for the number of classes
    one(images(1))
    for rows in asked:
        whole.of(torch.tensor(rows))(images(len(rows)))
        if 3 in rows:
            one.of(torch.tensor([0]))(images(1))
    numbers = {number for row, _, number in together if row == 3}
    assert numbers == {number for _, _, number in alone} - {0}


def test_a_forward_that_shares_work_gets_all_draws_at_once():
    calls: list[list[int]] = []

    class Sharing:
        def __call__(self, images: Tensor, rows: Rows, draw: Draw) -> Tensor:
            return self.over(images, rows, [draw])[0]

        def over(
            self, images: Tensor, rows: Rows, draws: Sequence[Draw]
        ) -> list[Tensor]:
            calls.append([draw.number for draw in draws])
            return [noting([])(images, rows, draw) for draw in draws]

    expected = ExpectedLogits(Sharing(), nn.Linear(1, 1), count=2, draws=3)
    torch.testing.assert_close(expected(images(2))[:, 1], torch.tensor([0.1, 0.9]))
    assert calls == [[0, 1, 2]]


def test_networks_are_found_and_the_forward_is_not_registered():
    network = nn.Linear(1, 1)
    expected = ExpectedLogits(noting([]), network, count=1)
    assert list(expected.parameters()) == list(network.parameters())


@pytest.mark.parametrize(("name", "value"), [("count", 0), ("draws", 0), ("start", -1)])
def test_numbers_that_make_no_sense_are_refused(name: str, value: int):
    with pytest.raises(RequestError, match=rf"`{name}={value}` must be"):
        ExpectedLogits(noting([]), nn.Linear(1, 1), **{"count": 1, name: value})  # pyright: ignore[reportArgumentType]


def test_more_images_than_the_batch_has_need_their_rows():
    expected = ExpectedLogits(noting([]), nn.Linear(1, 1), count=2)
    with pytest.raises(RequestError, match=r"3 images of a batch of 2"):
        expected(images(3))


def test_ids_of_a_draw_hang_on_everything_that_names_it():
    def ids(
        seed: int = 0,
        purpose: str = "views",
        stream: Stream = "attack",
        number: int = 0,
    ) -> tuple[int, ...]:
        return draw_ids(seed, purpose, [7, 8], Draw(stream, number))

    others = [
        ids(seed=1),
        ids(purpose="jitter"),
        ids(stream="select"),
        ids(stream="score"),
        ids(number=1),
    ]
    found = [number for each in (ids(), *others) for number in each]
    assert len(set(found)) == 12
    assert ids() == ids()
    assert draw_ids(0, "views", [8], Draw("attack", 0)) == ids()[1:]


def test_logits_without_a_graph_have_a_gradient_of_zero():
    x = torch.rand(2, 1, 2, 2, requires_grad=True)
    logits = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    found = connected(logits, x)
    assert found.tolist() == logits.tolist()
    (gradient,) = torch.autograd.grad(found.sum(), x)
    assert gradient.count_nonzero() == 0
