"""Bridges to frameworks: one module each, and the only place that imports them."""
