"""Files that the full assets need: where they lie, how large they are, where they
come from; and which profile of a suite can run here.
"""

import os
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal, NamedTuple

import platformdirs

from robustgen.errors import RequestError, unknown_name
from robustgen.names import FULL, KINDS
from robustgen.suite import Profile, ProfileName, Suite

_UPSTREAM = "https://github.com/chail/gan-ensembling"
_CELEBA = "https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html"


@dataclass(frozen=True)
class SourceFile:
    """One file, or one folder of files, of a full asset.

    Args:
        asset: Name of the asset that needs it.
        root: `data` for `$ROBUSTGEN_DATA`, `weights` for `$ROBUSTGEN_WEIGHTS`.
        path: Where it lies below that folder.
        size: About how large it is, for people.
        origin: Page or repository that it comes from.
        how: What to do to get it.
        count: Number of PNG files if it is a folder, else 0.
    """

    asset: str
    root: Literal["data", "weights"]
    path: str
    size: str
    origin: str
    how: str
    count: int = 0

    @property
    def location(self) -> Path:
        """Where the file is looked for on this machine."""
        folder = data_folder() if self.root == "data" else weights_folder()
        return folder / self.path

    @property
    def present(self) -> bool:
        """Whether the file, or all files of the folder, are there."""
        if not self.count:
            return self.location.is_file()
        images = self.location.glob("*.png")
        return sum(1 for _ in islice(images, self.count)) == self.count


FULL_FILES: tuple[SourceFile, ...] = (
    SourceFile(
        asset="celebahq",
        root="data",
        path="celebahq/images/images",
        size="about 40 GB",
        origin="https://github.com/tkarras/progressive_growing_of_gans",
        how="make CelebA-HQ with the instructions there: 30,000 PNG files of "
        "1024 x 1024 pixels, named by their CelebA number (000004.png)",
        count=30_000,
    ),
    SourceFile(
        asset="celebahq",
        root="data",
        path="celebahq/list_attr_celeba.txt",
        size="27 MB",
        origin=_CELEBA,
        how="download it from the folder Anno of CelebA",
    ),
    SourceFile(
        asset="celebahq",
        root="data",
        path="celebahq/list_eval_partition.txt",
        size="3 MB",
        origin=_CELEBA,
        how="download it from the folder Eval of CelebA",
    ),
    SourceFile(
        asset="stylegan2_ffhq",
        root="weights",
        path="sgans_stylegan2-ffhq-config-f.pt",
        size="about 130 MB",
        origin=_UPSTREAM,
        how="the generator that networks/stylegan2 of this repository loads for ffhq",
    ),
    SourceFile(
        asset="ffhq_rgbm",
        root="weights",
        path="sgan_encoders_ffhq_RGBM_model_initial.pth.tar",
        size="about 105 MB",
        origin=_UPSTREAM,
        how="the encoder that networks/stylegan2 of this repository loads for ffhq",
    ),
    SourceFile(
        asset="celebahq_smiling",
        root="weights",
        path="pretrained_classifiers/celebahq/Smiling/net_best.pth",
        size="about 280 MB",
        origin=_UPSTREAM,
        how="its resources/download_resources.sh unpacks it into results/",
    ),
    SourceFile(
        asset="lpips_alex",
        root="weights",
        path="alexnet-owt-7be5be79.pth",
        size="244 MB",
        origin="https://docs.pytorch.org/vision/stable/models/alexnet.html",
        how="download https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
    ),
)
"""Every file of every full asset. Sizes are computed from the numbers of weights,
except the lists and the folder of images, which are estimates."""


class ProfileChoice(NamedTuple):
    """Which profile runs, and the first line that says so."""

    name: ProfileName
    message: str


def data_folder() -> Path:
    """Where data sets lie: `$ROBUSTGEN_DATA`, else the user's cache folder."""
    return _folder("ROBUSTGEN_DATA", "data")


def weights_folder() -> Path:
    """Where weights lie: `$ROBUSTGEN_WEIGHTS`, else the user's cache folder."""
    return _folder("ROBUSTGEN_WEIGHTS", "weights")


def full_files(profile: Profile) -> tuple[SourceFile, ...]:
    """Every file that the full assets of a profile need."""
    assets = {
        name
        for pair in profile.pairs
        for kind in KINDS
        if (name := getattr(pair, kind)) in FULL[kind]
    }
    return tuple(file for file in FULL_FILES if file.asset in assets)


def missing_files(profile: Profile) -> list[SourceFile]:
    """Those files that are not on disk."""
    return [file for file in full_files(profile) if not file.present]


def choose_profile(suite: Suite, requested: str = "auto") -> ProfileChoice:
    """Chooses the profile that runs.

    `auto` takes `full` if all its files are on disk and this version can read them,
    else `embedded`.

    Args:
        suite: The suite.
        requested: `auto`, `full` or `embedded`.

    Raises:
        RequestError: the profile asked for does not exist or cannot run; names each
            missing file, its size, where it comes from and how to get it.
    """
    if requested not in ("auto", "full", "embedded"):
        raise unknown_name("profile", requested, ("auto", "full", "embedded"))
    full, embedded = suite.profiles.full, suite.profiles.embedded
    if requested == "embedded" or full is None:
        suite.profile("embedded" if requested == "auto" else requested)
        return ProfileChoice("embedded", _embedded_line(full))
    if not full_files(full):
        # Factories and weight files only: nothing to download, nothing to convert.
        return ProfileChoice("full", "Profile: full.")
    if requested == "auto" and embedded is not None:
        return ProfileChoice("embedded", _embedded_line(full))
    raise RequestError(_why_not_full(suite, full))


def _embedded_line(full: Profile | None) -> str:
    if full is None:
        return "Profile: embedded (no download needed; this suite has no full profile)."
    line = (
        "Profile: embedded (stand-in assets that ship with robustgen; numbers are not "
        "those of the full profile)."
    )
    missing = missing_files(full)
    if not missing:
        return (
            f"{line} The full assets are on disk, but this version of robustgen cannot "
            "read them yet."
        )
    files = ", ".join(f"{file.path} ({file.size})" for file in missing)
    return f"{line} Missing for full: {files}."


def _why_not_full(suite: Suite, full: Profile) -> str:
    missing = missing_files(full)
    if not missing:
        return (
            f"Suite '{suite.name}': all files of the full profile are on disk, but "
            "this version of robustgen cannot read them yet. Use --profile embedded."
        )
    lines = [
        f"  {file.location}\n"
        f"      for {file.asset}, {file.size}, from {file.origin}\n"
        f"      {file.how}"
        for file in missing
    ]
    return "\n".join(
        (
            f"Suite '{suite.name}': profile full lacks these files ({len(missing)}):",
            *lines,
            "Or use --profile embedded, which needs no download.",
        )
    )


def _folder(variable: str, name: str) -> Path:
    value = os.environ.get(variable)
    if value:
        return Path(value).expanduser()
    return platformdirs.user_cache_path("robustgen") / name
