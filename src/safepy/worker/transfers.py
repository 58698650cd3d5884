"""The target's end of the transfer connections of a resynchronisation."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from safepy.core.replica.suspects import Suspects
from safepy.dataplane.resync.aside import Aside
from safepy.dataplane.resync.intake import Receiver
from safepy.dataplane.resync.moves import Moves
from safepy.dataplane.resync.target import Target
from safepy.errors import SafekitError
from safepy.net.blocking import BlockingStream, connect_blocking
from safepy.wire.secure import Hello
from safepy.worker.common import Context, scope_of


class Transfers:
    """The target's transfer threads: one connection each, ended together."""

    def __init__(
        self,
        context: Context,
        hello: Hello,
        count: int,
        aside: Aside | None,
        on_failed: Callable[[SafekitError | OSError], None],
        suspects: Sequence[Suspects] = (),
    ) -> None:
        self._context = context
        self._hello = hello
        self._on_failed = on_failed
        self._aside = aside
        setup = context.setup
        scope = scope_of(setup)
        self._receiver = Receiver(
            context.door_fds,
            setup.acl,
            aside,
            suspects,
            scope,
            setup.reicommit_bytes,
            Moves(context.door_fds, aside, scope),
            context.knowledge.memories.attempt(),
        )
        self._closed = self._told = False
        self._streams: list[BlockingStream] = []
        self._lock = threading.Lock()
        for number in range(count):
            threading.Thread(target=self._run, name=f"transfer-{number}", daemon=True).start()

    def close(self) -> None:
        """Cut what still runs, and say what was kept aside."""
        with self._lock:
            self._closed = True
            for stream in self._streams:
                stream.shutdown()
        aside = self._aside
        if aside is not None and aside.files:
            self._context.log(
                "reintegre",
                "E",
                f"{aside.files} files ({aside.bytes // 1024} KB) that the synchronisation "
                f"replaced or removed are kept in {aside.folder}",
            )

    def _run(self) -> None:
        setup = self._context.setup
        try:
            address, port = setup.dial
            stream, _ = connect_blocking(
                address,
                port,
                bytes.fromhex(setup.key),
                self._hello,
                setup.reitimeout_s,
                local_address=setup.listen[0],
            )
            with self._lock:
                if self._closed:
                    stream.close()
                    return
                self._streams.append(stream)
            try:
                Target(self._context.door_fds, stream, receiver=self._receiver).serve()
            finally:
                stream.shutdown()
        except (SafekitError, OSError) as error:
            cause = error
            self._context.loop.post(lambda: self._failed(cause))

    def _failed(self, error: SafekitError | OSError) -> None:
        """The first failure counts; the others follow from it."""
        if not self._closed and not self._told:
            self._told = True
            self._on_failed(error)
