"""Data sets: images in [0, 1], labels, and fixed splits."""
