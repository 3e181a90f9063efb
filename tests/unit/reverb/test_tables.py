"""Tables: their settings, what they refuse, what they say about themselves."""

from __future__ import annotations

import collections
import subprocess
import sys
import types
from typing import Any

import numpy as np
import pytest

from reverie import ArraySpec
from reverie.nests.codec import TensorSpec
from reverie.proto import structured_value
from reverie.reverb import errors, item_selectors, pybind, rate_limiters, reverb_types
from reverie.reverb.cc import schema_pb2
from reverie.reverb.cc.checkpointing import checkpoint_pb2
from reverie.reverb.server import Server, Table, TableExtensionBase
from reverie.reverb.server_executable import server_from_proto


def table(**settings: Any) -> Table:
    given: dict[str, Any] = {
        "name": "t",
        "sampler": item_selectors.Fifo(),
        "remover": item_selectors.Fifo(),
        "max_size": 10,
        "rate_limiter": rate_limiters.MinSize(1),
    }
    return Table(**{**given, **settings})


@pytest.mark.parametrize(
    ("settings", "error", "quoted"),
    [
        ({"name": ""}, ValueError, "name must be nonempty"),
        ({"name": 3}, TypeError, "name: found 3"),
        ({"max_size": 0}, ValueError, r"max_size \(0\)"),
        ({"max_size": -1}, ValueError, r"max_size \(-1\)"),
        ({"max_size": 2.5}, TypeError, "max_size: found 2.5"),
        ({"max_size": 2**63}, TypeError, "max_size: found 9223372036854775808"),
        ({"max_times_sampled": 1.5}, TypeError, "max_times_sampled: found 1.5"),
        ({"sampler": "fifo"}, TypeError, "sampler of table 't': found 'fifo'"),
        ({"remover": None}, TypeError, "remover of table 't': found None"),
        (
            {"rate_limiter": rate_limiters.MinSize(11)},
            ValueError,
            r"min_size_to_sample \(11\) items, above max_size \(10\)",
        ),
        ({"signature": {"a": 3}}, ValueError, "Unsupported signature spec: 3 .* at a"),
        ({"signature": [None]}, ValueError, "Unsupported signature spec: None .* at 0"),
        ({"signature": np.zeros(3)}, ValueError, "Unsupported signature spec"),
        ({"signature": {"a": np.float32(1)}}, ValueError, "Unsupported signature spec"),
    ],
)
def test_settings_that_could_not_work_are_refused_in_words_that_quote_them(
    settings: dict[str, Any], error: type[Exception], quoted: str
) -> None:
    with pytest.raises(error, match=quoted):
        table(**settings)


def test_the_largest_min_size_that_a_table_can_reach_is_accepted() -> None:
    assert table(rate_limiter=rate_limiters.MinSize(10)).can_sample(1) is False


def test_an_extension_that_builds_nothing_is_accepted_and_another_is_refused() -> None:
    class Extension(TableExtensionBase):
        def __init__(self, built: list[Any]) -> None:
            self.built = built

        def build_internal_extensions(self, table_name: str) -> list[Any]:
            return self.built

    table(extensions=[Extension([])])
    with pytest.raises(ValueError, match="extensions of table 't': found 1"):
        table(extensions=[Extension([pybind.TableExtension()])])


@pytest.mark.parametrize(
    ("made", "kind"), [(Table.queue("q", 4), "fifo"), (Table.stack("q", 4), "lifo")]
)
def test_queues_and_stacks_have_reverbs_settings(made: Table, kind: str) -> None:
    info = made.info
    assert (info.name, info.max_size, info.max_times_sampled) == ("q", 4, 1)
    assert getattr(info.sampler_options, kind)
    assert getattr(info.remover_options, kind)
    limits = info.rate_limiter_info
    assert (limits.min_size_to_sample, limits.min_diff, limits.max_diff) == (1, 0, 4)


@pytest.mark.parametrize("served", [False, True])
def test_an_empty_table_can_be_asked_before_and_after_a_server_takes_it(served: bool) -> None:
    limiter = rate_limiters.SampleToInsertRatio(1.0, 3, 5.0)
    asked = table(rate_limiter=limiter, max_times_sampled=-3)
    server = Server([asked]) if served else None
    info = asked.info
    assert (info.current_size, info.num_episodes, info.num_deleted_episodes) == (0, 0, 0)
    assert (info.num_unique_samples, info.max_times_sampled) == (0, -3)
    assert info.rate_limiter_info.insert_stats.completed == 0
    assert info.table_worker_time.sleeping_ms == 0
    assert [asked.can_insert(n) for n in (1, 8, 9)] == [True, True, False]
    assert asked.can_sample(1) is False
    if server:
        server.stop()
        assert asked.info == info, "a stopped server's tables can still be asked"


@pytest.mark.parametrize("ask", ["can_sample", "can_insert"])
def test_asking_for_no_sample_or_insert_is_refused(ask: str) -> None:
    with pytest.raises(ValueError, match=r"\(0\) must be a positive integer"):
        getattr(table(), ask)(0)
    with pytest.raises(TypeError, match=r"found 1\.5"):
        getattr(table(), ask)(1.5)


def test_replace_keeps_what_is_not_given() -> None:
    spec = {"a": ArraySpec((3,), np.dtype(np.float32))}
    first = table(sampler=item_selectors.Prioritized(0.5), signature=spec, max_times_sampled=2)
    second = first.replace(name="u", max_size=5, rate_limiter=rate_limiters.MinSize(2))
    assert repr(second) == repr(first).replace("name=t", "name=u").replace(
        "max_size=10", "max_size=5"
    ).replace("min_size_to_sample=1", "min_size_to_sample=2")
    assert second.info.signature == spec


