"""The engine ``ray``: a process per slot on every machine of a Ray cluster, each with its backbone (docs/CLUSTER.md).

The driver hands out one unit at a time to each slot and waits with ``ray.wait``. It puts back itself what a process or
machine took along: ``ray.util.ActorPool`` drops it without a word, and Ray's own retries do not count a job's victims.
"""

from __future__ import annotations

import hashlib
import logging
import os
import secrets
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import floor
from pathlib import Path
from types import ModuleType
from typing import Any

from dassl.utils import UserError
from sweep.collect import remove_rests, write_runs
from sweep.desk import Desk
from sweep.jobs import Unit
from sweep.outcome import Outcome, Place
from sweep.ray_session import connected, the_ray
from sweep.ray_slot import REPO, Greeting, Perform, Slot, Start, code_hash

log = logging.getLogger(__name__)

TICK = 1.0  # seconds between two looks at the machines
TRIES = 3  # of a slot to start on a machine
# of the driver's environment, for the slots; the second ones are folders, which only a shared disk has in common
PASSED, PASSED_FOLDERS = ("HF_HUB_OFFLINE", "TOKENIZERS_PARALLELISM"), ("BIOMED_DPT_CACHE", "HF_HOME")


@dataclass(frozen=True)
class RayOptions:
    """How a sweep uses a cluster.

    Attributes:
        address: of its head, ``auto`` or ``HOST:PORT``; empty: this machine alone, for as long as the sweep runs.
        slots_per_gpu: processes that share a GPU. Where no machine has one, CPUs alone decide how many slots there are.
        cpus_per_slot: CPUs and threads of a process.
        collect: machines share no disk: runs come back through Ray.
        patience: seconds without any slot after which the sweep ends.
    """

    address: str = ""
    slots_per_gpu: int = 4
    cpus_per_slot: int = 2
    collect: bool = False
    patience: float = 600.0


def run_ray(desk: Desk, place: Place, options: RayOptions, do: Perform | None = None) -> None:
    """Do all that waits at ``desk`` on a cluster.

    Args:
        do: what a slot does with a unit, :func:`sweep.work.perform` by default; must be picklable.

    Raises:
        UserError: no Ray, no cluster at the address, no machine with room for a slot, or none that can work.
    """
    if options.slots_per_gpu < 1 or options.cpus_per_slot < 1:
        raise UserError("--slots-per-gpu and --cpus-per-slot: at least 1")
    ray = the_ray()
    if do is None:
        from sweep.work import perform as do  # with all that runs need; the slots read it too
    with connected(ray, options.address) as heard:
        _Driver(ray, desk, place, options, do, heard).run()


def gpu_share(slots: int) -> float:
    """The part of a GPU that a slot asks for, rounded down to Ray's four decimals: ``slots`` of them fit."""
    return floor(10_000 / slots) / 10_000


