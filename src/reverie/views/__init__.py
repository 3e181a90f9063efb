"""Views: what becomes of an item when it is sampled. Values for `view=`.

Steps are stored once, and an item is a step to begin at. A view says what is gathered from
there on, in the core, in one pass: so `n_step`, `gamma` or `length` can change without
filling the buffer anew, and nothing ever crosses the end of an episode.
"""

from reverie.views.base import View
from reverie.views.hindsight import Hindsight
from reverie.views.sequences import Episodes, Sequences, Windows
from reverie.views.transitions import Transitions

__all__ = ["Episodes", "Hindsight", "Sequences", "Transitions", "View", "Windows"]
