"""A command in the process of the test."""

import signal
import sys

import pytest
from command import NO_TRACKER, Call, Command, Done

from mnist_ablate.cli import app


@pytest.fixture
def call(command: Command, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Call:
    """A command in this process, which saves the seconds that imports take."""
    for name in ("MNIST_ABLATE_HOME", "OPTUNA_STORAGE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", NO_TRACKER)
    monkeypatch.chdir(command.folder)

    def run(*arguments: str, **environment: str) -> Done:
        capfd.readouterr()
        with monkeypatch.context() as patch:
            patch.setattr(sys, "argv", ["mnist-ablate", *arguments])
            for name, value in environment.items():
                patch.setenv(name, value)
            before = signal.getsignal(signal.SIGINT)
            with pytest.raises(SystemExit) as left:
                app.main()
            signal.signal(signal.SIGINT, before)
        return Done(int(left.value.code or 0), *capfd.readouterr())

    return run
