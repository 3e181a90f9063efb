"""Messages of Reverb's checkpoints."""
