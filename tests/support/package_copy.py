"""A copy of the package, to add to it as a user would and to run it as a program of its own."""

import shutil
import subprocess
import sys
from pathlib import Path

from command import base_environment

import mnist_ablate

PACKAGE = Path(mnist_ablate.__file__).parent
KERAS = "mnist_ablate/workloads/keras_mnist"


class Copy:
    """Calling it runs a command of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        shutil.copytree(PACKAGE, folder / "mnist_ablate", ignore=shutil.ignore_patterns("__pycache__", "mnist.npz"))
        (folder / KERAS / "mnist.npz").symlink_to(PACKAGE.parent / KERAS / "mnist.npz")
        shutil.copytree(PACKAGE.parent / "sweeps", folder / "sweeps")

    def add(self, file: str, function: str, table: str, line: str) -> None:
        """One function before a table, and one line as the last entry of it."""
        path = self.folder / KERAS / file
        head, name, rest = path.read_text(encoding="utf-8").partition(f"\n{table}: ")
        entries, end, tail = rest.partition("\n}\n")
        path.write_text(f"{head}\n{function}\n\n{name}{entries}\n    {line}{end}{tail}", encoding="utf-8")

    def __call__(self, *words: str, code: int = 0) -> str:
        return self.run("-c", "from mnist_ablate.cli.app import main; main()", *words, code=code)

    def run(self, *words: str, code: int = 0) -> str:
        environment = base_environment(PYTHONPATH=str(self.folder), MNIST_ABLATE_HOME=str(self.folder / "home"))
        options = {"cwd": self.folder, "env": environment, "timeout": 250}  # 15 s on a quiet machine
        done = subprocess.run([sys.executable, *words], capture_output=True, text=True, **options)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout
