"""One step in the making: the new state, the commands so far, and the verbs all parts share."""

from __future__ import annotations

from dataclasses import replace

from safepy.model import Disk, Level, PeerView, Record, State, Status

from . import election, links, permission, records
from .arbitration import sentence
from .commands import Announce, Command, SaveRecord
from .plans import Plan
from .state import FROZEN, ModuleState, Phase
from .transitions import TABLE, Cause

#: So many decisions are remembered; lines of the log that are no decisions are not among them.
STORY_LENGTH = 16
SHOWN_ANYHOW = ("Local state", "Remote state", "Resource ")
#: `syncdelta` of a minute or less is no consent (reference 6.7).
SYNCDELTA_S_MIN = 60.0


class Turn:
    """The only place where a state is assigned to, and only to its own copy."""

    __slots__ = ("_lost", "now", "out", "s")

    def __init__(self, state: ModuleState, now: float) -> None:
        self.s = state.copied()
        self.s.now = now
        self.now = now
        self.out: list[Command] = []
        self._lost: tuple[links.Links | None, float, float] = (None, 0.0, 0.0)

    # Commands.

    def do(self, command: Command) -> None:
        self.out.append(command)

    def announce(self, level: Level, text: str, origin: str = "heart") -> None:
        self.out.append(Announce(level, text, origin))
        if not text.startswith(SHOWN_ANYHOW):
            self.remember(text)

    def remember(self, text: str) -> None:
        """For `safekit why`: what was decided, and by which evidence."""
        if not self.s.story or self.s.story[-1][1] != text:
            self.s.story = (*self.s.story[1 - STORY_LENGTH :], (self.now, text))

    def permitted(self, evidence: str) -> None:
        """This node may serve alone, by this evidence (protocol 7), which log and state name."""
        self.s.evidence = evidence
        self.announce(Level.INFO, f"Permission to serve alone ({evidence}): {sentence(evidence)}")

    @property
    def wall(self) -> float:
        """Unix seconds; for people, and for `syncdelta` (I17)."""
        return self.now + self.s.params.wall_offset_s

    @property
    def recent(self) -> bool:
        """`syncdelta`: this node's data are whole and young enough to lead with, by consent given
        beforehand (reference 6.7). The one decision that looks at the wall clock (I17): what it
        permits is a forced generation, and a clock that went back behind the last synchronisation
        permits nothing."""
        s = self.s
        whole = s.wanted.disk in (Disk.UPTODATE, Disk.OUTDATED) and s.wanted.synced_at > 0
        if s.params.syncdelta_s <= SYNCDELTA_S_MIN or not whole:
            return False
        return 0 <= self.wall - s.wanted.synced_at < s.params.syncdelta_s

    def new_id(self) -> int:
        number = self.s.next_id
        self.s.next_id = number + 1
        return number

    # The record.

    def want(self, record: Record) -> int:
        """The record shall become this. Returns the version to wait for."""
        if record.epoch < self.s.wanted.epoch or record.promised < self.s.wanted.promised:
            raise AssertionError("an epoch never goes back")
        if record != self.s.wanted or self.s.wanted_version == self.s.durable_version:
            self.s.wanted = record
            self.s.wanted_version += 1
        return self.s.wanted_version

    def durable(self, version: int) -> bool:
        return self.s.durable_version >= version

    def save_what_is_wanted(self) -> bool:
        """One save at a time: two could reach the disk in the wrong order."""
        s = self.s
        if s.saving is not None or s.wanted_version <= s.durable_version or s.record_broken:
            return False
        s.saving = s.wanted
        s.saving_version = s.wanted_version
        s.save_step = self.new_id()
        self.do(SaveRecord(s.save_step, s.wanted))
        return True

    def saved(self) -> None:
        s = self.s
        assert s.saving is not None
        s.record = s.saving
        s.durable_version = s.saving_version
        s.saving = None
        s.save_step = 0

    # The visible state.

    def enter(self, target: State, phase: Phase, cause: Cause) -> None:
        """Change the visible state by a row of the table."""
        row = TABLE[(self.s.state, target, cause)]
        self.s.state = target
        self.s.phase = phase
        self.s.reason = row.reason
        self.s.since = self.now
        self.remember(f"{row.source} -> {target}: {row.reason}")
        self.clear_block()

    def block(self, waiting_for: str, remedy: str) -> None:
        self.s.blocked = waiting_for
        self.s.remedy = remedy

    def clear_block(self) -> None:
        self.s.blocked = ""
        self.s.remedy = ""
        self.s.told_wait = ""
        self.s.held_by = ""

    # The plan.

    def begin(self, plan: Plan) -> None:
        """A new plan takes the place of what is left of the old one; a step that still runs is
        forgotten: its `StepDone` will be ignored. A script that still runs gets the time of a
        stop from now on; the next one then ends it."""
        if self.s.script and self.s.running == self.s.script:
            self.s.script_until = self.now + self.s.params.nicestop_s
        self.s.plan = plan
        self.s.running = 0
        self.s.plan_version = 0
        self.s.plan_until = None

    def append(self, plan: Plan) -> None:
        if self.s.plan:
            self.s.plan += plan
        else:
            self.begin(plan)

    # What is known of the peer.

    @property
    def view(self) -> PeerView | None:
        """What is believed of the peer, None once it is lost."""
        return None if self.peer_lost else self.s.peer

    @property
    def heard_at(self) -> float:
        """The peer answered what we sent at this moment, or later."""
        return links.heard_at(self.s.links)

    @property
    def heard_lately(self) -> bool:
        """What is believed of the peer is fresh enough to give up the own data for it."""
        return self.now <= self.heard_at + 4 * self.s.params.pulse_s

    @property
    def lost_at(self) -> float:
        """Asked for many times in a step; what it follows from seldom changes meanwhile."""
        from_links, from_replica, lost_at = self._lost
        if from_links is not self.s.links or from_replica != self.s.replica_heard_at:
            lost_at = links.lost_at(self.s.links, self.s.replica_heard_at)
            self._lost = (self.s.links, self.s.replica_heard_at, lost_at)
        return lost_at

    @property
    def peer_lost(self) -> bool:
        return self.now >= self.lost_at

    @property
    def listened(self) -> bool:
        """Long enough to have heard a peer that is there: four pulses (F6)."""
        return self.now >= self.listened_at

    @property
    def listened_at(self) -> float:
        return self.s.links.observing_since + 4 * self.s.params.pulse_s

    # Leading.

    @property
    def frozen(self) -> bool:
        return self.s.link in FROZEN

    @property
    def unclaimed(self) -> Record:
        """The record without the claim of a frozen node; it may never have been written (F47)."""
        s = self.s
        return records.unclaim(s.wanted) if s.wanted.epoch >= s.claim_epoch else s.wanted

    @property
    def epoch(self) -> int:
        """The epoch in which the worker is addressed: the one that is durable."""
        return self.s.record.epoch

    def situation(self, wish: str) -> election.Situation:
        """What the election looks at."""
        s = self.s
        return election.Situation(
            record=s.wanted,
            lost_volatile=s.lost_volatile,
            # What it said before this node was asleep is no word of today.
            peer=self.view if self.heard_at >= s.links.observing_since else None,
            absent=self.peer_lost,
            listened=self.listened,
            wish=wish,
            has_data=s.params.has_rfs,
            defaultprim=s.params.defaultprim,
            config_digest=s.params.config_digest,
            uncertain=links.stranger_at_the_door(s.links, self.now, s.params.pulse_s),
            witness=permission.may_ask_in_wait(s),
            granted=permission.granted_in_wait(s),
            refusal=permission.refusal(s),
            fresh=self.heard_at >= s.served_until,
            recent=self.recent,
            light=s.params.light,
            held=gives_way(s),
            held_known=s.told_held == gives_way(s) and self.heard_at >= s.held_at,
            failover=s.failover,
        )

    def see_epochs(self, view: PeerView) -> None:
        seen = max(view.record.epoch, view.record.promised)
        if seen > self.s.wanted.promised:
            # Saved with the next change; a crash before it forgets nothing but the number of an
            # epoch that somebody else holds durably.
            self.s.wanted = records.see(self.s.wanted, seen)


