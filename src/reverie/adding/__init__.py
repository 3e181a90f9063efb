"""How steps come into a replay buffer."""
