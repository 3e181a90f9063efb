"""TEMPORARY: the new core API on today's core, until branch core lands."""

import numpy as np


class OldStore:
    def __init__(self, store, layout=None):
        self._s, self._layout = store, layout

    def restore_chunk(self, layout, number, count, nbytes=0):
        if self._layout is not None and layout is not None:
            layout = self._layout
        return self._s.restore_chunk(layout, number, count, nbytes)

    def link_chunks(self, ids, nexts):
        for a, b in zip(ids.tolist(), nexts.tolist()):
            self._s.link_chunk(a, b)


def old_state(state):
    state = {k: v for k, v in state.items() if k != "column_field"}
    state["span_item"] = np.zeros(0, np.uint64)
    for n in ("span_column", "span_start", "span_length"):
        state[n] = np.zeros(0, np.uint32)
    return state
