"""What is installed, where assets are looked for, and what this machine can do.

One finding is one line of four columns: a word to search for, a name, how it is, and
details. `grep '^asset .* missing'` lists what a download would bring.
"""

import importlib.metadata
import os
import platform
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import torch
import yaml

from robustgen.assets import asset_names, asset_path
from robustgen.cache import (
    CAP_VARIABLE,
    FOLDER_VARIABLE,
    default_cache,
    size_text,
    usage,
)
from robustgen.data.digits import load_digits
from robustgen.devices import find_device
from robustgen.errors import RobustgenError
from robustgen.files import sha256_of
from robustgen.full_assets import all_assets
from robustgen.library import attack_names, load_attack, suite_names
from robustgen.names import EMBEDDED as SHIPPED
from robustgen.names import KINDS
from robustgen.sources import SourceFile, asset_files, data_folder, weights_folder
from robustgen.suite import load_suite

OPTIONAL: Mapping[str, str] = MappingProxyType(
    {
        "ray": "run --executor ray",
        "timm": "classifiers named timm:ARCHITECTURE",
    }
)
"""Packages that robustgen does without, and what they are for."""

WORKED_AROUND: Mapping[str, str] = MappingProxyType(
    {
        "lpips": "only its fitted weights are read; the network comes from a file",
        "torchattacks": "CW is corrected here (saturated pixels, mask of the true "
        "class, early stop); PGD, APGD, FAB and Square are loops of our own",
    }
)
"""Packages with known faults, and what robustgen does about them."""

EMBEDDED, DAMAGED = "embedded", "DAMAGED"


class Finding(NamedTuple):
    """One line.

    Args:
        topic: What kind of thing it is about; one word.
        name: The thing.
        state: How it is, such as `ok`, `missing` or `DAMAGED`.
        detail: Versions, places, sizes, what to do.
    """

    topic: str
    name: str
    state: str
    detail: str


def examine() -> tuple[Finding, ...]:
    """Everything that may keep a suite from running, found on this machine."""
    return (
        *_machine(),
        *_packages(),
        *_folders(),
        *_embedded(),
        *_downloads(),
    )


def doctor_text(findings: Sequence[Finding]) -> str:
    """Findings as aligned lines, and a last one that sums them up."""
    width = [max(len(each[column]) for each in findings) for column in range(3)]
    lines = [
        f"{f.topic:{width[0]}}  {f.name:{width[1]}}  {f.state:{width[2]}}  {f.detail}"
        for f in findings
    ]
    return "\n".join((*(line.rstrip() for line in lines), _verdict(findings)))


def damaged(findings: Sequence[Finding]) -> tuple[str, ...]:
    """Names of what ships with robustgen and is not whole."""
    return tuple(f.name for f in findings if (f.topic, f.state) == (EMBEDDED, DAMAGED))


def _verdict(findings: Sequence[Finding]) -> str:
    broken = damaged(findings)
    if broken:
        return (
            f"{len(broken)} parts of robustgen are damaged: install it again "
            f"({', '.join(broken)})."
        )
    old = [f.name for f in findings if f.topic == "package" and f.state == "too old"]
    if old:
        return f"Too old: {', '.join(old)}; see the lines above."
    missing = sum(f.topic == "asset" and f.state == "missing" for f in findings)
    return (
        "Suites run on embedded assets. For full profiles "
        f"{missing} downloads are missing."
        if missing
        else "Suites run on embedded and on full assets."
    )


def _machine() -> Iterator[Finding]:
    system = f"{platform.system()} {platform.release()}, {platform.machine()}"
    yield Finding("machine", "python", "ok", f"{platform.python_version()}, {system}")
    device = find_device("auto")
    about = ""
    if device.type == "cuda":
        about = torch.cuda.get_device_name(device)
    yield Finding("machine", "device", device.type, about)
    limit = os.environ.get("OMP_NUM_THREADS")
    said = "unset" if limit is None else f"={limit}"
    yield Finding(
        "machine",
        "threads",
        str(torch.get_num_threads()),
        f"of {os.cpu_count()} cores ($OMP_NUM_THREADS {said})",
    )
    memory = _memory()
    if memory is not None:
        yield Finding(
            "machine", "memory", size_text(memory[1]), "free of " + size_text(memory[0])
        )


