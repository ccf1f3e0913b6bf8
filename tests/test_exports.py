"""The public names: exact, sorted, and cheap until used."""

import subprocess
import sys

import pytest

import robustgen as rg


def test_all_is_sorted_and_complete():
    assert rg.__all__ == sorted(rg.__all__)
    assert set(rg.__all__) == {*rg._HOMES, "__version__"}
    assert set(rg.__all__) <= set(dir(rg))


@pytest.mark.parametrize("name", rg.__all__)
def test_every_name_loads(name: str):
    assert getattr(rg, name) is not None


def test_names_stay_what_they_are():
    assert callable(rg.run)
    assert callable(rg.load_suite)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = rg.nothing


def test_a_suite_is_read_without_torch():
    code = (
        "import sys, robustgen as rg; rg.load_suite('digits'); "
        "print('torch' in sys.modules, 'numpy' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False False"
