"""Episodes as policies played them: rated at their end, or used once, and never too old."""
