"""Errors about columns of a step, of those who know them by their numbers alone.

One about a single column carries its number beside its text, so whoever knows it by
another number, or by its path, can say that instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from reverie.nests.structure import Path
from reverie.tables.signature import with_names

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


def leaf_error(column: Any, why: TypeError) -> TypeError:
    """That a leaf is nothing to be stored; `why` says what it is."""
    return column_error(
        TypeError,
        "Append(): incompatible leaf",
        column,
        f". Leaves are numbers or texts: {why!s}",
        "Nothing was stored.",
    )


def wrong_column(error: Exception) -> Any:
    """The column that `error` is about, None where `column_error` did not make it."""
    return vars(error).get("_column")


def about(error: Raised, column: Any) -> Raised:
    """The same error with another number or a name for its column."""
    before, after, advice = vars(error)["_words"]
    return column_error(type(error), before, column, after, advice)


def named(error: Raised, paths: Sequence[Path], wanted: Sequence[Path] | None = None) -> Raised:
    """The same error, which calls columns by their paths where it is about some.

    Args:
        error: any of a writer's.
        paths: of the columns that it was given.
        wanted: of those that it should have been given, where only the caller knows.
    """
    column = wrong_column(error)
    return with_names(error, paths, wanted) if column is None else about(error, paths[column])


def in_reverbs_words(error: Raised, column: Any) -> Raised:
    """As `about`, but the message ends where Reverb's does; the advice becomes a note of it."""
    before, after, advice = vars(error)["_words"]
    short = type(error)(f"{before} for column {column}{after}")
    vars(short)["__notes__"] = [advice]  # as `add_note` of Python 3.11 does
    return short
