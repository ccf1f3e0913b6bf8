"""Where the files of full assets lie on this machine, which of them are missing, and
which profile of a suite can run here.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal, NamedTuple

import platformdirs

from robustgen.assets import asset_names, asset_path
from robustgen.errors import RequestError, unknown_name
from robustgen.full_assets import (
    Archive,
    Assembly,
    Asset,
    FileEntry,
    all_assets,
    find_archive,
    named_assets,
)
from robustgen.full_assets import asset_domain as asset_domain
from robustgen.full_assets import full_assets as full_assets
from robustgen.names import KINDS
from robustgen.suite import Profile, ProfileName, Suite
from robustgen.view_settings import PcaViews


@dataclass(frozen=True)
class SourceFile:
    """One file, or one folder of files, of a full asset.

    Args:
        asset: Name of the asset that needs it.
        root: `data` for `$ROBUSTGEN_DATA`, `weights` for `$ROBUSTGEN_WEIGHTS`.
        path: Where it lies below that folder.
        also: Other places below it where the file is accepted.
        size: About how large it is, for people.
        origin: Page or repository that it comes from.
        how: What a person does to get it.
        license: Terms of the asset, in a few words.
        bytes: Exact size, where known.
        sha256: Digest, where a source states one.
        url: Where it may be fetched from without asking anyone.
        archive: Archive that holds it, in place of `url`.
        member: How its path in the archive ends.
        assembly: How it is put together from archives, in place of `url`.
        count: Number of files at least if it is a folder, else 0.
        pattern: Which files of the folder count.
    """

    asset: str
    root: Literal["data", "weights"]
    path: str
    size: str
    origin: str
    how: str
    also: tuple[str, ...] = ()
    license: str = ""
    bytes: int | None = None
    sha256: str | None = None
    url: str | None = None
    archive: Archive | None = None
    member: str = ""
    assembly: Assembly | None = None
    count: int = 0
    pattern: str = "*"

    @property
    def folder(self) -> Path:
        """The data or the weights folder of this machine."""
        return data_folder() if self.root == "data" else weights_folder()

    @property
    def location(self) -> Path:
        """Where the file is on this machine, or else belongs."""
        places = [self.folder / path for path in (self.path, *self.also)]
        return next((place for place in places if place.exists()), places[0])

    @property
    def present(self) -> bool:
        """Whether the file, or all files of the folder, are there."""
        return self.location.is_file() if not self.count else self.found == self.count

    @property
    def found(self) -> int:
        """Files of the folder that are there; those beyond `count` are not counted."""
        return sum(1 for _ in islice(self.location.glob(self.pattern), self.count))

    @property
    def usable(self) -> bool:
        """Whether the file, or a part of the folder, is there to be read."""
        return self.present if not self.count else self.found > 0

    @property
    def automatic(self) -> bool:
        """Whether `robustgen fetch` can get it."""
        ways = (self.url, self.archive, self.assembly)
        return any(way is not None for way in ways)


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


def asset_files(name: str, kind: str | None = None) -> tuple[SourceFile, ...]:
    """Every file that a full asset needs.

    Args:
        name: Name of the asset, such as `stylegan2_ffhq`.
        kind: Such as `dataset`, where assets of several kinds share the name; None
            takes the files of all of them.

    Raises:
        RequestError: there is no such asset.
    """
    return _files_of(a for a in named_assets(name) if kind in (None, a.kind))


def weights_path(name: str) -> Path:
    """Where the weights of a full asset lie; the file may be missing.

    Raises:
        RequestError: there is no such asset, or it is a data set alone.
    """
    files = [file for file in asset_files(name) if file.root == "weights"]
    if not files:
        raise RequestError(f"'{name}' is a data set; it has no weights.")
    return files[0].location


def find_weights(path_or_name: str | Path, file: str) -> Path:
    """Where weights lie that are given by path or by name.

    Args:
        path_or_name: A file, the name of an asset that ships, or that of a full asset,
            which lies in the weights folder once it is fetched.
        file: File of an asset that is meant, such as `generator.safetensors`.

    Raises:
        RequestError: the text is the name of nothing that has such a file.
    """
    path = Path(path_or_name)
    if isinstance(path_or_name, Path) or path.suffix or len(path.parts) > 1:
        return path
    if path.is_file():
        return path
    kind, shipped = Path(file).stem, asset_names(file)
    if path_or_name in shipped:
        return asset_path(path_or_name, file)
    full = full_assets(kind)
    if path_or_name not in full:
        raise unknown_name(kind, path_or_name, (*shipped, *full))
    found = weights_path(path_or_name)
    if not found.is_file():
        raise RequestError(
            f"{found}: no such file. It is the {kind} '{path_or_name}'; "
            f"`robustgen fetch {path_or_name}` gets it or says how."
        )
    return found


def companion(generator: str, kind: str) -> str | None:
    """The asset that describes the codes of a full generator, if there is one.

    Args:
        generator: Name of the generator.
        kind: `pca` for principal directions of w, `class_means` for mean codes.

    >>> companion("stylegan2_ffhq", "pca")
    'stylegan2_ffhq_stats'
    """
    found = (a for a in all_assets() if (a.generator, a.kind) == (generator, kind))
    return next((asset.name for asset in found), None)


def archive_files(archive: str) -> tuple[SourceFile, ...]:
    """Every file of any asset that comes from an archive."""
    return tuple(
        file
        for file in _files_of(all_assets())
        if file.archive is not None and file.archive.name == archive
    )


def full_files(profile: Profile) -> tuple[SourceFile, ...]:
    """Every file that the full assets of a profile need, each once."""
    files: dict[str, SourceFile] = {}
    for pair in profile.pairs:
        needed = [(kind, getattr(pair, kind)) for kind in KINDS]
        if isinstance(profile.views, PcaViews):
            needed.append(("pca", companion(str(pair.generator), "pca")))
        for kind, name in needed:
            for asset in all_assets():
                if asset.name == name and _serves(asset, kind):
                    files |= {file.path: file for file in _files_of([asset])}
    return tuple(files.values())


def missing_files(profile: Profile) -> list[SourceFile]:
    """Those files that are not on disk. A part of a folder of images will do."""
    return [file for file in full_files(profile) if not file.usable]


def choose_profile(suite: Suite, requested: str = "auto") -> ProfileChoice:
    """Chooses the profile that runs.

    `auto` takes `full` if all its files are on disk, else `embedded`. Asked for by
    name, `full` makes do with a part of a folder of images, and says so.

    Args:
        suite: The suite.
        requested: `auto`, `full` or `embedded`.

    Raises:
        RequestError: the profile asked for does not exist or lacks files; names each
            missing file, its size, where it comes from and how to get it.
    """
    if requested not in ("auto", "full", "embedded"):
        raise unknown_name("profile", requested, ("auto", "full", "embedded"))
    full, embedded = suite.profiles.full, suite.profiles.embedded
    if requested == "embedded" or full is None:
        suite.profile("embedded" if requested == "auto" else requested)
        return ProfileChoice("embedded", _embedded_line(full))
    if requested == "auto" and embedded is not None and _incomplete(full):
        return ProfileChoice("embedded", _embedded_line(full))
    missing = missing_files(full)
    if not missing:
        return ProfileChoice("full", _full_line(full))
    raise RequestError(
        "\n".join(
            (
                f"Suite '{suite.name}': profile full lacks these files "
                f"({len(missing)}):",
                *file_lines(missing),
                "Or use --profile embedded, which needs no download."
                if embedded is not None
                else "This suite has no profile that needs no download.",
            )
        )
    )


def file_lines(files: Iterable[SourceFile]) -> list[str]:
    """For people: where each file belongs, what it is and how to get it."""
    lines: list[str] = []
    for file in files:
        lines += [
            f"  {file.location}",
            f"      for {file.asset}, {file.size}, from {file.origin}",
            f"      {file.how}",
        ]
        if file.automatic:
            other = "or: " if file.assembly is None else ""
            lines.append(f"      {other}robustgen fetch {file.asset}")
    return lines


def _incomplete(full: Profile) -> list[SourceFile]:
    """Files that are not on disk, and folders that are there in part."""
    return [file for file in full_files(full) if not file.present]


def _full_line(full: Profile) -> str:
    if not full_files(full):
        return "Profile: full."
    parts = [
        f" {file.path} holds {file.found:,} of {file.count:,} files."
        for file in _incomplete(full)
    ]
    return f"Profile: full (every file it needs is on disk).{''.join(parts)}"


def _embedded_line(full: Profile | None) -> str:
    if full is None:
        return "Profile: embedded (no download needed; this suite has no full profile)."
    line = (
        "Profile: embedded (stand-in assets that ship with robustgen; numbers are not "
        "those of the full profile)."
    )
    missing = [
        f"{file.path} ({file.found:,} of {file.count:,} files)"
        if file.usable
        else f"{file.path} ({file.size})"
        for file in _incomplete(full)
    ]
    if not missing:
        return f"{line} Every file of the full profile is on disk."
    return f"{line} Missing for full: {', '.join(missing)}."


def _serves(asset: Asset, kind: str) -> bool:
    """Whether an asset may stand where a suite names one of a kind."""
    return asset.kind == kind or (asset.kind, kind) == ("class_means", "encoder")


def _files_of(assets: Iterable[Asset]) -> tuple[SourceFile, ...]:
    return tuple(_source(asset, file) for asset in assets for file in asset.files)


def _source(asset: Asset, file: FileEntry) -> SourceFile:
    return SourceFile(
        asset=asset.name,
        root="data" if asset.kind == "dataset" else "weights",
        path=file.path,
        size=file.size,
        origin=file.origin or asset.origin,
        also=file.also,
        how=file.how or asset.how,
        license=asset.license,
        bytes=file.bytes,
        sha256=file.sha256,
        url=file.url,
        archive=find_archive(file.archive) if file.archive else None,
        member=file.member or file.path,
        assembly=file.assembly,
        count=file.count,
        pattern=file.pattern,
    )


def _folder(variable: str, name: str) -> Path:
    value = os.environ.get(variable)
    if value:
        return Path(value).expanduser()
    return platformdirs.user_cache_path("robustgen") / name
