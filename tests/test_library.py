"""Attack presets: those that ship, and what a preset may not say."""

import math
from pathlib import Path
from typing import Any

import pytest
import yaml

from robustgen import library
from robustgen.errors import RequestError
from robustgen.library import (
    CwAttack,
    FgsmAttack,
    PgdAttack,
    attack_names,
    load_attack,
    suite_names,
    suite_path,
)

CW: dict[str, Any] = {
    "name": "cw",
    "attack": "cw",
    "norm": "l2",
    "eps": "inf",
    "settings": {"steps": 10, "learning_rate": 0.01, "constants": [0.1, 1, 10]},
}


def written(folder: Path, data: object) -> str:
    (folder / "preset.yaml").write_text(yaml.safe_dump(data), encoding="utf-8")
    return "preset.yaml"


def test_shipped_names():
    assert {"clean", "fgsm", "pgd", "cw", "jpeg"} <= set(attack_names())
    assert {"celebahq_smiling", "digits"} <= set(suite_names())


@pytest.mark.parametrize("name", attack_names())
def test_shipped_presets_say_what_they_are(name: str):
    spec = load_attack(name)
    assert spec.name == name
    assert spec.about
    assert name == "clean" or spec.sources
    # Nothing is asked of the classifier exactly where no norm bounds the change.
    assert (spec.tier == "none") == (spec.norm == "none")


def test_shipped_presets_have_the_papers_strength():
    fgsm, pgd, cw = (load_attack(name) for name in ("fgsm", "pgd", "cw"))
    assert isinstance(fgsm, FgsmAttack)
    assert isinstance(pgd, PgdAttack)
    assert isinstance(cw, CwAttack)
    assert (fgsm.norm, fgsm.eps) == (pgd.norm, pgd.eps) == ("linf", 8 / 255)
    assert pgd.settings.steps == 40
    assert (cw.norm, cw.eps) == ("l2", math.inf)


def test_lists_become_tuples_and_defaults_are_filled(tmp_path: Path):
    spec = load_attack(written(tmp_path, CW), tmp_path)
    assert isinstance(spec, CwAttack)
    assert spec.settings.constants == (0.1, 1.0, 10.0)
    assert spec.settings.confidence == 0
    assert spec.eps == math.inf
    assert spec.model_dump(mode="json")["eps"] == "inf"


def test_faults_name_the_keys_of_the_file(tmp_path: Path):
    settings = {"steps": 0, "learning_rate": 0.01, "constants": [10, 1], "c": 3}
    name = written(tmp_path, {**CW, "norm": "linf", "settings": settings})
    with pytest.raises(RequestError) as caught:
        load_attack(name, tmp_path)
    text = str(caught.value)
    assert "norm: 'linf' does not fit this attack: l2." in text
    assert "settings.steps: should be greater than or equal to 1, not 0." in text
    assert "settings.constants: should be one or more rising numbers." in text
    assert "settings.c: unknown key." in text
    assert len(text.splitlines()) == 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"attack": "cww"}, "unknown attack 'cww'. Did you mean 'cw'?"),
        ({"attack": None}, "unknown attack 'None'"),
        ({"name": "../x"}, "name: should be letters, digits"),
        ({"eps": "1/0"}, "eps: '1/0' divides by zero."),
        ({"settings": 3}, "settings: should be keys and values, not 3."),
        ({"settings": {**CW["settings"], "constants": 1}}, "constants: should be a li"),
        ({"settings": {**CW["settings"], "constants": []}}, "one or more rising"),
        ({"settings": {**CW["settings"], "confidence": -1}}, "confidence: should be g"),
    ],
)
def test_wrong_presets(tmp_path: Path, change: dict[str, Any], message: str):
    name = written(tmp_path, {**CW, **change})
    with pytest.raises(RequestError) as caught:
        load_attack(name, tmp_path)
    assert message in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("random_start", "steps", "reaches"),
    [(True, 16, True), (True, 15, False), (False, 8, True), (False, 7, False)],
)
def test_pgd_must_reach_the_far_side(
    tmp_path: Path, random_start: bool, steps: int, reaches: bool
):
    settings = {"steps": steps, "step_size": "1/255", "random_start": random_start}
    data = {"name": "p", "attack": "pgd", "norm": "linf", "eps": "8/255"}
    name = written(tmp_path, {**data, "settings": settings})
    if reaches:
        assert load_attack(name, tmp_path).name == "p"
    else:
        with pytest.raises(RequestError, match=r"too weak\. Raise steps or step_size"):
            load_attack(name, tmp_path)


def test_restarts_need_a_random_start(tmp_path: Path):
    settings = {"steps": 9, "step_size": 0.1, "restarts": 2, "random_start": False}
    data = {"name": "p", "attack": "pgd", "norm": "linf", "eps": 0.1}
    name = written(tmp_path, {**data, "settings": settings})
    with pytest.raises(RequestError, match="random_start: should be true"):
        load_attack(name, tmp_path)


def test_faults_of_a_corruption_name_the_keys_of_the_file(tmp_path: Path):
    settings = {"kind": "gaussian_blur", "grid": [2, 1], "severity": 3, "sid": 224}
    data = {"name": "blur", "attack": "corruption", "eps": 0.1, "settings": settings}
    name = written(tmp_path, data)
    with pytest.raises(RequestError) as caught:
        load_attack(name, tmp_path)
    place = f"{tmp_path}/preset.yaml"
    assert sorted(
        line.split(": ", 1)[1] for line in str(caught.value).splitlines()
    ) == [
        "eps: 0.1 would bound a corruption, which stays in no ball; leave it out, or "
        "say inf.",
        "settings.grid: should be one or more rising numbers.",
        "settings.sid: unknown key. Did you mean 'side'? Known: grid, kind, severity, "
        "side.",
        "settings.side: required, but missing.",
    ]
    assert all(line.startswith(place) for line in str(caught.value).splitlines())


def test_an_unknown_preset_gets_help():
    with pytest.raises(
        RequestError, match=r"Unknown attack 'pdg'\. Did you mean 'pgd'"
    ):
        load_attack("pdg")


def test_suite_path():
    assert suite_path("digits").name == "digits.yaml"
    assert suite_path("digits").is_file()
    assert suite_path("some/where.yaml") == Path("some/where.yaml")
    with pytest.raises(RequestError, match=r"Unknown suite 'digitz'\. Did you mean"):
        suite_path("digitz")


def test_a_wheel_finds_its_own_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    inside = tmp_path / "robustgen" / "presets" / "attacks"
    inside.mkdir(parents=True)
    (inside / "mine.yaml").touch()
    module = tmp_path / "robustgen" / "library.py"
    monkeypatch.setattr(library, "__file__", str(module))
    assert attack_names() == ["mine"]
    assert library.suites_folder() == tmp_path / "suites"
