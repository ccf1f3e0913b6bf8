"""The schema of a suite: what resolves, what merges, what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from robustgen import table
from robustgen.budgets import BUDGETS
from robustgen.domain import load_domain
from robustgen.errors import RequestError
from robustgen.library import TierAttack, suite_names
from robustgen.names import ADAPTIVE_TIERS
from robustgen.projection_settings import HybridSettings
from robustgen.suite import (
    GENERATED_PATHS,
    JitterSettings,
    PathName,
    Suite,
    WeightFile,
    asset_label,
    ladder_threat,
    load_suite,
    narrow,
    resolve_cases,
    suite_record,
)
from robustgen.view_settings import IsotropicViews, LayerViews, SefaViews

PAIR = {
    "dataset": "digits",
    "classifier": "digits",
    "generator": "digits",
    "encoder": "digits",
    "perceptual": "digits",
}
CLEAN = {"name": "clean", "attack": "clean"}
FGSM = {"name": "fgsm", "attack": "fgsm", "norm": "linf", "eps": "8/255"}
PGD = {
    "name": "pgd",
    "attack": "pgd",
    "norm": "linf",
    "eps": "8/255",
    "settings": {"steps": 20, "step_size": "1/255"},
}


def suite_of(**changes: Any) -> dict[str, Any]:
    """A small right suite; `None` takes a key away."""
    data: dict[str, Any] = {
        "version": 1,
        "name": "small",
        "profiles": {"embedded": {"pairs": [PAIR]}},
        "attacks": [CLEAN, FGSM, PGD],
    }
    data |= changes
    return {key: value for key, value in data.items() if value is not None}


def written(folder: Path, data: object) -> Path:
    path = folder / "suite.yaml"
    path.write_text(yaml.safe_dump(data, sort_keys=False), encoding="utf-8")
    return path


def loaded(folder: Path, data: object) -> Suite:
    return load_suite(written(folder, data))


def faults(folder: Path, data: object) -> list[str]:
    path = written(folder, data)
    with pytest.raises(RequestError) as caught:
        load_suite(path)
    return [line.removeprefix(str(path)) for line in str(caught.value).splitlines()]


def test_defaults_are_the_papers(tmp_path: Path):
    case = resolve_cases(loaded(tmp_path, suite_of()), "embedded")[0]
    assert (case.splits.val, case.splits.test) == (100, 200)
    assert case.projection == HybridSettings(
        perceptual_weight=0.5, latent_weight=0.25, tolerance=0
    )
    assert case.views.count == 32
    assert case.ensemble.model_dump() == {"size": 31, "resamples": 20, "alphas": 21}
    assert case.jitter.zoom == 33 / 32
    assert case.seed == 0


def test_paths_are_those_of_the_table():
    assert set(PathName.__args__) == set(table.PATHS)


def test_cases_are_pairs_times_attacks_in_order(tmp_path: Path):
    faces = {kind: "faces" for kind in PAIR}
    data = suite_of(profiles={"embedded": {"pairs": [PAIR, faces]}})
    cases = resolve_cases(loaded(tmp_path, data), "embedded")
    assert [case.name for case in cases] == [
        f"{pair}-{pair}-{attack}"
        for pair in ("digits", "faces")
        for attack in ("clean", "fgsm", "pgd")
    ]


def test_units(tmp_path: Path):
    data = suite_of(jitter={"zoom": "33/32", "color": "1/20"})
    suite = loaded(tmp_path, data)
    case = resolve_cases(suite, "embedded")[1]
    assert case.attack.eps == 8 / 255
    assert case.jitter.zoom == 1.03125
    assert case.jitter.color == 0.05


def test_a_profile_changes_single_keys_of_a_section(tmp_path: Path):
    data = suite_of(
        projection={"optimizer": "adam", "passes": 30},
        splits={"val": 10, "test": 20},
        profiles={
            "full": {"pairs": [PAIR], "splits": {"test": 7}, "attacks": [CLEAN]},
            "embedded": {"pairs": [PAIR], "projection": {"passes": 5}},
        },
    )
    suite = loaded(tmp_path, data)
    embedded, full = suite.profile("embedded"), suite.profile("full")
    assert embedded.projection == HybridSettings(optimizer="adam", passes=5)
    assert full.projection == HybridSettings(optimizer="adam", passes=30)
    assert (embedded.splits.val, embedded.splits.test) == (10, 20)
    assert (full.splits.val, full.splits.test) == (10, 7)
    assert [attack.name for attack in full.attacks] == ["clean"]
    assert len(embedded.attacks) == 3


def test_faults_point_at_where_the_value_stands(tmp_path: Path):
    data = suite_of(
        projection={"passes": 0, "latent_weight": -1},
        profiles={"embedded": {"pairs": [PAIR], "projection": {"passes": "x"}}},
    )
    assert faults(tmp_path, data) == [
        ":12: profiles.embedded.projection.passes: should be a valid integer, not 'x'.",
        ":29: projection.latent_weight: should be greater than or equal to 0, not -1.",
    ]


def test_one_fault_of_two_profiles_is_listed_once(tmp_path: Path):
    profile = {"pairs": [PAIR]}
    data = suite_of(
        views={"family": "stylemx"},
        profiles={"full": profile, "embedded": json.loads(json.dumps(profile))},
    )
    (only,) = faults(tmp_path, data)
    assert "views: unknown family 'stylemx'. Did you mean 'stylemix'?" in only


def test_sections_are_checked_without_profiles_too(tmp_path: Path):
    data = suite_of(profiles=None, jitter={"zoom": 0.5})
    text = "\n".join(faults(tmp_path, data))
    assert "profiles: required, but missing." in text
    assert "jitter.zoom: should be greater than or equal to 1" in text


def test_presets_take_overrides(tmp_path: Path):
    preset = {**PGD, "about": "from a file"}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(preset), encoding="utf-8")
    data = suite_of(
        attacks=[
            CLEAN,
            "mine.yaml",
            {
                "preset": "mine.yaml",
                "name": "pgd_16",
                "eps": "16/255",
                "settings": {"steps": 40},
            },
        ]
    )
    attacks = loaded(tmp_path, data).profile("embedded").attacks
    assert [a.name for a in attacks] == ["clean", "pgd", "pgd_16"]
    changed = attacks[2].model_dump()
    assert changed["eps"] == 16 / 255
    assert changed["settings"]["steps"] == 40
    assert changed["settings"]["step_size"] == 1 / 255
    assert changed["about"] == "from a file"


def test_a_stronger_eps_needs_more_travel(tmp_path: Path):
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(PGD), encoding="utf-8")
    data = suite_of(attacks=[{"preset": "mine.yaml", "eps": "32/255"}])
    (only,) = faults(tmp_path, data)
    assert "attacks.0.settings: 20 steps of 0.003922 travel 0.07843" in only
    assert "is 0.251 away" in only


def test_factories(tmp_path: Path):
    net = {"factory": "my.nets:Small.build", "args": {"depth": 3}}
    attack = {"factory": "my:attack", "norm": "l2", "eps": "inf"}
    data = suite_of(
        attacks=[attack],
        profiles={"embedded": {"pairs": [{**PAIR, "classifier": net}]}},
    )
    (case,) = resolve_cases(loaded(tmp_path, data), "embedded")
    assert asset_label(case.pair.classifier) == "Small.build"
    assert case.name == "digits-Small.build-attack"
    assert case.attack.tier == "oblivious"


def test_weight_files_start_from_the_suite(tmp_path: Path):
    (tmp_path / "net.safetensors").touch()
    pair = {**PAIR, "classifier": "net.safetensors"}
    data = suite_of(profiles={"embedded": {"pairs": [pair]}})
    (case, *_) = resolve_cases(loaded(tmp_path, data), "embedded")
    assert case.pair.classifier == str(tmp_path / "net.safetensors")
    assert case.name == "digits-net-clean"


def test_layers_may_be_a_range(tmp_path: Path):
    suite = loaded(tmp_path, suite_of(views={"layers": [2, 5]}))
    views = suite.profile("embedded").views
    assert isinstance(views, LayerViews)
    assert views.layers == (2, 5)


def test_narrow(tmp_path: Path):
    suite = loaded(tmp_path, suite_of(splits={"val": 10, "test": 200}))
    small = narrow(suite, seed=7, limit=50)
    assert small.seed == 7
    assert small.profile("embedded").splits.model_dump() == {"val": 10, "test": 50}
    assert narrow(suite) == suite


def test_the_record_is_strict_json(tmp_path: Path):
    attack = {"factory": "my:attack", "norm": "l2", "eps": "inf"}
    suite = loaded(tmp_path, suite_of(attacks=[CLEAN, attack]))
    record = suite_record(suite, "embedded")
    assert json.loads(json.dumps(record, allow_nan=False)) == record
    assert record["attacks"][1]["eps"] == "inf"
    assert record["profile"] == "embedded"
    assert record["pairs"][0]["dataset"] == "digits"
    assert record["ensemble"] == {"size": 31, "resamples": 20, "alphas": 21}


def test_tiers_make_one_case_for_each_defended_path(tmp_path: Path):
    suite = loaded(tmp_path, suite_of(tiers=["oblivious", "square", "unrolled"]))
    cases = resolve_cases(suite, "embedded")
    names = [case.name for case in cases]
    rungs = [
        f"digits-digits-{tier}-{path}"
        for tier in ("unrolled", "square")
        for path in GENERATED_PATHS
    ]
    listed = [f"digits-digits-{name}" for name in ("clean", "fgsm", "pgd")]
    assert names == [*listed, *rungs]


def test_the_ladder_takes_the_threat_of_pgd(tmp_path: Path):
    tiers = ["oblivious", "square"]
    fgsm = {**FGSM, "eps": "3/255"}
    suite = loaded(tmp_path, suite_of(attacks=[CLEAN, fgsm, PGD], tiers=tiers))
    assert ladder_threat(suite.profile("embedded")) == ("linf", 8 / 255)
    first = loaded(tmp_path, suite_of(attacks=[CLEAN, fgsm], tiers=tiers))
    assert ladder_threat(first.profile("embedded")) == ("linf", 3 / 255)
    own = {"norm": "l2", "eps": 0.5}
    said = loaded(tmp_path, suite_of(tiers=tiers, ladder=own))
    assert ladder_threat(said.profile("embedded")) == ("l2", 0.5)


def test_without_the_tier_oblivious_only_the_clean_images_are_listed(tmp_path: Path):
    suite = loaded(tmp_path, suite_of(tiers=["bpda_encoder"]))
    found = [case.attack.name for case in resolve_cases(suite, "embedded")]
    assert found == ["clean", *["bpda_encoder"] * 3]


def test_a_budget_may_change_a_number_of_a_preset(tmp_path: Path):
    ladder = {"budget": {"preset": "paper", "steps": 7}}
    suite = loaded(tmp_path, suite_of(tiers=["spsa"], ladder=ladder))
    budget = suite.profile("embedded").ladder.budget
    assert budget == BUDGETS["paper"].model_copy(update={"steps": 7})


def test_a_list_of_radii_is_a_sweep(tmp_path: Path):
    sweep = {"preset": "pgd", "eps": ["4/255", "8/255"]}
    suite = loaded(tmp_path, suite_of(attacks=[CLEAN, sweep, FGSM]))
    attacks = suite.profile("embedded").attacks
    assert [one.name for one in attacks] == ["clean", "pgd_4_255", "pgd_8_255", "fgsm"]
    assert [one.sweep for one in attacks] == [None, "pgd", "pgd", None]
    assert [one.eps for one in attacks] == pytest.approx([0, 4 / 255, 8 / 255, 8 / 255])


def test_a_fault_of_a_sweep_names_its_line(tmp_path: Path):
    sweep = {"preset": "pgd", "eps": ["4/255", "64/255"]}
    (only,) = faults(tmp_path, suite_of(attacks=[CLEAN, sweep]))
    assert "attacks.1.settings: 40 steps of 0.007843 travel" in only


WHOLE = {"dataset": "digits", "classifier": "digits", "defense": {"factory": "m:n"}}


def test_a_whole_defense_has_two_paths_and_its_own_tiers(tmp_path: Path):
    tiers = ["oblivious", "bpda_identity"]
    data = suite_of(profiles={"embedded": {"pairs": [WHOLE]}}, tiers=tiers)
    cases = resolve_cases(loaded(tmp_path, data), "embedded")
    assert {case.paths for case in cases} == {("image", "defense")}
    (rung,) = [case for case in cases if isinstance(case.attack, TierAttack)]
    assert rung.name == "digits-digits-bpda_identity-defense"


def test_an_unknown_profile_is_refused(tmp_path: Path):
    suite = loaded(tmp_path, suite_of())
    with pytest.raises(RequestError, match=r"no profile 'full'\. Known: embedded"):
        resolve_cases(suite, "full")


SHIPPED = {
    # attacks, pairs of both profiles, validation and test images of the stand-in
    "cars": (4, 1, 100, 200),
    "cats": (4, 1, 100, 200),
    "celebahq_attributes": (4, 4, 50, 100),
    "celebahq_corruptions": (16, 1, 50, 100),
    "celebahq_smiling": (4, 1, 100, 200),
    "cifar10": (4, 1, 100, 200),
    "digits": (4, 1, 200, 300),
}

LADDERS = {
    # pairs, validation and test images, tiers, defended paths under them
    "celebahq_smiling": (1, 100, 200, ("bpda_encoder",), ("reconstruction",)),
    "digits": (1, 200, 300, ("bpda_encoder",), ("reconstruction",)),
    "ladder_faces": (1, 100, 60, ADAPTIVE_TIERS, GENERATED_PATHS),
    "ladder_digits": (1, 100, 60, ADAPTIVE_TIERS, GENERATED_PATHS),
}


OTHERS = {
    "attack_strength",
    "ci",
    "ladder_smiles",
    "mnist_defensegan",
    "mnist_defensegan_z",
    "smiles",
}
"""Suites with tests of their own."""


def test_every_shipped_suite_is_looked_at():
    assert set(suite_names()) == {*SHIPPED, *LADDERS, *OTHERS}


def test_the_gate_suite_asks_each_path_once_per_attack():
    cases = resolve_cases(load_suite("ci"), "embedded")
    found = [(case.attack.name, case.attack.tier, case.paths) for case in cases]
    paths = ("image", "reconstruction", "stylemix_ensemble")
    assert found == [
        ("clean", "none", paths),
        ("pgd", "oblivious", paths),
        ("bpda_encoder", "bpda_encoder", paths),
    ]
    assert {case.splits.test for case in cases} == {100}


@pytest.mark.parametrize("name", LADDERS)
def test_shipped_ladders(name: str):
    pairs, val, test, tiers, paths = LADDERS[name]
    cases = resolve_cases(load_suite(name), "embedded")
    rungs = [case for case in cases if isinstance(case.attack, TierAttack)]
    assert len(rungs) == pairs * len(tiers) * len(paths)
    assert {(case.splits.val, case.splits.test) for case in rungs} == {(val, test)}
    eps = {"faces": 8 / 255, "digits": 32 / 255}[cases[0].pair.labels[0]]
    found: list[tuple[str, str]] = []
    for case in rungs:
        assert isinstance(case.attack, TierAttack)
        assert (case.attack.norm, case.attack.eps) == ("linf", pytest.approx(eps))
        assert case.attack.name == case.attack.tier
        found.append((case.attack.tier, case.attack.target))
    assert found == [(tier, path) for tier in tiers for path in paths]


def test_the_strength_suite_sweeps_every_radius():
    cases = resolve_cases(load_suite("attack_strength"), "embedded")
    sweeps: dict[str, list[float]] = {}
    for case in cases:
        if case.attack.sweep is not None:
            sweeps.setdefault(case.attack.sweep, []).append(case.attack.eps * 255)
    assert len(sweeps) == 7
    for radii in sweeps.values():
        assert radii == pytest.approx([4, 8, 16, 32, 64])


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_suites(name: str):
    suite = load_suite(name)
    assert suite.name == name
    assert suite.about
    attacks, pairs, val, test = SHIPPED[name]
    for profile in ("full", "embedded"):
        if getattr(suite.profiles, profile) is None:
            assert (name, profile) == ("digits", "full")
            continue
        cases = [
            case
            for case in resolve_cases(suite, profile)
            if not isinstance(case.attack, TierAttack)
        ]
        assert len(cases) == attacks * pairs
        assert {len(case.paths) for case in cases} == {5}
        assert all(case.domain is not None for case in cases)
        assert all(case.jitter.zoom and case.jitter.color is not None for case in cases)
    embedded = resolve_cases(suite, "embedded")
    assert {case.splits.val for case in embedded} == {val}
    assert {case.splits.test for case in embedded} == {test}
    names = [case.attack.name for case in embedded[:attacks]]
    if attacks == 4:
        assert names == ["clean", "fgsm", "pgd", "cw"]
        digits = embedded[0].pair.generator == "digits"
        eps = {case.attack.eps for case in embedded if case.attack.norm == "linf"}
        assert eps == {32 / 255 if digits else 8 / 255}
    else:
        kinds = ("jpeg", "gaussian_blur", "gaussian_noise")
        assert names == ["clean", *(f"{k}_{s}" for k in kinds for s in range(1, 6))]


@pytest.mark.parametrize(
    ("name", "resolution", "steps", "layers"),
    [
        ("celebahq_smiling", 1024, 500, (10, 18)),
        ("celebahq_attributes", 1024, 500, (10, 18)),
        ("celebahq_corruptions", 1024, 500, (10, 18)),
        ("cars", 512, 500, (10, 16)),
        ("cats", 256, 500, (0, 4)),
        ("cifar10", 32, 200, (7, 8)),
    ],
)
def test_full_profiles_are_the_released_ones(
    name: str, resolution: int, steps: int, layers: tuple[int, int]
):
    for case in resolve_cases(load_suite(name), "full"):
        domain, projection = case.domain, case.projection
        assert domain is not None
        assert isinstance(projection, HybridSettings)
        assert isinstance(case.views, LayerViews)
        assert isinstance(case.views.layers, str)
        assert domain.resolution == resolution
        assert domain.ranges[case.views.layers] == layers
        assert projection.steps == domain.released_steps == steps
        # The released loss lives on pixels in [-1, 1].
        assert projection.pixel_range == 2
        assert (projection.perceptual_weight, projection.latent_weight) == (0.5, 0.25)
        assert case.pair.perceptual == "lpips_alex"


def test_the_papers_four_attributes():
    cases = resolve_cases(load_suite("celebahq_attributes"), "full")[::4]
    assert [(case.pair.attribute, case.pair.classifier) for case in cases] == [
        ("Smiling", "celebahq_smiling"),
        ("Arched_Eyebrows", "celebahq_arched_eyebrows"),
        ("Young", "celebahq_young"),
        ("Wavy_Hair", "celebahq_wavy_hair"),
    ]


def test_what_a_suite_leaves_open_is_the_domains(tmp_path: Path):
    faces = {kind: "faces" for kind in PAIR}
    data = suite_of(
        profiles={"embedded": {"pairs": [faces]}},
        views={"family": "isotropic", "layers": "fine"},
        jitter={"color": 0.01},
    )
    case = resolve_cases(loaded(tmp_path, data), "embedded")[0]
    card = load_domain("faces")
    assert isinstance(case.views, IsotropicViews)
    assert case.views.sigma == card.strength("sigma", "fine")
    assert case.jitter == JitterSettings(zoom=33 / 32, flip=True, color=0.01)


def test_a_card_of_ones_own(tmp_path: Path):
    card = (
        "version: 1\nname: mine\nresolution: 32\nstyle_layers: 8\n"
        "layers: {fine: [6, 8]}\nviews: {beta: {fine: [4]}}\n"
    )
    (tmp_path / "mine.yaml").write_text(card)
    data = suite_of(
        profiles={"embedded": {"pairs": [{**PAIR, "domain": "mine.yaml"}]}},
        views={"family": "sefa"},
    )
    case = resolve_cases(loaded(tmp_path, data), "embedded")[0]
    assert case.domain is not None
    assert case.domain.name == "mine"
    assert isinstance(case.views, SefaViews)
    assert case.views.beta == 4
    assert case.jitter.zoom == 1.0


def test_files_as_data_and_weights(tmp_path: Path):
    (tmp_path / "net.pth").touch()
    (tmp_path / "data.npz").touch()
    (tmp_path / "pictures").mkdir()
    pair = {**PAIR, "classifier": {"weights": "net.pth", "kind": "torchvision:alexnet"}}
    pairs = [
        {**pair, "dataset": {"npz": "data.npz"}},
        {**pair, "dataset": {"folder": "pictures", "resolution": 32, "name": "own"}},
    ]
    suite = loaded(tmp_path, suite_of(profiles={"embedded": {"pairs": pairs}}))
    first, second = suite.profile("embedded").pairs
    assert first.labels == ("data", "net")
    assert second.labels == ("own", "net")
    assert isinstance(first.classifier, WeightFile)
    assert first.classifier.weights == str(tmp_path / "net.pth")


WRONG = [
    (suite_of(tiers=["bpda_identty"]), "Did you mean 'bpda_identity'?"),
    (suite_of(ladder={"budget": "standart"}), "Did you mean 'standard'?"),
    (suite_of(ladder={"norm": "linf"}), "norm and eps belong together"),
    (
        suite_of(ladder={"norm": "linf", "eps": 8}),
        "8 exceeds the pixel range; did you mean 8/255?",
    ),
    (suite_of(ladder={"paths": ["defense"]}), "path 'defense' is not among `paths`"),
    (
        suite_of(attacks=[CLEAN], tiers=["square"]),
        "no attack of the suite has a radius",
    ),
    (suite_of(attacks=[PGD], tiers=["square"]), "list `clean` among the attacks"),
    (suite_of(paths=["image", "defense"]), "no pair has the key `defense`"),
    (
        suite_of(attacks=[CLEAN, {"preset": "pgd", "eps": ["8/255", "8/255"]}]),
        "eps: should list one radius or more, each once",
    ),
    (
        suite_of(attacks=[CLEAN, {**PGD, "tier": "bpda_encoder"}]),
        "list it under `tiers:` of the suite instead",
    ),
    (
        suite_of(
            profiles={"embedded": {"pairs": [{**PAIR, "defense": {"factory": "m:n"}}]}}
        ),
        "`defense:` is the whole defense; leave out `generator:`",
    ),
    (suite_of(version=2), "version: should be 1, not 2."),
    (suite_of(version=None), "version: required, but missing."),
    (suite_of(name="a b"), "name: should be letters, digits"),
    (suite_of(seed=-1), "seed: should be greater than or equal to 0"),
    (suite_of(seed="x"), "seed: should be a valid integer"),
    (suite_of(sed=1), "sed: unknown key. Did you mean 'seed'?"),
    (suite_of(ensembles={}), "ensembles: unknown key. Did you mean 'ensemble'?"),
    (suite_of(profiles={}), "profiles: should hold `embedded`, `full` or both."),
    (suite_of(profiles=[]), "profiles: should be keys and values"),
    (suite_of(profiles={"ful": {}}), "profiles.ful: unknown key. Did you mean 'full'?"),
    (suite_of(profiles={"full": None}), "should hold `embedded`, `full` or both"),
    (
        suite_of(profiles={"embedded": {"pairs": []}}),
        "profiles.embedded.pairs: should list at least one pair.",
    ),
    (
        suite_of(profiles={"embedded": {"pairs": [PAIR, PAIR]}}),
        "data set 'digits' with classifier 'digits' stands twice",
    ),
    (
        suite_of(profiles={"embedded": {"pairs": [{**PAIR, "dataset": "celebahq"}]}}),
        "0.dataset 'celebahq' needs a download",
    ),
    (
        suite_of(profiles={"embedded": {"pairs": [{**PAIR, "encoder": "digit"}]}}),
        "pairs.0.encoder: unknown encoder 'digit'. Did you mean 'digits'?",
    ),
    (
        suite_of(profiles={"embedded": {"pairs": [{**PAIR, "encoder": "no.pt"}]}}),
        "no.pt: no such file.",
    ),
    (
        suite_of(profiles={"embedded": {"pairs": [{**PAIR, "encoder": 3}]}}),
        "pairs.0.encoder: should be keys and values, not 3.",
    ),
    (
        suite_of(
            profiles={"embedded": {"pairs": [{**PAIR, "encoder": {"factory": "m"}}]}}
        ),
        "pairs.0.encoder.factory: should be `module:callable`, not 'm'.",
    ),
    (suite_of(attacks=None), "attacks: required, but missing."),
    (suite_of(attacks=[]), "attacks: should list at least one attack."),
    (suite_of(attacks="pgd"), "attacks: should be a list, not 'pgd'."),
    (suite_of(attacks=[CLEAN, CLEAN]), "attacks: 'clean' stands twice"),
    (suite_of(attacks=[3]), "attacks.0: should be the name of a preset, or keys"),
    (suite_of(attacks=[{"name": "x"}]), "attacks.0: should be the name of a preset"),
    (suite_of(attacks=["none.yaml"]), "attacks.0: "),
    (suite_of(attacks=["zzz"]), "attacks.0: Unknown attack 'zzz'."),
    (
        suite_of(attacks=[{**PGD, "attack": "pdg"}]),
        "attacks.0: unknown attack 'pdg'. Did you mean 'pgd'?",
    ),
    (
        suite_of(attacks=[{**FGSM, "eps": 8}]),
        "attacks.0.eps: 8 exceeds the pixel range [0, 1]. Images are in [0, 1] here; "
        "did you mean 8/255?",
    ),
    (suite_of(attacks=[{**FGSM, "eps": "8/0"}]), "eps: '8/0' divides by zero."),
    (suite_of(attacks=[{**FGSM, "eps": "8 255"}]), "eps: should be a number such as"),
    (suite_of(attacks=[{**FGSM, "eps": -1}]), "eps: should be greater than or equal"),
    (suite_of(attacks=[{**FGSM, "eps": 0}]), "eps: 0 allows no attack"),
    (suite_of(attacks=[{**FGSM, "eps": "inf"}]), "needs a finite radius"),
    (suite_of(attacks=[{**FGSM, "norm": "l2"}]), "norm: 'l2' does not fit this attack"),
    (suite_of(attacks=[{**FGSM, "norm": "l1"}]), "norm: unknown value 'l1'."),
    (
        suite_of(attacks=[{**FGSM, "tier": "adaptive"}]),
        "tier: should be oblivious or none",
    ),
    (suite_of(attacks=[{**CLEAN, "eps": 0.1}]), "eps: 0.1 needs a norm"),
    (
        suite_of(attacks=[{**PGD, "settings": {"steps": 2, "step_size": 0.001}}]),
        "attacks.0.settings: 2 steps of 0.001 travel 0.002",
    ),
    (
        suite_of(
            attacks=[
                {**PGD, "settings": {"steps": 2, "step_size": 0.1, "step_sise": 1}}
            ]
        ),
        "attacks.0.settings.step_sise: unknown key. Did you mean 'step_size'?",
    ),
    (suite_of(paths=["image", "foo"]), "paths.1: unknown value 'foo'."),
    (suite_of(paths=[]), "paths: should list at least one path."),
    (suite_of(paths=["image", "image"]), "paths: 'image' stands twice."),
    (
        suite_of(paths=["image", "stylemix_ensemble"]),
        "paths: 'stylemix_ensemble' averages 'reconstruction' too",
    ),
    (suite_of(splits={"val": 0}), "splits.val: should be greater than or equal to 1"),
    (suite_of(splits={"train": 5}), "splits.train: unknown key."),
    (suite_of(projection=None, projektion={}), "Did you mean 'projection'?"),
    (
        suite_of(projection={"optimizer": "lbfg"}),
        "projection.optimizer: unknown value 'lbfg'. Did you mean 'lbfgs'?",
    ),
    (
        suite_of(projection={"perceptual_weight": 1.5}),
        "projection.perceptual_weight: should be less than or equal to 1, not 1.5.",
    ),
    (suite_of(projection={"passes": 1.5}), "projection.passes: should be a valid int"),
    (suite_of(projection={"passes": True}), "projection.passes: should be a valid int"),
    (
        suite_of(views={"family": "isotropic", "layers": [2, 5]}),
        "views: family 'isotropic' needs `sigma`: domain 'digits' has no default",
    ),
    (suite_of(views={"beta": 1}), "views: `beta` belongs to family 'pca'"),
    (suite_of(views={"layers": "fin"}), "views.layers: unknown layers 'fin'."),
    (suite_of(views={"layers": [3, 3]}), "views.layers: [3, 3] is empty"),
    (suite_of(views={"layers": [1, 2, 3]}), "views.layers: "),
    (
        suite_of(views={"layers": 3}),
        "views.layers: should be coarse, middle, fine, all or",
    ),
    (
        suite_of(profiles={"embedded": {"pairs": [{**PAIR, "encoder": "none"}]}}),
        "projection method 'hybrid' needs an encoder, but digits has `encoder: none`.",
    ),
    (
        suite_of(profiles={"embedded": {"pairs": [{**PAIR, "perceptual": "none"}]}}),
        "the projection compares features, but digits has `perceptual: none`;",
    ),
    (
        suite_of(profiles={"embedded": {"pairs": [{**PAIR, "domain": "digit"}]}}),
        "pairs.0.domain: Unknown domain 'digit'. Did you mean 'digits'?",
    ),
    (
        suite_of(
            profiles={"embedded": {"pairs": [{**PAIR, "dataset": {"npz": "no.npz"}}]}}
        ),
        "no.npz: no such file.",
    ),
    (
        suite_of(
            profiles={"embedded": {"pairs": [{**PAIR, "dataset": {"folder": "no"}}]}}
        ),
        "no: no such folder.",
    ),
    (
        suite_of(
            profiles={
                "embedded": {
                    "pairs": [
                        {**PAIR, "classifier": {"weights": "no.pth", "kind": "a"}}
                    ]
                }
            }
        ),
        "no.pth: no such file.",
    ),
    (suite_of(views={"count": 10}), "ensemble: size 31 exceeds the pool of 11"),
    (suite_of(jitter={"flip": "maybe"}), "jitter.flip: should be auto, true or false"),
    (suite_of(jitter={"color": "inf"}), "jitter.color: should be a finite number."),
    (suite_of(ensemble={"alphas": 1}), "ensemble.alphas: should be greater than"),
    (suite_of(ensemble="paper"), "ensemble: should be keys and values, not 'paper'."),
]


@pytest.mark.parametrize(("data", "message"), WRONG, ids=lambda value: str(value)[:60])
def test_one_fault_one_line(tmp_path: Path, data: dict[str, Any], message: str):
    lines = faults(tmp_path, data)
    assert len(lines) == 1, lines
    assert message in lines[0]


def test_every_fault_is_listed_at_once(tmp_path: Path):
    data = suite_of(
        name="a b",
        seed="x",
        attacks=[{**FGSM, "eps": 8}, {**PGD, "attack": "pdg"}, "zzz"],
        paths=["imag"],
        views={"count": 0},
        ensembles={},
    )
    data["profiles"]["embedded"] = {"pairs": [{**PAIR, "datset": "digits"}]}
    lines = faults(tmp_path, data)
    assert len(lines) == 9
    numbers = [int(line.split(":")[1]) for line in lines]
    assert numbers == sorted(numbers)
