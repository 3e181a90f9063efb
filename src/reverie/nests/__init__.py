"""Nests: from a step to its columns and back, and nests as text."""
