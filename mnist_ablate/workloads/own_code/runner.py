"""The process beside a worker that runs users' code, one child process a trial; knows no sweep and no cluster.

A child has a session of its own. It can change whatever it likes, crash or be killed, and the next trial sees nothing
of it. When the worker ends for any reason, its end of the socket closes, and the runner ends with all its descendants.
The two talk in lines of JSON.
"""

import ctypes
import json
import os
import select
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mnist_ablate.workloads.own_code import function_call
from mnist_ablate.workloads.own_code.function_call import Message

GRACE_S = 2.0
"""Between SIGTERM and SIGKILL."""
OUTPUT_KEPT = 1_000_000
"""Bytes of a trial's output that are kept of its beginning, and of its end."""
STEPS_KEPT = 2_000
"""More reports than that are thinned to every second one, then to every fourth."""
_PR_SET_CHILD_SUBREAPER = 36
_CHUNK = 65_536
_LONGEST_LINE = 1_000_000


def main() -> None:
    """Serve requests on the socket whose number is the first argument, until it is closed."""
    connection = socket.socket(fileno=int(sys.argv[1]))
    wakeup_read, wakeup_write = os.pipe()
    os.set_blocking(wakeup_write, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wakeup_write, warn_on_full_buffer=False)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)
    worker = _Lines(connection.fileno())

    def tell(message: Message) -> None:
        with suppress(BrokenPipeError):
            connection.sendall(json.dumps(message).encode() + b"\n")

    function: Callable[..., Any] | None = None
    try:
        for request in worker.blocking():
            if "import" in request:
                function, problem = function_call.imported(**request["import"])
                tell({"imported": problem})
            else:
                _Trial(request, function, worker, tell, wakeup_read).run()
    finally:
        end_descendants()


@dataclass
class _Lines:
    """Lines of JSON from a file descriptor."""

    descriptor: int
    closed: bool = False
    _rest: bytes = b""

    def read(self) -> Iterator[str]:
        """The whole lines that one read gives, after the descriptor was seen to be readable."""
        try:
            chunk = os.read(self.descriptor, _CHUNK)
        except ConnectionResetError:
            chunk = b""
        if not chunk:
            self.closed = True
            rest, self._rest = self._rest, b""
            if rest:
                yield rest.decode(errors="replace")
            return
        *lines, self._rest = (self._rest + chunk).replace(b"\r", b"\n").split(b"\n")
        self._rest = self._rest[:_LONGEST_LINE]
        for line in lines:
            yield line.decode(errors="replace")

    def blocking(self) -> Iterator[Message]:
        """Every message until the other side closes."""
        while not self.closed:
            for line in self.read():
                if line:
                    yield json.loads(line)


@dataclass
class _Output:
    """The beginning and the end of what a trial printed, and its last line."""

    head: bytearray = field(default_factory=bytearray)
    tail: deque[bytes] = field(default_factory=deque)
    cut: int = 0
    _in_tail: int = 0

    def add(self, chunk: bytes) -> None:
        room = OUTPUT_KEPT - len(self.head)
        self.head += chunk[:room]
        if rest := chunk[room:] if room > 0 else chunk:
            self.tail.append(rest)
            self._in_tail += len(rest)
        while self.tail and self._in_tail - len(self.tail[0]) >= OUTPUT_KEPT:
            gone = len(self.tail.popleft())
            self._in_tail -= gone
            self.cut += gone

    def whole(self) -> bytes:
        gap = f"\n[{self.cut:,} bytes left out]\n".encode() if self.cut else b""
        return bytes(self.head) + gap + b"".join(self.tail)

    def last_line(self) -> str:
        text = (b"".join(self.tail) or bytes(self.head))[-4096:].decode(errors="replace")
        return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")


