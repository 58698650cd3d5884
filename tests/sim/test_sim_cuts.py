"""Every plan is cut at every step.

A story is played once to learn at which moments a plan goes on to its next step, on either node.
Then it is played again up to each of these moments and cut there: the power of the node fails in
the middle of the step, and in a further run something else happens. What follows is the second act
of all our simulations: promises checked all the time, and a pair that stands again.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator

import covering
import pytest
from cluster import TIMEOUT_S, Cluster
from node import Node
from recovery import recovers
from stories import STORIES, Story, new_cluster

from safepy.core.state import ModuleState

#: Longer than any step: the step is under way, not begun in the same instant.
INTO_THE_STEP_S = 0.0004


def power(cluster: Cluster, node: Node) -> None:
    node.power_off()


def daemon(cluster: Cluster, node: Node) -> None:
    node.kill_daemon(0.5)


def worker(cluster: Cluster, node: Node) -> None:
    node.kill_worker()


def sleep(cluster: Cluster, node: Node) -> None:
    node.freeze()


def power_of_the_other(cluster: Cluster, node: Node) -> None:
    cluster.other(node).power_off()


def stream(cluster: Cluster, node: Node) -> None:
    cluster.cut_stream()


def stop(cluster: Cluster, node: Node) -> None:
    cluster.act(node.name, "stop")


def stopstart(cluster: Cluster, node: Node) -> None:
    cluster.act(node.name, "stopstart")


OTHER_CUTS = (daemon, worker, sleep, power_of_the_other, stream, stop, stopstart)


class Moments:
    """Counts the steps of plans as they become the first one, and cuts at one of them."""

    def __init__(self, cluster: Cluster, at: int | None, cut: Callable[[Cluster, Node], None]):
        self.count = 0
        self.names: list[str] = []
        self.unwatched = cluster.stepped
        self._cluster, self._at, self._cut = cluster, at, cut
        cluster.stepped = self.stepped  # type: ignore[method-assign]

    def stepped(self, node: Node, before: ModuleState, after: ModuleState) -> None:
        self.unwatched(node, before, after)
        if not after.plan or after.plan == before.plan:
            return
        self.names.append(f"{node.name} {after.phase.value}: {after.plan[0]}")
        if self.count == self._at:
            cut = self._cut
            self._cluster.clock.later(INTO_THE_STEP_S, lambda: cut(self._cluster, node))
        self.count += 1


def cut_of(story: Story, moment: int) -> Callable[[Cluster, Node], None]:
    """What else than the power happens at this moment: each kind in turn, the same in each run."""
    return OTHER_CUTS[(zlib.crc32(story.__name__.encode()) + moment) % len(OTHER_CUTS)]


def play(story: Story, at: int | None, cut: Callable[[Cluster, Node], None]) -> Moments:
    cluster = new_cluster(story)
    moments = Moments(cluster, at, cut)
    try:
        story(cluster)
    except AssertionError as error:
        # A story that was cut may not come to its end; a broken promise is something else.
        if at is None or type(error) is not AssertionError:
            raise
    cluster.run(TIMEOUT_S)
    cluster.stepped = moments.unwatched  # type: ignore[method-assign]
    where = "" if at is None else moments.names[at]
    recovers(cluster, False, f"{story.__name__}, {cut.__name__} at {where!r} ({at})")
    return moments


def runs(story: Story) -> Iterator[tuple[int, Callable[[Cluster, Node], None]]]:
    for moment in range(play(story, None, power).count):
        yield moment, power
        yield moment, cut_of(story, moment)


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
def test_each_step_is_cut(story: Story) -> None:
    tried = 0
    for moment, cut in runs(story):
        play(story, moment, cut)
        tried += 1
    assert tried >= 20, f"{tried} cuts are no story"


def test_the_stories_go_through_every_plan() -> None:
    with covering.watched() as covered:
        for story in STORIES:
            play(story, None, power)
    assert covered.missing_plans() == [covering.LIGHT_PLAN]
