"""A suite end to end: interruption, batch sizes, user code, and faults."""

import itertools
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from robustgen import runner
from robustgen.cli import main
from robustgen.errors import RequestError
from robustgen.evaluate import evaluate_batch
from robustgen.runner import run
from robustgen.suite import load_suite
from robustgen.table import PredictionTable, load_table

pytestmark = pytest.mark.usefixtures("without_figures")

SUITE: dict[str, Any] = {
    "version": 1,
    "name": "small",
    "seed": 5,
    "profiles": {
        "embedded": {
            "pairs": [
                {
                    "dataset": "digits",
                    "classifier": "digits",
                    "generator": "digits",
                    "encoder": "digits",
                    "perceptual": "digits",
                }
            ]
        }
    },
    "attacks": [
        {"name": "clean", "attack": "clean"},
        {
            "name": "pgd",
            "attack": "pgd",
            "norm": "linf",
            "eps": "32/255",
            "settings": {"steps": 8, "step_size": "8/255"},
        },
    ],
    "splits": {"val": 6, "test": 10},
    "projection": {"passes": 4},
    "views": {"count": 4},
    "ensemble": {"size": 4, "resamples": 3},
}


def write_suite(folder: Path, **changes: Any) -> Path:
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump({**SUITE, **changes}))
    return path


def with_pair(**changes: Any) -> dict[str, Any]:
    pair = {**SUITE["profiles"]["embedded"]["pairs"][0], **changes}
    return {"embedded": {"pairs": [pair]}}


def tables_of(folder: Path) -> dict[str, PredictionTable]:
    return {p.stem: load_table(p) for p in sorted((folder / "tables").glob("*.npz"))}


def assert_same_tables(one: Path, other: Path) -> None:
    a, b = tables_of(one), tables_of(other)
    assert a.keys() == b.keys()
    for name, table in a.items():
        for group in ("single", "views", "cost"):
            ours, theirs = getattr(table, group), getattr(b[name], group)
            assert ours.keys() == theirs.keys()
            for key, values in ours.items():
                np.testing.assert_array_equal(values, theirs[key], err_msg=name + key)
    for file in ("accuracy.csv", "predictions.parquet"):
        assert (one / file).read_bytes() == (other / file).read_bytes()


