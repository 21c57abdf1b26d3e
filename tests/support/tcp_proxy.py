"""A TCP proxy that passes bytes on until it is told to hold them back or to cut every connection."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class Proxy:
    """Listens on `port` for connections to `upstream`, a port of this machine."""

    def __init__(self, upstream: int) -> None:
        self.upstream = upstream
        self._flowing = threading.Event()
        self._flowing.set()
        self._open: list[socket.socket] = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self.listener.getsockname()[1])

    def stall(self) -> None:
        """Take bytes in and give none out; connections stay up."""
        self._flowing.clear()

    def heal(self) -> None:
        """Pass on again what comes, and what was held back."""
        self._flowing.set()

    def cut(self) -> None:
        """Reset every connection that is open; new ones are taken."""
        for each in self._open:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        self._open.clear()

    def serve(self) -> None:
        """Accept until the listener is closed."""
        with suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                server = socket.create_connection(("127.0.0.1", self.upstream))
                self._open += [client, server]
                for ends in ((client, server), (server, client)):
                    threading.Thread(target=self._pass, args=ends, daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket) -> None:
        with source, target, suppress(OSError):
            while content := source.recv(65536):
                self._flowing.wait()
                target.sendall(content)


@contextmanager
def proxy(upstream: int) -> Iterator[Proxy]:
    """A proxy in threads of its own."""
    made = Proxy(upstream)
    thread = threading.Thread(target=made.serve, daemon=True)
    thread.start()
    try:
        yield made
    finally:
        made.heal()
        made.cut()
        made.listener.shutdown(socket.SHUT_RDWR)
        made.listener.close()
        thread.join()
