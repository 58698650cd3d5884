"""The failover machine in a real daemon: a resource that a script sets, the rule that goes by it,
and a counter that outlives the daemon."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from pair import MODULE, config, until
from test_daemon_pair import MODULE_ID, PULSE_MS, TIMEOUT_MS, Pair

from safepy.storage.resources import read

RULES = """<failover period="1s" handle_time="2s"><![CDATA[
  again: if (custom.flag == down) then restart();
  hold: if (custom.gate == down) then wait();
]]></failover>"""


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    made = Pair(tmp_path)
    try:
        yield made
    finally:
        made.n1.end()


def resource(pair: Pair, name: str) -> str:
    return str(pair.n1.ask("resource.get", name=name))


def story(pair: Pair, wanted: str) -> str:
    return "\n".join([wanted, *pair.n1.lines()])


def becomes(pair: Pair, shown: str) -> None:
    until(lambda: pair.n1.shown == shown, lambda: story(pair, shown))


def count(pair: Pair, text: str) -> int:
    return sum(text in line for line in pair.n1.lines())


def test_a_rule_acts_and_the_counter_outlives_the_daemon(pair: Pair) -> None:
    pair.n1.start()
    pair.n1.install(config(PULSE_MS, TIMEOUT_MS, "", RULES), MODULE_ID)
    pair.n1.configure()
    pair.n1.act("prim")
    becomes(pair, "ALONE Ready")
    assert resource(pair, "rule.again") == "false"

    pair.n1.ask("resource.set", name="custom.flag", value="down", identity="probe")
    until(
        lambda: count(pair, "Action restart from failover rule again") == 1,
        lambda: story(pair, "a restart"),
    )
    assert count(pair, "Resource custom.flag set to down by probe") == 1
    assert resource(pair, "rule.again") == "true"
    pair.n1.ask("resource.set", name="custom.flag", value="up", identity="probe")
    becomes(pair, "ALONE Ready")
    assert resource(pair, "rule.again") == "false"
    assert pair.trace == ["n1", "-n1", "n1"], story(pair, "one restart")

    counted = pair.n1.ask("loop", change="inc", identity="handler")
    assert (counted.count, counted.limit, counted.reached) == (2, 3, False)
    path = str(pair.n1.var / "modules" / MODULE / "resource.db")
    until(
        lambda: ("heart.stopstartcount", "2") in [(r.name, r.value) for r in read(path)],
        lambda: story(pair, "the count on disk"),
    )
    pair.n1.kill()
    pair.n1.start()
    becomes(pair, "ALONE Ready")
    counted = pair.n1.ask("loop", change="inc", identity="handler")
    assert (counted.count, counted.reached) == (3, False), story(pair, "counted")
    counted = pair.n1.ask("loop", change="inc", identity="handler")
    assert (counted.count, counted.reached) == (4, True)
    assert pair.n1.ask("loop", change="check", identity="").reached
    assert pair.n1.shown == "ALONE Ready", "who counts also stops"
    assert not pair.n1.ask("loop", change="reset", identity="").reached
    assert pair.n1.ask("loop", change="check", identity="").count == 0


def test_a_wait_rule_holds_the_module_and_lets_it_go(pair: Pair) -> None:
    pair.n1.start()
    pair.n1.install(config(PULSE_MS, TIMEOUT_MS, "", RULES), MODULE_ID)
    pair.n1.configure()
    pair.n1.act("prim")
    becomes(pair, "ALONE Ready")
    pair.n1.ask("resource.set", name="custom.gate", value="down")
    becomes(pair, "WAIT NotReady")
    assert "stop_prim ALONE WAIT stopwait" in pair.n1.calls, story(pair, str(pair.n1.calls))
    (snapshot,) = pair.n1.ask("state")
    assert "failover rule hold" in snapshot.waiting_for

    # What a script set is known to the next daemon as well.
    pair.n1.kill()
    pair.n1.start()
    becomes(pair, "WAIT NotReady")
    pair.n1.ask("resource.set", name="custom.gate", value="up")
    becomes(pair, "ALONE Ready")
    assert count(pair, "Action wakeup from failover rule Implicit_wakeup") >= 1
