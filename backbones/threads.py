"""How many threads PyTorch gets for a frozen tower on a CPU.

A small tower's products are over before a second thread has woken up, and where other work holds a core all threads wait for
the one that does not come: a step of PhantomCLIP takes a multiple of its time then. So small towers get one thread, and large
ones what PyTorch takes by itself, or as many as a container's share of the machine is worth. The tower and the machine decide,
not what else there is to do at the moment: sums over another number of threads differ in their last bits, and a run is to be
the same today and tomorrow (``python -m benchmarks.threads`` measures, docs/PERFORMANCE.md has the numbers).
"""

from __future__ import annotations

import os

import torch
from torch import nn

from dassl.utils import cores, seen_cores

SMALL = 20_000_000  # parameters of a backbone, from which on more threads than one pay
VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")  # of the user's
START = torch.get_num_threads()  # what PyTorch takes by itself, or was told before this was imported

# what was set here last; by itself PyTorch takes a thread for each core, or for each two that share one
_ours = START if START in (seen_cores(), seen_cores() // 2) else 0


def given() -> str:
    """Which of :data:`VARIABLES` says how many threads there are; empty where none does."""
    return next((name for name in VARIABLES if os.environ.get(name)), "")


def threads_for(parameters: int) -> int:
    """Threads for a backbone with so many parameters."""
    return 1 if parameters < SMALL else min(START, cores())


def set_threads(backbone: nn.Module) -> None:
    """Give PyTorch the threads for ``backbone``, unless the user said how many: by a variable, or by ``torch.set_num_threads``.

    Such a call is noticed by its number: before the first backbone is built, one that names PyTorch's own is not.
    """
    global _ours
    if given() or torch.get_num_threads() != _ours:
        return
    _ours = threads_for(sum(one.numel() for one in backbone.parameters()))
    torch.set_num_threads(_ours)
