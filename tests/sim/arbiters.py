"""Models of what decides who goes on alone (protocol 7): witness, fence, router, watchdogs.

Each can be out of reach for one node, both, or in one direction: a claim whose answer is lost has
been stored all the same. The devices do not live in the nodes: a frozen node is fenced or reset.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from clock import Entry

from safepy.core import commands as c
from safepy.core import events as e
from safepy.core.witness import Answer, Register, claim

if TYPE_CHECKING:
    from cluster import Cluster
    from node import Node


class Arbiters:
    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        #: None: the witness lost its state.
        self.register: Register | None = Register(0)
        #: Nodes that do not reach it.
        self.witness_cut: set[str] = set()
        self.fence_cut: set[str] = set()
        self.router_cut: set[str] = set()
        #: Parts of the answers that get lost, and of the questions that arrive once more, late.
        self.answers_lost = 0.0
        self.repeated = 0.0
        self.delay_s = (0.005, 0.1)
        self.no_answer_s = 2.0
        #: How long a node is off that was fenced, or reset by its watchdog.
        self.off_s = (3.0, 12.0)
        self._dogs: dict[str, Entry] = {}
        self.granted: list[tuple[int, str]] = []

    def heal(self) -> None:
        for cut in (self.witness_cut, self.fence_cut, self.router_cut):
            cut.clear()
        self.answers_lost = self.repeated = 0.0

    # -- E2 --------------------------------------------------------------------------------------

    def ask_witness(self, node: Node, command: c.AskWitness) -> None:
        rng, clock = self.cluster.rng, self.cluster.clock
        if rng.random() < self.repeated:
            clock.later(rng.uniform(0.1, 10.0), lambda: self._claim(node.name, command.epoch))

        def arrives() -> None:
            answer = self._claim(node.name, command.epoch)
            if answer is None or rng.random() < self.answers_lost:
                self._no_answer(node, command.step_id)
                return
            event = e.WitnessAnswered(
                command.step_id, answer.granted, answer.epoch, answer.owner, answer.refusal
            )
            node.later(rng.uniform(*self.delay_s), lambda: node.happen(event))

        clock.later(rng.uniform(*self.delay_s), arrives)

    def _claim(self, name: str, epoch: int) -> Answer | None:
        if name in self.witness_cut:
            return None
        self.register, answer = claim(self.register, name, epoch)
        if answer.granted:
            self.granted.append((epoch, name))
        return answer

    def _no_answer(self, node: Node, step_id: int) -> None:
        node.later(
            self.no_answer_s, lambda: node.happen(e.StepDone(step_id, False, "no answer in time"))
        )

    # -- E3 --------------------------------------------------------------------------------------

    def fence(self, node: Node, command: c.Fence) -> None:
        rng, clock = self.cluster.rng, self.cluster.clock

        def arrives() -> None:
            if node.name in self.fence_cut:
                self._no_answer(node, command.step_id)
                return
            self._off(self.cluster.other(node), "fenced")
            node.later(
                rng.uniform(0.1, 0.5), lambda: node.happen(e.StepDone(command.step_id, True))
            )

        clock.later(rng.uniform(0.05, 0.5), arrives)

    def _off(self, node: Node, why: str) -> None:
        self.cluster.noted(node, why)
        node.power_off()
        self.cluster.clock.later(self.cluster.rng.uniform(*self.off_s), node.power_on)

    # -- E4 --------------------------------------------------------------------------------------

    def feed(self, node: Node, command: c.FeedWatchdog) -> None:
        self.disarm(node)
        self._dogs[node.name] = self.cluster.clock.later(
            command.timeout_s, lambda: self._off(node, "reset by its watchdog")
        )

    def disarm(self, node: Node) -> None:
        """Also when the power goes: a machine that starts is not guarded yet."""
        dog = self._dogs.pop(node.name, None)
        if dog is not None:
            dog.cancel()

    # -- E5 --------------------------------------------------------------------------------------

    def ping(self, node: Node, command: c.Ping) -> None:
        if node.name in self.router_cut:
            self._no_answer(node, command.step_id)
            return
        node.later(0.01, lambda: node.happen(e.StepDone(command.step_id, True)))
