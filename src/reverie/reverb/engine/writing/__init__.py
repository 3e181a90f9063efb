"""Writers of Reverb's kinds: steps in, items out."""
