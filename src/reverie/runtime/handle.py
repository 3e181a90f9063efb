"""Objects that stand for memory of one process."""

from __future__ import annotations

from typing import NoReturn, SupportsIndex


class Handle:
    """Base of what stands for memory of this process: cannot be copied or pickled.

    Raises:
        TypeError: on `copy.copy`, `copy.deepcopy` and `pickle.dumps`, which also
            passing it to another process would need.
    """

    __slots__ = ()
    _WAY_OUT = "To go on in another process, save() here and load_replay_buffer() there."

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        raise TypeError(
            f"A {type(self).__name__} cannot be copied or pickled: it stands for memory of "
            f"this process, which its threads may share. {self._WAY_OUT}"
        )
