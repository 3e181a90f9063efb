"""What makes a test's double of the writer one that numbers its cells."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from reverie.reverb.engine.writing.cell_refs import TrajectoryColumn


class StandIn:
    """A writer that gives a reference for each value, seen as one that numbers its cells.

    Programs' tests replace pybind.TrajectoryWriter by mocks. Here the mock's references
    get numbers, so that the facade deals with all writers alike. What is not said here
    is the mock's own.

    Args:
        writer: what has the methods of pybind.TrajectoryWriter.
    """

    def __init__(self, writer: Any) -> None:
        self._writer = writer
        self._counts: Counter[int] = Counter()
        self._refs: dict[tuple[int, int], Any] = {}  # by column and number, the latest

    def __getattr__(self, name: str) -> Any:
        return getattr(self._writer, name)

    def append_whole(self, leaves: list[Any]) -> bool:
        """False: the mock is to see each step through `append`."""
        return False

    def append(self, data: Sequence[Any], *, partial: bool) -> list[int | None]:
        """Hands a step on; returns the numbers of the references that come back."""
        writer = self._writer
        refs = writer.AppendPartial(data) if partial else writer.Append(data)
        keep = writer.max_num_keep_alive_refs
        numbers: list[int | None] = []
        for column, ref in enumerate(refs):
            number = None if ref is None else self._counts[column]
            if number is not None:
                self._counts[column] += 1
                self._refs[column, number] = ref
                self._refs.pop((column, number - keep), None)
            numbers.append(number)
        return numbers

    def next_number(self, column: int) -> int:
        """The number that the next reference of a column will have."""
        return self._counts[column]

    def ref(self, column: int, number: int) -> Any:
        """The mock's reference, None where it was long ago."""
        return self._refs.get((column, number))

    def take(self, column: int, numbers: Sequence[int], squeeze: bool) -> TrajectoryColumn:
        """These references as a column of an item."""
        return TrajectoryColumn([self.ref(column, n) for n in numbers], squeeze=squeeze)

    def CreateItem(
        self,
        table: str,
        priority: float,
        columns: Sequence[TrajectoryColumn],
        squeezed: Sequence[bool],
    ) -> None:
        """Hands an item on, as lists of references."""
        self._writer.CreateItem(table, priority, [list(column) for column in columns], squeezed)
