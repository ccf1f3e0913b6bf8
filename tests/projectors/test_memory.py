import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from problems import rng
from torch import Tensor

from robustgen.projectors.memory import PairMemory


def reference_two_loop(
    pairs: list[tuple[Tensor, Tensor]], vector: Tensor, scale: Tensor
) -> Tensor:
    """Nocedal and Wright, Algorithm 7.4, for one sample."""
    q, alphas = vector.clone(), list[Tensor]()
    for s, y in reversed(pairs):
        alpha = (s @ q) / (s @ y)
        alphas.append(alpha)
        q = q - alpha * y
    r = scale * q
    for (s, y), alpha in zip(pairs, reversed(alphas), strict=True):
        beta = (y @ r) / (s @ y)
        r = r + s * (alpha - beta)
    return r


def ones(count: int) -> Tensor:
    return torch.ones(count, dtype=torch.bool)


@settings(max_examples=30)
@given(
    st.integers(0, 1000),
    st.lists(st.tuples(st.booleans(), st.booleans(), st.booleans()), max_size=12),
)
def test_the_product_is_that_of_the_two_loop_recursion(
    seed: int, stored: list[tuple[bool, bool, bool]]
):
    # Each sample stores at its own times, more often than the ring has slots.
    generator = rng(seed)
    vector = torch.randn(3, 6, generator=generator, dtype=torch.float64)
    memory = PairMemory.empty(vector, history=4)
    kept: list[list[tuple[Tensor, Tensor]]] = [[], [], []]
    root = torch.randn(6, 6, generator=generator, dtype=torch.float64)
    hessian = root @ root.T + torch.eye(6, dtype=torch.float64)
    for where in stored:
        s = torch.randn(3, 6, generator=generator, dtype=torch.float64)
        y = s @ hessian
        memory.store(torch.tensor(where), s, y)
        for sample in range(3):
            if where[sample]:
                kept[sample] = [*kept[sample], (s[sample], y[sample])][-4:]
    product = memory.inverse_hessian_times(vector)
    for sample in range(3):
        expected = reference_two_loop(
            kept[sample], vector[sample], memory.scale[sample]
        )
        torch.testing.assert_close(product[sample], expected, rtol=1e-6, atol=1e-8)
        assert product[sample] @ vector[sample] > 0


def test_the_youngest_pair_is_matched_exactly():
    # The secant equation, H y = s.
    generator = rng(0)
    s = torch.randn(2, 5, generator=generator)
    y = s * torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0])
    memory = PairMemory.empty(s, history=3)
    memory.store(ones(2), s.flip(1), s.flip(1) * torch.arange(5, 0, -1))
    memory.store(ones(2), s, y)
    torch.testing.assert_close(memory.inverse_hessian_times(y), s)


def test_pairs_without_positive_curvature_are_left_out():
    s = torch.eye(4)
    y = torch.stack([-s[0], s[0], torch.full((4,), torch.inf), s[3]])
    memory = PairMemory.empty(s, history=2)
    memory.store(ones(4), s, y)
    assert memory.count.tolist() == [0, 0, 0, 1]
    assert memory.is_empty.tolist() == [True, True, True, False]
    assert memory.pairs.isfinite().all()


def test_forgetting_leaves_the_scaled_identity_and_other_samples_alone():
    generator = rng(0)
    s = torch.rand(2, 5, generator=generator)
    memory = PairMemory.empty(s, history=2)
    memory.store(ones(2), s, 2 * s)
    before = memory.inverse_hessian_times(s)
    memory.forget(torch.tensor([True, False]), torch.tensor([7.0, 9.0]))
    after = memory.inverse_hessian_times(s)
    torch.testing.assert_close(after[0], 7 * s[0])
    assert torch.equal(after[1], before[1])
    memory.store(torch.tensor([True, False]), s, 4 * s)
    torch.testing.assert_close(memory.inverse_hessian_times(s)[0], s[0] / 4)
