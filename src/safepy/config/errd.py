"""`<errd>` and `<proc>`: what is watched, and what happens when it is missing (reference:
userconfig 14). `parse_errd` raises ConfigError."""

from __future__ import annotations

import re

from safepy.config import xml
from safepy.config.ere import compile_ere
from safepy.config.names import LABEL_RULE, NAME, NAME_RULE, is_label
from safepy.config.schema import Errd, Proc
from safepy.config.values import Values, Words, at_most

VOCABULARY = {
    "errd": Words(attributes=("polltimer",), children=("proc",)),
    "proc": Words(
        attributes=(
            *("name", "service", "class", "action", "restart_services", "start_after"),
            *("atleast", "atmax", "argregex", "nameregex"),
        ),
        refused_attributes={
            "cpu": "no documentation says what it means, so it is not carried out: take it out"
        },
    ),
}

#: Enabled and disabled by the module itself, around its scripts (14.2).
CLASSES = ("prim", "both", "second", "sec", "pre")
#: Of them, those of a module that has no roles.
LIGHT_CLASSES = ("both", "pre")
#: Carried out without an executable (14.3).
ACTIONS = ("restart", "stopstart", "stop", "noaction")
#: The kernel keeps 15 characters of a command's name (14.1).
MAX_COMMAND_CHARACTERS = 15
MAX_SERVICE_CHARACTERS = 63
#: Each one is looked for in every look.
MAX_PROCS = 256
MAX_PATH_CHARACTERS = 1024
#: They are one argument of a script.
MAX_RESTARTED_CHARACTERS = 4096
_SERVICE = re.compile(r"[A-Za-z0-9:_.@\\-]+")
_SERVICE_RULE = f"are names of systemd units, at most {MAX_SERVICE_CHARACTERS} characters"
#: With a service, systemd is asked about one unit: there is nothing to search or to count.
_OF_PROCESSES = {"nameregex": "", "argregex": "", "atleast": "1", "atmax": "-1"}


def parse_errd(element: xml.Element, file: str, mode: str) -> Errd:
    procs: list[Proc] = []
    at_most(element, "proc", MAX_PROCS, file)
    for child in element.named("proc"):
        proc = _proc(Values(child, file), mode)
        if proc.name in (other.name for other in procs):
            hint = "it names the resource; nameregex gives the same command another name"
            raise Values(child, file).wrong("name", "is each name once", hint)
        procs.append(proc)
    polltimer_s = Values(element, file).time_s("polltimer", "s", 1, 86_400, 30)
    return Errd(polltimer_s, tuple(procs))


def _proc(values: Values, mode: str) -> Proc:
    service = values.choice("service", ("yes", "no"), "no") == "yes"
    nameregex = _regex(values, "nameregex")
    name = _service_name(values) if service else _command_name(values, bool(nameregex))
    checker_class = values.matching("class", NAME, f"{', '.join(CLASSES)}, or {NAME_RULE}")
    if mode == "light" and checker_class in CLASSES and checker_class not in LIGHT_CLASSES:
        allowed = f"are {', '.join(LIGHT_CLASSES)}, or a class of its own, in a light module"
        raise values.wrong("class", allowed, "it is never PRIM or SECOND")
    action = _action(values, checker_class)
    atleast, atmax = _bounds(values)
    return Proc(
        name=name,
        checker_class=checker_class,
        action=action,
        atleast=atleast,
        atmax=atmax,
        argregex=_regex(values, "argregex"),
        nameregex=nameregex,
        service=service,
        start_after=values.integer("start_after", 0, 1_000_000, 0),
        restart_services=_restart_services(values, service, action),
    )


def _command_name(values: Values, only_label: bool) -> str:
    name = values.text("name")
    if only_label:
        if not is_label(name):
            raise values.wrong("name", f"are {LABEL_RULE}")
    elif not name.isprintable() or not name or "/" in name or name != name.strip():
        raise values.wrong("name", "is the name of a command without its folder")
    elif len(name.encode()) > MAX_COMMAND_CHARACTERS:
        allowed = f"are at most {MAX_COMMAND_CHARACTERS} characters"
        raise values.wrong("name", allowed, "the kernel keeps no more of a name; see nameregex")
    return name


def _service_name(values: Values) -> str:
    name = values.text("name")
    if not _is_service(name):
        raise values.wrong("name", _SERVICE_RULE)
    for attribute, harmless in _OF_PROCESSES.items():
        if values.text(attribute, harmless) != harmless:
            hint = 'systemd knows whether the unit runs; leave it out with service="yes"'
            raise values.wrong(attribute, "is nothing for a service", hint)
    return name


def _is_service(name: str) -> bool:
    # A name beginning with "-" would be an option of systemctl.
    good = _SERVICE.fullmatch(name) is not None and not name.startswith("-")
    return good and len(name) <= MAX_SERVICE_CHARACTERS


def _action(values: Values, checker_class: str) -> str:
    action = values.text("action", "stopstart")
    if action in ACTIONS:
        return action
    odd = not action.isprintable() or not action.strip() or ".." in action.split("/")
    if odd or len(action) > MAX_PATH_CHARACTERS:
        known = ", ".join(ACTIONS)
        raise values.wrong("action", f"are {known}, an executable (absolute, or in bin)")
    if checker_class in CLASSES:
        raise values.wrong(
            "action",
            f"are {', '.join(ACTIONS)} in the class {checker_class}",
            "a handler of one's own needs a class of its own, which a script enables "
            '(safekit errd enable "CLASS")',
        )
    return action


def _bounds(values: Values) -> tuple[int, int]:
    """Fewer than the first trigger, and so do as many as the second (0: any)."""
    atleast = values.integer("atleast", -1, 1_000_000, 1)
    atmax = values.integer("atmax", -1, 1_000_000, -1)
    if atmax >= 0 and atleast >= max(atmax, 1):
        wanted = f"atleast is {atleast}, and {max(atmax, 1)} running would already be too many"
        raise values.wrong("atmax", "is -1, or more than atleast", wanted)
    return atleast, atmax


def _restart_services(values: Values, service: bool, action: str) -> tuple[str, ...]:
    text = values.text("restart_services", "")
    if not text:
        return ()
    if not service or action != "restart":
        allowed = 'is only together with service="yes" and action="restart"'
        raise values.wrong("restart_services", allowed)
    names = tuple(part.strip() for part in text.split(","))
    if len(text) > MAX_RESTARTED_CHARACTERS:
        raise values.wrong("restart_services", f"are {MAX_RESTARTED_CHARACTERS} characters")
    if not all(_is_service(name) for name in names):
        raise values.wrong("restart_services", f"{_SERVICE_RULE}, with commas between them")
    return names


def _regex(values: Values, attribute: str) -> str:
    pattern = values.text(attribute, "")
    try:
        compile_ere(pattern)
    except ValueError as exc:
        allowed = "are POSIX extended regular expressions"
        raise values.wrong(attribute, allowed, xml.shown(str(exc))) from exc
    return pattern
