"""What the README tells a newcomer to type works as it stands there."""

import re
import runpy
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from gan.published import (
    nvidia_names,
    persistent,
    seeded_gan,
    small_config,
    write_snapshot,
)
from PIL import Image
from released import alexnet_trunk, write_files
from seeded_weights import seeded_state
from torchvision.models import resnet18

from robustgen.cli import main

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def named_file(name: str) -> str:
    """The code block that begins with the comment `# name`."""
    found = [
        block
        for language in ("python", "yaml")
        for block in blocks(language)
        if block.startswith(f"# {name}\n")
    ]
    assert len(found) == 1, name
    return found[0]


def command(purpose: str) -> str:
    found = re.findall(rf"^(.+?) +# {purpose}$", README, re.MULTILINE)
    assert len(found) == 1, purpose
    return found[0]


def test_two_commands_do_all_setup():
    assert command("installs and runs the main job") == (
        "pip install -e . && python run_suite.py suites/celebahq_smiling.yaml"
    )
    assert command("installs and passes the tests") == (
        'pip install -e ".[test]" && pytest'
    )


def test_the_main_job_runs(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    suite = command("installs and runs the main job").split("run_suite.py ")[1]
    with pytest.raises(SystemExit) as ended:
        main(["run", str(ROOT / suite), "--limit", "4", "--out", str(tmp_path / "run")])
    assert ended.value.code == 0
    first = capfd.readouterr().out.splitlines()[0]
    assert "embedded" in first
    assert (tmp_path / "run" / "report.html").stat().st_size > 10_000


@pytest.mark.usefixtures("empty_cache", "without_probes", "without_figures")
def test_a_users_own_parts_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name in ("my_plugin.py", "my_suite.yaml"):
        (tmp_path / name).write_text(named_file(name), encoding="utf-8")
    assert len(named_file("my_plugin.py").splitlines()) <= 20
    monkeypatch.chdir(tmp_path)
    # Another test may have imported a module of this name.
    monkeypatch.delitem(sys.modules, "my_plugin", raising=False)
    line = re.search(r"^python run_suite.py (my_suite.yaml .+)$", README, re.MULTILINE)
    assert line is not None
    with pytest.raises(SystemExit) as ended:
        main(["run", *line[1].split(), "--out", str(tmp_path / "run")])
    assert ended.value.code == 0
    assert "brighter" in (tmp_path / "run" / "accuracy.csv").read_text()


def test_a_whole_defense_of_ones_own_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for name in ("my_defense.py", "defense.yaml"):
        (tmp_path / name).write_text(named_file(name), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    line = re.search(r"^python run_suite.py (defense.yaml .+)$", README, re.MULTILINE)
    assert line is not None
    with pytest.raises(SystemExit) as ended:
        main(["run", *line[1].split(), "--out", "run", "--limit", "12"])
    assert ended.value.code == 0
    frame = pd.read_csv("run/accuracy.csv")
    rows = frame[(frame["path"] == "defense") & (frame["split"] == "test")]
    found = dict(zip(rows["tier"], rows["accuracy"], strict=True))
    assert list(found) == [
        *("none", "oblivious", "transfer", "bpda_identity", "unrolled"),
        *("square", "spsa"),
    ]
    # Rounding hides the gradient and nothing else.
    assert (found["unrolled"], found["bpda_identity"]) == (1.0, 0.0)
    verdicts = dict(zip(rows["tier"], rows["verdict"], strict=True))
    assert verdicts["unrolled"] == "SUSPECT"
    assert verdicts["bpda_identity"] == "TRUSTED"


@pytest.mark.usefixtures("empty_cache", "without_probes", "without_figures")
def test_files_of_ones_own_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    text = named_file("files.yaml")
    # As shown, but for passes and views.
    assert "passes: 200" in text
    assert "layers: fine}" in text
    text = text.replace("passes: 200", "passes: 2")
    text = text.replace("layers: fine}", "layers: fine, count: 2}\nensemble: {size: 2}")
    (tmp_path / "files.yaml").write_text(text)
    rng = np.random.default_rng(0)
    for split in ("train", "val", "test"):
        for kind in ("tabby", "tiger"):
            folder = tmp_path / "photos" / split / kind
            folder.mkdir(parents=True)
            pixels = rng.integers(0, 255, (256, 300, 3), np.uint8)
            Image.fromarray(pixels).save(folder / "one.png")
    with torch.random.fork_rng():
        net = seeded_state(resnet18(num_classes=2))
    write_files(tmp_path, {"net.pth": net, "alexnet-owt-7be5be79.pth": alexnet_trunk()})
    gan = seeded_gan(small_config(256))
    write_snapshot(tmp_path / "stylegan2-cat.pkl", persistent(nvidia_names(gan)))
    monkeypatch.setenv("ROBUSTGEN_WEIGHTS", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(["run", "files.yaml", "--limit", "1", "--out", "run"])
    assert ended.value.code == 0
    accuracy = (tmp_path / "run" / "accuracy.csv").read_text()
    assert "files,full,photos,net,pgd,oblivious,linf" in accuracy


def test_python_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "suites").symlink_to(ROOT / "suites")
    (tmp_path / "attacks").symlink_to(ROOT / "attacks")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "projection.py").write_text(named_file("projection.py"))
    runpy.run_path(str(tmp_path / "projection.py"))


def test_the_commands_of_the_gate_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    # As shipped, but smaller: six images cannot tell whether an attack is weak.
    text = (ROOT / "suites" / "ci.yaml").read_text(encoding="utf-8")
    for shipped, small in (
        ("splits: {val: 30, test: 100}", "splits: {val: 4, test: 6}"),
        ("tiers: [oblivious, bpda_encoder]", "tiers: [oblivious]"),
        ("passes: 4", "passes: 1"),
        ("count: 8}", "count: 2}"),
        ("size: 8,", "size: 2,"),
    ):
        assert shipped in text
        text = text.replace(shipped, small)
    (tmp_path / "suites").mkdir()
    (tmp_path / "suites" / "ci.yaml").write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    lines = re.findall(r"^robustgen ((?:run suites/ci|baseline ).+)$", README, re.M)
    assert len(lines) == 3
    for line in lines:
        words = line.partition("#")[0].split()
        with pytest.raises(SystemExit) as ended:
            main(words)
        assert ended.value.code == 0, line
    assert "Gate passed" in capfd.readouterr().out


def test_every_link_to_a_file_leads_somewhere():
    targets = re.findall(r"\]\((?!http)([^)]+)\)", README)
    assert targets
    scripts = re.findall(r"python (benchmarks/\w+\.py)", README)
    assert len(set(scripts)) == 2
    for target in (*targets, *scripts):
        assert (ROOT / target).exists(), target