def test_a_table_shows_itself_as_in_reverb() -> None:
    assert repr(table(max_times_sampled=3)) == (
        "Table(sampler=FifoSelector, remover=FifoSelector, max_size=10, max_times_sampled=3, "
        "name=t, rate_limiter=RateLimiter(samples_per_insert=1, min_diff_=-1.79769e+308, "
        "max_diff=1.79769e+308, min_size_to_sample=1), signature=nullptr)"
    )


@pytest.mark.parametrize("signature", [{}, (), None])
def test_an_empty_signature_is_none(signature: Any) -> None:
    assert table(signature=signature).info.signature is None


def test_a_signature_may_be_any_mapping_and_sequence_and_is_kept_as_it_is() -> None:
    leaf = ArraySpec((3,), np.dtype(np.float32))
    nest = types.MappingProxyType({"a": [leaf, (leaf, collections.OrderedDict(b=leaf))]})
    assert table(signature=nest).info.signature is nest
    with pytest.raises(ValueError, match="spec: 'x' of type str at a/1/b"):
        table(signature={"a": [leaf, {"b": "x"}]})


Pair = collections.namedtuple("Pair", ["left", "right"])


def test_a_signature_survives_its_message() -> None:
    leaf = TensorSpec((None, 3), np.dtype(np.float32), "x")
    nest: dict[str, Any] = {
        "a": (leaf, TensorSpec((), np.dtype(object))),
        "b": [TensorSpec(None, np.dtype(np.int64))],
        "c": Pair(leaf, leaf),
    }
    again = structured_value.decode(structured_value.encode(nest))
    assert again["a"] == nest["a"]
    assert again["b"] == nest["b"]
    assert (type(again["c"]).__name__, again["c"]._asdict()) == ("Pair", nest["c"]._asdict())
    plain = structured_value.encode(ArraySpec((2,), np.dtype(np.float64)))
    assert structured_value.decode(plain).shape == (2,)


def test_the_messages_have_the_wire_format_of_tensorflows() -> None:
    spec = TensorSpec((None, 3), np.dtype(np.float32), "x")
    # As tf.TensorSpec([None, 3], tf.float32, "x") is written in a StructuredValue.
    tensor_spec = b"\x0a\x01x" + b"\x12\x11\x12\x0b\x08" + b"\xff" * 9 + b"\x01\x12\x02\x08\x03"
    tensor_spec += b"\x18\x01"
    wanted = b"\x8a\x02" + bytes([len(tensor_spec)]) + tensor_spec
    assert structured_value.encode(spec).SerializeToString() == wanted


def test_what_tensorflow_has_no_dtype_for_has_no_message() -> None:
    with pytest.raises(ValueError, match="TensorFlow has none"):
        structured_value.encode(TensorSpec((), np.dtype("M8[s]")))
    with pytest.raises(ValueError, match="found <object"):
        structured_value.encode([object()])


def test_table_info_comes_back_from_its_message() -> None:
    message = schema_pb2.TableInfo(name="t", max_size=3, current_size=2)
    message.sampler_options.fifo = True
    message.signature.CopyFrom(
        structured_value.encode({"a": ArraySpec((2,), np.dtype(np.int8))})
    )
    info = reverb_types.TableInfo.from_serialized_proto(message.SerializeToString())
    assert (info.name, info.max_size, info.current_size) == ("t", 3, 2)
    assert info.sampler_options.fifo
    assert info.signature is not None
    assert info.signature["a"].dtype == np.int8
    bare = schema_pb2.TableInfo(name="t").SerializeToString()
    assert reverb_types.TableInfo.from_serialized_proto(bare).signature is None


def test_tables_come_from_messages() -> None:
    message = checkpoint_pb2.PriorityTableCheckpoint(
        table_name="t",
        max_size=7,
        max_times_sampled=2,
        sampler={"heap": {"min_heap": True}},
        remover={"lifo": True},
        rate_limiter={
            "samples_per_insert": 2.0,
            "min_size_to_sample": 3,
            "min_diff": -1.0,
            "max_diff": 9.0,
        },
    )
    (made,) = server_from_proto.tables_from_proto([message])
    assert repr(made) == (
        "Table(sampler=HeapSelector(sign=1), remover=LifoSelector, max_size=7, "
        "max_times_sampled=2, name=t, rate_limiter=RateLimiter(samples_per_insert=2, "
        "min_diff_=-1, max_diff=9, min_size_to_sample=3), signature=nullptr)"
    )


def test_without_protobuf_a_table_works_and_its_messages_say_what_is_missing() -> None:
    program = """
import importlib, sys
sys.modules["google.protobuf"] = None
from reverie.errors import MissingDependencyError
from reverie.reverb import Table
table = Table.queue("q", 3)
info = table.info
assert (info.max_size, info.current_size, table.can_insert(1)) == (3, 0, True)
assert table.replace(name="r").name == "r"
print(repr(info))
schema = lambda: importlib.import_module("reverie.reverb.cc.schema_pb2")
for use in (lambda: info.sampler_options.fifo, schema):
    try:
        use()
    except MissingDependencyError as error:
        assert "pip install 'reverie-replay[reverb]'" in str(error), error
    else:
        raise AssertionError("no error")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "<needs the package protobuf>" in done.stdout


def test_deadline_errors_are_timeouts_and_reverb_errors() -> None:
    assert issubclass(errors.DeadlineExceededError, errors.ReverbError)
    assert issubclass(errors.DeadlineExceededError, TimeoutError)
    assert issubclass(errors.UnknownTableError, RuntimeError)
