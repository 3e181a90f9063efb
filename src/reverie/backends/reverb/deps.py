"""Whether real Reverb is here, and where it could be."""

from __future__ import annotations

from reverie.checkpoint.reverb_files import extra
from reverie.errors import MissingDependencyError

_WHERE = (
    "dm-reverb 0.14 installs on Linux x86-64 with Python up to 3.11 only, and needs "
    "TensorFlow 2.15 and, for this backend, TF-Agents 0.19: pip install "
    "'tf-agents[reverb]==0.19.0'. Everywhere else use backend=\"embedded\", which has the "
    "same calls and needs none of them."
)


def require(*, local: bool) -> None:
    """Imports what this backend needs.

    Args:
        local: the server is this process's own, so checkpoints are read here.

    Raises:
        MissingDependencyError: something cannot be imported; says where it installs.
    """
    try:
        import reverb
        import tensorflow  # noqa: F401
        from tf_agents.replay_buffers import (  # noqa: F401
            reverb_replay_buffer,
            reverb_utils,
        )
    except Exception as error:  # TensorFlow of another version: a NotFoundError of its own
        raise MissingDependencyError(
            f"backend='reverb' cannot import what it needs ({type(error).__name__}: "
            f"{error!s:.200}). {_WHERE}"
        ) from error
    if str(reverb.__name__).split(".")[0] == "reverie":
        raise MissingDependencyError(
            "backend='reverb' needs dm-reverb itself, but `import reverb` gives Reverie's own "
            f"tables here, because install_as_reverb() was called. {_WHERE}"
        )
    if local:
        extra.load()
