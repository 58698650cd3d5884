from __future__ import annotations

import msgspec
import pytest
from fake_manager import READY, FakeManager

from safepy.admin.api import VERBS, perform, prepare
from safepy.admin.values import LoopState, ModuleInfo, Ports
from safepy.errors import RequestRefused, SafekitError
from safepy.model import Snapshot
from safepy.wire.admin import Request

ARGUMENTS: dict[str, dict[str, object]] = {
    "action": {"action": "stop"},
    "rfssync": {"mode": "full"},
    "failover": {"on": True},
    "checker": {"on": True},
    "errd": {"on": False},
    "errd.class": {"checker_class": "agent", "on": True},
    "kill": {"name": "app", "level": "test"},
    "boot": {"on": True},
    "loop": {"change": "inc"},
    "cost": {"action": "prim"},
    "plan": {"action": "stop"},
    "maintenance": {"on": True, "for_s": 60.0, "reason": "test"},
    "print": {"level": "I", "text": "hello"},
    "resource.get": {"name": "rfs.uptodate"},
    "resource.set": {"name": "custom.x", "value": "up"},
    "module.install": {"source": "/tmp/a.safe"},
    "module.package": {"path": "/tmp/b.safe"},
    "cluster.config": {"content": "PGEvPg==", "source": "/tmp/c.xml"},
    "cluster.confcheck": {"content": "PGEvPg==", "source": "/tmp/c.xml"},
    "state.next": {"timeout_s": 0},
    "verify.next": {"number": 7, "timeout_s": 0},
    "verify.stop": {"number": 7},
}


@pytest.mark.parametrize("name", VERBS)
async def test_every_verb_reaches_the_manager_and_answers_its_type(name: str) -> None:
    verb = VERBS[name]
    module = "" if verb.module == "none" else "demo"
    manager = FakeManager()
    answer = await perform(manager, Request(name, module, ARGUMENTS.get(name, {})), "root")
    assert manager.asked
    if verb.answer is not None:
        assert msgspec.convert(answer, verb.answer) is not None


async def test_the_state_of_all_is_that_of_the_configured_ones() -> None:
    answer = await perform(FakeManager(), Request("state"), "root")
    (found,) = msgspec.convert(answer, list[Snapshot])
    assert found.module == "demo"


async def test_resources_of_the_snapshot_win_over_stored_ones() -> None:
    answer = await perform(FakeManager(), Request("state", "demo"), "root")
    (found,) = msgspec.convert(answer, list[Snapshot])
    assert found.resources == (
        ("rfs.uptodate", "up", 1_795_000_000.0),
        ("usersetting.boot", "on", 1_795_000_001.0),
    )
    assert found.record == READY.record and found.lanes == READY.lanes


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (Request("nonsense"), "knows no request 'nonsense'"),
        (Request("action", "", {"action": "stop"}), "no module is named"),
        (Request("modules", "demo"), "concerns no single module"),
        (Request("action", "a/b", {"action": "stop"}), "cannot be the name of a module"),
        (Request("action", "a\n", {"action": "stop"}), "cannot be the name of a module"),
        (Request("action", "demo", {"action": "explode"}), "no action is called 'explode'"),
        (Request("action", "demo", {}), "missing required field"),
        (Request("action", "demo", {"action": "stop", "x": 1}), "unknown field"),
        (Request("failover", "demo", {"on": "yes"}), "Expected `bool`"),
        (Request("action", "demo", {"action": "secondforce"}), "secondforce takes a date"),
        (Request("action", "demo", {"action": "prim", "since": 1.0}), "secondforce takes a date"),
        (Request("action", "demo", {"action": "stop", "fullsync": True}), "fullsync belongs"),
        (Request("rfssync", "demo", {"mode": "half"}), "no policy is called"),
        (Request("rfssync", "demo", {"mode": "external", "uid": "a"}), "a prim and a second"),
        (
            Request("rfssync", "demo", {"mode": "external", "role": "prim", "uid": "x" * 25}),
            "1 to 24 letters",
        ),
        (Request("rfssync", "demo", {"mode": "full", "uid": "a"}), "belong to an external"),
        (Request("action", "demo", {"action": "stop", "identity": "a b"}), "name of a caller"),
        (Request("print", "demo", {"level": "C", "text": ""}), "level must be"),
        (Request("resource.get", "demo", {"name": "a b"}), "name of a resource"),
        (Request("resource.set", "demo", {"name": "a.b", "value": "a\nb"}), "printable"),
        (Request("module.package", "demo", {"path": "rel.safe"}), "not an absolute path"),
        (Request("state.next", "demo", {"timeout_s": 1e9}), "between 0 and 50"),
        (Request("loop", "demo", {"change": "up"}), "inc, reset or check"),
        (Request("verify", "demo", {"mend": "both"}), "mend must be prim or second"),
        (Request("verify.next", "demo", {"number": 1, "seen": -1}), "must not be negative"),
    ],
)
def test_a_wrong_request_is_refused_in_words(request_: Request, words: str) -> None:
    with pytest.raises(RequestRefused) as refusal:
        prepare(request_, "root")
    assert words in str(refusal.value)


async def test_an_identity_stands_in_the_log_as_caller() -> None:
    manager = FakeManager()
    request = Request("action", "demo", {"action": "stop", "identity": "checker"})
    await perform(manager, request, "root")
    assert manager.asked == [("action", "demo", "stop", "checker", "checker", False)]


async def test_the_managers_refusal_comes_through() -> None:
    manager = FakeManager()
    with pytest.raises(SafekitError, match="no module is called nope"):
        await perform(manager, Request("action", "nope", {"action": "start"}), "root")


def test_looking_changes_nothing() -> None:
    looking = {name for name, verb in VERBS.items() if not verb.changes}
    assert {"state", "modules", "confinfo", "errd.list", "cluster.state", "print"} <= looking
    assert not looking & {"action", "config", "module.install", "cluster.genkey", "shutdown"}


def test_answer_types_are_importable_values() -> None:
    assert VERBS["ports"].answer is Ports and VERBS["loop"].answer is LoopState
    assert VERBS["modules"].answer == list[ModuleInfo]
