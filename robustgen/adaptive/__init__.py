"""Attacks that know the defense: the ladder of tiers, and the scoring of its results.

A `Victim` is one path of a defense as an attack sees it. A tier searches it for
candidates, `run_tier` keeps the strongest per image on fresh draws, and `score_draws`
scores it on others.
"""
