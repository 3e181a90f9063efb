"""Errors about one column of a step, which carry its number beside their text.

So whoever knows the column by another number, or by its path, can say that instead.
"""

from __future__ import annotations

from typing import Any, TypeVar

Raised = TypeVar("Raised", bound=Exception)


def column_error(kind: type[Raised], before: str, column: Any, after: str) -> Raised:
    """An error that says "`before` for column `column``after`".

    Args:
        kind: its class.
        before: what is wrong.
        column: its number, or what stands for it.
        after: begins with what ends the phrase.
    """
    error = kind(f"{before} for column {column}{after}")
    vars(error).update(_column=column, _words=(before, after))
    return error


def wrong_column(error: Exception) -> Any:
    """The column that `error` is about, None where `column_error` did not make it."""
    return vars(error).get("_column")


def about(error: Raised, column: Any) -> Raised:
    """The same error with another number or a name for its column."""
    before, after = vars(error)["_words"]
    return column_error(type(error), before, column, after)
