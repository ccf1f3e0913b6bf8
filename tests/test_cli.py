"""The command line end to end: what it prints, refuses, and leaves alone."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd
import pytest
import yaml

from robustgen.cli import listing, main, terminal
from robustgen.cli.interrupts import STATUS

ROOT = Path(__file__).parents[1]

PAIR = {
    "dataset": "digits",
    "classifier": "digits",
    "generator": "digits",
    "encoder": "digits",
    "perceptual": "digits",
}
PGD = {
    "name": "pgd",
    "attack": "pgd",
    "norm": "linf",
    "eps": "8/255",
    "settings": {"steps": 20, "step_size": "1/255"},
}


@pytest.fixture(autouse=True)
def _nothing_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ROBUSTGEN_DATA", str(tmp_path / "no-data"))
    monkeypatch.setenv("ROBUSTGEN_WEIGHTS", str(tmp_path / "no-weights"))
    monkeypatch.chdir(tmp_path)


def suite_of(**changes: Any) -> dict[str, Any]:
    data: dict[str, Any] = {
        "version": 1,
        "name": "small",
        "profiles": {"embedded": {"pairs": [PAIR]}},
        "attacks": [PGD],
    }
    return data | changes


def written(data: object) -> str:
    Path("suite.yaml").write_text(
        data if isinstance(data, str) else yaml.safe_dump(data), encoding="utf-8"
    )
    return "suite.yaml"


def status(*argv: str) -> int:
    with pytest.raises(SystemExit) as caught:
        main(argv)
    assert isinstance(caught.value.code, int)
    return caught.value.code


def refusal(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    """The one message of a command that must exit 2."""
    assert status(*argv) == 2
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err + captured.out
    assert captured.err.strip()
    return captured.err


@contextmanager
def signals_as_before() -> Generator[None]:
    """Puts back what a command that was interrupted leaves ignored."""
    before = {number: signal.getsignal(number) for number in STATUS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def replace_run(monkeypatch: pytest.MonkeyPatch, run: Callable[..., Any]) -> None:
    """Another `run` in the place of the real one, which need not even load."""
    runner, rendering = ModuleType("runner"), ModuleType("rendering")
    monkeypatch.setattr(runner, "run", run, raising=False)
    monkeypatch.setattr(
        rendering, "terminal_table", "table of {}".format, raising=False
    )
    monkeypatch.setitem(sys.modules, "robustgen.runner", runner)
    monkeypatch.setitem(sys.modules, "robustgen.rendering", rendering)


class FakeReport:
    """What the command line asks of a report."""

    def __init__(self, *verdicts: str) -> None:
        self.accuracy = pd.DataFrame(
            {
                "verdict": verdicts,
                "attack": ["pgd"] * len(verdicts),
                "path": ["defense"] * len(verdicts),
            }
        )

    def __str__(self) -> str:
        return "the report"


def pair(**changes: Any) -> dict[str, Any]:
    return suite_of(profiles={"embedded": {"pairs": [PAIR | changes]}})


REFUSED_SUITES: dict[str, tuple[object, str]] = {
    "unknown key": (suite_of(atacks=[]), "Did you mean 'attacks'?"),
    "unknown key of a pair": (pair(datset="x"), "Did you mean 'dataset'?"),
    "wrong type": (suite_of(splits={"val": "many"}), "should be a valid integer"),
    "missing key": (suite_of(version=None), "version: should be 1"),
    "newer version": (suite_of(version=2), "version: should be 1"),
    "eps meant as a 255th": (suite_of(attacks=[PGD | {"eps": 8}]), "mean 8/255?"),
    "division by zero": (suite_of(attacks=[PGD | {"eps": "8/0"}]), "divides by zero"),
    "unknown attack": (suite_of(attacks=["zgp"]), "Unknown attack 'zgp'"),
    "unknown kind": (suite_of(attacks=[PGD | {"attack": "pdg"}]), "mean 'pgd'?"),
    "weak attack": (
        suite_of(attacks=[PGD | {"settings": {"steps": 1, "step_size": 0.001}}]),
        "too weak",
    ),
    "same name twice": (suite_of(attacks=[PGD, PGD]), "stands twice"),
    "unknown data set": (pair(dataset="digit"), "Did you mean 'digits'?"),
    "unknown classifier": (pair(classifier="resnet"), "unknown classifier 'resnet'"),
    "missing weight file": (pair(classifier="no.safetensors"), "no such file"),
    "asset that needs a download": (pair(encoder="ffhq_rgbm"), "needs a download"),
    "unnamed plugin": (pair(classifier={"factory": "mine:net"}), "--plugin mine"),
    "bad factory": (pair(classifier={"factory": "mine"}), "`module:callable`"),
    "unknown path": (suite_of(paths=["images"]), "Did you mean 'image'?"),
    "incomplete paths": (
        suite_of(paths=["image", "stylemix_ensemble"]),
        "averages 'reconstruction' too",
    ),
    "weight out of range": (
        suite_of(projection={"perceptual_weight": 2}),
        "less than or equal to 1",
    ),
    "ensemble larger than its pool": (
        suite_of(ensemble={"size": 40}),
        "exceeds the pool of 33",
    ),
    "noise without strength": (
        suite_of(views={"family": "isotropic", "layers": [2, 5]}),
        "needs `sigma`",
    ),
    "empty layers": (suite_of(views={"layers": [4, 4]}), "is empty"),
    "no profile": (suite_of(profiles={}), "should hold `embedded`"),
    "not YAML": ("version: [1\n", "not valid YAML"),
    "repeated key": ("version: 1\nversion: 1\n", ":2: version: this key stands twice"),
    "not a mapping": ("- 1\n", "expected keys and values"),
    "empty file": ("", "the file is empty"),
    "code in YAML": ("a: !!python/name:os.system\n", "not valid YAML"),
}


@pytest.mark.parametrize("case", REFUSED_SUITES)
def test_wrong_suites(case: str, capsys: pytest.CaptureFixture[str]):
    data, message = REFUSED_SUITES[case]
    error = refusal(capsys, "run", written(data))
    assert message in error
    assert len(error.strip().splitlines()) == 1
    assert not Path("reports").exists()


REFUSED_COMMANDS: dict[str, tuple[tuple[str, ...], str]] = {
    "missing suite": (("run", "none.yaml"), "none.yaml: cannot be read"),
    "unknown suite": (("run", "digitz"), "Did you mean 'digits'?"),
    "folder for a suite": (("run", "."), "is a folder"),
    "unknown profile": (("run", "digits", "--profile", "tiny"), "'tiny' is not one of"),
    "absent profile": (("run", "digits", "--profile", "full"), "no profile 'full'"),
    "full without files": (
        ("run", "celebahq_smiling", "--profile", "full"),
        "sgans_stylegan2-ffhq-config-f.pt",
    ),
    "no images": (("run", "digits", "--limit", "0"), "--limit"),
    "empty batch": (("run", "digits", "--batch-size", "0"), "--batch-size"),
    "negative seed": (("run", "digits", "--seed", "-1"), "--seed"),
    "text for a number": (("run", "digits", "--seed", "x"), "--seed"),
    "unknown device": (("run", "digits", "--device", "tpu"), "--device"),
    "unknown option": (("run", "digits", "--dryrun"), "--dryrun"),
    "no suite": (("run",), "Missing argument"),
    "unknown command": (("rum",), "No such command"),
    "unknown plugin": (("run", "digits", "--plugin", "nope"), "--plugin nope"),
    "file for a folder": (("run", "digits", "--out", "file"), "is a file"),
    "folder below a file": (("run", "digits", "--out", "file/out"), "is a file"),
    "report of nothing": (("report", "no-run"), "no such file"),
    "unknown list": (("list", "atacks"), "atacks"),
    "missing predictions": (("score", "a.npz", "b.npz"), "a.npz"),
}


@pytest.mark.parametrize("case", REFUSED_COMMANDS)
def test_wrong_commands(case: str, capsys: pytest.CaptureFixture[str]):
    Path("file").touch()
    argv, message = REFUSED_COMMANDS[case]
    assert message in refusal(capsys, *argv)
    assert not Path("reports").exists()


def test_a_folder_that_cannot_be_written(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    # The tests may run as root, to whom no folder is read-only.
    def refuse(**_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(terminal.tempfile, "TemporaryFile", refuse)
    error = refusal(capsys, "run", written(suite_of()), "--out", "locked")
    assert "locked: cannot write here (Permission denied)" in error


def test_several_faults_come_as_one_message(capsys: pytest.CaptureFixture[str]):
    data = suite_of(seed="x", paths=["images"], attacks=[PGD | {"eps": 8}])
    lines = refusal(capsys, "run", written(data)).strip().splitlines()
    assert len(lines) == 3
    assert all(re.match(r"(robustgen: )?suite\.yaml:\d+: ", line) for line in lines)


def test_dry_run_shows_cases_and_cost(capsys: pytest.CaptureFixture[str]):
    argv = ("run", "celebahq_smiling", "--dry-run", "--limit", "10", "--seed", "3")
    assert status(*argv) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("Profile: embedded (stand-in assets")
    assert lines[1] == (
        "Suite celebahq_smiling, seed 3: 5 cases of 10 validation and 10 test images"
    )
    names = [line.split()[0] for line in lines[2:8]]
    assert names == [
        "case",
        *(f"faces-faces-{a}" for a in ("clean", "fgsm", "pgd", "cw")),
        "faces-faces-bpda_encoder-reconstruction",
    ]
    text = "\n".join(lines)
    assert "Cost: 90 images" in text
    assert re.search(r"spent on: \w+ \d+ s \(\d+%\), ", text)
    assert all(re.search(r" \d+ s$", line) for line in lines[3:8])
    assert "Would write reports/runs/celebahq_smiling-embedded/" in text
    assert not Path("reports").exists()


def test_dry_run_is_quick_and_loads_nothing_heavy():
    code = (
        "import sys\n"
        "from robustgen.cli import main\n"
        "try:\n"
        "    main(['run', 'digits', '--dry-run'])\n"
        "except SystemExit as done:\n"
        "    heavy = {'torch', 'numpy', 'pandas', 'rich', 'matplotlib'}\n"
        "    print(done.code, sorted(heavy & sys.modules.keys()))\n"
    )
    began = os.times()
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
    )
    ended = os.times()
    assert done.stdout.splitlines()[-1] == "0 []"
    # Time of a processor, not of the clock: other work may keep this machine busy.
    assert ended.children_user - began.children_user < 1


def test_plugins_are_found_in_the_working_folder(capsys: pytest.CaptureFixture[str]):
    Path("my_cli_plugin.py").write_text("def net():\n    return None\n")
    suite = written(pair(classifier={"factory": "my_cli_plugin:net"}))
    argv = ("run", suite, "--dry-run", "--plugin", "my_cli_plugin")
    assert status(*argv) == 0
    assert "digits-net-pgd" in capsys.readouterr().out


def test_an_invalid_row_ends_with_status_3(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    found = FakeReport("TRUSTED", "INVALID", "SUSPECT")
    replace_run(monkeypatch, lambda suite, **options: found)
    assert status("run", written(suite_of()), "--out", "here") == 3
    captured = capsys.readouterr()
    assert "table of the report" in captured.out
    assert "1 rows of accuracy.csv are INVALID (pgd on defense)" in captured.err


def test_run_passes_everything_on(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    seen: dict[str, Any] = {}

    def fake_run(suite: object, **options: Any) -> FakeReport:
        seen.update(options, suite=suite)
        options["progress"].start("stage", 3)
        options["progress"].advance(3)
        return FakeReport("TRUSTED", "SUSPECT")

    replace_run(monkeypatch, fake_run)
    argv = ("run", written(suite_of()), "--out", "here", "--device", "cpu", "--fresh")
    assert status(*argv, "--batch-size", "16", "--limit", "5", "--seed", "2") == 0
    captured = capsys.readouterr()
    assert captured.out.splitlines()[0].startswith("Profile: embedded")
    assert "table of the report" in captured.out
    assert "stage: 0 of 3" in captured.err
    assert seen["out"] == Path("here")
    assert (seen["device"], seen["batch_size"], seen["fresh"]) == ("cpu", 16, True)
    assert (seen["limit"], seen["seed"], seen["profile"]) == (5, 2, "auto")
    assert seen["suite"].profile("embedded").splits.test == 5


def test_an_interrupt_says_how_to_go_on(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    replace_run(monkeypatch, interrupted)
    argv = ["run", written(suite_of()), "--out", "here", "--fresh"]
    monkeypatch.setattr(sys, "argv", ["/usr/bin/robustgen", *argv])
    with signals_as_before():
        assert status(*argv) == 130
    said = capsys.readouterr().err
    assert "Finished work is kept." in said
    assert "To continue: robustgen run suite.yaml --out here\n" in said


def test_list_names_everything(capsys: pytest.CaptureFixture[str]):
    assert status("list") == 0
    text = capsys.readouterr().out
    for word in (
        "celebahq_smiling",
        "pgd",
        "hybrid",
        "pivotal",
        "stylemix",
        "sefa",
        "faces",
    ):
        assert word in text
    assert status("list", "projectors") == 0
    assert capsys.readouterr().out.splitlines()[0] == "projectors:"


def test_list_says_what_is_known(capsys: pytest.CaptureFixture[str]):
    assert status("list", "classifiers") == 0
    lines = capsys.readouterr().out.splitlines()
    hair = next(line for line in lines if line.split()[0] == "faces_hair")
    assert hair.endswith("Rendered faces by hair (32 px, 6 classes)")
    # One column for names, one for what is said of them.
    assert len({line.index(line.split()[1]) for line in lines[1:]}) == 1


def test_list_for_scripts(capsys: pytest.CaptureFixture[str]):
    assert status("list", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found) == {kind.value for kind in listing.Kind}
    digits = next(each for each in found["datasets"] if each["name"] == "digits")
    assert (digits["images"], digits["comes"], len(digits["classes"])) == (
        1797,
        "ships",
        10,
    )
    car = next(each for each in found["generators"] if each["name"] == "stylegan2_car")
    assert (car["resolution"], car["comes"]) == (512, "download")


def test_shipped_data_sets_are_described():
    from robustgen.data.faces import LABELS
    from robustgen.names import EMBEDDED

    assert tuple(listing.DATASETS) == EMBEDDED["dataset"]
    for label in LABELS:
        assert label in listing.DATASETS["faces"].about


def test_run_suite_is_the_run_command():
    done = subprocess.run(
        [sys.executable, "run_suite.py", "suites/digits.yaml", "--dry-run"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "digits-digits-pgd" in done.stdout
    lines = (ROOT / "run_suite.py").read_text().splitlines()
    assert len([line for line in lines if line]) == 3


def test_score_prints_accuracy_and_its_error(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    def fake(*options: object) -> dict[str, float]:
        assert options == (Path("v.npz"), Path("t.npz"), "stylemix_fine", 16, True)
        return {"mean": 0.96875, "stderr": 0.00123}

    monkeypatch.setattr("robustgen.score.score_predictions", fake)
    argv = ("score", "v.npz", "t.npz", "--ensemble-size", "16", "--image-crops")
    assert status(*argv) == 0
    assert capsys.readouterr().out == "accuracy 0.9688, standard error 0.0012\n"
