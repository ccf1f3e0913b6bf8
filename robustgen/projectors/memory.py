"""The inverse Hessians of many samples, each known from pairs of its own.

The product comes from the compact representation (Byrd, Nocedal and Schnabel,
"Representations of quasi-Newton matrices", 1994, eq. 2.6 and 3.1), because two products
with all pairs at once cost less than a loop over them. It is the matrix of the two-loop
recursion, up to rounding.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from robustgen.projectors.minimum import dot

FLATTEST = 1e-4
"""Least cosine between the two vectors of a pair that is stored."""


@dataclass
class PairMemory:
    """The last `history` pairs of each sample, in a ring, and their inner products.

    Args:
        pairs: Changes `s` of the point, then changes `y` of the gradient. What lies in
            an empty slot is finite and never counts.
        sy: `s_i . y_j`; correct where `i` is as old as `j` or older.
        yy: `y_i . y_j`.
        stamp: Number of the pair in each slot; -1 where the slot is empty.
        count: Pairs stored so far.
        scale: The inverse Hessian before any pair is applied, times the identity:
            `s.y / y.y` of the youngest pair.
    """

    pairs: Float[Tensor, "n two_h p"]
    sy: Float[Tensor, "n h h"]
    yy: Float[Tensor, "n h h"]
    stamp: Int64[Tensor, "n h"]
    count: Int64[Tensor, " n"]
    scale: Float[Tensor, " n"]

    @staticmethod
    def empty(like: Float[Tensor, "n p"], history: int) -> "PairMemory":
        """No pairs yet, for samples and coordinates as `like` has them."""
        n, p = like.shape
        # Products in double precision: their matrix is inverted.
        products = like.new_zeros(n, history, history, dtype=torch.float64)
        return PairMemory(
            pairs=like.new_zeros(n, 2 * history, p),
            sy=products,
            yy=products.clone(),
            stamp=torch.full((n, history), -1, device=like.device),
            count=torch.zeros(n, dtype=torch.int64, device=like.device),
            scale=like.new_ones(n),
        )

    @property
    def is_empty(self) -> Bool[Tensor, " n"]:
        """Whether a sample has no pair."""
        return (self.stamp < 0).all(dim=1)

    def select(self, rows: Int64[Tensor, " m"]) -> "PairMemory":
        """The memory of some of the samples."""
        return PairMemory(
            pairs=self.pairs[rows],
            sy=self.sy[rows],
            yy=self.yy[rows],
            stamp=self.stamp[rows],
            count=self.count[rows],
            scale=self.scale[rows],
        )

    def forget(self, where: Bool[Tensor, " n"], scale: Float[Tensor, " n"]) -> None:
        """Empties the memory of some samples and gives them a scale to start from."""
        self.stamp = self.stamp.masked_fill(where[:, None], -1)
        self.scale = torch.where(where, scale, self.scale)

    def store(
        self,
        where: Bool[Tensor, " n"],
        s: Float[Tensor, "n p"],
        y: Float[Tensor, "n p"],
    ) -> None:
        """Lets a new pair replace the oldest one, for some samples.

        A pair without positive curvature is left out, or `H` would not stay positive
        definite.
        """
        sy, ss, yy = dot(s, y), dot(s, s), dot(y, y)
        curved = (sy > FLATTEST * (ss * yy).sqrt()) & (yy > 0) & yy.isfinite()
        where = where & curved & sy.isfinite()
        chosen = where[:, None]
        history = self.stamp.shape[1]
        row = torch.arange(len(where), device=where.device)
        slot = self.count % history
        for offset, vector in ((0, s), (history, y)):
            old = self.pairs[row, offset + slot]
            self.pairs[row, offset + slot] = torch.where(chosen, vector, old)
        products = (self.pairs @ y[:, :, None]).squeeze(-1).to(self.sy.dtype)
        s_with_y, y_with_y = products.split(history, dim=1)
        self.sy[row, :, slot] = torch.where(chosen, s_with_y, self.sy[row, :, slot])
        y_with_y = torch.where(chosen, y_with_y, self.yy[row, :, slot])
        self.yy[row, :, slot] = y_with_y
        self.yy[row, slot] = y_with_y
        self.stamp[row, slot] = torch.where(where, self.count, self.stamp[row, slot])
        self.count = self.count + where
        # Not divided by 0 anywhere, or replaying a pass would have no gradient.
        ratio = sy / torch.where(where, yy, 1.0)
        self.scale = torch.where(where, ratio, self.scale)

    def inverse_hessian_times(
        self, vector: Float[Tensor, "n p"]
    ) -> Float[Tensor, "n p"]:
        """`H v` of each sample, with `H` positive definite."""
        held = self.stamp >= 0
        both = held[:, :, None] & held[:, None, :]
        in_order = self.stamp[:, :, None] <= self.stamp[:, None, :]
        empty = torch.diag_embed((~held).to(self.sy.dtype))
        # `R` of the paper, triangular but for the order of the slots; empty slots get
        # the identity, so that they neither change anything nor make it singular.
        r = torch.where(both & in_order, self.sy, 0) + empty
        yy = torch.where(both, self.yy, 0)
        d = r.diagonal(dim1=1, dim2=2)[:, :, None]
        scale = self.scale[:, None, None].to(self.sy.dtype)
        products = (self.pairs @ vector[:, :, None]).to(self.sy.dtype)
        s_with_v, y_with_v = products.chunk(2, dim=1)
        s_with_v = s_with_v * held[:, :, None]
        y_with_v = y_with_v * held[:, :, None]
        # The variant that raises would let one odd sample end the whole batch.
        u = torch.linalg.solve_ex(r, s_with_v)[0]
        t = torch.linalg.solve_ex(r.mT, d * u + scale * (yy @ u - y_with_v))[0]
        weights = torch.cat([t, -scale * u], dim=1).to(vector.dtype)
        return self.scale[:, None] * vector + (weights.mT @ self.pairs).squeeze(1)
