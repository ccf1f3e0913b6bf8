"""Names that a suite may use, without loading what they stand for."""

from collections.abc import Mapping
from types import MappingProxyType

KINDS = ("dataset", "classifier", "generator", "encoder", "perceptual")
"""What a pair of a suite is made of."""

EMBEDDED: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "dataset": ("digits", "faces"),
        "classifier": (
            "digits",
            "faces",
            "faces_hair",
            "faces_light_hair",
            "faces_long_hair",
            "faces_mouth_open",
            "faces_raised_brows",
        ),
        "generator": ("digits", "faces"),
        "encoder": ("digits", "faces"),
        "perceptual": ("digits", "faces"),
    }
)
"""Assets that ship in the package, by kind."""

FULL: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "dataset": ("celebahq",),
        "classifier": ("celebahq_smiling",),
        "generator": ("stylegan2_ffhq",),
        "encoder": ("ffhq_rgbm",),
        "perceptual": ("lpips_alex",),
    }
)
"""Assets that need a download, by kind."""

OPTIMIZERS: Mapping[str, str] = MappingProxyType(
    {
        "lbfgs": "batched L-BFGS; each image has its own memory, step and line search",
        "adam": "Adam; one evaluation of the loss per step",
    }
)
"""How a projector searches, with one line about each."""

VIEW_FAMILIES: Mapping[str, str] = MappingProxyType(
    {
        "stylemix": "codes of the chosen layers replaced by those of a random image",
        "isotropic": "Gaussian noise of std `sigma` on the chosen layers",
        "pca": "a step of up to `beta` stds along a principal direction of w",
    }
)
"""How views vary a code, with one line about each."""

WEIGHT_SUFFIXES = (".safetensors", ".pt", ".pth", ".tar", ".pkl")
"""A name with one of these endings is the path of a weight file."""
