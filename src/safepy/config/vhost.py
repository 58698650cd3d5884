"""`<vhost>`: the host name that the application shall see (reference: userconfig 13).

SafeKit loads a library into the application that answers for `gethostname` and `uname`. Here the
kernel does: whoever sources the environment file goes on in a host name of its own (a UTS
namespace), and so does everything it starts, statically linked programs included. What somebody
else starts on its behalf (a systemd service) does not, as with the library.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from safepy.config import xml
from safepy.config.schema import VirtualHost
from safepy.config.values import Values, Words, at_most

VOCABULARY = {
    "vhost": Words(children=("virtualhostname",)),
    "virtualhostname": Words(attributes=("name", "envfile", "when")),
}
MAX_FILES = 64
WHENS = ("prim", "second", "both")
#: States by the role in which the name is shown; the scripts are told states.
_STATES = {"prim": "PRIM|ALONE", "second": "SECOND", "both": "PRIM|ALONE|SECOND|UP"}

_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,62}[A-Za-z0-9])?")
_FILE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")
#: Names of scripts that are called, or generated: none of them is an environment file.
_TAKEN = re.compile(r"(start|stop)_\w+|prestart|poststop|transition|update|\w*config|_rfs_callback")


def parse_vhost(element: xml.Element, file: str, mode: str) -> tuple[VirtualHost, ...]:
    """Raises ConfigError."""
    at_most(element, "virtualhostname", MAX_FILES, file)
    found: list[VirtualHost] = []
    for child in element.named("virtualhostname"):
        values = Values(child, file)
        name = values.matching("name", _HOST, "host names of at most 64 characters")
        envfile = values.matching(
            "envfile", _FILE, "names of a file in the module's bin: letters, digits and '_.-'"
        )
        if _TAKEN.fullmatch(envfile):
            raise values.wrong("envfile", "is no name of a script")
        if envfile in (other.envfile for other in found):
            raise values.wrong("envfile", "is each file once")
        when = values.choice("when", WHENS, "prim")
        if mode == "light" and when != "both":
            hint = "a light module is never PRIM or SECOND, so no script would see the name"
            raise values.wrong("when", "is both in a light module", hint)
        found.append(VirtualHost(name, envfile, when))
    if not found:
        text = "<vhost>: <virtualhostname> is missing, allowed is one for each environment file"
        raise xml.error(file, element.line, text)
    return tuple(found)


def environment_file(host: VirtualHost) -> bytes:
    """To be sourced at the top of a script (`. "$SAFEUSERBIN/FILE"`), which is then run again with
    the name. A script's role is that of its name, or else of the states in its arguments; who
    has neither gets the name."""
    assert PurePosixPath(host.envfile).name == host.envfile
    return f"""# Made by safekit config from <virtualhostname>; do not edit.
# Source it first: the script goes on in a host name of its own, with all that it starts.
safekit_vhost_here() {{
    case "{host.when}:${{0##*/}}" in
    both:*|prim:*_prim|second:*_second|second:*_sec) return 0 ;;
    *:*_prim|*:*_second|*:*_sec) return 1 ;;
    esac
    [ $# = 0 ] && return 0
    for word; do
        case "$word" in {_STATES[host.when]}) return 0 ;; esac
    done
    return 1
}}
if [ "$SAFEKIT_VHOST" != {host.name} ] && safekit_vhost_here "$@"; then
    SAFEKIT_VHOST={host.name} HOSTNAME={host.name}
    export SAFEKIT_VHOST HOSTNAME
    case "$0" in
    */*) exec unshare --uts sh -c 'hostname "$SAFEKIT_VHOST" && exec "$0" "$@"' "$0" "$@" ;;
    esac
fi
""".encode()
