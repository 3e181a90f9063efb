"""New values for steps that are stored."""
