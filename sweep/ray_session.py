"""Ray itself: brought where it is installed, started or joined, quiet, and left again."""

from __future__ import annotations

import logging
import os
import re
import socket
import sys
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType

from dassl.utils import UserError

STORE = 200 << 20  # bytes of a local Ray's object store, through which next to nothing goes
REACHABLE = 10.0  # seconds for the head of a cluster to answer; Ray itself takes minutes to give up
Heard = Callable[[int], str]


def the_ray() -> ModuleType:
    """The package, which only this engine needs.

    Raises:
        UserError: it is not installed.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
        import ray.exceptions
    except ImportError as error:
        raise UserError(f'--engine ray needs Ray, which is not installed ({error}): pip install "ray[default]"') from error
    return ray


@contextmanager
def connected(ray: ModuleType, address: str) -> Iterator[Heard]:
    """Join the cluster at ``address``, or start one of this machine alone, and leave it in the end.

    Gives a function that tells what Ray said of the end of a process.

    Raises:
        UserError: there is no cluster at the address, or it is of another version.
    """
    common = {"log_to_driver": False, "logging_level": logging.ERROR}
    _require_address(address)
    with _quiet() as heard:
        try:
            if address:
                ray.init(address=address, **common)
            else:
                cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
                ray.init(address="local", num_cpus=cpus, include_dashboard=False, object_store_memory=STORE, **common)
        except (ConnectionError, RuntimeError, ValueError) as error:
            said = " ".join(str(error).split())
            start = "start one with: ray start --head" if address else "see the logs in /tmp/ray/session_latest"
            raise UserError(f"no Ray cluster at {address or 'this machine'} ({said[:300]}); {start}") from error
        try:
            yield heard
        finally:
            ray.shutdown()


def _require_address(address: str) -> None:
    """Refuse an address that no head answers at, for which Ray waits for minutes."""
    if address in ("", "auto"):
        return
    found = re.fullmatch(r"(?:\[(?P<six>[0-9a-fA-F:]+)\]|(?P<host>[^:/\s]+)):(?P<port>\d{1,5})", address)
    if not found:
        raise UserError(f"--ray-address {address}: auto or HOST:PORT, as ray start --head prints it (the port is 6379)")
    host = found["six"] or found["host"]
    try:
        socket.create_connection((host, int(found["port"])), timeout=REACHABLE).close()
    except (OSError, OverflowError) as error:
        raise UserError(
            f"no Ray cluster answers at {address} ({error}): start one with ray start --head, or correct --ray-address"
        ) from error


@contextmanager
def _quiet() -> Iterator[Heard]:
    """Keep off the terminal what Ray prints of every process that ends; it is told from the journal instead.

    There is no setting for it: where a later Ray has no such function, its messages are seen.
    """
    said: deque[str] = deque(maxlen=200)

    def heard(pid: int) -> str:
        for message in reversed(said):
            found = re.search(rf"Worker PID: {pid} .*?Worker exit detail: ([^.\n]+)", message)
            if found:  # that the wire broke says no more than that the process is gone
                return "" if "connection error" in found[1] else found[1].strip()
        return ""

    worker = sys.modules.get("ray._private.worker")
    before = getattr(worker, "print_to_stdstream", None)
    if before is None:
        yield heard
        return
    worker.print_to_stdstream = lambda data, *_, **__: said.extend(map(str, data.get("lines", ())))
    try:
        yield heard
    finally:
        worker.print_to_stdstream = before
