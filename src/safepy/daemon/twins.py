"""Notices that two machines speak under the other node's name: a copy of it runs (F57).

Which beats are believed is decided by `core/links.py`, which takes the younger session for a
restart of the same node. After a restart the older one is never heard again; if it goes on, there
are two. This is for the alarm only: nothing is decided by it.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from safepy.model import Beat

#: The last words of a session that has ended arrive sooner than this.
SETTLED_S = 3.0
#: How long the alarm stays after it was found last, and a session counts that is silent.
ALARM_S = 60.0
#: Sessions that are remembered; a recording of old ones, played back, shall cost nothing.
_SESSIONS_MAX = 8


@dataclass(slots=True)
class _Session:
    since_s: float
    heard_s: float
    counter: int


class Twins:
    """What is authentic and under the other node's name is told to `heard`. `session`: of this
    node, by which a recording of earlier days is told from what is said now."""

    def __init__(self, session: str) -> None:
        self._session = session
        self._sessions: OrderedDict[str, _Session] = OrderedDict()
        self._found_s = float("-inf")

    def heard(self, beat: Beat, now_s: float) -> None:
        """`now_s`: seconds of any clock that only goes forward."""
        if beat.echo_session not in ("", self._session):
            return  # To an earlier run of ours, by a node that does not hear us now, or recorded.
        known = self._sessions.get(beat.session)
        if known is None:
            known = self._sessions[beat.session] = _Session(now_s, now_s, beat.counter)
            if len(self._sessions) > _SESSIONS_MAX:
                self._sessions.popitem(last=False)
        elif beat.counter > known.counter:
            known.counter, known.heard_s = beat.counter, now_s
            self._sessions.move_to_end(beat.session)
            if any(self._is_younger(other, known, now_s) for other in self._sessions.values()):
                self._found_s = now_s

    def alarm(self, now_s: float) -> bool:
        """Whether there were two lately."""
        return now_s - self._found_s < ALARM_S

    @staticmethod
    def _is_younger(other: _Session, than: _Session, now_s: float) -> bool:
        return (
            other.since_s > than.since_s
            and now_s - other.since_s >= SETTLED_S
            and now_s - other.heard_s < ALARM_S
        )
