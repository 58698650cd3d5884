"""The one way by which a resource of a module gets a value that the core did not give it: checkers,
errd, `safekit set`. Stored, logged if it changed, and told to the core, whose rules go by it."""

from __future__ import annotations

import time
from collections.abc import Callable

from safepy.core.events import Event, ResourceChanged
from safepy.daemon.logs import Sparing, Voice
from safepy.errors import RequestRefused
from safepy.model import Level
from safepy.storage.resources import Resources

#: Of these classes "down" is an event, of all others a detected error (reference 15.4, 15.5).
EVENTS_WHEN_DOWN = ("heartbeat", "heartbeatlocaladdr", "proc", "rfs")

#: What is wrong when it is "up".
ALARMS = ("rfs.degraded",)

#: Of these classes safepy says itself what is so. By some of them the next run of the daemon goes:
#: a value that somebody else wrote there would be a lie, or an order that nobody carried out.
OWN_CLASSES = frozenset(
    (
        *("state", "heart", "heartbeat", "heartbeatlocaladdr", "rfs"),
        *("usersetting", "maintenance", "rule"),
    )
)
#: But for this one, by which an administrator speaks (reference: userconfig 19.11).
SYNC_DUE = "rfs.syncat"


def refuse_own(name: str) -> None:
    """Raises RequestRefused for a resource that only safepy sets."""
    kind = name.partition(".")[0]
    if kind not in OWN_CLASSES or name == SYNC_DUE:
        return
    hint = "resources of the classes custom, tcp and so on can be set"
    if kind == "usersetting":
        hint = f"safekit {name.partition('.')[2]} on|off"
    raise RequestRefused(f"{name} is set by safepy itself", hint)


def level_of(name: str, value: str) -> Level | None:
    """The level of the line that says so; None: no line. `init` is no news: nobody looks."""
    if value == "init":
        return None
    if value != "down":
        return Level.CRITICAL if name in ALARMS and value == "up" else Level.INFO
    return Level.EVENT if name.partition(".")[0] in EVENTS_WHEN_DOWN else Level.CRITICAL


def sentence(name: str, value: str, who: str) -> str:
    """The words of the reference (15.4)."""
    return f"Resource {name} set to {value} by {who}"


class Reporter:
    """For one module. Not for other threads."""

    def __init__(self, resources: Resources, voice: Voice, post: Callable[[Event], None]) -> None:
        self._resources = resources
        self._voice = voice
        self._post = post
        self._sparing = Sparing()

    def report(self, resource: str, value: str, who: str, log: bool | None = None) -> None:
        """`resource` has this value now, `who` found out. Repeating it is cheap: a date.

        `log` as in `Resources.set`: True forces, False suppresses the entry in the history.
        """
        self.assign(resource, value, who, log)()

    def assign(
        self, resource: str, value: str, who: str, log: bool | None = None
    ) -> Callable[[], None]:
        """As `report`, but the line is said when the result is called."""
        if not self._resources.set(resource, value, who, log):
            return _no_news
        self._post(ResourceChanged(resource, value, who))
        return lambda: self._say(resource, value, who)

    def _say(self, resource: str, value: str, who: str) -> None:
        level = level_of(resource, value)
        if level is not None:
            text = self._sparing.say(resource, sentence(resource, value, who), time.monotonic())
            if text is not None:
                self._voice.say(who, level, text)


def _no_news() -> None:
    pass
