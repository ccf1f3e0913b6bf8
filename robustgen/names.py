"""Names that a suite may use, without loading what they stand for."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal, TypeAlias

KINDS = ("dataset", "classifier", "generator", "encoder", "perceptual")
"""What a pair of a suite is made of."""

EMBEDDED: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "dataset": ("digits", "faces"),
        "classifier": (
            "digits",
            "digits_robust",
            "faces",
            "faces_hair",
            "faces_light_hair",
            "faces_long_hair",
            "faces_mouth_open",
            "faces_raised_brows",
            "mnist",
            "mnist_views",
            "smiles",
            "smiles_views",
        ),
        "generator": ("digits", "faces", "mnist", "smiles"),
        "encoder": ("digits", "faces", "mnist", "smiles"),
        "perceptual": ("digits", "faces", "mnist", "smiles"),
    }
)
"""Assets that ship in the package, by kind."""

Assembler: TypeAlias = Literal["smiles", "mnist"]
"""Data sets that `robustgen.assembling` puts together from archives."""

NONE = "none"
"""What a pair says of a network that it does without."""

OPTIONAL_KINDS = ("encoder", "perceptual")
"""Parts of a pair that may be `none`."""

WEIGHT_SUFFIXES = (".safetensors", ".pt", ".pth", ".tar", ".pkl")
"""A name with one of these endings is the path of a weight file."""

TIERS = (
    "oblivious",
    "transfer",
    "bpda_identity",
    "bpda_encoder",
    "unrolled",
    "latent",
    "projection_breaking",
    "square",
    "spsa",
)
"""What an attack knows, from least to most as far as gradients go, then the searches of
another kind: `latent` and `projection_breaking` know everything but move differently,
`square` and `spsa` see outputs alone."""

ADAPTIVE_TIERS = TIERS[1:]
"""Tiers whose attacks are aimed at one path of the defense."""

GRADIENT_TIERS = ("bpda_identity", "bpda_encoder", "unrolled")
"""Tiers that take steps along gradients of a path."""

DEFENSE = "defense"
"""Path of a whole defense that the user brings."""
