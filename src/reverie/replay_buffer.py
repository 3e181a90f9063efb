"""The replay buffer: `add`, `sample`, `update_priorities`, `save`."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn, TypedDict, overload

from reverie.adding.autoreset import Autoreset
from reverie.adding.environments import STANDARD, settings_of, spec_of
from reverie.checkpoint.folder.place import folder_of
from reverie.checkpoint.format.snapshot import Progress
from reverie.checkpoint.save import Saver, check_keep, check_savable
from reverie.errors import InvalidArgumentError, SpecError
from reverie.looking.seen_buffer import SeenBuffer
from reverie.nests.nest import Nest
from reverie.rollouts.asked import check_number, use_of
from reverie.rollouts.returns import EpisodePriority
from reverie.runtime.checks import check_int, check_timeout
from reverie.tables.limiters import Limiter, MinSize
from reverie.tables.roles import Roles
from reverie.tables.selectors import FifoSelector, ItemSelector, UniformSelector
from reverie.tables.settings import MAX_ITEMS, TableSettings
from reverie.tables.store import Store
from reverie.tables.table import Table
from reverie.views import Transitions
from reverie.views.base import Fields, View, check_changes
from reverie.views.saved import as_json

if TYPE_CHECKING:
    from typing_extensions import Unpack


class Settings(TypedDict, total=False):
    """The keywords of `ReplayBuffer`, for who passes them on."""

    next_of: Sequence[str] | None
    action: str | None
    reward: str | None
    updatable: Sequence[str]
    sampler: ItemSelector | None
    remover: ItemSelector | None
    limiter: Limiter | None
    max_times_sampled: int
    view: View | None
    episode_priority: EpisodePriority | None
    version: str | None
    group: str | None
    group_size: int
    num_envs: int | None
    autoreset: Any
    seed: int | None
    checkpoint_dir: str | os.PathLike[str] | None
    max_to_keep: int | None
    timeout: float | None


class ReplayBuffer(SeenBuffer):
    """Experience, stored once, and sampled in any form.

        buffer = reverie.ReplayBuffer.for_env(envs, capacity=1_000_000)
        obs, _ = envs.reset()
        for _ in range(20_000):
            action = act(obs)
            next_obs, reward, terminated, truncated, infos = envs.step(action)
            buffer.add(obs, action, reward, next_obs, terminated, truncated, infos)
            obs = next_obs
            if len(buffer) >= 1_000:
                batch = buffer.sample(256)

    A step is a dict; some of its keys are states, which are there before and after it, and
    stored once. When `capacity` steps are stored, the oldest make room. Thread-safe; each
    environment's steps are meant to come from one thread.

    A manager hands out this class, too (`ReplayBufferManager`): its items are windows,
    which observers write, and `add` and views are not for it.

    Args:
        spec: dict of anything with a shape and a dtype (`ArraySpec`, a gymnasium space, an
            array), nests included: what one step looks like, without a batch axis.
        capacity: steps, over all environments, 1 to 2**32 - 2.
        next_of: keys that are states; None: "observation", if there is one.
        action: key of the action, for `add`; likewise "action".
        reward: key of the reward, which n-step returns sum; likewise "reward".
        updatable: keys, no states, that `update` may change in steps that are stored. Batches
            and saves of such a buffer copy under a lock, for some 0.1 us more, and a save has
            each step as it was at some moment of the save. Where windows overlap, memory of
            steps that left amid others is not given back before those leave, too.
        sampler: one of `reverie.samplers`; None: uniform.
        remover: one of `reverie.removers`, which chooses what leaves a full buffer; None: the
            oldest. Of what is left an n-step return ends where the next step is gone.
        limiter: one of `reverie.limiters`: when `sample` waits for `add`, and the reverse;
            None: `sample` for the first step.
        max_times_sampled: a step leaves after so many samples; 0: never for that.
        view: one of `reverie.views`, its own; None: `Transitions()`.
        episode_priority: makes the priority of an episode's items of its return, once it has
            ended: priorities `[E]` of returns `[E]`; see `rate_episodes`. With
            `remover=removers.MinHeap()` the best episodes stay.
        version: key, an integer: which policy played a step, or which network its values are
            of; `update(if_version=)` goes by it.
        group: key, an integer: of `views.Episodes`, those that have the same at their first
            step are used together, once, and as soon as they are `group_size`.
        group_size: how many they are.
        num_envs: environments whose steps come together, with a batch axis; None: the
            first call of `add` tells, and a single one has no such axis.
        autoreset: how a vector environment begins its next episode: "NextStep",
            "SameStep", "Disabled" or gymnasium's AutoresetMode; None: "Disabled", as a
            single environment. `for_env` asks the environment.
        seed: of the choices, 0 to 2**64 - 1; None draws one.
        checkpoint_dir: where `save` goes; None: nothing is written but by `save(path=)`.
        max_to_keep: newest checkpoints that a save leaves; None keeps all.
        timeout: seconds that `sample` waits for the first step; 0: an error at once,
            None: as long as another thread may add.

    Raises:
        SpecError: the spec is no dict, or holds what cannot be stored; names the path.
        InvalidArgumentError: a number is out of range, a key is unknown, or the view needs
            what the step has not.
    """

    def __init__(
        self,
        spec: Mapping[str, Any],
        capacity: int,
        *,
        next_of: Sequence[str] | None = None,
        action: str | None = None,
        reward: str | None = None,
        updatable: Sequence[str] = (),
        sampler: ItemSelector | None = None,
        remover: ItemSelector | None = None,
        limiter: Limiter | None = None,
        max_times_sampled: int = 0,
        view: View | None = None,
        episode_priority: EpisodePriority | None = None,
        version: str | None = None,
        group: str | None = None,
        group_size: int = 1,
        num_envs: int | None = None,
        autoreset: Any = None,
        seed: int | None = None,
        checkpoint_dir: str | os.PathLike[str] | None = None,
        max_to_keep: int | None = None,
        timeout: float | None = 0,
    ) -> None:
        nest = Nest(spec)
        if not isinstance(nest.spec, dict):
            raise SpecError(
                f"spec: found {type(spec).__name__}, wanted a dict: steps of a replay buffer "
                "have keys, such as observation, action and reward."
            )
        odd = [key for key in nest.spec if not isinstance(key, str)]
        if odd:
            raise SpecError(
                f"spec: found the key {odd[0]!r:.200}, wanted text: keys are names in batches."
            )
        view = Transitions() if view is None else view
        mode = Autoreset(autoreset).mode
        roles = _roles(list(nest.spec), next_of, action, reward, view, mode)
        if mode != "Disabled" and not roles.state:
            raise InvalidArgumentError(
                f"autoreset: found {mode!r} for steps without a state, wanted 'Disabled'."
            )
        if num_envs is not None:
            num_envs = check_int("num_envs", num_envs, 1, 2**31 - 1)
        if seed is not None:
            check_int("seed", seed, 0, 2**64 - 1)
        capacity = check_int("capacity", capacity, 1, MAX_ITEMS)
        for argument, key in (("version", version), ("group", group)):
            if key is not None:
                check_number(argument, key, nest, roles.state)
        use = use_of(view, capacity, limiter, version, group, group_size)
        if use is not None:
            _check_used_once(sampler, remover, max_times_sampled, episode_priority)
            sampler = FifoSelector()
        changing = _keys("updatable", updatable)
        roles = replace(roles, version=version, use=use, updatable=changing)
        settings = TableSettings(
            name="replay_buffer",
            max_size=capacity,
            sampler=UniformSelector() if sampler is None else sampler,
            remover=FifoSelector() if remover is None else remover,
            limiter=MinSize(1) if limiter is None else limiter,
            max_times_sampled=check_int("max_times_sampled", max_times_sampled, 0, 2**31 - 1),
            roles=roles,
        )
        check_timeout(timeout)
        check_keep(max_to_keep)
        fields = Fields(nest, roles, view.saved)
        view.check(fields)
        check_changes(fields)
        check_savable(settings, nest)
        saver: Any = Unsaved()
        if checkpoint_dir is not None:
            saver = Saver(folder_of("checkpoint_dir", checkpoint_dir), max_to_keep)
        table = Table(settings, nest=nest, seed=secrets.randbits(64) if seed is None else seed)
        table.attach(Store("The replay buffer", way_out="Make a new one."))
        super().__init__(table, nest, saver, sequence_length=view.stride + 1)
        self._begin(timeout, num_envs)
        self._view = view  # which may be more than what is saved of it
        if episode_priority is not None:
            self.rate_episodes(episode_priority)

    @classmethod
    def over(
        cls,
        table: Table,
        nest: Nest,
        saver: Any,
        *,
        num_envs: int | None = None,
        **settings: Any,
    ) -> ReplayBuffer:
        """For a table that is there: a manager's, or one that was saved.

        Args:
            table: in a store of its own.
            nest: structure of a step.
            saver: of its checkpoints.
            num_envs: as above.
            **settings: as StoredBuffer's.
        """
        self = cls.__new__(cls)
        SeenBuffer.__init__(self, table, nest, saver, **settings)
        self._begin(None if table.settings.roles is None else 0, num_envs)
        return self

    @classmethod
    def for_env(
        cls,
        env: Any,
        capacity: int,
        *,
        extra: Mapping[str, Any] | None = None,
        **settings: Unpack[Settings],
    ) -> ReplayBuffer:
        """For a gymnasium environment, or several in a vector: steps of its spaces.

        A step has the keys "observation", "action" and "reward" (float32).

        Args:
            env: has observation_space and action_space; of a vector environment those of
                one of its environments count, and how it resets itself.
            capacity: as above.
            extra: what is stored with each step beside these, by key: specs.
            **settings: as above.

        Raises:
            SpecError: a space has no fixed shape (Text, Sequence, Graph, OneOf).
            InvalidArgumentError: `env` has no spaces, or `extra` has its keys.
        """
        return cls(spec_of(env, extra), capacity, **{**settings_of(env), **settings})

    def __repr__(self) -> str:
        """`ReplayBuffer(49 of 50000 steps, Transitions(n_step=1, gamma=1.0))`."""
        if self._view is None:
            return super().__repr__()
        words = self._table.describe()
        if self._view.has_each_step:
            words = words.replace("items", "steps")
        return f"ReplayBuffer({words}, {self._view!r})"

    def __len__(self) -> int:
        """Items that can be drawn now: steps, or what the view makes of them."""
        if self._rollouts is not None:
            self._store.check_open()
            return len(self._rollouts)
        return self.num_frames()

    def __bool__(self) -> bool:
        """True: a buffer is one, however empty."""
        return True

    def __enter__(self) -> ReplayBuffer:
        """Itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Closes it."""
        self.close()

    @overload
    def save(
        self,
        wait: Literal[True] = True,
        *,
        path: str | os.PathLike[str] | None = None,
        progress: Progress | None = None,
    ) -> Path: ...

    @overload
    def save(
        self, wait: bool = ..., *, path: None = None, progress: Progress | None = None
    ) -> Path | None: ...

    def save(
        self,
        wait: bool = True,
        *,
        path: str | os.PathLike[str] | None = None,
        progress: Progress | None = None,
    ) -> Path | None:
        """Saves a checkpoint, durable and complete or not at all; see `StoredBuffer.save`.

        Args:
            wait: see there, as for all others, the result and the errors. With a path it
                must be True.
            path: a folder of checkpoints; None: the buffer's `checkpoint_dir`.
            progress: see there.

        Raises:
            InvalidArgumentError: the buffer has no folder, and none was passed.
        """
        if path is None:
            return super().save(wait, progress=progress)
        if not wait:
            raise InvalidArgumentError(
                "save(wait=False) goes to the buffer's own checkpoint_dir, without path=."
            )
        self._store.check_open()
        saver = Saver(folder_of("path", path), None)
        try:
            return saver.save(self._store, progress=progress)
        finally:
            saver.close()


class Unsaved:
    """In the place of a saver: there is no folder."""

    def save(self, *_: Any, **__: Any) -> NoReturn:
        """Says how to get a folder."""
        raise InvalidArgumentError(
            "save(): this buffer was made without a folder. Pass one, save(path=...), or make "
            "the buffer with checkpoint_dir=."
        )

    def wait(self) -> None:
        """There is nothing to wait for."""

    def close(self) -> None:
        """There is nothing to end."""


def _check_used_once(sampler: Any, remover: Any, times: Any, priority: Any) -> None:
    """Raises InvalidArgumentError where a choice is asked for that is none."""
    given = {"sampler": sampler, "remover": remover, "episode_priority": priority}
    odd = [name for name, value in given.items() if value is not None]
    odd += ["max_times_sampled"] * (times not in (0, 1))
    if odd:
        raise InvalidArgumentError(
            f"{odd[0]}: found one for episodes that are used once, those of the oldest policy "
            "first; wanted none with group= or limiters.Staleness."
        )


def _keys(name: str, keys: Sequence[str]) -> tuple[str, ...]:
    found = (keys,) if isinstance(keys, str) else keys
    if not isinstance(found, Sequence) or not all(isinstance(key, str) for key in found):
        raise InvalidArgumentError(f"{name}: found {keys!r:.200}, wanted keys of the step.")
    return tuple(found)


def _roles(
    keys: Sequence[str],
    next_of: Sequence[str] | None,
    action: str | None,
    reward: str | None,
    view: View,
    autoreset: str,
) -> Roles:
    if not isinstance(view, View):
        raise InvalidArgumentError(f"view: found {view!r:.200}, wanted one of reverie.views.")
    defaults: dict[str, str | None] = {
        name: name if name in keys else None for name in STANDARD
    }
    standard = defaults["observation"]
    state = (next_of,) if isinstance(next_of, str) else next_of
    if state is None:
        state = () if standard is None else (standard,)
    if not isinstance(state, Sequence) or len(set(state)) != len(state):
        raise InvalidArgumentError(
            f"next_of: found {next_of!r:.200}, wanted keys of the step, each once: those whose "
            'value is there after a step, too, as next_of=("obs",).'
        )
    state = tuple(state)
    named = {"action": action or defaults["action"], "reward": reward or defaults["reward"]}
    for argument, wanted in (("next_of", state), *((k, (v,)) for k, v in named.items() if v)):
        unknown = [key for key in wanted if key not in keys]
        if unknown:
            raise InvalidArgumentError(
                f"{argument}: found {unknown!r:.200}, wanted keys of the step: "
                f"{list(keys)!r:.200}."
            )
    for name in ("action", "reward"):
        if named[name] in state:
            raise InvalidArgumentError(
                f"{name}: found {named[name]!r:.200}, which is one of next_of, too; wanted a "
                "key that is no state."
            )
    if named["action"] is not None and named["action"] == named["reward"]:
        raise InvalidArgumentError(
            f"reward: found {named['reward']!r:.200}, which is the action, too; wanted another."
        )
    return Roles(
        state,
        state[0] if len(state) == 1 else None,
        named["action"],
        named["reward"],
        view=as_json(view.saved),
        autoreset=autoreset,
    )
