"""What docs/python.md shows runs, block after block."""

import re
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")


def test_the_blocks_run_one_after_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ROBUSTGEN_CACHE", str(tmp_path / "cache"))
    monkeypatch.delitem(sys.modules, "my_net", raising=False)
    names: dict[str, Any] = {}
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    with torch.random.fork_rng():
        for block in blocks:
            exec(compile(block, "docs/python.md", "exec"), names)
    assert len(names["cases"]) == 2
    table = names["table"]
    assert table.loc["clean", "image"] == 1.0
    assert table.loc["pgd", "image"] < table.loc["pgd", "reconstruction"]
    assert len(names["right"]) == 24
    assert set(names["report"].accuracy["classifier"]) == {"net"}
    projection = names["projection"]
    assert bool((projection.loss <= projection.initial_loss).all())
    assert (tmp_path / "codes.safetensors").is_file()
