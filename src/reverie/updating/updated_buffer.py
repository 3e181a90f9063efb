"""What changes in a replay buffer after it was stored: new values for steps, written back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from numpy.typing import ArrayLike

from reverie.runtime.checks import as_keys
from reverie.sample import Updated
from reverie.sampled_buffer import SampledBuffer
from reverie.stored_buffer import MISFITS
from reverie.updating.changes import changes_of
from reverie.views.base import View


class UpdatedBuffer(SampledBuffer):
    """The part of a replay buffer that takes new values for steps that it has."""

    def update(
        self,
        keys: ArrayLike,
        values: Mapping[str, Any],
        if_version: ArrayLike | None = None,
        *,
        view: View | None = None,
        mask: ArrayLike | None = None,
    ) -> Updated:
        """Writes new values into stored steps, for batches to come and saves: reanalysis.

        Of keys that the buffer was made with as `updatable`. A step is stored once, so all
        items and views that it is in have the new values. What has left stays away: keys are
        never used twice, so no other step is written.

        With `if_version` a step is written only where the version that it has (the buffer's
        `version` key) is older, that is, less; it then has the new one. So in whatever order
        targets arrive, none overwrites a newer one. (Schrittwieser et al. 2021, "MuZero
        Unplugged"; Ye et al. 2021, "EfficientZero".)

        Thread-safe. Batches that are copied meanwhile hold each row of a few MB as it was
        before a slice of some 100 KB was written, or after. All is checked first: on an error
        nothing is written, but by Ctrl-C, which leaves a part. O(bytes); who samples waits
        for a slice at most, and an update for the batches that are copied when it comes.

        Args:
            keys: `[B]`, `batch.key` of any earlier batches.
            values: by key, in the form in which the view gives them: `[B, *shape]` of a
                step, `[B, T, *shape]` of sequences, of which what lies beyond a row's end
                counts for nothing, but must fit. Cast as `add` casts.
            if_version: of the policy or network that the values are of: an integer, or `[B]`.
                None: written whatever the steps' versions are, which stay.
            view: the one that the batch was sampled with; None: the buffer's own. What it
                draws or computes beside, a shift, a map or goals in hindsight, is left aside:
                `mask=~batch.data["relabelled"]` leaves those rows out whose goal is another.
            mask: `[B, T]` (or `[B]`), steps that are written; None: all that the row has.

        Returns:
            Updated: `updated` and `rejected` count steps, `stale` keys. Of a step that comes
            twice the last values stay; with `if_version` the first, as the second are no newer.

        Raises:
            InvalidArgumentError: a key of `values` is not updatable, the steps have no
                version, a number is out of range, the view is not for these steps, or the
                buffer is a manager's.
            StepMismatchError: structure, dtype, shape or range of a value; names the path.
            ClosedError: the buffer is closed.
        """
        fields = self._with_views("update()")
        self._store.check_open()
        form, _ = self._planned(view.still if isinstance(view, View) else view, "update()")
        chosen = as_keys(keys)
        changes = changes_of(fields, form.saved, len(chosen), values, if_version, mask)
        try:
            counts = self._core.update(self._layout, chosen, fields.own.lead + 1, *changes)
        except MISFITS as error:
            raise self._translated(error) from None
        return Updated(*counts)
