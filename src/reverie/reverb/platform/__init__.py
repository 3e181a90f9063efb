"""Checkpointers, under the paths that Reverb has them."""

from reverie.reverb.platform import checkpointers_lib as checkpointers_lib
from reverie.reverb.platform import default as default
