"""Structured writers: items made by patterns."""