class _Trial:
    """One run of users' code in a child process, from its request to the message that it ended."""

    def __init__(
        self,
        request: Message,
        function: Callable[..., Any] | None,
        worker: _Lines,
        tell: Callable[[Message], None],
        wakeup: int,
    ) -> None:
        self._request, self._function, self._worker, self._tell, self._wakeup = request, function, worker, tell, wakeup
        self._folder = Path(request["trial_dir"])
        self._output = _Output()
        self._result: Message = {}
        self._steps, self._stride = 0, 1
        self._stopped = self._timed_out = False
        self._exit: int | None = None

    def run(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        (self._folder / "result.json").unlink(missing_ok=True)
        try:
            self._start()
        except OSError as error:
            text = f"{self._request['command'][0]}: {error.strerror or error}"
            self._tell({"ended": {"status": "failed", "reason": text}})
            return
        self._follow()
        end_descendants()
        if output := self._output.whole():
            (self._folder / "output.txt").write_bytes(output)
        with suppress(OSError):  # it has something in it
            self._folder.rmdir()
        self._tell({"ended": self._ending()})

    def _start(self) -> None:
        """Start the child in a session of its own, with its output and messages in pipes and no input."""
        output, output_write = os.pipe()
        messages, messages_write = os.pipe()
        stop_read, self._stop = os.pipe()
        failed_read, failed_write = os.pipe()
        command = self._request.get("command")
        self._pid = os.fork()
        if self._pid == 0:
            try:
                os.setsid()
                signal.set_wakeup_fd(-1)
                for number in (signal.SIGINT, signal.SIGCHLD):
                    signal.signal(number, signal.SIG_DFL)
                null = os.open(os.devnull, os.O_RDONLY)
                for source, target in ((null, 0), (output_write, 1), (output_write, 2)):
                    os.dup2(source, target)
                if command:
                    os.chdir(self._request["folder"])
                    os.execvpe(command[0], command, self._environment())  # noqa: S606 - the program that the sweep names
                function_call.call(self._function, self._request, messages_write, stop_read)
            except OSError as error:
                os.write(failed_write, str(error.errno).encode())
            finally:
                os._exit(127)
        for each in (output_write, messages_write, stop_read, failed_write):
            os.close(each)
        self._streams = {output: _Lines(output), messages: _Lines(messages)}
        self._messages = messages
        problem = b"" if not command else os.read(failed_read, 16)
        os.close(failed_read)
        if problem:
            os.waitpid(self._pid, 0)
            for each in (output, messages, self._stop):
                os.close(each)
            raise OSError(int(problem), os.strerror(int(problem)))

    def _environment(self) -> Mapping[str, str]:
        request = self._request
        return {
            **os.environ,
            "MNIST_ABLATE_SETTINGS": json.dumps(request["settings"]),
            "MNIST_ABLATE_SEED": str(request["seed"]),
            "MNIST_ABLATE_TRIAL_DIR": str(self._folder),
            "MNIST_ABLATE_RESULT": str(self._folder / "result.json"),
        }

    def _follow(self) -> None:
        """Read what the child says until it has ended and its pipes are empty."""
        limit_s = self._request.get("timeout_s")
        deadline = time.monotonic() + limit_s if limit_s else None
        while self._exit is None:
            wait_s = max(0.0, deadline - time.monotonic()) if deadline else None
            ready, _, _ = select.select([*self._open(), self._wakeup, self._worker.descriptor], [], [], wait_s)
            for stream in ready:
                if stream == self._wakeup:
                    os.read(self._wakeup, _CHUNK)
                elif stream == self._worker.descriptor:
                    self._listen()
                else:
                    self._read(stream)
            if deadline and time.monotonic() >= deadline:
                self._timed_out = True
                self._end()
            self._reap(os.WNOHANG)
        while ready := select.select(self._open(), [], [], 0.0)[0]:  # what is in the pipes; children may hold them
            for stream in ready:
                self._read(stream)
        for stream in self._streams:
            os.close(stream)
        os.close(self._stop)

    def _open(self) -> list[int]:
        return [stream for stream, lines in self._streams.items() if not lines.closed]

    def _reap(self, flags: int) -> None:
        if self._exit is not None:
            return
        pid, status = os.waitpid(self._pid, flags)
        if pid:
            self._exit = os.waitstatus_to_exitcode(status)

    def _listen(self) -> None:
        """Do what the worker says while the trial runs. If it is gone, end everything."""
        for line in self._worker.read():
            if json.loads(line).get("stop"):
                self._stopped = True
                if self._request.get("command"):
                    self._end()
                else:
                    with suppress(OSError):
                        os.write(self._stop, b"s")
        if self._worker.closed:
            os.killpg(self._pid, signal.SIGKILL)
            end_descendants()
            os._exit(0)

    def _end(self) -> None:
        """SIGTERM to the whole group, and SIGKILL after a while."""
        with suppress(ProcessLookupError):
            os.killpg(self._pid, signal.SIGTERM)
        deadline = time.monotonic() + GRACE_S
        while self._exit is None and time.monotonic() < deadline:
            for stream in select.select(self._open(), [], [], 0.02)[0]:
                self._read(stream)
            self._reap(os.WNOHANG)
        if self._exit is None:
            with suppress(ProcessLookupError):
                os.killpg(self._pid, signal.SIGKILL)
            self._reap(0)

    def _read(self, stream: int) -> None:
        lines = self._streams[stream]
        if stream == self._messages:
            for line in lines.read():
                self._take(json.loads(line))
            return
        for line in lines.read():
            self._output.add(line.encode() + b"\n")
            if self._request.get("command") and line.startswith("{"):
                with suppress(ValueError, RecursionError):
                    said = json.loads(line)
                    if isinstance(said, dict) and isinstance(said.get("metrics"), dict):
                        self._take(said)

    def _take(self, said: Message) -> None:
        """A message with `step` is progress, every other one the result, of which the last counts."""
        if "step" not in said:
            self._result = said
            return
        self._steps += 1
        if self._steps % self._stride == 0:
            self._tell({"step": said["step"], "metrics": said["metrics"]})
            if self._steps >= STEPS_KEPT * self._stride:
                self._stride *= 2

    def _ending(self) -> Message:
        """How the trial ended, from its result, its exit and what the worker asked for."""
        result = self._result
        if self._timed_out:
            return {"status": "failed", "reason": f"took longer than {self._request['timeout_s']:g} s"}
        if self._request.get("command") and self._exit == 0:
            result = self._result_file() or result
        if result.get("status") in ("failed", "pruned"):
            return result
        if self._stopped and (self._exit != 0 or not result):
            return {"status": "pruned"}
        if self._exit:
            last = self._output.last_line()
            return {"status": "failed", "reason": _exit_text(self._exit) + (f": {last}" if last else "")}
        if not result:
            last = self._output.last_line()
            text = "ended without a result" + (f"; its last line: {last}" if last else "")
            return {"status": "failed", "reason": text}
        return {"status": "complete", "metrics": result["metrics"], "diagnostics": result.get("diagnostics", {})}

    def _result_file(self) -> Message:
        """What a program wrote to MNIST_ABLATE_RESULT: an object with `metrics`, or the metrics themselves."""
        path = self._folder / "result.json"
        try:
            found = json.loads(path.read_bytes())
        except FileNotFoundError:
            return {}
        except (ValueError, OSError) as error:
            return {"status": "failed", "reason": f"{path.name}: cannot be read as JSON: {error}"}
        if not isinstance(found, dict):
            return {"status": "failed", "reason": f"{path.name}: must be an object of metrics"}
        return found if isinstance(found.get("metrics"), dict) else {"metrics": found}


def _exit_text(code: int) -> str:
    if code < 0:
        name = signal.Signals(-code).name
        return f"ended by {name}" + (", perhaps for lack of memory" if name == "SIGKILL" else "")
    return f"ended with exit code {code}"


def end_descendants() -> None:
    """Kill every process below this one, also those that left its session; this process adopts their orphans."""
    deadline = time.monotonic() + GRACE_S
    while (found := _children()) and time.monotonic() < deadline:
        for pid in found:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            with suppress(ChildProcessError):
                os.waitpid(pid, 0)


def _children() -> list[int]:
    """The process ids of the children; without /proc none are found, and the group was ended before."""
    try:
        text = Path(f"/proc/self/task/{os.getpid()}/children").read_text(encoding="ascii")
    except OSError:
        return []
    return [int(pid) for pid in text.split()]


if __name__ == "__main__":
    main()
