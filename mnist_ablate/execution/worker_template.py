"""What local workers are copies of: a process that imported what trains, so they start at once. Starts no worker."""

import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from multiprocessing import forkserver, resource_tracker
from signal import SIGKILL
from typing import Any

from mnist_ablate.environment import TRAINING, overridden
from mnist_ablate.execution import gpus
from mnist_ablate.processes import end_with_parent, sigint_blocked

_TO_IMPORT = "_MNIST_ABLATE_TO_IMPORT"
"""In the environment of the template alone: the module that it is to import."""
_server: Any = forkserver._forkserver  # noqa: SLF001 - multiprocessing has one a process
_templates: set[int] = set()
"""The process ids of those that were started here."""


@contextmanager
def importing(trainer: str) -> Iterator[None]:
    """While inside, a process imports the module of `trainer`, `module:factory`, for the workers that are started.

    It is not waited for. Nothing is done if one runs, if none can start, or where forks are not safe (macOS, CUDA).
    """
    if sys.platform != "linux" or _pid() or gpus.usable():
        yield
        return
    module = trainer.partition(":")[0]
    before = _server._preload_modules  # noqa: SLF001
    resource_tracker.ensure_running()  # which would take the mask off the thread that starts it
    with overridden({**TRAINING, _TO_IMPORT: module}), sigint_blocked():
        _server.set_forkserver_preload([__name__])
        with suppress(OSError):  # the path of a temporary folder can be too long for its socket
            _server.ensure_running()
    template = _pid()
    if not template:
        _server.set_forkserver_preload(before)
        yield
        return
    _templates.add(template)
    try:
        yield
    finally:
        _templates.discard(template)
        with suppress(OSError):
            os.kill(_pid(), SIGKILL)  # if the first one was killed, this is another
        _server._stop()  # noqa: SLF001
        _server.set_forkserver_preload(before)


def method() -> str:
    """How multiprocessing is to start local workers: as copies of the template if one runs, else anew."""
    return "forkserver" if _pid() in _templates else "spawn"


def _pid() -> int:
    """Of the process that multiprocessing forks others from; 0 if there is none."""
    return _server._forkserver_pid or 0  # noqa: SLF001 - there is no other way to know


def _become_template() -> None:
    """What a worker must have, too, is set here. It finds out by itself what cannot be imported, and says so."""
    end_with_parent()
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 1)
    os.dup2(silent, 2)
    gc.disable()  # there is no garbage in modules, and looking for it takes a tenth of the time
    for module in ("distributed", "mnist_ablate.execution.worker", os.environ.pop(_TO_IMPORT)):
        with suppress(Exception):
            import_module(module)
    gc.freeze()  # nor is any looked for among all this in the copies
    gc.enable()


if _TO_IMPORT in os.environ:
    _become_template()
