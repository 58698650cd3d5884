"""The worker process: composes mount, data plane and streams on one loop, obeys the daemon.

It decides nothing: it carries out orders of `messages.py` and reports. An order of a lower
epoch than one already seen is ignored (protocol 4.0). When the daemon is gone, it is gone.
"""

from __future__ import annotations

import os
import resource
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from typing import assert_never

import msgspec

from safepy.errors import LocalFault, SafekitError
from safepy.host.clock import until_next
from safepy.host.loop import Loop
from safepy.host.memory import keep_large_buffers
from safepy.net.dialing import Incoming, Listener
from safepy.net.traffic import TRAFFIC
from safepy.wire.secure import VERSION, Hello, Refused, Welcome
from safepy.worker import messages
from safepy.worker.common import Context
from safepy.worker.control import Control
from safepy.worker.following import Following
from safepy.worker.knowledge import Knowledge
from safepy.worker.messages import Order
from safepy.worker.serving import Serving

CONTROL_FD = 3
ALIVE_INTERVAL_S = 1.0
#: Threads of a resynchronisation must not keep the loop from its turn for long.
SWITCH_INTERVAL_S = 0.0005


class Worker:
    """One module's data path. Roles: idle, serving, following; never two at once."""

    def __init__(self, loop: Loop, sock: socket.socket) -> None:
        self._loop = loop
        self._control = Control(loop, sock, self._order, self._daemon_gone)
        self._context: Context | None = None
        self._listener: Listener | None = None
        self._serving: Serving | None = None
        self._following: Following | None = None
        self._epoch = 0

    # -- orders ----------------------------------------

    def _order(self, order: Order) -> None:
        if isinstance(order, messages.Setup):
            try:
                self._set_up(order)
            except (OSError, SafekitError) as error:
                self._done(order.step_id, False, str(error))
            return
        if isinstance(order, messages.Exit):
            self._exit(order)
            return
        if isinstance(order, messages.Tune):
            self._tune(order)
            return
        if order.epoch < self._epoch:
            return
        self._epoch = order.epoch
        serving, following = self._serving, self._following
        match order:
            case messages.Serve():
                self._try(order.step_id, lambda: self._serve(order))
            case messages.OpenGate():
                if serving is not None:
                    serving.open_gate(order)
            case messages.CloseGate():
                if serving is not None:
                    serving.close_gate()
            case messages.Quiesce():
                if serving is not None:
                    serving.quiesce(self._answer(order.step_id))
                else:
                    self._done(order.step_id, True, "")
            case messages.Demote():
                self._try(order.step_id, self._demote)
            case messages.ReleaseHeld():
                if serving is not None:
                    serving.release(order)
            case messages.AllowFollower():
                if serving is not None:
                    serving.follower.allow(order)
            case messages.Join():
                if serving is not None:
                    serving.follower.join(order)
            case messages.Follow():
                self._try(order.step_id, lambda: self._follow(order))
            case messages.Adopted():
                if following is not None:
                    following.adopted(order)
            case messages.StopFollowing():
                self._stop_following(order)
            case messages.ModifiedRecorded():
                if serving is not None:
                    serving.modified_recorded()
            case messages.CheckpointBegun():
                if serving is not None:
                    serving.checkpoint_begun(order)
            case messages.CheckpointRecorded():
                if serving is not None:
                    serving.checkpoint_recorded(order)
                elif following is not None:
                    following.checkpoint_recorded(order)
            case messages.Verify():
                if (role := serving or following) is not None:
                    role.verify(order)
                else:
                    problem = "this node is neither primary nor secondary"
                    done = messages.VerifyDone(order.epoch, order.number, 0, 0, problem)
                    self._control.report(done)
            case messages.StopVerify():
                if (role := serving or following) is not None:
                    role.stop_verify()
            case messages.Estimate():
                if serving is not None:
                    serving.estimate(order)
                else:
                    answer = ("", "", 0, 0, 0, "this node does not serve")
                    self._control.report(messages.Estimated(order.epoch, order.number, *answer))
            case _:
                assert_never(order)

    def _set_up(self, setup: messages.Setup) -> None:
        door_fds = [
            os.open(door, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC) for door in setup.doors
        ]
        knowledge = Knowledge(self._loop, setup, door_fds, self._log)
        self._context = Context(self._loop, setup, door_fds, self._control.report, knowledge)
        self._listen(setup)
        self._loop.call_later(until_next(ALIVE_INTERVAL_S, self._loop.now_s), self._alive)
        knowledge.start(lambda problem: self._done(setup.step_id, not problem, problem))

    def _tune(self, order: messages.Tune) -> None:
        """The replication may move to another network: the old port is given up for the new one,
        and taken again should that not be there."""
        assert self._context is not None, "Tune before Setup"
        before = self._context.setup
        changes = {name: getattr(order, name) for name in order.__struct_fields__}
        setup = msgspec.structs.replace(before, **changes)
        if (setup.listen, setup.dial) != (before.listen, before.dial):
            try:
                self._listen(setup)
            except LocalFault as fault:
                self._log("C", f"The replication stays where it was: {fault}")
                setup = msgspec.structs.replace(setup, listen=before.listen, dial=before.dial)
                self._listen(setup)
        self._context.setup = setup

    def _listen(self, setup: messages.Setup) -> None:
        """The peer's worker may connect there, and nowhere else. Raises LocalFault."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        address, port = setup.listen
        try:
            self._listener = Listener(
                self._loop,
                address,
                port,
                bytes.fromhex(setup.key),
                on_accept=self._offered,
                on_refused=lambda text: self._log("I", text),
                allowed=(setup.dial[0],),
            )
        except OSError as error:
            raise LocalFault(
                f"TCP port {port} of {address} cannot be used: {error.strerror}"
            ) from error

    def _serve(self, order: messages.Serve) -> None:
        if self._serving is not None:
            return  # already true
        assert self._context is not None
        assert self._following is None, "Serve while following"
        serving = Serving(self._context, order.epoch)
        try:
            serving.mount()
        except (OSError, SafekitError):
            serving.close()
            raise
        self._serving = serving

    def _demote(self) -> None:
        if self._serving is not None:
            serving, self._serving = self._serving, None
            serving.close()

    def _follow(self, order: messages.Follow) -> None:
        assert self._context is not None
        assert self._serving is None, "Follow while serving"
        if self._following is not None:
            self._following.close()
        self._following = Following(self._context, order)

    def _stop_following(self, order: messages.StopFollowing) -> None:
        if self._following is None:
            self._done(order.step_id, True, "")
            return
        following, self._following = self._following, None
        following.stop(self._answer(order.step_id))

    def _exit(self, order: messages.Exit) -> None:
        self._close()

        def sealed() -> None:
            self._done(order.step_id, True, "")
            self._loop.stop()

        if self._context is None:
            sealed()
        else:
            self._context.knowledge.seal(sealed)

    # -- streams that come in ----------------------------------------

    def _offered(self, hello: Hello, incoming: Incoming) -> None:
        """An authenticated connection of the peer's worker: take it or say why not."""
        assert self._context is not None
        setup = self._context.setup
        serving = self._serving
        if hello.module != setup.module or hello.node != setup.peer:
            self._refuse(incoming, hello, f"this is {setup.module}, the peer is {setup.peer}")
        elif serving is None:
            self._refuse(incoming, hello, "this node does not serve")
        elif hello.purpose == "live" and (objection := serving.follower.objection(hello.epoch)):
            self._refuse(incoming, hello, objection)
            if hello.epoch > serving.epoch:
                self._control.report(messages.GateStale(hello.epoch))
        elif hello.purpose == "resume" and (
            objection := serving.follower.resumption_objection(hello.epoch, hello.stream_id)
        ):
            self._refuse(incoming, hello, objection)
        elif hello.purpose not in ("live", "resume", "transfer"):
            self._refuse(incoming, hello, f"unknown purpose {hello.purpose!r}")
        else:
            stream = incoming.welcome(
                Welcome(VERSION, setup.node, setup.module, serving.epoch, hello.purpose)
            )
            if stream is not None and hello.purpose == "live":
                serving.follower.take(stream)
            elif stream is not None and hello.purpose == "resume":
                serving.follower.resume(stream)
            elif stream is not None:
                serving.follower.transfer_offered(
                    stream.detach(setup.reitimeout_s), hello.stream_id
                )

    def _refuse(self, incoming: Incoming, hello: Hello, detail: str) -> None:
        assert self._context is not None
        setup = self._context.setup
        epoch = 0 if self._serving is None else self._serving.epoch
        incoming.refuse(
            Refused(VERSION, setup.node, setup.module, epoch, hello.purpose, detail=detail)
        )

    # -- reports ----------------------------------------

    def _alive(self) -> None:
        alive = messages.Alive(False, 0, 0, 0)
        if self._serving is not None:
            alive = self._serving.alive()
        elif self._following is not None:
            alive = self._following.alive()
        context, finished = self._context, None
        if context is not None:
            finished, context.finished = context.finished, None
        self._control.report(
            msgspec.structs.replace(
                alive,
                net_in_bytes=TRAFFIC.received_bytes,
                net_out_bytes=TRAFFIC.sent_bytes,
                finished=Context.progress_fields(finished),
            )
        )
        self._loop.call_later(until_next(ALIVE_INTERVAL_S, self._loop.now_s), self._alive)

    def _done(self, step_id: int, ok: bool, detail: str) -> None:
        self._control.report(messages.Done(step_id, ok, detail))

    def _answer(self, step_id: int) -> Callable[[bool, str], None]:
        return lambda ok, detail: self._done(step_id, ok, detail)

    def _log(self, level: str, text: str) -> None:
        self._control.report(messages.Log("nfsbox", level, text))

    def _try(self, step_id: int, work: Callable[[], None]) -> None:
        """Carry out a step; what the machine refuses is a sentence for the daemon, not a crash."""
        try:
            work()
        except (OSError, SafekitError) as error:
            self._done(step_id, False, str(error))
        else:
            self._done(step_id, True, "")

    # -- the end ----------------------------------------

    def _close(self) -> None:
        self._demote()
        if self._following is not None:
            self._following.close()
            self._following = None
        if self._listener is not None:
            self._listener.close()

    def _daemon_gone(self) -> None:
        """Without a daemon nothing may be answered: die now, the dead mount protects the files."""
        os._exit(1)


def main() -> None:
    """Run until the daemon says so, or is gone."""
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    # A terminal's or systemd's signal is for the daemon, which then gives the order.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    keep_large_buffers()
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    loop = Loop()
    Worker(loop, socket.socket(fileno=CONTROL_FD))
    try:
        loop.run()
    except Exception:  # noqa: BLE001 - it ends the process
        # A bug: no answer may leave this process any more. The daemon reads this on stderr.
        traceback.print_exc()
        os._exit(70)
    os._exit(0)
