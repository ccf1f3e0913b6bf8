"""What there is: `list` and `doctor`."""

import enum
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Annotated

import typer
import yaml

from robustgen.assets import asset_names, asset_path
from robustgen.cli.terminal import interruptible, show_progress
from robustgen.domain import domain_names, load_domain
from robustgen.full_assets import all_assets, full_assets
from robustgen.library import attack_names, load_attack, suite_names
from robustgen.names import EMBEDDED
from robustgen.plugins import plugin_names
from robustgen.projection_settings import METHODS
from robustgen.suite import load_suite
from robustgen.view_settings import FAMILIES


class Kind(enum.StrEnum):
    """What `robustgen list` lists."""

    SUITES = "suites"
    ATTACKS = "attacks"
    GENERATORS = "generators"
    CLASSIFIERS = "classifiers"
    DATASETS = "datasets"
    PROJECTORS = "projectors"
    VIEWS = "views"


def doctor_command(
    canaries: Annotated[
        bool,
        typer.Option("--canaries", help="Measure subjects whose truth is known."),
    ] = False,
) -> None:
    """Says what is installed, which assets are present, and which device."""
    from robustgen.doctor import damaged, doctor_text, examine

    findings = examine()
    typer.echo(doctor_text(findings))
    if damaged(findings):
        raise typer.Exit(2)
    if not canaries:
        return
    with interruptible("Nothing is lost."), show_progress() as told:
        from robustgen.canaries import canaries_text, run_canaries

        results = run_canaries(progress=told)
    typer.echo(canaries_text(results))
    if not all(result.passed for result in results):
        raise typer.Exit(3)


@dataclass(frozen=True)
class Entry:
    """Something that a suite may name.

    Args:
        name: What the suite says.
        about: One line about it.
        comes: `ships` with robustgen, needs a `download`, or is `from` a package.
        resolution: Pixels on a side; None where that is open or unknown.
        classes: Names of its classes; empty where a suite chooses them, or unknown.
        images: How many there are; None where that is open or unknown.
    """

    name: str
    about: str
    comes: str = "ships"
    resolution: int | None = None
    classes: tuple[str, ...] = ()
    images: int | None = None


DATASETS: Mapping[str, Entry] = MappingProxyType(
    {
        "digits": Entry(
            "digits",
            "scikit-learn's handwritten digits, real, enlarged",
            resolution=32,
            classes=tuple("0123456789"),
            images=1797,
        ),
        "faces": Entry(
            "faces",
            "Faces rendered on demand; attribute smiling, mouth_open, long_hair, "
            "light_hair, raised_brows or hair",
            resolution=32,
        ),
    }
)
"""Data sets that ship."""


def list_command(
    kind: Annotated[Kind | None, typer.Argument(help="What to list.")] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="For scripts: one JSON object.")
    ] = False,
) -> None:
    """Lists what a suite may name."""
    found = {each.value: _LISTS[each]() for each in ([kind] if kind else list(Kind))}
    if as_json:
        records = {
            each: [asdict(e) for e in entries] for each, entries in found.items()
        }
        typer.echo(json.dumps(records, indent=1))
        return
    for each, entries in found.items():
        typer.echo(f"{each}:")
        width = max((len(entry.name) for entry in entries), default=0)
        for entry in entries:
            typer.echo(f"  {entry.name:{width}}  {_line(entry)}".rstrip())


def _line(entry: Entry) -> str:
    """What is known of an entry: its text, then facts in parentheses."""
    facts = [
        f"{entry.resolution} px" if entry.resolution else "",
        f"{len(entry.classes)} classes" if entry.classes else "",
        f"{entry.images:,} images" if entry.images else "",
        "" if entry.comes == "ships" else entry.comes,
    ]
    said = ", ".join(fact for fact in facts if fact)
    about = entry.about.rstrip(".")
    return f"{about} ({said})" if said else about


def _described(
    kind: str, names: Iterable[str], about: Callable[[str], str]
) -> list[Entry]:
    return [*(Entry(name, about(name)) for name in names), *_plugins(kind)]


def _plugins(kind: str) -> list[Entry]:
    """What installed packages add to a kind."""
    return [
        Entry(name, "", comes=origin) for name, origin in plugin_names(kind).items()
    ]


def _networks(kind: str) -> list[Entry]:
    shipped = [_shipped(name) for name in asset_names(f"{kind}.safetensors")]
    return [*shipped, *_downloads(kind), *_plugins(kind)]


def _shipped(name: str) -> Entry:
    """A network that ships, from its card."""
    card = yaml.safe_load(asset_path(name, "card.yaml").read_text(encoding="utf-8"))
    family = name.partition("_")[0]
    known = family in domain_names()
    return Entry(
        name,
        card["about"],
        resolution=load_domain(family).resolution if known else None,
        classes=tuple(card.get("classes", ())),
    )


def _downloads(kind: str) -> list[Entry]:
    """Full assets of a kind, described by their domain."""
    found: list[Entry] = []
    for name in full_assets(kind):
        asset = next(a for a in all_assets() if (a.name, a.kind) == (name, kind))
        domain = load_domain(asset.domain) if asset.domain else None
        attribute = "".join(f": {each}" for each in asset.attributes)
        # Folders of a few images stand for archives that are counted elsewhere.
        images = max(file.count for file in asset.files)
        found.append(
            Entry(
                name,
                ("" if domain is None else domain.about.split(",")[0]) + attribute,
                comes="download",
                resolution=None if domain is None else domain.resolution,
                images=images if kind == "dataset" and images > 100 else None,
            )
        )
    return found


def _data() -> list[Entry]:
    shipped = [DATASETS[name] for name in EMBEDDED["dataset"]]
    return [*shipped, *_downloads("dataset"), *_plugins("dataset")]


_LISTS: Mapping[Kind, Callable[[], list[Entry]]] = MappingProxyType(
    {
        Kind.SUITES: lambda: [Entry(n, load_suite(n).about) for n in suite_names()],
        Kind.ATTACKS: lambda: _described(
            "attack", attack_names(), lambda name: load_attack(name).about
        ),
        Kind.GENERATORS: lambda: _networks("generator"),
        Kind.CLASSIFIERS: lambda: _networks("classifier"),
        Kind.DATASETS: _data,
        Kind.PROJECTORS: lambda: _described("projector", METHODS, METHODS.__getitem__),
        Kind.VIEWS: lambda: _described("views", FAMILIES, FAMILIES.__getitem__),
    }
)
