"""Reverb's messages, for its files and for its API: one schema, no generated code."""
