"""`import reverb` without Reverb: its import paths, served by `reverie.reverb`."""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Sequence
from types import ModuleType

from reverie.errors import ShadowedPackageError

_NAME = "reverb"
_OWN = "reverie.reverb"


def install_as_reverb(*, force: bool = False) -> None:
    """From here on `import reverb` in this process means `reverie.reverb`.

    So do `from reverb import ...` and `import reverb.platform.checkpointers_lib`: each
    module below `reverb` is the very module below `reverie.reverb`. Call it before
    anything that imports reverb, such as TF-Agents. Servers are then served in
    process: see `reverie.reverb.Server`. Idempotent. It changes this process alone,
    and nothing on disk.

    Args:
        force: take the name even where a package `reverb` is installed or already
            imported. Modules that hold names of that one keep them.

    Raises:
        ShadowedPackageError: a package `reverb` is installed or imported, and `force`
            is False.
    """
    if _installed() is not None:
        return
    if not force:
        _refuse_to_shadow()
    finder = _Finder({n: sys.modules[n] for n in list(sys.modules) if _is_reverb(n)})
    for name in finder.before:
        del sys.modules[name]
    sys.meta_path.insert(0, finder)
    importlib.invalidate_caches()


def uninstall_as_reverb() -> None:
    """Takes `install_as_reverb` back, for tests; idempotent.

    Modules that were imported meanwhile keep what they have.
    """
    finder = _installed()
    if finder is None:
        return
    sys.meta_path.remove(finder)
    for name in [name for name in sys.modules if _is_reverb(name)]:
        del sys.modules[name]
    sys.modules.update(finder.before)


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds `reverb` and what is below it; the loader hands over our own modules.

    Attributes:
        before: modules of that name that were there before.
    """

    def __init__(self, before: dict[str, ModuleType]) -> None:
        self.before = before

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """The spec of our module of that name; None where we have none."""
        if not _is_reverb(fullname):
            return None
        own = importlib.util.find_spec(_own_name(fullname))
        if own is None:
            return None
        return importlib.machinery.ModuleSpec(
            fullname, self, is_package=own.submodule_search_locations is not None
        )

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        """Our own module, imported under its own name."""
        module = importlib.import_module(_own_name(spec.name))
        # The import system is about to write the alias's spec over the module's own.
        spec.loader_state = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Gives the module its own spec back; it has run already."""
        if module.__spec__ is not None and module.__spec__.loader is self:
            module.__spec__ = module.__spec__.loader_state


def _installed() -> _Finder | None:
    return next((finder for finder in sys.meta_path if isinstance(finder, _Finder)), None)


def _is_reverb(name: str) -> bool:
    return name == _NAME or name.startswith(_NAME + ".")


def _own_name(name: str) -> str:
    return _OWN + name[len(_NAME) :]


def _refuse_to_shadow() -> None:
    module = sys.modules.get(_NAME)
    spec = getattr(module, "__spec__", None) if module else importlib.util.find_spec(_NAME)
    # A mere folder of that name, which Python takes for a namespace, is no package.
    origin = spec.origin if spec is not None else getattr(module, "__file__", None)
    if module is not None or origin is not None:
        raise ShadowedPackageError(
            f"A package named 'reverb' is {'imported' if module else 'installed'} already "
            f"({origin!s:.200}), and install_as_reverb() would hide it. Pass force=True to "
            "use Reverie under that name all the same, or use `from reverie import reverb`."
        )
