"""Two finished runs side by side: configuration, rows, samples, sample sizes.

How to read what comes out: docs/compare.md.
"""
