"""The folder of checkpoints: which there are, and how one is published and removed."""