def entries(cache: Path, kind: str) -> list[Path]:
    return sorted(cache.glob(f"{kind}/*/*/*.entry"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing interrupts."""
    folder = tmp_path_factory.mktemp("whole")
    before = torch.random.get_rng_state()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ROBUSTGEN_CACHE", str(folder / "cache"))
        run(write_suite(folder), out=folder / "run", batch_size=4)
    assert torch.equal(before, torch.random.get_rng_state())
    return folder / "run"


@pytest.fixture
def full_cache(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of what that run left in its cache."""
    folder = tmp_path / "full cache"
    shutil.copytree(whole.parent / "cache", folder)
    monkeypatch.setenv("ROBUSTGEN_CACHE", str(folder))
    return folder


@pytest.fixture
def evidence_cache(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A cache that holds what the probes of that run found, half of its time."""
    folder = tmp_path / "evidence cache"
    shutil.copytree(whole.parent / "cache" / "evidence", folder / "evidence")
    monkeypatch.setenv("ROBUSTGEN_CACHE", str(folder))
    return folder


def test_a_run_writes_the_files_of_the_contract(whole: Path):
    names = {path.name for path in whole.iterdir()}
    assert names >= {
        "report.md",
        "report.html",
        "report.json",
        "accuracy.csv",
        "predictions.parquet",
        "manifest.json",
        "tables",
        "pictures",
    }
    frame = pd.read_csv(whole / "accuracy.csv")
    columns = (
        "suite profile dataset classifier attack tier norm eps path split n "
        "accuracy ci_low ci_high alpha alpha_from verdict"
    )
    assert " ".join(frame.columns) == columns
    assert set(frame["n"]) <= {6, 10}
    image = frame[(frame.path == "image") & (frame.split == "test")]
    assert dict(zip(image.attack, image.accuracy, strict=True)) == {
        "clean": 1.0,
        "pgd": 0.0,
    }
    pictures = sorted(path.name for path in (whole / "pictures").glob("*.png"))
    assert len(pictures) == 20
    assert "embedded" in (whole / "report.md").read_text().splitlines()[0]


def refuse(*args: object) -> None:
    raise AssertionError("nothing is left to compute")


def test_a_second_run_computes_nothing_wherever_it_writes(
    whole: Path, full_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(runner, "evaluate_batch", refuse)
    monkeypatch.setattr(runner, "probe_pair", refuse)
    run(write_suite(tmp_path), out=tmp_path / "run", batch_size=4)
    assert_same_tables(whole, tmp_path / "run")


@pytest.mark.usefixtures("without_probes")
def test_another_suite_takes_what_it_shares(
    full_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    asked: list[int] = []

    def evaluate(subject: Any, part: Any, split: str, shown: int) -> Any:
        asked.append(len(part))
        return evaluate_batch(subject, part, split, shown)

    monkeypatch.setattr(runner, "evaluate_batch", evaluate)
    # Two more images are asked for, so that the batch they belong to is not whole.
    suite = write_suite(tmp_path, name="other", splits={"val": 8, "test": 10})
    run(suite, out=tmp_path / "run", batch_size=4)
    assert asked == [4, 4]


@pytest.mark.parametrize("survivors", [0, 1, 3, 7])
def test_an_interrupted_run_gives_the_same_tables(
    whole: Path,
    evidence_cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    survivors: int,
):
    calls: list[int] = []

    def evaluate_some(*args: Any) -> Any:
        calls.append(1)
        if len(calls) > survivors:
            raise KeyboardInterrupt
        return evaluate_batch(*args)

    suite = write_suite(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(runner, "evaluate_batch", evaluate_some)
        with pytest.raises(KeyboardInterrupt):
            run(suite, out=tmp_path / "run", batch_size=4)
    run(suite, out=tmp_path / "run", batch_size=4)
    assert_same_tables(whole, tmp_path / "run")


def test_a_killed_run_gives_the_same_tables(
    whole: Path, evidence_cache: Path, tmp_path: Path
):
    suite = write_suite(tmp_path)
    out = tmp_path / "run"
    command = [sys.executable, "-m", "robustgen.cli", "run", str(suite)]
    command += ["--out", str(out), "--batch-size", "4"]
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 120
    while len(entries(evidence_cache, "predictions")) < 2:
        assert process.poll() is None, "ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (out / "report.json").exists()
    run(suite, out=out, batch_size=4)
    assert_same_tables(whole, out)


def spoil(victim: Path, damage: str) -> None:
    """Cuts a file, flips bits of a byte, empties it, or removes it."""
    content = bytearray(victim.read_bytes())
    if damage == "remove":
        victim.unlink()
        return
    if damage == "flip":
        content[len(content) // 2] ^= 0xFF
    victim.write_bytes({"cut": content[:200], "empty": b""}.get(damage, content))


@pytest.mark.parametrize(
    ("damage", "kind"),
    [
        *itertools.product(
            ("cut", "flip", "empty", "remove"), ("predictions", "pictures")
        ),
        # Probing again takes 5 s: once is enough, tests/test_cache.py has the rest.
        ("flip", "evidence"),
    ],
)
def test_what_is_damaged_is_computed_again(
    whole: Path, full_cache: Path, tmp_path: Path, damage: str, kind: str
):
    out = tmp_path / "run"
    spoil(entries(full_cache, kind)[0], damage)
    run(write_suite(tmp_path), out=out, batch_size=4)
    assert_same_tables(whole, out)
    for picture in (whole / "pictures").iterdir():
        assert (out / "pictures" / picture.name).read_bytes() == picture.read_bytes()


def test_fresh_computes_everything_again(
    whole: Path, full_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    out = tmp_path / "run"
    (out / "tables").mkdir(parents=True)
    (out / "tables" / "stale-clean-test.npz").write_bytes(b"from another suite")
    asked: list[int] = []

    def evaluate(subject: Any, part: Any, split: str, shown: int) -> Any:
        asked.append(len(part))
        return evaluate_batch(subject, part, split, shown)

    monkeypatch.setattr(runner, "evaluate_batch", evaluate)
    run(write_suite(tmp_path), out=out, batch_size=4, fresh=True)
    assert sum(asked) == 2 * (6 + 10)
    assert_same_tables(whole, out)


def test_workers_change_no_number(whole: Path, evidence_cache: Path, tmp_path: Path):
    out = tmp_path / "run"
    run(write_suite(tmp_path), out=out, batch_size=4, workers=2)
    assert_same_tables(whole, out)


@pytest.mark.slow
def test_workers_of_ray_change_no_number(
    whole: Path, empty_cache: Path, tmp_path: Path
):
    pytest.importorskip("ray", reason="needs the extra `ray`")
    out = tmp_path / "run"
    run(write_suite(tmp_path), out=out, batch_size=4, workers=2, executor="ray")
    assert_same_tables(whole, out)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"workers": 0}, "expected one or more"),
        ({"executor": "rai"}, "Did you mean 'ray'"),
    ],
)
def test_workers_that_make_no_sense_are_refused(
    tmp_path: Path, options: dict[str, Any], message: str
):
    with pytest.raises(RequestError, match=message):
        run(write_suite(tmp_path), out=tmp_path / "run", **options)


@pytest.mark.usefixtures("without_probes")
def test_batch_size_changes_no_view_and_no_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    suite = write_suite(tmp_path, splits={"val": 8, "test": 64}, views={"count": 8})
    for size in (16, 64):
        monkeypatch.setenv("ROBUSTGEN_CACHE", str(tmp_path / f"cache {size}"))
        run(suite, out=tmp_path / str(size), batch_size=size)
    one, other = tables_of(tmp_path / "16"), tables_of(tmp_path / "64")
    predictions = changed = 0
    for name, table in one.items():
        for cost in ("projection_passes", "attack_forwards", "attack_backwards"):
            np.testing.assert_array_equal(table.cost[cost], other[name].cost[cost])
        for group in ("single", "views"):
            for key, values in getattr(table, group).items():
                theirs = getattr(other[name], group)[key]
                same = values.argmax(axis=-1) == theirs.argmax(axis=-1)
                predictions += same.size
                changed += int((~same).sum())
    assert predictions > 3000
    assert changed <= predictions / 200


@pytest.mark.usefixtures("empty_cache", "without_probes")
def test_seed_and_limit_take_effect(whole: Path, tmp_path: Path):
    suite = write_suite(tmp_path)
    run(suite, out=tmp_path / "run", seed=6, limit=4)
    ours = tables_of(tmp_path / "run")["digits-digits-clean-test"]
    theirs = tables_of(whole)["digits-digits-clean-test"]
    assert ours.sample.tolist() == theirs.sample[:4].tolist()
    assert "A quick look at 4 images" in (tmp_path / "run" / "report.md").read_text()
    # Another seed draws other views of the same image.
    np.testing.assert_allclose(
        ours.single["image"], theirs.single["image"][:4], atol=1e-5
    )
    assert not np.allclose(
        ours.views["stylemix_ensemble"], theirs.views["stylemix_ensemble"][:4]
    )


def test_fewer_paths_need_no_generator(tmp_path: Path):
    suite = write_suite(tmp_path, paths=["image", "image_ensemble"])
    run(suite, out=tmp_path / "run")
    table = tables_of(tmp_path / "run")["digits-digits-pgd-test"]
    assert set(table.single) == {"image"}
    assert set(table.views) == {"image_ensemble"}
    assert "projection_passes" not in table.cost


@pytest.mark.usefixtures("empty_cache", "without_probes")
@pytest.mark.parametrize(
    "views",
    [
        {"family": "isotropic", "sigma": 0.1, "layers": "coarse", "count": 4},
        {"family": "pca", "beta": 1.0, "layers": [2, 6], "count": 4},
    ],
)
def test_every_view_family_runs(tmp_path: Path, views: dict[str, Any]):
    run(write_suite(tmp_path, views=views), out=tmp_path / "run", limit=3)
    table = tables_of(tmp_path / "run")["digits-digits-clean-test"]
    views_of = table.views["stylemix_ensemble"]
    assert views_of.shape == (3, 4, 10)
    assert np.ptp(views_of, axis=1).max() > 0


PLUGIN = """
import numpy as np, torch
from types import SimpleNamespace

class Linear(torch.nn.Module):
    def __init__(self, classes):
        super().__init__()
        weight = torch.linspace(-1, 1, 1024 * classes).view(classes, 1024)
        self.weight = torch.nn.Parameter(weight)
    def forward(self, images):
        return images.flatten(1) @ self.weight.T

def classifier(classes=10):
    return Linear(classes)

def not_a_module():
    return lambda x: x

def dataset(n=12, low=0.0, label=1, size=32):
    images = np.random.default_rng(0).uniform(low, 1, (n, 1, size, size))
    images = images.astype("float32")
    labels = np.arange(n) % 10
    if n:
        labels[0] = label
    return SimpleNamespace(
        images=images, labels=labels, class_names=list("0123456789"),
        split=np.array((["val", "test"] * n)[:n]),
    )

def bytes_dataset():
    made = dataset()
    made.images = (made.images * 255).astype("uint8")
    return made

def no_split():
    images = np.zeros((1, 1, 32, 32), "float32")
    return SimpleNamespace(images=images, labels=np.zeros(1, int))

def sign_attack():
    def attack(logits_fn, images, labels, threat, rngs):
        return images + threat.eps
    return attack

def not_an_attack():
    return 3
"""


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module of the user's own in the working folder."""
    name = f"plugin_{abs(hash(str(tmp_path)))}"
    (tmp_path / f"{name}.py").write_text(PLUGIN)
    monkeypatch.chdir(tmp_path)
    return name


def test_a_users_own_classifier_data_and_attack(tmp_path: Path, plugin: str):
    suite = write_suite(
        tmp_path,
        profiles=with_pair(
            dataset={"factory": f"{plugin}:dataset", "name": "noise"},
            classifier={"factory": f"{plugin}:classifier", "name": "linear"},
        ),
        attacks=[
            {"name": "clean", "attack": "clean"},
            {
                "name": "brighter",
                "factory": f"{plugin}:sign_attack",
                "norm": "linf",
                "eps": "8/255",
            },
        ],
        splits={"val": 6, "test": 6},
    )
    report = run(suite, out=tmp_path / "run", plugins=[plugin])
    assert set(report.accuracy["classifier"]) == {"linear"}
    table = tables_of(tmp_path / "run")["noise-linear-brighter-test"]
    np.testing.assert_allclose(table.cost["distance_linf"], 8 / 255, atol=1e-6)
    with pytest.raises(RequestError, match="--plugin"):
        run(suite, out=tmp_path / "run")


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        ({"dataset": ("dataset", {"n": 0})}, "no images"),
        ({"dataset": ("dataset", {"low": -1.0})}, r"expected \[0, 1\]"),
        ({"dataset": ("dataset", {"label": 10})}, "label 10 of image 0 is outside"),
        ({"dataset": ("dataset", {"n": 4})}, "6 val images asked for, but it has 2"),
        ({"dataset": ("dataset", {"size": 16})}, "makes images of shape"),
        ({"dataset": ("bytes_dataset", {})}, "Divide 8-bit images by 255"),
        ({"dataset": ("no_split", {})}, "without `split`"),
        ({"classifier": ("classifier", {"classes": 1})}, "gives 1 logit"),
        ({"classifier": ("classifier", {"classes": 3})}, "has 3 classes"),
        ({"classifier": ("not_a_module", {})}, "expected a torch.nn.Module"),
        ({"classifier": ("nothing", {})}, "no such name"),
        ({"generator": ("not_a_module", {})}, "expected a torch.nn.Module"),
    ],
)
def test_faults_of_user_code_are_plain(
    tmp_path: Path,
    plugin: str,
    pair: dict[str, Any],
    message: str,
    capsys: pytest.CaptureFixture[str],
):
    factories = {
        kind: {"factory": f"{plugin}:{name}", "args": args}
        for kind, (name, args) in pair.items()
    }
    suite = write_suite(tmp_path, profiles=with_pair(**factories))
    assert message_of(
        capsys, suite, tmp_path / "run", "--plugin", plugin, match=message
    )
    assert not (tmp_path / "run" / "report.json").exists()


def message_of(
    capsys: pytest.CaptureFixture[str], suite: Path, out: Path, *more: str, match: str
) -> bool:
    """Whether the command line exits 2 with one plain message that matches."""
    with pytest.raises(SystemExit) as ended:
        main(["run", str(suite), "--out", str(out), *more])
    error = capsys.readouterr().err
    assert ended.value.code == 2, error
    assert "Traceback" not in error
    assert error.count("robustgen: ") == 1
    return re.search(match, error) is not None


def test_damaged_and_foreign_weights_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "cut.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{")
    (tmp_path / "page.pt").write_text("<html>404</html>")
    faces = Path(runner.__file__).parent / "assets" / "digits"
    wrong = str(faces / "encoder.safetensors")
    for kind, path, message in (
        ("classifier", str(tmp_path / "cut.safetensors"), "cut off or damaged"),
        ("generator", str(tmp_path / "page.pt"), "HTML page"),
        ("classifier", wrong, "no classifier"),
        ("generator", wrong, "no StyleGAN2"),
        ("encoder", str(faces / "generator.safetensors"), "no encoder"),
        ("perceptual", wrong, "no perceptual network"),
    ):
        suite = write_suite(tmp_path, profiles=with_pair(**{kind: path}))
        assert message_of(capsys, suite, tmp_path / "run", match=message), message


def test_an_attack_factory_must_give_an_attack(tmp_path: Path, plugin: str):
    attack = {
        "name": "mine",
        "factory": f"{plugin}:not_an_attack",
        "norm": "linf",
        "eps": "8/255",
    }
    suite = write_suite(tmp_path, attacks=[attack])
    with pytest.raises(RequestError, match="expected a callable"):
        run(suite, out=tmp_path / "run", plugins=[plugin])


def test_attributes_are_those_of_the_data_set(tmp_path: Path, plugin: str):
    factory = {"factory": f"{plugin}:dataset"}
    for pair, message in (
        ({"attribute": "seven"}, "has no attributes"),
        ({"dataset": factory, "attribute": "seven"}, "makes its own labels"),
        ({"dataset": "faces", "attribute": "smilling"}, "Did you mean 'smiling'"),
    ):
        suite = write_suite(tmp_path, profiles=with_pair(**pair))
        with pytest.raises(RequestError, match=message):
            run(suite, out=tmp_path / "run", plugins=[plugin])


def test_no_cuda_is_said(tmp_path: Path):
    if torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    with pytest.raises(RequestError, match="no CUDA device"):
        run(load_suite(write_suite(tmp_path)), out=tmp_path / "run", device="cuda")
