"""Who may play: the versions of a policy, admissions, and groups."""

from __future__ import annotations

from dataclasses import replace

from reverie.adding.filled_buffer import FilledBuffer
from reverie.errors import InvalidArgumentError
from reverie.rollouts.queue import RolloutQueue
from reverie.runtime.checks import check_int, check_timeout


class RolloutBuffer(FilledBuffer):
    """The part of a replay buffer for episodes that are used once."""

    @property
    def policy_version(self) -> int:
        """Of the policy that is trained; see `set_policy_version`."""
        return self._with_rollouts("policy_version").version

    def set_policy_version(self, version: int) -> None:
        """The policy that is trained is that version from now on; a checkpoint has it.

        Args:
            version: not below the one before, which is 0 at first.

        Raises:
            InvalidArgumentError: it runs backwards, or with it rollouts would be too old for
                the buffer's limiter: it may rise by 1 for each batch_size of them.
            ClosedError: the buffer is closed.
        """
        rollouts = self._with_rollouts("set_policy_version()")
        self._store.check_open()
        version = check_int("version", version, 0, 2**63 - 1)
        with self._adding:
            rollouts.advance(version)
            roles = self._with_views("").roles
            assert roles.use is not None
            use = replace(roles.use, version=version)
            self._table.set_roles(replace(roles, use=use))

    def admit(self, n: int = 1, *, timeout: float | None = None) -> int:
        """Waits until `n` more rollouts may begin; of a buffer with `limiters.Staleness`.

        Whoever waits longest goes first.

        Args:
            n: how many, whole groups.
            timeout: seconds; None waits.

        Returns:
            The version of the policy to begin them with. They are `add_episode`d with it, or
            a later one, as the version of their first step; or `withdraw` says that they will
            not come.

        Raises:
            InvalidArgumentError: the buffer has no such limiter; `n` is no multiple of the
                group_size, or more than there may be.
            WaitTimeoutError: they might not begin in time.
            EndlessWaitError: no timeout, and no other thread that could sample.
            ClosedError: the buffer is closed.
        """
        rollouts = self._with_rollouts("admit()")
        self._store.check_open()
        timeout = None if timeout is None else check_timeout(timeout)
        return rollouts.admit(check_int("n", n, 1, 2**31 - 1), timeout)

    def withdraw(self, version: int, n: int = 1) -> None:
        """`n` rollouts that `admit` let begin with that version will not come.

        Raises:
            InvalidArgumentError: so many are not on their way.
            ClosedError: the buffer is closed.
        """
        rollouts = self._with_rollouts("withdraw()")
        self._store.check_open()
        rollouts.withdraw(
            check_int("version", version, 0, 2**63 - 1), check_int("n", n, 1, 2**31 - 1)
        )

    def drop_group(self, group: int) -> int:
        """Deletes what there is of a group that will never be complete; how many that were.

        Raises:
            InvalidArgumentError: it is no integer, or the buffer's episodes are replayed.
            ClosedError: the buffer is closed.
        """
        rollouts = self._with_rollouts("drop_group()")
        self._store.check_open()
        keys = rollouts.drop_group(check_int("group", group, -(2**63), 2**64 - 1))
        return len(keys) - self._core.delete(keys)

    def _with_rollouts(self, what: str) -> RolloutQueue:
        self._with_views(what)
        if self._rollouts is None:
            raise InvalidArgumentError(
                f"{what}: found {self!r:.200}, wanted a buffer whose episodes are used once: "
                "reverie.ReplayBuffer(spec, capacity, view=reverie.views.Episodes(), "
                "version=..., limiter=reverie.limiters.Staleness(batch_size, max_staleness)), "
                "or group=..."
            )
        return self._rollouts
