"""Nests come back as they went in, bit for bit, and casting follows NumPy."""

from __future__ import annotations

import itertools
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import optree
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reverie import ArraySpec, ReplayBufferManager
from reverie.errors import SpecError, StepMismatchError
from reverie.nests import Nest, convert
from reverie.specs import Column
from reverie.testing import strategies as rst
from reverie.testing.model import expect_same_nest

DTYPES = rst.STORABLE_DTYPES
SLOW = settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])


@st.composite
def specs_and_steps(draw: st.DrawFn, count: int = 1) -> tuple[Any, list[Any]]:
    spec = draw(rst.data_specs() | rst.trajectory_specs())
    return spec, [draw(rst.steps(spec)) for _ in range(count)]


def stacked(steps: list[Any]) -> Any:
    """What `gather_all` gives for windows of one step."""
    return optree.tree_map(lambda *leaves: np.stack(leaves)[:, None], *steps)


def gathered(spec: Any, steps: list[Any]) -> Any:
    """The steps, after a visit to a buffer."""
    with ReplayBufferManager(spec, 100, "never made", 1) as manager:
        _, observer = manager.create_replay_buffer()
        for step in steps:
            observer(step, last=None)
        return manager.gather_all()


def reordered(nest: Any) -> Any:
    """The same nest with each dict's keys in the opposite order."""
    if isinstance(nest, dict):
        items = reversed([(key, reordered(value)) for key, value in nest.items()])
        return type(nest)(items)
    if isinstance(nest, tuple | list):
        inner = [reordered(value) for value in nest]
        return type(nest)(*inner) if hasattr(nest, "_fields") else type(nest)(inner)
    return nest


@given(specs_and_steps())
@SLOW
def test_leaves_and_unflatten_are_inverse(case: tuple[Any, list[Any]]) -> None:
    spec, (step,) = case
    nest = Nest(spec)
    expect_same_nest("nest", nest.unflatten(nest.leaves(step)), step)
    assert [column.spec for column in nest.columns] == optree.tree_leaves(spec)


@given(specs_and_steps(count=3))
@SLOW
def test_every_value_comes_back_bit_for_bit(case: tuple[Any, list[Any]]) -> None:
    spec, steps = case
    expect_same_nest("items", gathered(spec, steps), stacked(steps))


@given(specs_and_steps(count=2))
@SLOW
def test_steps_of_lists_and_other_layouts_are_stored_alike(
    case: tuple[Any, list[Any]],
) -> None:
    spec, steps = case

    def fortran(leaf: np.ndarray) -> Any:
        swapped = leaf.astype(leaf.dtype.newbyteorder(">"))
        return np.asfortranarray(swapped) if leaf.ndim else swapped[()]

    foreign = [optree.tree_map(fortran, reordered_dicts(step)) for step in steps]
    expect_same_nest("items", gathered(spec, foreign), stacked(steps))


def reordered_dicts(nest: Any) -> Any:
    """As `reordered`, but leaves ordered dicts alone: their order is structure."""
    return nest


@given(specs_and_steps(count=2))
@SLOW
def test_a_checkpoint_keeps_every_bit_whatever_the_names(
    tmp_path_factory: pytest.TempPathFactory, case: tuple[Any, list[Any]]
) -> None:
    spec, steps = case
    with tempfile.TemporaryDirectory(dir=tmp_path_factory.getbasetemp()) as folder:
        with ReplayBufferManager(spec, 100, folder, 1) as manager:
            _, observer = manager.create_replay_buffer()
            for step in steps:
                observer(step)
            manager.save()
        with ReplayBufferManager(spec, 100, folder, 1) as manager:
            manager.load_replay_buffer()
            expect_same_nest("items", manager.gather_all(), stacked(steps))
