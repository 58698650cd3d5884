"""What of a configuration may change while the module runs (modules 18.3, userconfig 17), and by
what name everything else is refused.

Values are compared, not text: a default that is written out, another order or another comment is no
change. Only `<failover>` is compared by what stands in it, because its rules are mixed with those
that the checks generate, which may change.
"""

from __future__ import annotations

from dataclasses import fields, replace

from safepy.config import xml
from safepy.config.schema import ModuleConfig, Replicated, Rfs

#: Fields of `ModuleConfig` by where they stand in the file: those that may not change.
_FIXED = {
    "mode": "<service mode>",
    "failover": "<service failover>",
    "defaultprim": "<service defaultprim>",
    "vhosts": "<vhost>",
    "vip": "<vip>",
}
_DYNAMIC = frozenset(
    {
        *("heartbeats", "port", "boot", "boot_delay_s", "maxloop", "loop_interval_s"),
        *("automatic_reboot", "user", "errd", "checks"),
        # `<failover>` is compared as text; the digest follows from all the rest.
        *("rules", "failover_period_s", "handle_time_s", "rfs", "digest"),
    }
)
_FIXED_RFS = {
    "acl": "acl",
    "locktimeout_s": "locktimeout",
    "sendtimeout_s": "sendtimeout",
    "reicommit_bytes": "reicommit",
    "reiallowedbw_bytes_s": "reiallowedbw",
    "syncdelta_s": "syncdelta",
    "syncat": "syncat",
    "callbacks": "scripts",
    "checktime_s": "checktime",
    "checkintv_s": "checkintv",
}
_DYNAMIC_RFS = frozenset(
    {"acknowledge_on", "transfers", "reitimeout_s", "reidetail", "flow", "replicated"}
)


def objections(
    before: ModuleConfig, after: ModuleConfig, before_xml: bytes, after_xml: bytes
) -> list[str]:
    """The names of what changed and may not while the module runs; empty: everything may.
    `before_xml`, `after_xml` are the expanded documents. A field that nobody has sorted counts as
    one that may not change."""
    found = []
    for field in fields(ModuleConfig):
        if field.name in _DYNAMIC:
            continue
        if getattr(before, field.name) != getattr(after, field.name):
            found.append(_FIXED.get(field.name, f"<service> ({field.name})"))
    if before.rfs is None or after.rfs is None:
        if before.rfs is not after.rfs:
            found.append("<rfs>")
    else:
        found += _rfs(before.rfs, after.rfs)
    if _failover(before_xml) != _failover(after_xml):
        found.append("<failover>")
    return found


def _rfs(before: Rfs, after: Rfs) -> list[str]:
    found = []
    for field in fields(Rfs):
        if field.name in _DYNAMIC_RFS:
            continue
        if getattr(before, field.name) != getattr(after, field.name):
            found.append(f"<rfs {_FIXED_RFS.get(field.name, field.name)}>")
    old, new = ({entry.dir: entry for entry in rfs.replicated} for rfs in (before, after))
    if list(old) != list(new):
        found.append("<replicated dir>")
        return found
    for directory, entry in new.items():
        found += _replicated(old[directory], entry)
    return found


def _replicated(before: Replicated, after: Replicated) -> list[str]:
    found = []
    for name in ("mode", "tocheck", "notreplicated"):
        if getattr(before, name) != getattr(after, name):
            what = " mode" if name == "mode" else f"><{name}"
            found.append(f'<replicated dir="{after.dir}"{what}>')
    assert replace(before, mode="", tocheck=(), notreplicated=()) == Replicated(before.dir)
    return found


def _failover(document: bytes) -> list[tuple[dict[str, str], str]]:
    """What stands in it, without regard to white space."""
    root = xml.parse(document, "safeconf.xml", "safe")
    return [
        (element.attributes, " ".join(element.text.split()))
        for element in root.walk()
        if element.tag == "failover"
    ]
