"""The manager's verbs about the replicated data: `rfsverify` and `rfsdiff`."""

from __future__ import annotations

from functools import partial
from typing import Any

import msgspec

from safepy.core import syncmode
from safepy.core.events import ActionRequested
from safepy.daemon.inspection import Verification
from safepy.daemon.module import Module
from safepy.daemon.node import Node
from safepy.daemon.worker_link import WorkerLink
from safepy.errors import LocalFault, RequestRefused
from safepy.model import Level, State, Status, SyncMode

JsonObject = dict[str, Any]

#: One answer carries so many differences at most.
_DIFFERENCES_AN_ANSWER = 500

_UNHEARD = "what changed here is known; the other node, which is not heard, may ask for more"


class Inspecting:
    """Mixed into the manager; see there."""

    _node: Node

    async def verify(self, module: str, mend: str, who: str) -> int:
        """`safekit rfsverify`: compare both copies while they are in use. Returns the number of
        the run for `verify_result`. `mend` is "", "prim" or "second"."""
        found = self._node.get(module)
        worker = _worker(found)
        state, status = found.look().state, found.look().status
        if state not in (State.PRIM, State.SECOND) or status is not Status.READY:
            raise RequestRefused(
                f"rfsverify is not possible: module {module} is {state} {status}, and only PRIM "
                "and SECOND Ready have two copies to compare",
                f"safekit state -m {module}",
            )
        run = worker.inspection.verify(found.record.epoch, mend)
        worker.inspection.on_over = partial(_verified, found)
        text = f"Verification of the replicated directories called by {who}"
        if mend:
            text += f", what differs becomes as on {mend}"
        found.voice.say("reintegre", Level.EVENT, text)
        return run.number

    async def verify_result(
        self, module: str, number: int, seen: int, timeout_s: float
    ) -> JsonObject:
        """How far it is, with the differences after the first `seen` ones; waits for news. As
        `admin.values.VerifyState`."""
        found = self._node.get(module)
        run = await _worker(found).inspection.result(number, seen, timeout_s)
        rfs = found.plan.config.rfs
        assert rfs is not None, "it has a worker"
        news = run.differences[seen : seen + _DIFFERENCES_AN_ANSWER]
        return {
            "files": run.files,
            "bytes": run.bytes,
            "found": run.found,
            "mended": run.mended,
            # Not over for who has not read them all.
            "over": run.over and seen + len(news) >= len(run.differences),
            "problem": run.problem,
            "differences": [
                {
                    "path": f"{rfs.replicated[each.tree].dir}/{each.path}",
                    "kind": each.kind,
                    "mended": each.mended,
                }
                for each in news
                if 0 <= each.tree < len(rfs.replicated)
            ],
            "read": seen + len(news),
        }

    async def verify_stop(self, module: str, number: int) -> None:
        """End a run before its time."""
        _worker(self._node.get(module)).inspection.stop(number)

    async def estimate(self, module: str) -> JsonObject:
        """`safekit rfsdiff`: what a resynchronisation would do that began now. As
        `admin.values.SyncEstimate`."""
        found = self._node.get(module)
        worker = _worker(found)
        state = found.look().state
        if state is not State.ALONE:
            raise RequestRefused(
                f"rfsdiff is not possible: module {module} is {state}, and only a node that is "
                "ALONE knows what it would transfer",
                f"safekit state -m {module}",
            )
        least, reason, since = _least(found)
        answer = await worker.inspection.estimate(found.record.epoch, least, reason, since)
        if answer.problem:
            raise LocalFault(answer.problem)
        told: JsonObject = msgspec.to_builtins(answer)
        estimate = {key: told[key] for key in ("mode", "reason", "names", "files", "bytes")}
        return {**estimate, "rate_bytes_s": found.figures.last_rate_bytes_s()}


def _least(module: Module) -> tuple[SyncMode, str, float]:
    """The least that a resynchronisation must look at, as far as the records tell: the one of the
    other node only while it is heard. (mode, why, the date of `secondforce -d` there or 0)."""
    peer = module.state.peer
    if peer is None or module.look().peer_state != peer.state.value:  # lost
        return SyncMode.ZONES, _UNHEARD, 0.0
    choice = syncmode.choose(module.record, peer)
    return choice.mode, f"{choice.reason} ({choice.row})", choice.since


def _verified(module: Module, run: Verification) -> None:
    """The good copy must lead to be copied from: the workers know what is to be compared then."""
    if run.mend == "second" and run.found and not run.problem:
        module.post(ActionRequested("swap", "rfsverify"))


def _worker(module: Module) -> WorkerLink:
    if module.worker is None:
        raise RequestRefused(
            f"module {module.name} replicates no directory", "userconfig.xml has no <rfs>"
        )
    return module.worker
