"""Classifiers: images in [0, 1] to logits, normalization inside."""
