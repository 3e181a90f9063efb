"""Other libraries beside ours: `python -m benchmarks.peers`."""
