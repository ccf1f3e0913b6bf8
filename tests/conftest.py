"""Settings shared by all tests."""

import os

from hypothesis import settings

if "PYTEST_XDIST_WORKER" in os.environ:
    # One core for each worker, before torch looks.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

settings.register_profile("robustgen", deadline=None, derandomize=True)
settings.load_profile("robustgen")
