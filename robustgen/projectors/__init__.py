"""Projection: the code whose image is nearest to a given image."""
