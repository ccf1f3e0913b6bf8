"""The table of downloads: complete, consistent, and refused where it is not."""

import re
from collections import Counter
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
import yaml

from robustgen import full_assets as module
from robustgen.errors import RequestError
from robustgen.full_assets import (
    all_assets,
    asset_domain,
    find_archive,
    full_assets,
    named_assets,
)

FILE: dict[str, Any] = {"path": "net.pth", "size": "1 MB"}
ASSET: dict[str, Any] = {
    "name": "net",
    "kind": "classifier",
    "license": "none",
    "origin": "https://example.org",
    "files": [FILE],
}


MADE: dict[str, Any] = {
    "assembler": "mnist",
    "archives": ["a", "b"],
    "content": "0" * 64,
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "_FOLDER", tmp_path)
    module._read.cache_clear()
    yield tmp_path
    module._read.cache_clear()


def write(folder: Path, **content: Any) -> None:
    text = yaml.safe_dump({"version": 1, **content})
    (folder / "mine.yaml").write_text(text, encoding="utf-8")


def test_what_a_suite_may_name():
    assert full_assets("dataset") == (
        *("cars", "cats", "celebahq", "cifar10", "mnist", "smiles"),
    )
    assert full_assets("generator") == (
        *("stylegan2_car", "stylegan2_cat", "stylegan2_cifar10", "stylegan2_ffhq"),
    )
    assert full_assets("encoder") == (
        *("car_rgbm", "cat_rgbm", "cifar10_wmean", "ffhq_rgbm"),
    )
    assert full_assets("perceptual") == ("lpips_alex", "lpips_squeeze", "lpips_vgg")
    assert full_assets("pca") == (
        *("stylegan2_car_stats", "stylegan2_cat_stats", "stylegan2_ffhq_stats"),
    )
    assert full_assets("class_means") == ("cifar10_wmean",)
    assert full_assets("suite") == ()


def test_every_attribute_has_its_classifier():
    faces = [n for n in full_assets("classifier") if n.startswith("celebahq_")]
    assert len(faces) == len(set(faces)) == 40
    assert {"celebahq_5_o_clock_shadow", "celebahq_wavy_hair", "celebahq_young"} <= set(
        faces
    )
    assert set(full_assets("classifier")) - set(faces) == {"car", "cat", "cifar10"}
    (wavy,) = named_assets("celebahq_wavy_hair")
    assert wavy.attributes == ("Wavy_Hair",)
    (file,) = wavy.files
    assert file.path == "pretrained_classifiers/celebahq/Wavy_Hair/net_best.pth"


def test_names_are_unique_within_a_kind_and_keep_to_one_domain():
    counts = Counter((asset.kind, asset.name) for asset in all_assets())
    assert set(counts.values()) == {1}
    for asset in all_assets():
        assert re.fullmatch(r"[a-z0-9_]+", asset.name)
        assert {other.domain for other in named_assets(asset.name)} == {asset.domain}
    assert [asset.kind for asset in named_assets("cifar10")] == [
        *("dataset", "classifier"),
    ]


def test_domains():
    assert asset_domain("celebahq_young") == "celebahq"
    assert asset_domain("stylegan2_cifar10") == "cifar10"
    assert asset_domain("lpips_vgg") is None
    with pytest.raises(
        RequestError, match=r"Unknown download 'lpips_vg'\. Did you mea"
    ):
        asset_domain("lpips_vg")


def test_every_file_can_be_had():
    paths: list[str] = []
    for asset in all_assets():
        for file in asset.files:
            root = "data" if asset.kind == "dataset" else "weights"
            paths.append(f"{root}/{file.path}")
            assert file.how or asset.how
            assert (file.origin or asset.origin).startswith("https://")
            if file.archive:
                assert find_archive(file.archive).url
            for archive in () if file.assembly is None else file.assembly.archives:
                assert find_archive(archive).url
    assert len(paths) == len(set(paths))


def test_digests_agree_with_what_file_names_say():
    files = [file for asset in all_assets() for file in asset.files if file.sha256]
    assert len(files) == 3
    for file in files:
        assert file.sha256 is not None
        stem = PurePosixPath(file.path).stem
        assert stem.rpartition("-")[2] == file.sha256[:8]
        assert file.url == f"https://download.pytorch.org/models/{file.path}"


def test_what_has_terms_or_dead_links_is_not_automatic():
    for name in ("celebahq", "cars"):
        (asset,) = named_assets(name)
        assert all(file.url is None and file.archive is None for file in asset.files)


def test_companions_name_generators():
    generators = full_assets("generator")
    described = {a.generator for a in all_assets() if a.generator is not None}
    assert described == set(generators)


def test_an_unknown_archive():
    with pytest.raises(RequestError, match=r"Unknown archive 'x'\. Known: all_classi"):
        find_archive("x")


def test_templates(folder: Path):
    asset = {**ASSET, "name": "net_{attribute}", "attributes": ["Big_Nose", "Bald"]}
    asset["files"] = [{**FILE, "path": "a/{attribute}/net.pth"}]
    write(folder, domain="mine", assets=[asset])
    assert [a.name for a in all_assets()] == ["net_big_nose", "net_bald"]
    assert [a.files[0].path for a in all_assets()] == [
        *("a/Big_Nose/net.pth", "a/Bald/net.pth"),
    ]
    assert {a.domain for a in all_assets()} == {"mine"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"path": "../net.pth"}, "should be a plain path below a folder"),
        ({"path": "/net.pth"}, "should be a plain path below a folder"),
        ({"url": "file:///etc/passwd"}, "url: should be"),
        ({"url": "https://example.org"}, "url: should be"),
        ({"url": "https://e.org/x", "archive": "a"}, "`url`, `archive` or `assembly`"),
        ({"assembly": MADE, "archive": "a"}, "`assembly`, not from several"),
        (
            {"assembly": {**MADE, "archives": []}},
            "archives: Value should have at least 1 item",
        ),
        (
            {"assembly": {**MADE, "assembler": "digits"}},
            "assembler: unknown value 'digits'. Known: mnist, smiles",
        ),
        ({"assembly": {**MADE, "content": "ab"}}, "content: should be"),
        ({"member": "x"}, "`member` needs `archive`."),
        ({"count": 3, "url": "https://e.org/x"}, "a folder cannot come from `url`"),
        ({"sha256": "ab", "url": "https://e.org/x"}, "sha256: should be"),
        ({"sha256": "a" * 64}, "`sha256` needs `url`"),
        ({"bytes": 0}, "bytes: should be greater than or equal to 1"),
        ({"sha": 1}, "unknown key."),
    ],
)
def test_wrong_entries(folder: Path, change: dict[str, Any], message: str):
    write(folder, assets=[{**ASSET, "files": [{**FILE, **change}]}])
    with pytest.raises(RequestError) as caught:
        all_assets()
    assert "mine.yaml:" in str(caught.value)
    assert message in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
