"""Settings shared by all tests."""

from hypothesis import settings

settings.register_profile("robustgen", deadline=None, derandomize=True)
settings.load_profile("robustgen")
