"""What stands for one thing of this process, and so has no copies."""

from __future__ import annotations

from typing import Any, NoReturn


class Unique:
    """Base of what cannot be pickled or copied: a copy's end would be the original's."""

    _WAY_OUT = "Pass the object itself on, to threads too."

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        """Raises TypeError."""
        raise TypeError(
            f"A {type(self).__name__} cannot be pickled or copied: it stands for one of this "
            f"process. {self._WAY_OUT}"
        )
