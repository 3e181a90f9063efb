"""Nests by dm-tree's rules: the order of leaves, paths, and how nests are rebuilt."""

from __future__ import annotations

import collections
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import optree
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reverie.nests import structure


class Pair(NamedTuple):
    left: Any
    right: Any


LEAVES = st.one_of(
    st.none(), st.integers(0, 9), st.text("ab", max_size=2), st.binary(max_size=2)
)
KEYS = st.text("abc", min_size=1, max_size=2)
NESTS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.dictionaries(KEYS, inner, max_size=3),
        st.dictionaries(KEYS, inner, max_size=3).map(collections.OrderedDict),
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.builds(Pair, inner, inner),
    ),
    max_leaves=8,
)
PLAIN = {"b": (1, [2, Pair(3, None)]), "a": {"y": 4, "x": "text"}, "c": []}


def test_dicts_flatten_in_the_order_of_their_keys_and_none_is_a_leaf() -> None:
    nest = collections.OrderedDict(b=1, a=None, c=b"x")
    assert structure.flatten(nest) == [None, 1, b"x"]
    assert optree.tree_leaves(nest, none_is_leaf=True) != structure.flatten(nest)  # hence this


def test_paths_are_keys_positions_and_field_names() -> None:
    paths = [path for path, _ in structure.flatten_with_path(PLAIN)]
    assert paths == [
        ("a", "x"),
        ("a", "y"),
        ("b", 0),
        ("b", 1, 0),
        ("b", 1, 1, "left"),
        ("b", 1, 1, "right"),
    ]
    assert structure.flatten_with_path(3) == [((), 3)]


@pytest.mark.parametrize(
    "leaf", [np.zeros(3), "ab", b"ab", bytearray(2), None, 3, SimpleNamespace()]
)
def test_arrays_texts_and_objects_are_leaves(leaf: Any) -> None:
    assert not structure.is_nested(leaf)
    assert structure.flatten([leaf])[0] is leaf


@given(NESTS)
def test_unflatten_as_undoes_flatten(nest: Any) -> None:
    rebuilt = structure.unflatten_as(nest, structure.flatten(nest))
    assert rebuilt == nest
    assert type(rebuilt) is type(nest)


@given(NESTS)
def test_the_fast_flatten_agrees_with_the_general_one(nest: Any) -> None:
    fast = structure.fast_flatten(nest)
    if fast is not None:
        assert fast[0](nest) == structure.flatten(nest)
        assert fast[1].unflatten(structure.flatten(nest)) == nest
    assert structure.Flattener()(nest) == structure.flatten(nest)


def test_there_is_no_fast_flatten_where_optree_has_another_order() -> None:
    assert structure.fast_flatten(PLAIN) is not None
    for nest in (collections.OrderedDict(a=1), collections.deque([1]), {"a": range(2)}):
        assert structure.fast_flatten(nest) is None


def test_a_flattener_notices_that_a_leaf_became_a_node() -> None:
    flatten = structure.Flattener()
    assert flatten({"a": 1}) == [1]
    assert flatten({"a": [1, 2]}) == [1, 2]
    assert flatten({"b": 3}) == [3]


def test_default_dicts_keep_their_factory() -> None:
    nest = collections.defaultdict(list, a=1)
    rebuilt = structure.map_structure(lambda x: x + 1, nest)
    assert (rebuilt, rebuilt.default_factory) == ({"a": 2}, list)


def test_map_structure_takes_nests_of_one_structure_only() -> None:
    assert structure.map_structure(lambda a, b: a + b, {"x": [1]}, {"x": [2]}) == {"x": [3]}
    with pytest.raises(ValueError, match="structures differ"):
        structure.map_structure(lambda a, b: a, {"x": 1}, {"y": 1})
    with pytest.raises(ValueError, match="1 leaves do not fit a structure of 2"):
        structure.unflatten_as([0, 0], [1])


def test_keys_that_cannot_be_sorted_are_refused() -> None:
    with pytest.raises(TypeError, match="cannot be sorted"):
        structure.flatten({1: 0, "a": 0})


def test_the_union_has_the_leaves_of_both() -> None:
    union = structure.union({"a": None, "n": [None]}, {"b": None, "n": [None, None]})
    assert structure.flatten_with_path(union) == [
        (("a",), None),
        (("b",), None),
        (("n", 0), None),
        (("n", 1), None),
    ]
    assert structure.union(Pair({"a": 1}, 2), Pair({"b": 3}, 4)) == Pair({"a": 1, "b": 3}, 2)


@pytest.mark.parametrize(
    ("a", "b"),
    [({"n": None}, {"n": {"q": 1}}), ({"n": {"q": 1}}, {"n": None}), ({"n": [1]}, {"n": {}})],
)
def test_the_union_refuses_a_leaf_in_place_of_a_node_and_names_the_path(a: Any, b: Any) -> None:
    with pytest.raises(
        ValueError, match=r"at \('n',\): found a .*, where earlier steps have a"
    ):
        structure.union(a, b)
