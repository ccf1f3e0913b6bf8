"""Checkpoints with published key names and seeded values, for the golden tests."""

import importlib.util

from reference import reference_file
from torch import Tensor


def golden_state(name: str) -> dict[str, Tensor]:
    """The state dict that `NAME.json` among the golden values describes."""
    spec = reference_file(f"{name}.json")
    source = reference_file("synth_checkpoint.py")
    module_spec = importlib.util.spec_from_file_location("synth_checkpoint", source)
    assert module_spec is not None
    assert module_spec.loader is not None
    module = importlib.util.module_from_spec(module_spec)
    module_spec.loader.exec_module(module)
    return module.build(spec)
