"""Reading YAML: lines of keys, and everything that is refused."""

from pathlib import Path

import pytest

from robustgen.documents import read_document
from robustgen.errors import RequestError


def written(folder: Path, text: str) -> Path:
    path = folder / "file.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_lines_of_keys_and_items(tmp_path: Path):
    document = read_document(written(tmp_path, "a: 1\nb:\n  - x\n  - c: {d: 2}\n"))
    assert document.data == {"a": 1, "b": ["x", {"c": {"d": 2}}]}
    assert document.lines == {
        ("a",): 1,
        ("b",): 2,
        ("b", 0): 3,
        ("b", 1): 4,
        ("b", 1, "c"): 4,
        ("b", 1, "c", "d"): 4,
    }


def test_fault_names_the_nearest_line(tmp_path: Path):
    document = read_document(written(tmp_path, "a:\n  b: 1\n"))
    path = document.path
    assert document.fault(("a", "b"), "no.") == f"{path}:2: a.b: no."
    assert document.fault(("a", "x"), "no.") == f"{path}:1: a.x: no."
    assert document.fault(("z",), "no.") == f"{path}: z: no."
    assert document.fault((), "no.") == f"{path}: no."


def test_merge_keys_are_followed(tmp_path: Path):
    text = "a: &a {x: 1}\nb:\n  <<: *a\n  y: 2\n"
    document = read_document(written(tmp_path, text))
    assert document.data["b"] == {"x": 1, "y": 2}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file is empty"),
        ("# only a comment\n", "the file is empty"),
        ("null\n", "the file is empty"),
        ("- 1\n", "not a list"),
        ("just words\n", "not a str"),
        ("a: [1\n", ":2: not valid YAML"),
        ("a: 1\n b: 2\n", ":2: not valid YAML"),
        ("a: \x00\n", "not valid YAML"),
        ("a: 1\n---\nb: 2\n", "not valid YAML"),
        ("a: !!python/object/apply:os.getcwd []\n", ":1: not valid YAML"),
        ("a: 2026-99-99\n", "not valid YAML"),
        ("a: !!int x\n", "not valid YAML"),
        ("a: 1\nb: 2\na: 3\n", ":3: a: this key stands twice."),
        ("a: {b: 1, b: 2}\n", ":1: a.b: this key stands twice."),
        ("1: 2\n", ':1: a key must be a text; quote it: "1".'),
        ("yes: 2\n", ':1: a key must be a text; quote it: "yes".'),
        ("[1, 2]: 3\n", "a key must be a text"),
        ("a: &a [*a, *a]\n", "an alias of itself."),
        ("a: " + "[" * 50 + "]" * 50, "too deeply nested"),
        ("a: " + "[" * 2000 + "]" * 2000, "nested too deeply"),
    ],
)
def test_refused(tmp_path: Path, text: str, message: str):
    path = written(tmp_path, text)
    with pytest.raises(RequestError) as caught:
        read_document(path)
    assert message in str(caught.value)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_an_alias_bomb_is_refused(tmp_path: Path):
    text = "a0: &a0 [x, x]\n"
    for n in range(1, 25):
        text += f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n"
    with pytest.raises(RequestError, match="too many values"):
        read_document(written(tmp_path, text))


def test_all_repeated_keys_are_listed(tmp_path: Path):
    with pytest.raises(RequestError) as caught:
        read_document(written(tmp_path, "a: 1\na: 2\nb: 1\nb: 2\n"))
    assert str(caught.value).count("stands twice") == 2


def test_missing_folder_and_binary(tmp_path: Path):
    with pytest.raises(RequestError, match="cannot be read"):
        read_document(tmp_path / "none.yaml")
    with pytest.raises(RequestError, match="is a folder"):
        read_document(tmp_path)
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"\xff\xfe\x80")
    with pytest.raises(RequestError, match="not a UTF-8 text file"):
        read_document(binary)
    large = tmp_path / "large.yaml"
    large.write_text("a: " + "x" * 1_000_001)
    with pytest.raises(RequestError, match="too large"):
        read_document(large)
