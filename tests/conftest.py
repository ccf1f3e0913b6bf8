"""Settings shared by all tests."""

import gc
import importlib
import os
from pathlib import Path

import pytest
from hypothesis import settings

if "PYTEST_XDIST_WORKER" in os.environ:
    # One core for each worker, before torch looks.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    # While a type-checked module is executed, the import hook looks for the bytecode of
    # all modules under a name of its own. Imported from there, these would be compiled
    # again by every worker: 10 s.
    for name in (
        "matplotlib.figure",
        "pandas",
        "pydantic",
        "scipy.stats",
        "sklearn.datasets",
        "statsmodels.stats.proportion",
        "torch._dynamo",
        "torchattacks",
        "torchvision",
        "typer",
    ):
        importlib.import_module(name)


def pytest_collection_finish() -> None:
    """Takes what all tests share out of what the garbage collector walks through."""
    gc.collect()
    gc.freeze()


def pytest_sessionfinish() -> None:
    """Gives it back: libraries complain of what is left when Python ends."""
    gc.unfreeze()


settings.register_profile("robustgen", deadline=None, derandomize=True)
settings.load_profile("robustgen")


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory):
    """Finished work of other runs must not stand in for what a test computes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ROBUSTGEN_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache that holds nothing, for this test alone."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("ROBUSTGEN_CACHE", str(folder))
    return folder


@pytest.fixture
def without_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports of this test draw no figures; tests/test_figures.py looks at those."""
    # By name: imported here, the package would escape the type checker's import hook.
    monkeypatch.setattr("robustgen.report.write_figures", lambda *_: None)
    monkeypatch.setattr("robustgen.sections.pair_figures", lambda *_: [])


@pytest.fixture
def without_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs of this test leave out the probes that ask a whole path, half of their time.

    For tests that look at tables, with a cache of their own: no other test may find
    evidence without them. Runs with all probes are in tests/test_runner.py.
    """
    for name in ("_randomness", "_gradients", "_noise", "_sweeps", "_convergence"):
        monkeypatch.setattr(f"robustgen.probes.pair.{name}", lambda *_: ())
