"""The layers of the package: who may import whom, lazy imports included.

A module, or a whole subpackage, stands in one row below. It imports only what stands
in an earlier row, and of that only its own arm and the common ground. Imports that
serve type checkers alone count like all others.
"""

import ast
import functools
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "robustgen"

GROUND, DOING, COUNTING, TOP = "ground", "doing", "counting", "top"

ROWS: tuple[tuple[int, str, str], ...] = (
    # layer, arm, module or subpackage
    (0, GROUND, "errors"),
    (0, GROUND, "types"),
    (0, GROUND, "inert"),
    (0, GROUND, "seeding"),
    (0, GROUND, "rngs"),
    (0, GROUND, "files"),
    (0, GROUND, "cache"),
    (0, GROUND, "allocator"),
    (0, GROUND, "progress"),
    (0, GROUND, "transfer"),
    (0, GROUND, "unpack"),
    (0, GROUND, "thumbnails"),
    (0, GROUND, "names"),
    (0, GROUND, "assembling"),
    (0, GROUND, "documents"),
    (0, GROUND, "schema"),
    (0, GROUND, "assets"),
    (1, GROUND, "domain"),
    (1, GROUND, "plugins"),
    (1, GROUND, "plugin_code"),
    (1, GROUND, "threat"),
    (1, GROUND, "table"),
    (1, GROUND, "checkpoints"),
    (1, GROUND, "budgets"),
    (1, GROUND, "library"),
    (1, GROUND, "evidence"),
    (1, GROUND, "full_assets"),
    (1, GROUND, "projection_settings"),
    (1, GROUND, "view_settings"),
    (1, GROUND, "suite"),
    (1, GROUND, "sources"),
    (1, GROUND, "fetch"),
    (1, GROUND, "workload"),
    (1, GROUND, "unit_costs"),
    (1, GROUND, "cost"),
    (2, DOING, "devices"),
    (2, DOING, "data"),
    (2, DOING, "fingerprints"),
    (2, DOING, "classifiers"),
    (2, DOING, "gan"),
    (2, DOING, "attacks"),
    (2, DOING, "making"),
    (2, DOING, "lpips_distance"),
    (2, DOING, "perceptual"),
    (2, COUNTING, "columns"),
    (2, COUNTING, "ensembling"),
    (2, COUNTING, "intervals"),
    (2, COUNTING, "outcomes"),
    (2, COUNTING, "finished"),
    (2, COUNTING, "metrics"),
    (2, COUNTING, "balanced"),
    (2, COUNTING, "score"),
    (3, DOING, "projectors"),
    (3, DOING, "views"),
    (3, COUNTING, "checks"),
    (3, COUNTING, "pictures"),
    (3, COUNTING, "grids"),
    (3, COUNTING, "plots"),
    (3, COUNTING, "report_schema"),
    (3, COUNTING, "figures"),
    (3, COUNTING, "gate"),
    (3, COUNTING, "strength"),
    (3, COUNTING, "gallery"),
    (3, COUNTING, "sections"),
    (3, COUNTING, "rendering"),
    (3, COUNTING, "report"),
    (3, COUNTING, "comparison"),
    (4, DOING, "defense"),
    (4, DOING, "adaptive"),
    (4, DOING, "project"),
    (5, DOING, "datasets"),
    (5, DOING, "catalog"),
    (5, DOING, "evaluate"),
    (5, DOING, "probes"),
    (5, DOING, "store"),
    (5, DOING, "executors"),
    (5, DOING, "provenance"),
    (6, DOING, "training"),
    (6, TOP, "runner"),
    (6, TOP, "doctor"),
    (6, TOP, "canaries"),
    (7, TOP, "cli"),
)

RANK = {name: rank for rank, (_, _, name) in enumerate(ROWS)}
ARM = {name: arm for _, arm, name in ROWS}
LAYER = {name: layer for layer, _, name in ROWS}
MAY_USE = {
    GROUND: {GROUND},
    DOING: {GROUND, DOING},
    COUNTING: {GROUND, COUNTING},
    TOP: {GROUND, DOING, COUNTING, TOP},
}

