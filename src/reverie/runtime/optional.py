"""Optional packages: imported late, and missed with the command that installs them."""

from __future__ import annotations

import importlib
from types import ModuleType

from reverie.errors import MissingDependencyError


def require(module: str, extra: str, purpose: str) -> ModuleType:
    """Imports an optional package.

    Args:
        module: its import name.
        extra: the extra of this library that brings it.
        purpose: what needs it, for the message.

    Raises:
        MissingDependencyError: it is not installed; the message has the command.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingDependencyError(
            f"{purpose} needs {module!r}, which cannot be imported ({error!s:.200}). "
            f"Install it with: {install_command(extra)}"
        ) from error


def install_command(extra: str) -> str:
    """What installs an extra of this library, as words of a sentence.

    Pip takes the name where the library is installed, from an index or not; who runs it
    from its sources alone needs their folder.
    """
    return (
        f"pip install 'reverie-replay[{extra}]', or, in a clone that was never installed: "
        f"pip install '.[{extra}]'"
    )