def status_of(state: ModuleState) -> Status:
    """How settled the visible state is (reference 4.3)."""
    match state.state:
        case State.STOP:
            return Status.NOT_READY
        case State.WAIT:
            return Status.NOT_READY if state.blocked else Status.TRANSIENT
        case State.ALONE | State.PRIM | State.SECOND | State.UP:
            return Status.READY if state.app_ready else Status.TRANSIENT


def view_of(state: ModuleState) -> PeerView:
    """What the other node is told. The record is the durable one, except for `promised`: an
    epoch that was seen binds this run at once."""
    record = state.record
    if state.wanted.promised > record.promised:
        record = replace(record, promised=state.wanted.promised)
    return PeerView(
        node=state.params.node,
        state=state.state,
        status=status_of(state),
        record=record,
        serving=state.serving and state.link not in FROZEN,
        lost_volatile=state.lost_volatile,
        ready_to_follow=ready_to_follow(state),
        request=state.request,
        request_id=state.request_id,
        config_digest=state.params.config_digest,
        degraded=state.degraded,
        copy_since=state.copy_since,
        maintenance_until=maintenance_until_unix_s(state),
        held=held(state),
        failover=state.failover,
    )


def held(state: ModuleState) -> str:
    """Whether a failover rule keeps the module in WAIT (its label), or may (`init`)."""
    if state.phase is not Phase.DECIDING:
        return ""
    return state.held_by or (election.UNTESTED if state.untested else "")


def gives_way(state: ModuleState) -> str:
    """The same, where the other node is to serve instead; with failover off it is not."""
    return held(state) if state.failover else ""


def maintenance_until_unix_s(state: ModuleState) -> float:
    """For people; 0: not in maintenance."""
    if state.maintenance is None:
        return 0.0
    return round(state.maintenance.until + state.params.wall_offset_s)


def ready_to_follow(state: ModuleState) -> bool:
    """This node would follow a primary now. Never while a change of its own quality is on its
    way to the disk: the other node may rely on what it is told (E1)."""
    if state.saving is not None and state.saving.disk is not state.record.disk:
        return False
    if state.wanted.disk is not state.record.disk and state.phase is Phase.DECIDING:
        return False
    if state.phase is Phase.FOLLOWING:
        return not state.synced and not state.handing_over
    return state.phase is Phase.DECIDING and not state.plan


def uptodate(state: ModuleState) -> str:
    """Value of the resource rfs.uptodate."""
    return "up" if state.wanted.disk is Disk.UPTODATE else "down"