def slots_of(nodes: Mapping[str, Mapping[str, Any]], options: RayOptions) -> dict[str, int]:
    """How many slots each machine has room for.

    Args:
        nodes: id -> Ray's description of each machine that is there. Those without a GPU are left alone where others have one.
    """
    cpus = {name: int(node["Resources"].get("CPU", 0)) // options.cpus_per_slot for name, node in nodes.items()}
    gpus = {name: int(node["Resources"].get("GPU", 0)) * options.slots_per_gpu for name, node in nodes.items()}
    return {name: min(cpus[name], gpus[name]) for name in cpus} if any(gpus.values()) else cpus


@dataclass(eq=False)
class _Seat:
    """A slot as the driver sees it: ``ready`` once its process has greeted; ``wake`` is when to ask it again."""

    node: str
    host: str
    index: int
    actor: Any
    pid: int = 0
    ready: bool = False
    unit: Unit | None = None
    wake: float = 0.0

    @property
    def name(self) -> str:
        return f"{self.host}:{self.index}"


class _Driver:
    def __init__(
        self, ray: ModuleType, desk: Desk, place: Place, options: RayOptions, do: Perform, heard: Callable[[int], str]
    ) -> None:
        self.ray, self.desk, self.place, self.options, self.do, self.heard = ray, desk, place, options, do, heard
        self.seats: list[_Seat] = []
        self.asked: dict[Any, _Seat] = {}  # what Ray owes an answer to
        self.nodes: dict[str, dict[str, Any]] = {}
        self.failed: Counter[str] = Counter()  # starts, by machine
        self.refused: dict[str, tuple[str, str]] = {}  # machine -> its name, and why it is not used
        self.alive_at = time.monotonic()
        self.began = False
        output = f"{os.uname().nodename}:{Path(place.output).resolve()}"
        sweep = hashlib.sha256(output.encode()).hexdigest()[:16]
        collect = f"{sweep}/{secrets.token_hex(8)}" if options.collect else ""
        self.start = Start(os.getcwd(), code_hash(), options.cpus_per_slot, collect)
        self.gpus = 0.0

    def run(self) -> None:
        if self.options.collect:
            remove_rests(self.place.output)
        try:
            while self.desk.left or self._busy():
                self._staff()
                self._hand_out()
                self._listen()
            self._clear()
        finally:
            for seat in self._busy():
                self.desk.put_back(seat.unit, seat.name, seat.host)
            for seat in list(self.seats):
                self._dismiss(seat)

    def _busy(self) -> list[_Seat]:
        return [seat for seat in self.seats if seat.unit is not None]

    # -- slots --------------------------------------------------------------------------------------------

    def _staff(self) -> None:
        """Slots on machines that joined, none on those that went, and the next try of those that could not start."""
        self.nodes = {node["NodeID"]: node for node in self.ray.nodes() if node["Alive"]}
        for seat in [seat for seat in self.seats if seat.node not in self.nodes and seat.unit is None]:
            self._dismiss(seat)
        room = slots_of(self.nodes, self.options)
        with_gpu = any(node["Resources"].get("GPU", 0) >= 1 for node in self.nodes.values())
        self.gpus = gpu_share(self.options.slots_per_gpu) if with_gpu else 0.0
        wanted = self.desk.left + len(self._busy())
        for turn in range(max(room.values(), default=0)):  # the first of every machine, then the second of every machine, …
            for node in room:
                if len(self.seats) < wanted and turn < room[node] and node not in self.refused and self._taken(node) <= turn:
                    self._add(node)
        for seat in self.seats:
            if not seat.ready and seat not in self.asked.values() and seat.wake <= time.monotonic():
                self.asked[seat.actor.greet.remote()] = seat
        self._check_hope(room)

    def _taken(self, node: str) -> int:
        return sum(seat.node == node for seat in self.seats)

    def _add(self, node: str) -> None:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        host = self.nodes[node]["NodeManagerHostname"]
        taken = {seat.index for seat in self.seats if seat.host == host}
        names = PASSED if self.options.collect else PASSED + PASSED_FOLDERS
        variables = {name: os.environ[name] for name in names if name in os.environ}
        paths = (str(REPO), str(REPO / "engine"), os.environ.get("PYTHONPATH", ""))
        variables |= {"PYTHONPATH": os.pathsep.join(path for path in paths if path)}
        variables |= dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(self.options.cpus_per_slot))
        actor = self.ray.remote(max_restarts=-1, max_task_retries=0)(Slot).options(
            num_cpus=self.options.cpus_per_slot,
            num_gpus=self.gpus,
            scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False),
            runtime_env={"env_vars": variables},
        )
        index = next(number for number in range(len(taken) + 1) if number not in taken)
        self.seats.append(_Seat(node, host, index, actor.remote(self.start)))
        self.began = True

    def _dismiss(self, seat: _Seat) -> None:
        self.seats.remove(seat)
        self.asked = {ref: other for ref, other in self.asked.items() if other is not seat}
        self.ray.kill(seat.actor, no_restart=True)

    def _check_hope(self, room: Mapping[str, int]) -> None:
        """Whether there is a slot, or can be one soon.

        Raises:
            UserError: none.
        """
        if any(seat.ready for seat in self.seats):
            self.alive_at = time.monotonic()
            return
        if self.refused and not self.seats and not self.desk.done:  # else one that worked may come back
            reasons = "; ".join(f"{host}: {said}" for host, said in sorted(set(self.refused.values())))
            raise UserError(f"no machine of the cluster can work: {reasons}")
        if not self.began and not any(room.values()):
            need = f"{self.options.cpus_per_slot} CPUs" + (" beside a GPU" if self.gpus else "")
            raise UserError(f"no machine of the cluster has {need} for a slot: lower --cpus-per-slot (see ray status)")
        waited = time.monotonic() - self.alive_at
        if waited > self.options.patience:
            raise UserError(
                f"no slot of the cluster has worked for {waited / 60:.0f} minutes (ray status shows why); what was finished "
                "is kept, and the same command goes on there"
            )

    # -- work ---------------------------------------------------------------------------------------------

    def _hand_out(self) -> None:
        for seat in self.seats:
            if not seat.ready or seat.unit is not None:
                continue
            seat.unit = self.desk.take(seat.name, seat.host, seat.pid)
            if seat.unit is None:
                return
            self.asked[seat.actor.work.remote(seat.unit, self.place, self.do)] = seat

    def _listen(self) -> None:
        """Wait for an answer, no longer than until it is time to look at the machines again."""
        if not self.asked:
            time.sleep(TICK)
            return
        come, _ = self.ray.wait(list(self.asked), num_returns=1, timeout=TICK)
        for ref in come:
            seat = self.asked.pop(ref)
            self._greeted(seat, ref) if seat.unit is None else self._worked(seat, ref)

    def _greeted(self, seat: _Seat, ref: Any) -> None:
        """A slot's process is there, will come later, or never."""
        failures = self.ray.exceptions
        try:
            greeting: Greeting = self.ray.get(ref)
        except (failures.ActorDiedError, failures.ActorUnschedulableError) as error:
            self._dismiss(seat)
            self.failed[seat.node] += 1
            if self.failed[seat.node] >= TRIES:
                self._refuse(seat, f"its process does not start ({_last_line(error)})")
            return
        except failures.RayError:  # between two processes
            seat.wake = time.monotonic() + TICK
            return
        if greeting.said:
            self._dismiss(seat)
            self._refuse(seat, greeting.said)
            return
        seat.pid, seat.ready = greeting.pid, True
        self.failed.pop(seat.node, None)

    def _refuse(self, seat: _Seat, why: str) -> None:
        if seat.node not in self.refused:
            self.refused[seat.node] = (seat.host, why)
            log.warning("%s is not used: %s", seat.host, why)

    def _worked(self, seat: _Seat, ref: Any) -> None:
        """What became of a unit goes to the desk; a process that is gone has to greet again."""
        unit, failures = seat.unit, self.ray.exceptions
        assert unit is not None
        try:
            outcome, files = self.ray.get(ref)
        except failures.RayTaskError as error:  # the process is there
            outcome, files = Outcome(said=f"{seat.host}: {_last_line(error)}"), {}
        except failures.RayError:
            seat.unit, seat.ready = None, False
            self.desk.lost(unit, seat.name, self._why(seat), seat.host)
            self.ray.kill(seat.actor, no_restart=False)  # where only the wire broke: no unit is in two hands
            return
        if files:
            write_runs(self.place.output, files)
        seat.unit = None
        self.desk.ended(unit, outcome, seat.name, seat.host)

    def _why(self, seat: _Seat) -> str:
        alive = {node["NodeID"] for node in self.ray.nodes() if node["Alive"]}
        if seat.node not in alive:
            return f"{seat.host} left the cluster"
        detail = self.heard(seat.pid)
        return f"process {seat.pid} on {seat.host} went away" + (f" ({detail})" if detail else "")

    def _clear(self) -> None:
        """Have the machines remove what the driver has now."""
        if self.options.collect:
            of_each = {seat.node: seat for seat in self.seats if seat.ready}
            self.ray.wait([seat.actor.clear.remote() for seat in of_each.values()], num_returns=len(of_each), timeout=30)


def _last_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