def _memory() -> tuple[int, int] | None:
    """Bytes of memory, all and free; None where the system does not say."""
    try:
        page = os.sysconf("SC_PAGE_SIZE")
        return page * os.sysconf("SC_PHYS_PAGES"), page * os.sysconf("SC_AVPHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None


def _packages() -> Iterator[Finding]:
    """What robustgen needs, in the version that it needs, and what it may use."""
    for name, least in _requirements().items():
        version = _version(name)
        note = WORKED_AROUND.get(name, "")
        if version is None:
            yield Finding("package", name, "missing", f"needs {least or 'any'}")
        elif least and _numbers(version) < _numbers(least):
            yield Finding("package", name, "too old", f"{version}, needs {least}")
        else:
            yield Finding(
                "package", name, "ok", "; ".join(filter(None, (version, note)))
            )
    for name, purpose in OPTIONAL.items():
        version = _version(name)
        state = "absent" if version is None else "ok"
        detail = "; ".join(filter(None, (version, f"optional, for {purpose}")))
        yield Finding("package", name, state, detail)


def _requirements() -> dict[str, str]:
    """Packages that robustgen needs, with the least version of each."""
    found = {"robustgen": ""}
    try:
        declared = importlib.metadata.requires("robustgen") or []
    except importlib.metadata.PackageNotFoundError:
        declared = []
    for text in declared:
        match = re.match(r"([\w.-]+)(?:\[.*\])?\s*(?:>=\s*([\d.]+))?\s*(;.*)?$", text)
        if match is not None and match[3] is None:
            found[match[1]] = match[2] or ""
    return found


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _numbers(version: str) -> tuple[int, ...]:
    """A version to compare: `2.10.1+cpu` is (2, 10, 1)."""
    match = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(map(int, match[0].split("."))) if match else ()


def _folders() -> Iterator[Finding]:
    yield _folder("data", data_folder(), "ROBUSTGEN_DATA")
    yield _folder("weights", weights_folder(), "ROBUSTGEN_WEIGHTS")
    try:
        cache = default_cache()
    except RobustgenError as error:
        yield Finding("folder", "cache", "unusable", str(error))
        return
    yield _folder("cache", cache.folder, FOLDER_VARIABLE)
    held = usage(cache)
    yield Finding(
        "cache",
        "finished work",
        size_text(held.bytes),
        f"in {held.entries:,} entries, at most {size_text(cache.cap_bytes)} "
        f"({_variable(CAP_VARIABLE)})",
    )


def _folder(name: str, path: Path, variable: str) -> Finding:
    existing = next((p for p in (path, *path.absolute().parents) if p.exists()), None)
    free = "" if existing is None else size_text(shutil.disk_usage(existing).free)
    state = "present" if path.is_dir() else "absent"
    return Finding(
        "folder", name, state, f"{path} ({_variable(variable)}), {free} free"
    )


def _variable(name: str) -> str:
    return f"${name} {'set' if os.environ.get(name) else 'unset'}"


def _embedded() -> Iterator[Finding]:
    """Whether what ships with robustgen is whole."""
    named = {name for kind in KINDS if kind != "dataset" for name in SHIPPED[kind]}
    for name in sorted(named | set(asset_names("card.yaml"))):
        yield _asset(name)
    yield _readable("digits data", lambda: f"{len(load_digits().labels):,} images")
    yield _readable("suites", _suites)
    yield _readable("attacks", _attacks)


def _asset(name: str) -> Finding:
    """Whether the files of an asset are those that its card was written for."""
    try:
        card = yaml.safe_load(asset_path(name, "card.yaml").read_text("utf-8"))
        digests: dict[str, str] = dict(card["sha256"])
    except (
        OSError,
        RobustgenError,
        ValueError,
        TypeError,
        KeyError,
        yaml.YAMLError,
    ) as error:
        return Finding(EMBEDDED, name, DAMAGED, f"card.yaml: {error!r}")
    folder = asset_path(name, "card.yaml").parent
    faults: list[str] = []
    for file, digest in digests.items():
        path = folder / file
        if not path.is_file():
            faults.append(f"{path}: missing")
        elif sha256_of(path) != digest:
            faults.append(f"{path}: not the file of its card (sha256)")
    if faults:
        return Finding(EMBEDDED, name, DAMAGED, "; ".join(faults))
    parts = ", ".join(sorted(file.removesuffix(".safetensors") for file in digests))
    return Finding(EMBEDDED, name, "whole", parts)


def _readable(name: str, read: Callable[[], str]) -> Finding:
    try:
        return Finding(EMBEDDED, name, "whole", read())
    except (RobustgenError, OSError, ValueError) as error:
        return Finding(EMBEDDED, name, DAMAGED, str(error))


def _suites() -> str:
    names = suite_names()
    for name in names:
        load_suite(name)
    return f"{len(names)}, see `robustgen list suites`"


def _attacks() -> str:
    names = attack_names()
    for name in names:
        load_attack(name)
    return f"{len(names)}, see `robustgen list attacks`"


def _downloads() -> Iterator[Finding]:
    """Each downloaded asset, and every place where a missing file of it may lie."""
    for name in dict.fromkeys(asset.name for asset in all_assets()):
        files = asset_files(name)
        missing = [file for file in files if not file.present]
        if not missing:
            where = ", ".join(str(file.location) for file in files)
            yield Finding("asset", name, "present", where)
            continue
        automatic = any(file.automatic for file in missing)
        how = f"robustgen fetch {name} {'gets' if automatic else 'says how to get'} it"
        places = [_places(file) for file in missing]
        if len(places) == 1:
            yield Finding("asset", name, "missing", f"{places[0]}; {how}")
            continue
        yield Finding("asset", name, "missing", f"{len(places)} files; {how}")
        for place in places:
            yield Finding("file", name, "missing", place)


def _places(file: SourceFile) -> str:
    looked = " or ".join(str(file.folder / path) for path in (file.path, *file.also))
    held = f", {file.found:,} of {file.count:,} there" if file.usable else ""
    return f"{looked} ({file.size}{held})"
