"""S4, S16, S17, F33: any bytes at any parser are a value or its refusal, soon and in little memory.

Valid inputs damaged in many ways, arbitrary bytes, and what longer coverage-guided runs have
found (tests/fuzz/corpus).
"""

from __future__ import annotations

import random
import struct
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

sys.path.append(str(Path(__file__).parents[2] / "fuzz"))
from fuzz_targets import TARGETS, Target, corpus, mutated, tidy

from safepy.errors import PeerError
from safepy.fuse import protocol
from safepy.wire.framing import LENGTH, FrameParser

#: Damaged inputs for each parser in a normal run; the seed is fixed, so a failure repeats itself.
ROUNDS = 1500
#: Those that carry their input out on real files take longer.
SLOW = {"fuse": 200, "handshake": 300, "state_file": 300, "http_request": 150, "dialed": 300}
SEED = 20261123
#: Far above what any of them needs, far below what a length of 4 GiB would take.
PEAK_BYTES_MAX = 64 << 20
ONE_INPUT_LIMIT_S = 20.0


@pytest.fixture(scope="module", autouse=True)
def tidied() -> Iterator[None]:
    yield
    tidy()


@pytest.fixture(params=TARGETS.values(), ids=TARGETS)
def target(request: pytest.FixtureRequest) -> Target:
    found = request.param
    assert isinstance(found, Target)
    return found


def test_seeds_are_valid_and_found_inputs_are_harmless(target: Target) -> None:
    for data in (*target.seeds, *corpus(target.name)):
        target.run(data)


def test_damaged_inputs_are_refused_in_little_memory(target: Target) -> None:
    chance = random.Random(SEED)
    pool = [*target.seeds, *corpus(target.name)]
    tracemalloc.start()
    try:
        for number in range(SLOW.get(target.name, ROUNDS)):
            data = mutated(chance.choice(pool), chance)
            begun_s = time.monotonic()
            try:
                target.run(data)
            except Exception as bug:
                raise AssertionError(f"input {number} of {target.name}: {data[:500]!r}") from bug
            assert time.monotonic() - begun_s < ONE_INPUT_LIMIT_S, data[:200]
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < PEAK_BYTES_MAX


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.binary(max_size=600))
def test_arbitrary_bytes_are_refused(target: Target, data: bytes) -> None:
    target.run(data)
    target.run(target.seeds[0][: len(data)] + data)


@pytest.mark.parametrize("length", [0xFFFFFFFF, 0x80000000, (1 << 20) + (64 << 10) + 1])
def test_s4_a_record_of_four_gigabytes_is_refused_at_its_length(length: int) -> None:
    tracemalloc.start()
    try:
        parser = FrameParser()
        parser.feed(LENGTH.pack(length))
        with pytest.raises(PeerError, match="refused"):
            parser.take()
        parser.feed(bytes(100))
        with pytest.raises(PeerError):  # and of no more use
            parser.take()
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


HUGE = 1 << 63
KERNEL = {
    "a read of 4 GiB": (protocol.read, struct.pack("<QQIIQII", 0, 0, 0xFFFFFFFF, 0, 0, 0, 0)),
    "a read beyond": (protocol.read, struct.pack("<QQIIQII", 0, HUGE, 1, 0, 0, 0, 0)),
    "a write beyond": (protocol.write, struct.pack("<QQIIQII", 0, HUGE, 0, 0, 0, 0, 0)),
    "a size": (
        protocol.setattr_,
        struct.pack("<IIQQQqqqIIIIIIII", protocol.FATTR_SIZE, 0, 0, HUGE, 0, *(0,) * 11),
    ),
    "space": (protocol.fallocate, struct.pack("<QQQII", 0, HUGE, 1, 0, 0)),
    "much space": (protocol.fallocate, struct.pack("<QQQII", 0, 0, HUGE, 0, 0)),
    "a rule to seek by": (protocol.lseek, struct.pack("<QqII", 0, 0, 0xFFFFFFFF, 0)),
    "flags": (
        lambda body: protocol.setxattr(body, True),
        struct.pack("<IIII", 1, 0xFFFFFFFF, 0, 0) + b"user.a\0v",
    ),
    "many nodes to forget": (protocol.batch_forget, struct.pack("<II", 0xFFFFFFFF, 0)),
    "extensions": (protocol.header, protocol.HEADER.pack(40, 1, 7, 1, 0, 0, 0, 6, 0)),
}


@pytest.mark.parametrize(("decode", "body"), KERNEL.values(), ids=KERNEL)
def test_s4_numbers_of_the_kernel_that_no_system_call_takes(
    decode: Callable[[memoryview], object], body: bytes
) -> None:
    with pytest.raises(protocol.ProtocolError):
        decode(memoryview(body))


XML_HEADS = (b"", b"<safe ", b"<safe>", b'<safe a="', b"<safe>&", b"<cluster ", b"<cluster>")
HEADS = {
    "userconfig": XML_HEADS,
    "cluster": XML_HEADS,
    "settings": (b"", b"node: "),
    "pattern": (b"",),
}
FILLINGS = (
    *(b"a", b"<", b"<a>", b"&", b"(", b"[", b"a ", b'"', b"\n", b"- ", b"{a: ", b"&a [*a,", b"="),
    "“".encode(),
)


@pytest.mark.parametrize(
    ("name", "head"), [(n, head) for n, heads in HEADS.items() for head in heads]
)
@pytest.mark.parametrize("filling", FILLINGS)
def test_s16_a_long_configuration_is_refused_in_bounded_time(
    name: str, head: bytes, filling: bytes
) -> None:
    """A parser that takes the square of the length would need minutes for one of these."""
    target = TARGETS[name]
    for tail in (b"", b">", b" b>", b";</safe>"):
        begun_s = time.monotonic()
        target.run(head + filling * (100_000 // len(filling)) + tail)
        assert time.monotonic() - begun_s < ONE_INPUT_LIMIT_S
