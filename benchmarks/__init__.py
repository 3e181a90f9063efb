"""Figures: how fast, how large, against what."""
