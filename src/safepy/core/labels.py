"""What a resource is called by people (reference 12)."""

from __future__ import annotations

_NAMES: dict[str, str] = {
    "state.local": "Local state",
    "state.remote": "Remote state",
    "usersetting.boot": "Module start at boot",
    "usersetting.checker": "Monitoring by checkers",
    "usersetting.errd": "Processes/Services monitoring",
    "usersetting.failover": "Automatic failover",
    "usersetting.encryption": "Encrypted communication",
    "rfs.uptodate": "Uptodate replicated data",
    "rfs.degraded": "Degraded mode for replication",
    "rfs.reintegre_failed": "Last synchronization status",
    "rfs.netin_bandwidth": "Incoming bandwidth",
    "rfs.netout_bandwidth": "Outgoing bandwidth",
    "rfs.rep_bandwidth": "Replication bandwidth",
    "rfs.rei_bandwidth": "Synchronization bandwidth",
    "rfs.rei_syncdir_count_metric": "Number of directories synchronized",
    "rfs.rei_scan_count_metric": "Number of files scanned",
    "rfs.rei_scan_time_metric": "Scan time",
    "rfs.rei_copy_count_metric": "Number of files copied",
    "rfs.rei_copy_size_metric": "Copied size",
    "rfs.rei_copy_time_metric": "Copy time",
    "heart.stopstartloop": "maxloop counter",
    "heart.maxloop": "Stop on maxloop",
    "heart.fault": "Why it was stopped by itself",
}
_CLASSES: dict[str, str] = {
    "heartbeat": "Heartbeat link",
    "heartbeatlocaladdr": "Heartbeat interface",
    "intf": "Interface checker",
    "ip": "IP checker",
    "tcp": "TCP checker",
    "ping": "Ping checker",
    "custom": "Custom checker",
    "module": "Module checker",
    "splitbrain": "Split-brain checker",
    "proc": "Process/service monitoring",
    "connections": "Connections to the virtual address",
    "disk": "Disk checker",
    "delay": "Scheduling delay of the node",
}


def label(name: str) -> str:
    """Of a resource `class.id`; empty if nobody has named it."""
    return _NAMES.get(name) or _CLASSES.get(name.partition(".")[0], "")
