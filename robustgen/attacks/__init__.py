"""Attacks under one signature; what they return is clipped, checked, re-scored."""
