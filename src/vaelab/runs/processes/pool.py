"""Run child processes, several at a time. They end when their parent process ends."""

import multiprocessing
import os
import pickle
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from typing import Any

from vaelab.signals import Interrupted

TICK = 0.25  # seconds between two looks at the processes
PATIENCE = 30  # seconds that a process has to end after it has answered or was told to stop
PRELOADED = [f"vaelab.runs.{name}" for name in ("complete", "processes.seeds", "rehearsal", "evaluating.session")]
PRELOADED += ["wandb", "matplotlib.backends.backend_agg"]


class DiedError(Exception):
    """A child process ended without an answer; the message says how, such as "was killed by SIGKILL"."""

    def __init__(self, exit_code: int) -> None:
        if exit_code >= 0:
            super().__init__(f"ended with exit code {exit_code}")
        else:
            name = signal.Signals(-exit_code).name
            memory = "; the machine may have run out of memory" if name == "SIGKILL" else ""
            super().__init__(f"was killed by {name}{memory}")


def fork_server(*modules: str) -> BaseContext:
    """Return the context that forks processes from a server process, which imports the packages once for all of them.

    The processes have the server's environment, which may be that of an earlier command.

    Args:
        modules: further modules for the server to import, if it does not run yet.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([*PRELOADED, *modules])
    return context


class Pool:
    """Call a function in child processes, one for each item. Leaving the `with` block kills the running processes.

    If an error of this process ends the block, the child processes are told to stop first, and have `PATIENCE` seconds
    to end. A Ctrl-C kills them at once.

    Args:
        context: starts the processes; from `multiprocessing.get_context`.
        function: called with an item and a slot; must be importable unless processes are forked.
        slots: one for each process that may run at the same time, such as its share of the devices.
    """

    def __init__(self, context: BaseContext, function: Callable[[Any, Any], Any], slots: Iterable[Any]) -> None:
        self.context = context
        self.function = function
        self.free = deque(slots)
        self.running: dict[Any, tuple[Any, BaseProcess, Any]] = {}
        self.stopping = False

    def __enter__(self) -> "Pool":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: object) -> None:
        processes = [process for _, process, _ in self.running.values()]
        try:
            # an error of the caller is a GeneratorExit here, if a generator holds the block
            if kind is not None and not issubclass(kind, Interrupted | KeyboardInterrupt):
                self.stop()
                deadline = time.monotonic() + PATIENCE
                for process in processes:
                    process.join(max(0, deadline - time.monotonic()))
        finally:
            for process in processes:
                process.kill()
            for process in processes:
                process.join()

    def run(self, items: Sequence[Any]) -> Iterator[tuple[Any, Any] | None]:
        """Yield the item and the answer (or a `DiedError`) of each process that ends.

        Yield None at least every `TICK` seconds.
        """
        waiting = deque(items)
        while self.running or (waiting and not self.stopping):
            while waiting and self.free and not self.stopping:
                self._start(waiting.popleft(), self.free.popleft())
            for receiver in wait(list(self.running), TICK):
                item, process, slot = self.running[receiver]
                answer = _answer(receiver, process)
                del self.running[receiver]
                self.free.append(slot)
                yield item, answer
            yield None

    def _start(self, item: Any, slot: Any) -> None:
        receiver, sender = self.context.Pipe(duplex=False)
        process = self.context.Process(target=_in_child, args=(sender, self.function, item, slot))  # type: ignore[attr-defined]
        process.start()
        sender.close()
        self.running[receiver] = item, process, slot

    def stop(self) -> None:
        """Start no more processes, and send SIGTERM to those that run. A second call does nothing."""
        if not self.stopping:
            self.stopping = True
            for _, process, _ in self.running.values():
                process.terminate()


def _answer(receiver: Any, process: BaseProcess) -> Any:
    with receiver:
        try:
            answer = pickle.loads(receiver.recv_bytes())
        except (EOFError, OSError):  # OSError if the process dies while it sends
            process.join()
            return DiedError(process.exitcode or 0)
        process.join(PATIENCE)
        process.kill()  # in case it does not end, although it has answered
        process.join()
        return answer


def _in_child(sender: Connection, function: Callable[[Any, Any], Any], item: Any, slot: Any) -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()
    sender.send_bytes(pickle.dumps(function(item, slot)))  # `send` would share tensors, which needs this process alive
