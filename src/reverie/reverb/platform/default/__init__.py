"""The checkpointers that a Server takes by default."""

from reverie.reverb.platform.default import checkpointers as checkpointers