TORCH_FREE_GROUND = set(RANK) & {name for name, arm in ARM.items() if arm == GROUND} - {
    "types",
    "rngs",
    "threat",
    "checkpoints",
}
TORCH = {"torch", "torchvision", "torchattacks", "lpips", "safetensors"}


def modules() -> list[Path]:
    """Every file but the package's own head, whose names load lazily from anywhere."""
    return sorted(set(PACKAGE.rglob("*.py")) - {PACKAGE / "__init__.py"})


def name_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@functools.cache
def imports(path: Path) -> list[tuple[int, str]]:
    """Line and dotted name of everything that a file imports, wherever it does."""
    found: list[tuple[int, str]] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            module = node.module or ""
            if module == "robustgen":
                names = [f"robustgen.{alias.name}" for alias in node.names]
            else:
                names = [module]
            found += [(node.lineno, name) for name in names]
    return found


def own(name: str) -> str | None:
    """The row that an imported name belongs to; None for other packages."""
    parts = name.split(".")
    return parts[1] if parts[0] == "robustgen" and len(parts) > 1 else None


def identify(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


def test_every_module_has_a_row_and_every_row_a_module():
    there = {name_of(path) for path in modules()}
    missing = sorted(there - RANK.keys())
    assert not missing, f"give these a row in tests/test_layers.py: {missing}"
    gone = sorted(RANK.keys() - there)
    assert not gone, f"these rows have no module any more: {gone}"


def test_rows_are_sorted_by_layer():
    layers = [layer for layer, _, _ in ROWS]
    assert layers == sorted(layers)
    assert len(RANK) == len(ROWS)


@pytest.mark.parametrize("path", modules(), ids=identify)
def test_imports_go_down(path: Path):
    name = name_of(path)
    assert name in RANK, f"{name} has no row in tests/test_layers.py"
    for line, imported in imports(path):
        used = own(imported)
        if used is None or used == name:
            continue
        where = f"{path.relative_to(ROOT)}:{line}: `{name}` imports `{used}`"
        assert used in RANK, f"{where}, which has no row"
        assert RANK[used] < RANK[name], (
            f"{where}, which stands above it (layer {LAYER[used]} and {LAYER[name]})"
        )
        assert ARM[used] in MAY_USE[ARM[name]], (
            f"{where}: the {ARM[name]} arm does not use the {ARM[used]} arm"
        )


@pytest.mark.parametrize("path", modules(), ids=identify)
def test_only_the_command_line_uses_rich(path: Path):
    found = {imported.partition(".")[0] for _, imported in imports(path)}
    allowed = {"rich", "typer"} if name_of(path) == "cli" else set[str]()
    assert not found & {"rich", "typer"} - allowed, (
        f"{identify(path)}: leave that to cli"
    )


@pytest.mark.parametrize("path", modules(), ids=identify)
def test_the_counting_arm_and_the_request_side_import_no_torch(path: Path):
    name = name_of(path)
    if ARM.get(name) != COUNTING and name not in TORCH_FREE_GROUND:
        return
    for line, imported in imports(path):
        assert imported.partition(".")[0] not in TORCH, (
            f"{identify(path)}:{line}: {imported}"
        )
        used = own(imported)
        assert used is None or used in TORCH_FREE_GROUND or ARM.get(used) == COUNTING, (
            f"{identify(path)}:{line}: `{used}` imports torch"
        )


def test_the_request_side_loads_no_heavy_package():
    heavy = ("torch", "pandas", "matplotlib", "scipy", "sklearn", "statsmodels")
    code = (
        "import sys, robustgen, robustgen.cli\n"
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("folder", ["attacks", "suites"])
def test_data_folders_hold_yaml_only(folder: str):
    suffixes = {path.suffix for path in (ROOT / folder).rglob("*.*")}
    assert suffixes <= {".yaml", ""}
