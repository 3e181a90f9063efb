"""The replay buffer: `add`, `sample`, `update_priorities`, `save`."""

from __future__ import annotations

import os
import secrets
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reverie import _core, views
from reverie.adding import Adder, Autoreset
from reverie.checkpoint.folder.place import folder_of
from reverie.checkpoint.format.snapshot import Progress
from reverie.checkpoint.save import Saver, check_keep, check_savable
from reverie.errors import InvalidArgumentError, SpecError, WaitTimeoutError
from reverie.nests.nest import Nest
from reverie.runtime.checks import check_int, check_timeout
from reverie.runtime.waiting import wait_until
from reverie.sample import Batch, SampleInfo
from reverie.stored_buffer import StoredBuffer
from reverie.tables.roles import Roles
from reverie.tables.selectors import ItemSelector, UniformSelector
from reverie.tables.settings import MAX_ITEMS, TableSettings
from reverie.tables.store import Store
from reverie.tables.table import Table
from reverie.views import Fields, Gathered, Transitions, View

_STANDARD = ("observation", "action", "reward")
_OWN: Any = object()
"""The buffer's own setting."""


class ReplayBuffer(StoredBuffer):
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
        sampler: one of `reverie.samplers`; None: uniform.
        view: one of `reverie.views`, its own; None: `Transitions()`.
        autoreset: how a vector environment begins its next episode: "NextStep",
            "SameStep", "Disabled" or gymnasium's AutoresetMode; None: "Disabled", as a
            single environment. `for_env` asks the environment.
        seed: of the choices, 0 to 2**64 - 1; None draws one.
        checkpoint_dir: where `save` goes; None: nothing is written but by `save(path)`.
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
        sampler: ItemSelector | None = None,
        view: View | None = None,
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
        view = Transitions() if view is None else view
        roles = _roles(list(nest.spec), next_of, action, reward, view)
        if seed is not None:
            check_int("seed", seed, 0, 2**64 - 1)
        settings = TableSettings(
            name="replay_buffer",
            max_size=check_int("capacity", capacity, 1, MAX_ITEMS),
            sampler=UniformSelector() if sampler is None else sampler,
            roles=roles,
        )
        Autoreset(autoreset)
        check_timeout(timeout)
        check_keep(max_to_keep)
        view.check(Fields(nest, roles))
        check_savable(settings, nest)
        saver: Any = _Unsaved(max_to_keep)
        if checkpoint_dir is not None:
            saver = Saver(folder_of("checkpoint_dir", checkpoint_dir), max_to_keep)
        table = Table(settings, nest=nest, seed=secrets.randbits(64) if seed is None else seed)
        table.attach(Store("The replay buffer", way_out="Make a new one."))
        super().__init__(table, nest, saver, sequence_length=view.stride + 1)
        self._set_up(autoreset, timeout)

    @classmethod
    def over(cls, table: Table, nest: Nest, saver: Any, **settings: Any) -> ReplayBuffer:
        """For a table that is there: a manager's, or one that was saved.

        Args:
            table: in a store of its own.
            nest: structure of a step.
            saver: of its checkpoints.
            **settings: as StoredBuffer's.
        """
        self = cls.__new__(cls)
        StoredBuffer.__init__(self, table, nest, saver, **settings)
        self._set_up(None, None if table.settings.roles is None else 0)
        return self

    @classmethod
    def for_env(
        cls, env: Any, capacity: int, *, extra: Mapping[str, Any] | None = None, **settings: Any
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
            InvalidArgumentError: `env` has no spaces.
        """
        spaces = [
            getattr(env, f"single_{name}_space", getattr(env, f"{name}_space", None))
            for name in ("observation", "action")
        ]
        if None in spaces:
            raise InvalidArgumentError(
                f"env: found {type(env).__name__}, wanted a gymnasium environment: it has an "
                "observation_space and an action_space. For others pass a spec: "
                "ReplayBuffer({...}, capacity)."
            )
        spec = {
            "observation": spaces[0],
            "action": spaces[1],
            "reward": np.zeros((), np.float32),
            **(extra or {}),
        }
        if hasattr(env, "num_envs"):
            mode = (getattr(env, "metadata", None) or {}).get("autoreset_mode", "NextStep")
            settings.setdefault("autoreset", mode)
        return cls(spec, capacity, **settings)

    def _set_up(self, autoreset: Any, timeout: float | None) -> None:
        self._timeout = timeout
        self._autoreset = Autoreset(autoreset)
        self._adder: Adder | None = None
        self._adding = threading.Lock()
        roles = self._table.settings.roles
        self._fields = None if roles is None else Fields(self._nest, roles)
        self._view: View | None = None if roles is None else views.from_json(roles.view)
        self._plans: dict[View, Any] = {}

    def __repr__(self) -> str:
        """`ReplayBuffer(49 of 50000 steps, Transitions(n_step=1, gamma=1.0))`."""
        if self._view is None:
            return super().__repr__()
        words = self._table.describe().replace("items", "steps")
        return f"ReplayBuffer({words}, {self._view!r})"

    def __len__(self) -> int:
        """Steps that can be drawn now: items."""
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

    @property
    def view(self) -> View | None:
        """Its own view; None where items are windows, a manager's."""
        return self._view

    def add(
        self,
        obs: Any,
        action: Any,
        reward: Any,
        next_obs: Any,
        terminated: Any,
        truncated: Any,
        infos: Any = None,
        *,
        env_ids: ArrayLike | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> int:
        """Stores a step of each environment, as `env.step(action)` returned it.

        The first call says whether steps have a batch axis, and of how many environments.
        `next_obs` of a step is the next one's `obs`, byte for byte, and then stored once;
        where it is not, the episode ends there as truncated, which is counted
        (`info().broken_episodes`) and told once. Values are copied.

        Args:
            obs: `[N, *shape]`, or `[*shape]` of a single environment: what the action
                was chosen for.
            action: `[N, ...]`.
            reward: `[N]`.
            next_obs: as `obs`: what came.
            terminated: `[N]`: the episode is over, and nothing follows.
            truncated: `[N]`: it was cut off; `next_obs` is still its state.
            infos: as `step` returned them; read with autoreset "SameStep" alone.
            env_ids: `[N]`, which environments, from 0; None: all.
            extra: the step's other keys, `[N, ...]` each.

        Returns:
            How many steps were stored: less than N where results of an autoreset
            "NextStep" are none.

        Raises:
            StepMismatchError: structure, dtype, shape or range; names the path.
            InvalidArgumentError: the buffer's steps have no observation, action and
                reward; `terminated` is neither true nor false; an environment is unknown.
            ClosedError: the buffer is closed. On every error nothing was stored.
        """
        fields = self._with_views("add()")
        roles = fields.roles
        names = (roles.observation, roles.action, roles.reward)
        if None in names or len(roles.state) != 1:
            raise InvalidArgumentError(
                f"add(): found a step of {list(fields.places)!r:.200} with the states "
                f"{roles.state!r:.200}, wanted one observation, an action and a reward. Name "
                "them as next_of=, action= and reward=, or use add_step()."
            )
        step = {names[1]: action, names[2]: reward, **(extra or {})}
        return self.add_step(
            {names[0]: obs, **step},
            {names[0]: next_obs},
            terminated,
            truncated,
            infos,
            env_ids=env_ids,
        )

    def add_step(
        self,
        step: Mapping[str, Any],
        after: Mapping[str, Any],
        terminated: Any = False,
        truncated: Any = False,
        infos: Any = None,
        *,
        env_ids: ArrayLike | None = None,
    ) -> int:
        """`add` for steps of any keys.

        Args:
            step: all keys of the spec.
            after: the states after it, by key.
            terminated: see `add`, as for all others, the result and the errors.
            truncated: see `add`.
            infos: see `add`.
            env_ids: see `add`.
        """
        fields = self._with_views("add_step()")
        state = fields.roles.state
        try:
            before = {key: step[key] for key in state}
            after = {key: after[key] for key in state}
        except (KeyError, TypeError):
            before, after = self._explained(step, after, state)
        adder = self._adder or self._first(before, env_ids)
        alone = adder.num_envs is None
        ids = None if env_ids is None else _ids(env_ids, alone)
        with self._adding:  # what an autoreset remembers goes with what was stored
            keep = None
            count = 1 if alone else adder.num_envs or 1
            every = np.arange(count) if ids is None else ids
            if self._autoreset.mode != "Disabled":
                ended = np.logical_or(terminated, truncated).reshape(-1)
                keep = self._autoreset.steps(every)
                for key in state:
                    after[key] = self._autoreset.after(
                        after[key], ended, infos, fields.nest.spec[key]
                    )
                if keep is not None and not keep.all():
                    rows = np.flatnonzero(keep)
                    pick = _picker(rows)
                    before, step, after = pick(before), pick(dict(step)), pick(after)
                    terminated, truncated = (
                        pick(np.asarray(terminated)),
                        pick(np.asarray(truncated)),
                    )
                    ids = every[rows]
            if ids is None or len(ids):
                adder.add(before, {**step, **after}, terminated, truncated, ids)
            if self._autoreset.mode != "Disabled":
                self._autoreset.remember(every, ended & (True if keep is None else keep))
        return count if ids is None else len(ids)

    def add_episode(
        self,
        steps: Mapping[str, Any],
        after: Mapping[str, Any] | None = None,
        *,
        terminated: bool = True,
    ) -> int:
        """Stores a whole episode of T steps, in one crossing.

        Args:
            steps: all keys of the spec, `[T, *shape]` each.
            after: the states after the last step, `[*shape]`, by key. None: states in
                `steps` are `[T + 1, *shape]`, and the last ones are those; or, where they
                are `[T, *shape]` and the episode terminated, zeros, which no target reads.
            terminated: whether the environment ended it; else it was cut off.

        Returns:
            T.

        Raises:
            StepMismatchError: structure, dtype, shape or range; names the path.
            InvalidArgumentError: no step, or a state after the last one is missing.
            ClosedError: the buffer is closed.
        """
        return self.add_episodes([steps], [after], terminated=[terminated])

    def add_episodes(
        self,
        episodes: Sequence[Mapping[str, Any]],
        after: Sequence[Mapping[str, Any] | None] | None = None,
        *,
        terminated: Sequence[bool] | bool = True,
    ) -> int:
        """Stores whole episodes, of any lengths; arguments by episode, as `add_episode`'s."""
        fields = self._with_views("add_episodes()")
        count = len(episodes)
        ends = np.broadcast_to(np.asarray(terminated, np.bool_), (count,))
        tails = [None] * count if after is None else list(after)
        if not count:
            return 0
        pieces, lengths = [], []
        for episode, tail, end in zip(episodes, tails, ends.tolist(), strict=True):
            records, length = _records(fields, episode, tail, end)
            pieces.append(records)
            lengths.append(length + 1)
        columns = [
            each[0] if count == 1 else np.concatenate(each)
            for each in zip(*pieces, strict=True)
        ]
        adder = self._bulk_adder()
        lasts = np.where(ends, _core.TERMINATED, _core.TRUNCATED).astype(np.uint8)
        adder.add_runs(columns, np.array(lengths, np.uint64), lasts)
        return sum(lengths) - count

    def sample(
        self,
        batch_size: int,
        num_steps: int | None = None,
        *,
        view: View | None = None,
        out: Any = None,
        timeout: float | None = _OWN,
    ) -> Batch:
        """A batch in NumPy, items chosen by the sampler, with replacement.

        Args:
            batch_size: B.
            num_steps: of a manager's buffer, see `StoredBuffer.sample`.
            view: another than the buffer's own: the same items, in another form.
            out: of a manager's buffer, see there.
            timeout: seconds to wait while there is nothing; by default the buffer's.

        Returns:
            Batch: `data` as the view says, and `info` of `[B]` fields.

        Raises:
            InvalidArgumentError: a number is out of range, or the view is not for this
                buffer's steps.
            WaitTimeoutError: nothing was there in time.
            EndlessWaitError: no timeout, and no other thread that could add.
            ClosedError: the buffer is closed.
        """
        timeout = self._timeout if timeout is _OWN else timeout
        if self._fields is None:
            if view is not None:
                self._with_views("view=")
            return super().sample(batch_size, num_steps, out=out, timeout=timeout)
        if num_steps is not None or out is not None:
            raise InvalidArgumentError(
                "num_steps= and out= are for the windows of a manager's buffer. The view says "
                f"what a batch holds; this buffer's is {self._view!r}."
            )
        self._store.check_open()
        if type(batch_size) is not int or not 0 < batch_size < 2**31:
            batch_size = check_int("batch_size", batch_size, 1, 2**31 - 1)
        view = view or self._view
        assert view is not None
        most, columns = self._plans.get(view) or self._plan(view)
        try:
            found = self._core.sample_view(self._layout, batch_size, most, columns)
            while found is None:
                self._wait(batch_size, timeout)
                found = self._core.sample_view(self._layout, batch_size, most, columns)
        except _core.Closed:
            raise self._store.closed_error() from None
        arrays, info, records, hows = found
        data = view.arrange(self._fields, Gathered(arrays, records, hows))
        return Batch(data, SampleInfo._make(info))

    def steps(self, view: View | None = None) -> Batch:
        """Every item in the order of insertion, as a batch. Counts as no sample.

        Args:
            view: None: the buffer's own.
        """
        fields = self._with_views("steps()")
        self._store.check_open()
        view = view or self._view
        assert view is not None
        most, columns = self._plans.get(view) or self._plan(view)
        arrays, keys, records, hows = self._core.gather_view(self._layout, None, most, columns)
        items = self._core.items() if len(keys) else None
        nothing = np.zeros(len(keys))
        info = SampleInfo(
            keys,
            nothing,
            np.full(len(keys), len(keys), np.int64),
            nothing if items is None else items["priority"],
            np.zeros(len(keys), np.int32) if items is None else items["times_sampled"],
        )
        return Batch(view.arrange(fields, Gathered(arrays, records, hows)), info)

    def save(
        self,
        path: str | os.PathLike[str] | bool | None = None,
        wait: bool = True,
        *,
        progress: Progress | None = None,
    ) -> Path | None:
        """Saves a checkpoint, durable and complete or not at all; see `StoredBuffer.save`.

        Args:
            path: a folder of checkpoints; None: the buffer's `checkpoint_dir`. (True and
                False are `wait`, as in earlier versions.)
            wait: see there, as for all others, the result and the errors.
            progress: see there.

        Raises:
            InvalidArgumentError: the buffer has no folder, and none was passed.
        """
        if isinstance(path, bool):
            path, wait = None, path
        if path is None:
            return super().save(wait, progress=progress)
        self._store.check_open()
        saver = Saver(folder_of("path", path), None)
        try:
            return saver.save(self._store, progress=progress)
        finally:
            saver.close()

    def clear(self) -> None:
        """Empties it; episodes begin anew. Checkpoints on disk stay."""
        self._autoreset.forget()
        super().clear()

    def close(self) -> None:
        """See `StoredBuffer.close`; open episodes end."""
        adder = self._adder
        if adder is not None and self._store.is_open:
            adder.close()
        super().close()

    def _with_views(self, what: str) -> Fields:
        if self._fields is None:
            raise InvalidArgumentError(
                f"{what}: found a manager's buffer, whose items are windows that observers "
                "write. Make a reverie.ReplayBuffer(spec, capacity) for steps and views."
            )
        return self._fields

    def _plan(self, view: View) -> Any:
        assert self._fields is not None
        assert self._view is not None
        if not isinstance(view, View):
            raise InvalidArgumentError(
                f"view: found {view!r:.200}, wanted one of reverie.views."
            )
        if (view.items == _core.EPISODES) != (self._view.items == _core.EPISODES):
            raise InvalidArgumentError(
                f"view: found {view!r:.200}, but this buffer's items are those of "
                f"{self._view!r:.200}. Make one with view={view!r:.100} for that."
            )
        view.check(self._fields)
        self._plans[view] = plan = view.plan(self._fields)
        return plan

    def _wait(self, batch_size: int, timeout: float | None) -> None:
        try:
            wait_until(
                lambda slice_s: self._core.wait(batch_size, slice_s),
                timeout=check_timeout(timeout),
                what=lambda: self._table.describe_sample_wait(f"{batch_size} ", ""),
                progress=self._store.progress,
            )
        except WaitTimeoutError as error:
            if timeout != 0:
                raise
            raise WaitTimeoutError(
                f"The replay buffer is empty: add steps before you sample. ({error})"
            ) from None

    def _first(self, before: Mapping[str, Any], env_ids: ArrayLike | None) -> Adder:
        """The streams, once the first step shows whether there is a batch axis."""
        assert self._fields is not None
        assert self._view is not None
        with self._adding:
            if self._adder is not None:
                return self._adder
            self._store.check_open()
            states = Nest({key: self._nest.spec[key] for key in before})
            leaf, spec = states.leaves(before)[0], states.columns[0].spec
            shape = np.shape(leaf)
            alone = len(shape) == len(spec.shape)
            count = None if alone else shape[0]
            if env_ids is not None and not alone:
                count = max(int(shape[0]), 1 + int(np.max(env_ids, initial=0)))
            if shape[len(shape) - len(spec.shape) :] != spec.shape or len(shape) > 1 + len(
                spec.shape
            ):
                count = None  # whoever adds says what is wrong
            self._adder = Adder(
                self._table, self._fields, self._view, count, self._first_priority
            )
            return self._adder

    _first_priority = 1.0

    def _bulk_adder(self) -> Adder:
        """Streams of their own for whole episodes."""
        assert self._fields is not None
        assert self._view is not None
        self._store.check_open()
        return Adder(self._table, self._fields, self._view, None, self._first_priority)

    def _explained(self, step: Any, after: Any, state: Sequence[str]) -> NoReturn:
        for name, found in (("step", step), ("after", after)):
            if not isinstance(found, Mapping):
                raise InvalidArgumentError(
                    f"{name}: found {type(found).__name__}, wanted a dict with the keys "
                    f"{list(state)!r:.200}. Nothing was stored."
                )
            missing = [key for key in state if key not in found]
            if missing:
                raise InvalidArgumentError(
                    f"{name}: found no {missing!r:.200} among {list(found)!r:.200}; they are "
                    "states. Nothing was stored."
                )
        raise AssertionError("there was something to explain")


class _Unsaved:
    """In the place of a saver: there is no folder."""

    def __init__(self, max_to_keep: int | None) -> None:
        self._max_to_keep = max_to_keep

    def save(self, *_: Any, **__: Any) -> NoReturn:
        raise InvalidArgumentError(
            "save(): this buffer was made without a folder. Pass one, save(path), or make the "
            "buffer with checkpoint_dir=."
        )

    def wait(self) -> None: ...

    def close(self) -> None: ...


def _roles(
    keys: Sequence[str],
    next_of: Sequence[str] | None,
    action: str | None,
    reward: str | None,
    view: View,
) -> Roles:
    if not isinstance(view, View):
        raise InvalidArgumentError(f"view: found {view!r:.200}, wanted one of reverie.views.")
    defaults: dict[str, str | None] = {
        name: name if name in keys else None for name in _STANDARD
    }
    standard = defaults["observation"]
    state = (next_of,) if isinstance(next_of, str) else next_of
    if state is None:
        state = () if standard is None else (standard,)
    state = tuple(state)
    named = {"action": action or defaults["action"], "reward": reward or defaults["reward"]}
    for argument, wanted in (("next_of", state), *((k, (v,)) for k, v in named.items() if v)):
        unknown = [key for key in wanted if key not in keys]
        if unknown:
            raise InvalidArgumentError(
                f"{argument}: found {unknown!r:.200}, wanted keys of the step: "
                f"{list(keys)!r:.200}."
            )
    if named["reward"] in state:
        raise InvalidArgumentError(f"reward: {named['reward']!r} is one of next_of, too.")
    return Roles(
        state,
        state[0] if len(state) == 1 else None,
        named["action"],
        named["reward"],
        view=views.as_json(view),
    )


def _ids(env_ids: ArrayLike, alone: bool) -> NDArray[np.int64]:
    ids = np.asarray(env_ids)
    if alone or ids.ndim != 1 or ids.dtype.kind not in "iu":
        raise InvalidArgumentError(
            f"env_ids: found {env_ids!r:.100}, wanted one number for each environment"
            + (", and these steps have no batch axis." if alone else ", [N].")
        )
    return ids.astype(np.int64)


def _picker(rows: NDArray[np.int64]) -> Callable[[Any], Any]:
    """Takes these rows of each leaf."""
    import optree

    return lambda nest: optree.tree_map(lambda leaf: np.asarray(leaf)[rows], nest)


def _records(
    fields: Fields, episode: Mapping[str, Any], tail: Mapping[str, Any] | None, end: bool
) -> tuple[list[NDArray[Any]], int]:
    """The columns of an episode's records, one more than it has steps; and its steps."""
    nest, roles = fields.nest, fields.roles
    leaves = [np.asarray(leaf) for leaf in nest.leaves(episode)]
    others = [
        place
        for key, places in fields.places.items()
        if key not in roles.state
        for place in places
    ]
    states = [place for key in roles.state for place in fields.places[key]]
    lengths = {len(leaves[place]) if leaves[place].ndim else -1 for place in others}
    if not others:
        lengths = {min(len(leaves[place]) for place in states) - (tail is None)}
    length = next(iter(lengths))
    if len(lengths) != 1 or length < 1:
        raise InvalidArgumentError(
            f"An episode: found keys of {sorted(lengths)} steps, wanted one number, above 0."
        )
    tails: dict[int, Any] = {}
    if tail is not None:
        part = Nest({key: nest.spec[key] for key in roles.state})
        tails = dict(zip(states, part.leaves({k: tail[k] for k in roles.state}), strict=True))
    columns = []
    for place, leaf in enumerate(leaves):
        zero = np.zeros((1, *leaf.shape[1:]), leaf.dtype)
        if place not in states:
            columns.append(np.concatenate([zero, leaf]))
        elif place in tails:
            columns.append(np.concatenate([leaf[:length], np.asarray(tails[place])[None]]))
        elif len(leaf) == length + 1:
            columns.append(leaf)
        elif end and len(leaf) == length:
            columns.append(np.concatenate([leaf, zero]))
        else:
            raise InvalidArgumentError(
                f"An episode of {length} steps that was cut off: {nest.columns[place].path!r} "
                f"holds {len(leaf)} states, wanted {length + 1}, the last one after the last "
                "step. Or pass that as after=."
            )
    return columns, length
