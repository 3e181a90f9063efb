"""What comes out of a replay buffer: batches in the form of a view, and new priorities."""

from __future__ import annotations

import logging
import operator
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import optree
from numpy.typing import ArrayLike

from reverie import _core
from reverie.adding.rollout_buffer import RolloutBuffer
from reverie.errors import InvalidArgumentError, WaitTimeoutError
from reverie.nests.specs import ArraySpec
from reverie.rollouts.queue import RolloutQueue
from reverie.runtime.checks import as_array, as_keys, as_updates, check_int
from reverie.sample import Batch, SampleInfo
from reverie.stored_buffer import MISFITS
from reverie.views import Episodes
from reverie.views.base import ANY, Fields, Gathered, View, plan_of
from reverie.weights import sequence_priorities, with_weights

_log = logging.getLogger("reverie")
_PRIORITIZED = (
    "Make the buffer with sampler=reverie.samplers.Prioritized(), or leave "
    "update_priorities() out."
)
_MOST_PLANS = 64  # or a program that makes a view for each batch would keep them all
_FIRST = operator.itemgetter(0)
_OWN: Any = object()
"""The buffer's own setting."""
_tuple: Any = tuple.__new__
"""A NamedTuple of what is a tuple already, in a third of the time of `_make`."""


class SampledBuffer(RolloutBuffer):
    """The part of a replay buffer that gives batches."""

    @property
    def view(self) -> View | None:
        """Its own view; None where items are windows, a manager's."""
        return self._view

    def _begin(self, timeout: float | None, num_envs: int | None) -> None:
        self._set_up(num_envs)
        self._timeout = timeout
        self._plans: dict[View, _core.ViewPlan] = {}
        self._told_stale = False

    def sample(
        self,
        batch_size: int,
        num_steps: int | None = None,
        *,
        view: View | None = None,
        beta: float | None = None,
        normalize: Literal["buffer", "batch"] | None = "buffer",
        newest: int | None = None,
        out: Any = None,
        timeout: float | None = _OWN,
    ) -> Batch:
        """A batch in NumPy, items chosen by the table's sampler, with replacement.

        Sees every step that was added before. One crossing into the core, which chooses
        under its lock and copies outside it; what takes long does without the GIL.

        Args:
            batch_size: B.
            num_steps: T, of a manager's buffer; None means `sequence_length`. A divisor of
                it takes one of each window's disjoint pieces, at random.
            view: another than the buffer's own: the same items, in another form.
            beta: with a prioritized sampler: `batch.weight` are importance weights,
                `(N P(i))^-beta` (Schaul et al. 2016); 1 corrects the bias wholly.
            normalize: what the largest weight of is 1: of all items, or of the batch; None:
                weights as they are.
            newest: draw among so many of the newest steps alone (or all, where there are
                fewer), uniformly; of a uniform sampler. With `weights.emphasize_recent`: ERE.
            out: of a manager's buffer: a nest of arrays of just the result's shapes, filled
                and returned instead of fresh ones.
            timeout: seconds to wait while nothing may be sampled; None waits (and answers
                Ctrl-C), 0 does not. By default the buffer's, for a manager's None.

        Returns:
            Batch: `info` of `[B]` fields; `data` as the view says, of a manager's buffer
            leaves `[B, T, *shape]`.

        Raises:
            InvalidArgumentError: a number is out of range, `out` does not fit, the view is
                not for this buffer's steps, or weights are asked of another sampler.
            UnstackableError: a chosen window has not `sequence_length` steps, or other
                columns.
            WaitTimeoutError: nothing was there in time.
            EndlessWaitError: no timeout, and no other thread that could add.
            ClosedError: the buffer is closed.
        """
        timeout = self._timeout if timeout is _OWN else timeout
        if beta is not None:
            self._table.settings.check_weighted()
        if self._view is None:
            if view is not None or newest is not None:
                self._with_views("view=" if newest is None else "newest=")
            call = self._call(batch_size, num_steps, False, out, timeout)
            try:
                batch = self._core.sample(*call)
                if batch is None:
                    batch = self._wait_and_sample(call, timeout)
            except MISFITS as error:
                raise self._translated(error) from None
            info: Any = _tuple(SampleInfo, batch[1])
            if beta is not None:
                # Told a moment later, it may be another's.
                least = min(self._core.min_probability(), float(info.probability.min()))
                info = with_weights(info, beta, normalize, least)
            made: Batch = _tuple(Batch, (self._nest.unflatten(batch[0]), info))
            return made
        if num_steps is not None or out is not None:
            raise InvalidArgumentError(
                "num_steps= and out= are for the windows of a manager's buffer. The view says "
                f"what a batch holds; this buffer's is {self._view!r}."
            )
        self._store.check_open()
        if type(batch_size) is not int or not 0 < batch_size < 2**31:
            batch_size = check_int("batch_size", batch_size, 1, 2**31 - 1)
        if self._rollouts is not None:
            if newest is not None:
                self._among(newest)
            return self._use_up(self._rollouts, batch_size, view, timeout)
        view, plan = self._planned(view)
        among = 0 if newest is None else self._among(newest)
        try:
            found = self._core.sample_view(plan, batch_size, among)
            while found is None:
                self._wait(batch_size, timeout)
                found = self._core.sample_view(plan, batch_size, among)
        except _core.Closed:
            raise self._store.closed_error() from None
        rows, facts, least = found
        data = view.arrange(self._with_views("sample()"), _tuple(Gathered, rows))
        info = _tuple(SampleInfo, facts)
        if beta is not None:
            info = with_weights(info, beta, normalize, least)
        made = _tuple(Batch, (data, info))
        return made

    def _use_up(
        self, rollouts: RolloutQueue, size: int, view: View | None, timeout: float | None
    ) -> Batch:
        """The next rollouts, which are gone then."""
        view, plan = self._planned(view, "sample() of episodes that are used once")
        with rollouts.take(size, timeout) as keys:
            try:
                rows, _, _ = self._core.gather_view(plan, keys)
            except KeyError:  # of a buffer that was cleared a moment ago
                raise WaitTimeoutError(
                    "sample(): the buffer was cleared meanwhile. Nothing was sampled."
                ) from None
            data = view.arrange(self._with_views("sample()"), Gathered(*rows))
            self._core.delete(keys)
        info = self._facts(keys, np.ones(size), np.ones(size, np.int32))
        return Batch(data, info._replace(probability=np.ones(size)))

    def update_priorities(
        self,
        keys: ArrayLike,
        priorities: ArrayLike,
        *,
        mask: ArrayLike | None = None,
        eta: float = 0.9,
    ) -> int:
        """Sets the priorities of items, in any order, of any earlier batches.

        Args:
            keys: `batch.key`.
            priorities: sizes of the targets' errors, `[B]`, finite and not negative, of
                NumPy, JAX or PyTorch; a tensor that requires its gradient or is on a GPU is
                refused: pass `.detach().cpu()`. The sampler's `eps` is added to them; not
                of a manager's buffer, whose are kept as they are. Or `[B, T]` of
                sequences, of which one is made: `eta * max + (1 - eta) * mean`
                (Kapturowski et al. 2019).
            mask: `[B, T]`, `batch.mask`: steps that count.
            eta: 0 to 1.

        Returns:
            How many keys were stale: their items have left the buffer.

        Raises:
            InvalidArgumentError: a shape or a value, or no selector reads priorities.
            ClosedError: the buffer is closed.
        """
        if self._view is None:
            if mask is not None:
                raise InvalidArgumentError("mask= is not for a manager's buffer.")
            return super().update_priorities(keys, priorities)
        self._store.check_open()
        self._table.settings.check_updates(_PRIORITIZED)
        errors = as_array("priorities", priorities)
        if errors.ndim == 2:
            errors = sequence_priorities(errors, mask, eta)
        elif mask is not None:
            raise InvalidArgumentError(
                f"mask: found priorities of shape {errors.shape}, wanted [B, T]."
            )
        wanted, sizes = as_updates(keys, errors)
        stale = self._core.update_priorities(wanted, sizes + self._table.settings.sampler.eps)
        if stale and stale == len(wanted):
            self._tell_stale(stale)
        return stale

    def item_spec(self, view: View | None = None) -> dict[str, Any]:
        """What a view makes of one item: a nest of `ArraySpec`, without the batch axis.

        Of `Episodes(max_length=n)` what is padded to n steps. Functions of a view are called
        with zeros.

        Args:
            view: None: the buffer's own.

        Raises:
            InvalidArgumentError: there is no such shape, as of whole `Episodes`; or see
                `sample`.
            ClosedError: the buffer is closed.
        """
        fields = self._with_views("item_spec()")
        self._store.check_open()
        view, _ = self._planned(self._planned(view)[0].fixed)
        types = fields.nest.types
        arrays = []  # of one item: a function of map() may not take none
        for place, _, steps, _, squeezed in view.plan(fields)[1]:
            dtype, shape = types[place]
            arrays.append(np.zeros((1, *([] if squeezed else [steps]), *shape), dtype))
        no = np.zeros(1, np.bool_)
        data: Any = view.arrange(fields, Gathered(arrays, np.ones(1, np.int64), no, no))
        spec: Any = optree.tree_map(lambda leaf: ArraySpec(leaf.shape[1:], leaf.dtype), data)
        return dict(spec)

    def gather(self, keys: ArrayLike, view: View | None = None) -> dict[str, Any]:
        """The data of these items, as a batch has them. Counts as no sample.

        Args:
            keys: `[B]`, as `SampleInfo.key` holds them.
            view: None: the buffer's own.

        Raises:
            KeyError: an item has left the buffer.
            InvalidArgumentError: the view is not for this buffer's steps, or the buffer is
                a manager's.
            ClosedError: the buffer is closed.
        """
        fields = self._with_views("gather()")
        self._store.check_open()
        view, plan = self._planned(view, "gather()")
        rows, _, _ = self._core.gather_view(plan, as_keys(keys))
        return view.arrange(fields, Gathered(*rows))

    def steps(self, view: View | None = None) -> Batch:
        """Every item in the order of insertion, as a batch. Counts as no sample.

        The data are of one point in time; probabilities are 0, and so are the priorities and
        counts of items that left a moment later.

        Args:
            view: None: the buffer's own.
        """
        fields = self._with_views("steps()")
        self._store.check_open()
        view, plan = self._planned(view, "steps()")
        rows, keys, _ = self._core.gather_view(plan, None)
        # Looked up by key: a moment later some may have left, and others come.
        items = self._core.items()
        _, here, there = np.intersect1d(
            keys, items["key"], assume_unique=True, return_indices=True
        )
        priority, times = np.zeros(len(keys)), np.zeros(len(keys), np.int32)
        priority[here], times[here] = items["priority"][there], items["times_sampled"][there]
        info = self._facts(keys, priority, times)
        return Batch(view.arrange(fields, Gathered(*rows)), info)

    def epoch(
        self,
        batch_size: int,
        *,
        view: View | None = None,
        seed: int | None = None,
        drop_last: bool = False,
    ) -> Iterator[Batch]:
        """Every item once, in random order, in batches. Counts as no sample.

        Those that are there when the first batch is asked for; those that leave meanwhile are
        left out, so that batches may be smaller. Facts are those of `steps`.

        Args:
            batch_size: B.
            view: None: the buffer's own.
            seed: of the order; None draws one.
            drop_last: whether a last batch of fewer items is left out.

        Raises:
            InvalidArgumentError: a number is out of range, or see `gather`.
            ClosedError: the buffer is closed.
        """
        self._with_views("epoch()")
        self._store.check_open()
        batch_size = check_int("batch_size", batch_size, 1, 2**31 - 1)
        if seed is not None:
            check_int("seed", seed, 0, 2**64 - 1)
        view, plan = self._planned(view, "epoch()")
        return self._each_batch(batch_size, view, plan, np.random.default_rng(seed), drop_last)

    def _each_batch(
        self,
        size: int,
        view: View,
        plan: _core.ViewPlan,
        rng: np.random.Generator,
        drop_last: bool,
    ) -> Iterator[Batch]:
        self._store.check_open()
        items = self._core.items()
        order = rng.permutation(len(items["key"]))
        end = len(order) // size * size if drop_last else len(order)
        for first in range(0, end, size):
            rows = order[first : first + size]
            while len(rows):
                self._store.check_open()
                try:
                    found, keys, _ = self._core.gather_view(plan, items["key"][rows])
                except KeyError:  # some have left
                    rows = rows[np.isin(items["key"][rows], self._core.items()["key"])]
                    continue
                info = self._facts(keys, items["priority"][rows], items["times_sampled"][rows])
                data = view.arrange(self._with_views("epoch()"), Gathered(*found))
                yield Batch(data, info)
                break

    @staticmethod
    def _facts(keys: Any, priorities: Any, times: Any) -> SampleInfo:
        """Of items that nobody drew."""
        sizes = np.full(len(keys), len(keys), np.int64)
        return SampleInfo(keys, np.zeros(len(keys)), sizes, priorities, times)

    def episodes(self) -> Iterator[dict[str, Any]]:
        """Every episode, by the age of its oldest step that is still there.

        Each step is in one of them. The dict has the step's keys, `[T, *shape]`, and
        `next_<state>`, the state after the last step, `terminated` and `truncated`, as
        `views.Episodes` has them, without a batch axis. One that is still open holds its steps
        so far. One episode is copied at a time; those that leave meanwhile are left out.

        Raises:
            InvalidArgumentError: the buffer is a manager's.
            ClosedError: the buffer is closed.
        """
        fields = self._with_views("episodes()")
        self._store.check_open()
        return self._each_episode(fields)

    def _each_episode(self, fields: Fields) -> Iterator[dict[str, Any]]:
        view = Episodes()
        whole, plan = _core.ViewPlan(self._layout, [], ANY), plan_of(view, fields, self._layout)
        _, keys, (chunks, places) = self._core.gather_view(whole, None)
        ends = np.stack([chunks, places.astype(np.uint64)], axis=1)
        # Of the items that end together, the first one holds all.
        _, first = np.unique(ends, axis=0, return_index=True)
        for key in keys[np.sort(first)]:
            self._store.check_open()
            try:
                rows, _, _ = self._core.gather_view(plan, np.array([key]))
            except KeyError:
                continue
            data = view.arrange(fields, Gathered(*rows))
            for name in ("mask", "burn_in_mask", "length"):
                del data[name]
            episode: Any = data
            episode = optree.tree_map(_FIRST, episode)
            yield episode

    def _among(self, newest: Any) -> int:
        sampler = self._table.settings.sampler
        if sampler.kind != "uniform":
            raise InvalidArgumentError(
                f"newest: found the sampler {sampler!r}, wanted a uniform one, whose choice "
                "can be narrowed. Make the buffer without sampler=, or leave newest out."
            )
        return check_int("newest", newest, 1, 2**32 - 1)

    def _tell_stale(self, count: int) -> None:
        told, self._told_stale = self._told_stale, True
        if not told:
            _log.warning(
                "update_priorities(): all %d keys were stale: their steps have left. "
                "Are they batch.key, of a batch that is not too old? (Told once.)",
                count,
            )

    def _planned(
        self, view: View | None, still: str | None = None
    ) -> tuple[View, _core.ViewPlan]:
        """The view, the buffer's own for None, and what the core gathers for it.

        Args:
            view: see there.
            still: who asks, where nothing may be drawn.
        """
        if view is None:
            view = self._view if still is None or self._view is None else self._view.still
        assert view is not None
        if still is not None and isinstance(view, View) and view.is_drawn:
            raise InvalidArgumentError(
                f"{still}: found {view!r:.200}, of which chance is a part: it is for sample()."
            )
        return view, self._plans.get(view) or self._plan(view)

    def _plan(self, view: View) -> _core.ViewPlan:
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
        if len(self._plans) >= _MOST_PLANS:
            self._plans.clear()
        self._plans[view] = plan = plan_of(view, self._fields, self._layout)
        return plan

    def _wait(self, batch_size: int, timeout: float | None) -> None:
        try:
            super()._wait(batch_size, timeout)
        except WaitTimeoutError as error:
            if timeout != 0 or self._view is None:
                raise
            raise WaitTimeoutError(
                "The replay buffer is empty: add steps before you sample. Of "
                f"{self._view!r:.200} an item comes {self._view.comes}. ({error})"
            ) from None
