"""Real trainer processes at little cost: a server imports torch once and forks one process per command line.

Run as a script, it reads command lines of `elboverse` as JSON from its input, forks a process for each, answers with
its number, and, once it has ended, with its exit code (negative for a signal). `ForkingTrainer` is the other side.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

ROOT = Path(__file__).parents[2]


class ForkingTrainer:
    """Starts trainers and waits for them, one at a time.

    Args:
        rest_per_snapshot: how many times a snapshot's duration passes before the next one: 0 for as many as can be.
        output: the file that takes what they print.
    """

    def __init__(self, output: Path, rest_per_snapshot: int = 0) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "ELBOVERSE_LOAD_PLUGINS": "", "PYTHONPATH": str(ROOT)}
        command = [sys.executable, __file__, str(output), str(rest_per_snapshot)]
        self._output = output
        self._server = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.process = 0

    def start(self, *arguments: object) -> None:
        """Start ``elboverse`` with these arguments in a process of its own."""
        assert self._server.stdin is not None
        self._output.write_text("")
        print(json.dumps([str(argument) for argument in arguments]), file=self._server.stdin, flush=True)
        self.process = self._answer()

    def wait(self) -> tuple[int, str]:
        """Return the exit code of the process, negative for a signal, and what it printed."""
        return self._answer(), self._output.read_text()

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send a signal to the process; one that has ended does not notice."""
        os.kill(self.process, number)

    def _answer(self) -> int:
        assert self._server.stdout is not None
        return int(self._server.stdout.readline())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        if kind is not None and self.process:
            self.kill()
        self._server.stdin.close()
        self._server.wait(60)
        self._server.stdout.close()


def serve(output: str, rest_per_snapshot: int) -> None:
    """Fork a process for every line of the input."""
    import torch

    from elboverse.runfile import writer
    from elboverse.running import runs as execution  # noqa: F401 - what the processes share

    torch.set_num_threads(1)
    writer._REST_PER_SNAPSHOT = rest_per_snapshot  # type: ignore[misc]
    process = 0
    for line in sys.stdin:
        if process:
            os.waitpid(process, 0)
        process = os.fork()
        if process == 0:
            _run(json.loads(line), output)
        _tell(process)
        # It is not reaped yet, so that its number stays its own: a signal that comes too late hits nobody else.
        ended = os.waitid(os.P_PID, process, os.WEXITED | os.WNOWAIT)
        assert ended is not None
        _tell(ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status)


def _tell(number: int) -> None:
    sys.stdout.write(f"{number}\n")
    sys.stdout.flush()


def _run(arguments: list[str], output: str) -> None:
    from elboverse.cli import main

    descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    code: object = 1
    try:
        main(arguments)
        code = 0
    except SystemExit as ended:
        code = ended.code
    except BaseException:  # noqa: BLE001 - shown as Python would
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 1)


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]))
