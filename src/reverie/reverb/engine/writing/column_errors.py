"""Errors about one column of a step, which carry its number beside their text.

So whoever knows the column by another number, or by its path, can say that instead.
"""

from __future__ import annotations

from typing import Any, TypeVar

Raised = TypeVar("Raised", bound=Exception)


def column_error(
    kind: type[Raised], before: str, column: Any, after: str, advice: str
) -> Raised:
    """An error that says "`before` for column `column``after` `advice`".

    Args:
        kind: its class.
        before: what is wrong.
        column: its number, or what stands for it.
        after: begins with what ends the phrase.
        advice: what became of the step, and the way out.
    """
    error = kind(f"{before} for column {column}{after} {advice}")
    vars(error).update(_column=column, _words=(before, after, advice))
    return error


def wrong_column(error: Exception) -> Any:
    """The column that `error` is about, None where `column_error` did not make it."""
    return vars(error).get("_column")


def about(error: Raised, column: Any) -> Raised:
    """The same error with another number or a name for its column."""
    before, after, advice = vars(error)["_words"]
    return column_error(type(error), before, column, after, advice)


def in_reverbs_words(error: Raised, column: Any) -> Raised:
    """As `about`, but the message ends where Reverb's does; the advice becomes a note of it."""
    before, after, advice = vars(error)["_words"]
    short = type(error)(f"{before} for column {column}{after}")
    vars(short)["__notes__"] = [advice]  # as `add_note` of Python 3.11 does
    return short
