"""Assets that need a download, as data: which files, how large, from where, whose.

The data are the YAML files of `downloads/`, one for each domain. No digest there is a
guess: where no source states one, there is none, and `robustgen.fetch` says that it
could not compare.
"""

import functools
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from robustgen.documents import read_document
from robustgen.errors import unknown_name
from robustgen.names import Assembler
from robustgen.schema import Count, Items, Name, Record, brief, fault, validate

_FOLDER = Path(__file__).with_name("downloads")

AssetKind: TypeAlias = Literal[
    "dataset",
    "classifier",
    "generator",
    "encoder",
    "perceptual",
    "pca",
    "class_means",
]
"""What an asset is; `pca` and `class_means` describe the codes of a generator."""


def _relative(value: str) -> str:
    path = PurePosixPath(value)
    if path.is_absolute() or ".." in path.parts or "\\" in value or str(path) != value:
        raise fault(f"should be a plain path below a folder, not {brief(value)}.")
    return value


_RelativePath = Annotated[str, AfterValidator(_relative)]
_Url = Annotated[str, StringConstraints(pattern=r"^https?://[^\s/]+/\S*[^\s/]$")]
_Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
_Bytes = Annotated[int, Field(ge=1)]


class Archive(Record):
    """An archive that files are taken from."""

    name: Name
    url: _Url
    size: str
    """About how large it is, for people."""
    bytes: _Bytes | None = None
    """Exact size, where known."""
    sha256: _Sha256 | None = None
    """Digest, where a source states one."""


class Assembly(Record):
    """How a file is put together from archives; see `robustgen.assembling`."""

    assembler: Assembler
    archives: Annotated[Items[Name], Field(min_length=1)]
    """What it is made of, in the order that the assembler takes them."""
    content: _Sha256
    """Digest of the arrays in the file, see `robustgen.assembling.content_digest`."""


class FileEntry(Record):
    """One file of an asset, or a folder of images."""

    path: _RelativePath
    """Below `$ROBUSTGEN_DATA` for a data set, else below `$ROBUSTGEN_WEIGHTS`."""
    also: Items[_RelativePath] = ()
    """Other places where it is accepted."""
    size: str
    """About how large it is, for people."""
    origin: str = ""
    """Page or repository that it comes from; by default that of the asset."""
    how: str = ""
    """What a person does to get it; by default that of the asset."""
    bytes: _Bytes | None = None
    """Exact size, where known."""
    sha256: _Sha256 | None = None
    """Digest, where a source states one."""
    url: _Url | None = None
    """Where it may be fetched from without asking anyone."""
    archive: Name | None = None
    """Archive that holds it, in place of `url`."""
    assembly: Assembly | None = None
    """How it is made of archives, in place of `url`."""
    member: _RelativePath | None = None
    """How its path in the archive ends; by default `path`."""
    count: Annotated[int, Field(ge=0)] = 0
    """Images at least, if it is a folder of them; 0 for a file."""
    pattern: str = "*"
    """Which files of the folder count."""

    @model_validator(mode="after")
    def _one_way(self) -> "FileEntry":
        ways = (self.url, self.archive, self.assembly)
        if sum(way is not None for way in ways) > 1:
            raise fault("comes from `url`, `archive` or `assembly`, not from several.")
        if self.member is not None and self.archive is None:
            raise fault("`member` needs `archive`.")
        if self.sha256 is not None and self.url is None:
            raise fault("`sha256` needs `url`; a member is checked by its archive.")
        if self.count and self.url is not None:
            raise fault("a folder cannot come from `url`; name an `archive`.")
        return self


class Asset(Record):
    """Something that a suite names and that needs files."""

    name: str
    kind: AssetKind
    attributes: Items[str] = ()
    """Makes one asset of each: `{attribute}` stands for it in paths, and in the name
    for its lower case."""
    generator: Name | None = None
    """Generator whose codes it describes."""
    license: str
    origin: str
    """Page or repository that it comes from."""
    how: str = ""
    """What a person does to get its files."""
    files: Annotated[Items[FileEntry], Field(min_length=1)]
    domain: Name | None = None
    """Domain card that it belongs to; None for one that serves all. From the head of
    the file."""


class _Downloads(Record):
    """What a file of `downloads/` holds."""

    version: Count
    domain: Name | None = None
    archives: Items[Archive] = ()
    assets: Items[Asset] = ()


def full_assets(kind: str) -> tuple[str, ...]:
    """Names that a suite may give for assets of a kind, in alphabetical order.

    Class means stand where a suite names an encoder: both say where a search begins.

    >>> full_assets("perceptual")
    ('lpips_alex', 'lpips_squeeze', 'lpips_vgg')
    """
    kinds = ("encoder", "class_means") if kind == "encoder" else (kind,)
    return tuple(sorted(asset.name for asset in all_assets() if asset.kind in kinds))


def named_assets(name: str) -> tuple[Asset, ...]:
    """Every asset of that name; a data set and its classifier may share one.

    Raises:
        RequestError: there is none.
    """
    found = tuple(asset for asset in all_assets() if asset.name == name)
    if not found:
        raise unknown_name("download", name, {asset.name for asset in all_assets()})
    return found


def asset_domain(name: str) -> str | None:
    """The domain card of a full asset; None for one that serves all domains.

    >>> asset_domain("stylegan2_ffhq")
    'celebahq'

    Raises:
        RequestError: there is no such asset.
    """
    return named_assets(name)[0].domain


def find_archive(name: str) -> Archive:
    """The archive of that name.

    Raises:
        RequestError: there is none.
    """
    known = {archive.name: archive for archive in _read()[1]}
    if name not in known:
        raise unknown_name("archive", name, known)
    return known[name]


def all_assets() -> tuple[Asset, ...]:
    """Every asset that needs a download."""
    return _read()[0]


@functools.cache
def _read() -> tuple[tuple[Asset, ...], tuple[Archive, ...]]:
    assets: list[Asset] = []
    archives: list[Archive] = []
    for path in sorted(_FOLDER.glob("*.yaml")):
        document = read_document(path)
        read = validate(_Downloads, document, document.data)
        archives += read.archives
        for asset in read.assets:
            assets += _each(asset.model_copy(update={"domain": read.domain}))
    return tuple(assets), tuple(archives)


def _each(asset: Asset) -> list[Asset]:
    """The assets that one entry stands for."""
    if not asset.attributes:
        return [asset]
    return [_for_attribute(asset, attribute) for attribute in asset.attributes]


def _for_attribute(asset: Asset, attribute: str) -> Asset:
    files = tuple(
        file.model_copy(update={"path": file.path.replace("{attribute}", attribute)})
        for file in asset.files
    )
    update: dict[str, Any] = {
        "name": asset.name.replace("{attribute}", attribute.lower()),
        "attributes": (attribute,),
        "files": files,
    }
    return asset.model_copy(update=update)
