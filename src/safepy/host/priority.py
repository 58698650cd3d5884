"""The processor's time for this process, before that of everything it starts."""

from __future__ import annotations

import logging
import os

#: As a nice value; the strongest is -20.
PREFERRED_NICE = -10

log = logging.getLogger(__name__)


def prefer_this_process() -> None:
    """Heartbeats and the health probe come before synchronisations and applications.

    What is started from here, threads too, begins with the ordinary priority again
    (SCHED_RESET_ON_FORK): the application must not inherit it. Where the kernel does not allow
    it (no CAP_SYS_NICE in a container), this process goes on as it is.
    """
    try:
        policy = os.SCHED_OTHER | os.SCHED_RESET_ON_FORK
        os.sched_setscheduler(0, policy, os.sched_param(0))
        os.setpriority(os.PRIO_PROCESS, 0, PREFERRED_NICE)
    except PermissionError as error:
        log.warning("safeadmin gets no higher priority: %s", error.strerror)
