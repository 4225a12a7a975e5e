"""What a run shows on the terminal and what it keeps for log.txt; how the time that is left is reckoned."""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

import train
from dassl.engine.pace import UNKNOWN, Pace
from dassl.utils import MetricMeter
from runs.screen import Console, EpochLines, Labelled
from tests.helpers import arguments

# -- the time that is left --------------------------------------------------------------------------------


Cost = Callable[[int, int], float]  # (epoch, batch) -> seconds of a step


def paced(cost: Cost, epochs: int, batches: int, period: int = 1) -> list[tuple[int, int, float | None, float]]:
    """(epoch, batch, reckoned, true) seconds left after each step of a training."""
    pace, found = Pace(0, epochs, period), []
    costs = [[cost(epoch, batch) for batch in range(batches)] for epoch in range(epochs)]
    for epoch in range(epochs):
        for batch in range(batches):
            pace.step(epoch, batch, costs[epoch][batch])
            true = sum(costs[epoch][batch + 1 :]) + sum(map(sum, costs[epoch + 1 :]))
            found.append((epoch, batch, pace.left(epoch, batch, batches), true))
    return found


def once(epoch: int, batch: int) -> float:
    return 20.0 if (epoch, batch) == (0, 0) else 0.1


def every_eighth(epoch: int, batch: int) -> float:
    return 20.0 + 10 * (epoch == 0) if epoch % 8 == 0 and batch == 0 else 0.1


@pytest.mark.parametrize("batches", [1, 4])
@pytest.mark.parametrize("cost", ["even", "once", "once, of fifty", "every eighth"])
def test_no_eta_is_far_off(cost: str, batches: int) -> None:
    """Dassl's, from the mean of the steps so far, is 200 times too long after a first step of 20 seconds."""
    costs = {"even": (lambda *_: 0.1, 1), "once": (once, 1), "once, of fifty": (once, 50), "every eighth": (every_eighth, 8)}
    found = paced(costs[cost][0], 50, batches, costs[cost][1])
    assert found[0][2] is None and found[-1][2] == 0
    known = [(epoch, left, true) for epoch, _, left, true in found if left is not None and true > 1]
    assert {epoch for epoch, *_ in known} >= set(range(2, 30))
    assert max(max(left / true, true / left) for _, left, true in known) < 1.6


def test_validation_after_each_epoch_counts() -> None:
    pace = Pace(0, 11, 1)
    for epoch in range(2):
        if epoch:
            pace.pause(5.0)
        for batch in range(4):
            pace.step(epoch, batch, 1.0)
    assert pace.left(1, 3, 4) == pytest.approx(9 * (4 + 5))
    assert pace.eta(1, 3, 4) == "0:01:21" and Pace(0, 2).eta(0, 0, 4) == UNKNOWN


def test_a_run_that_goes_on_waits_for_its_own_first_step() -> None:
    pace = Pace(30, 50, 8)
    pace.step(30, 0, 20.0)
    assert pace.left(30, 0, 4) is None
    pace.step(30, 1, 0.1)
    assert pace.left(30, 1, 4) == pytest.approx(2 * 20 + (2 + 19 * 4 - 2) * 0.1)  # epochs 38 and 46 encode again


# -- the terminal -----------------------------------------------------------------------------------------


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True

    def lines(self) -> list[str]:
        """What stands there at the end."""
        rows: list[str] = [""]
        for part in re.split(r"(\r|\n)", self.getvalue()):
            if part == "\n":
                rows.append("")
            elif part == "\r":
                rows[-1] = "\r" + rows[-1].removeprefix("\r")
            elif rows[-1].startswith("\r"):
                old = rows[-1][1:]
                rows[-1] = part + old[len(part) :]
            else:
                rows[-1] += part
        return [row.rstrip() for row in rows]


def trainer(epoch: int, batch: int = 3, epochs: int = 3) -> SimpleNamespace:
    return SimpleNamespace(epoch=epoch, max_epoch=epochs, start_epoch=0, batch_idx=batch, num_batches=4, pace=None,
                           get_current_lr=lambda: 0.002)  # fmt: skip


def meter(loss: float) -> MetricMeter:
    losses = MetricMeter()
    losses.update({"loss": loss, "acc": 50.0, "loss_ce": loss})
    return losses


def test_a_terminal_has_one_line_that_is_rewritten_and_a_warning_below_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    stream = Terminal()
    console = Console(stream)
    screen = EpochLines(console)
    screen.show(trainer(0), meter(123456789.5))
    screen.show(trainer(1), meter(1.5))
    print("a warning", file=console)
    screen.show(trainer(2), meter(0.5))
    second, third = (f"epoch [{number}/3] loss {loss}.5000 acc 50.0000 lr 2.00e-03" for number, loss in ((2, 1), (3, 0)))
    assert stream.lines() == [second, "a warning", third, ""]
    monkeypatch.setenv("COLUMNS", "12")
    Console(stream := Terminal()).rewrite("too long for this terminal", keep=True)
    assert stream.lines() == ["too long fo", ""]


def test_elsewhere_each_epoch_has_a_line_and_a_long_one_more(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr("runs.screen.time", SimpleNamespace(monotonic=lambda: clock[0]))
    stream = io.StringIO()
    screen = EpochLines(Labelled(Console(stream), "seed 2: "))
    for seconds, step in ((1, trainer(0, 0)), (31, trainer(0, 1)), (35, trainer(0, 2)), (40, trainer(0)), (45, trainer(1))):
        clock[0] = float(seconds)
        screen.show(step, meter(1.0))
    shown = [line.split(" loss")[0] for line in stream.getvalue().splitlines()]
    assert shown == ["seed 2: epoch [1/3] batch [2/4]", "seed 2: epoch [1/3]", "seed 2: epoch [2/3]"]


# -- a run ------------------------------------------------------------------------------------------------


def told(capsys: pytest.CaptureFixture[str], *words: object) -> list[str]:
    capsys.readouterr()
    assert train.main([str(word) for word in words]) == 0
    captured = capsys.readouterr()
    assert "Warning" not in captured.err
    return captured.out.splitlines()


def test_a_run_shows_its_epochs_and_keeps_all_in_its_log(
    tiny_biomedclip: Path, btmri_root: Path, tmp_path: Path, capsys
) -> None:
    call = arguments("CoOp", tiny_biomedclip, btmri_root, tmp_path / "quiet", split="base", epochs=3)
    shown = told(capsys, *call)
    assert shown[0] == "CoOp on BiomedCLIP, BTMRI, base classes, 2 shots, seed 1" and len(shown) == 5
    assert [line.split(" loss ")[0] for line in shown[1:4]] == [f"epoch [{number}/3]" for number in (1, 2, 3)]
    assert "eta" not in shown[1] and re.search(r" eta 0:00:\d\d$", shown[2]) and "eta" not in shown[3]
    assert re.fullmatch(rf"accuracy \d+\.\d\d %, macro F1 \d+\.\d\d % \(\d+\.\d s\): {tmp_path / 'quiet'}", shown[4])
    log = (tmp_path / "quiet" / "log.txt").read_text()
    for line in (
        "Checkpoint saved to",
        "Setting fixed seed: 1",
        "Finish training",
        "=> result\n* total: ",
        "epoch [3/3] batch [",
    ):
        assert line in log
    assert not set(shown) & set(log.splitlines())
    call = arguments("CoOp", tiny_biomedclip, btmri_root, tmp_path / "loud", split="base", epochs=3, extra=("--verbose",))
    loud, kept = told(capsys, *call), (tmp_path / "loud" / "log.txt").read_text().splitlines()
    assert loud == kept and {"Finish training", "=> result"} <= set(loud)

    def without_times(lines: list[str]) -> list[str]:
        told = (line for line in lines if "-shot dataset" not in line)  # the draw, which the second run finds there
        return [re.sub(r"\d+:\d\d:\d\d|-:--:--|\d+\.\d{3}\b|loud|quiet", "", line) for line in told]

    assert without_times(log.splitlines()) == without_times(kept)


def test_warnings_are_shown(tmp_path: Path, capsys) -> None:
    from runs.screen import open_log

    stream = io.StringIO()
    output = open_log(tmp_path, Console(stream), verbose=False)
    logger = logging.getLogger("runs.somewhere")
    from contextlib import redirect_stdout

    with redirect_stdout(output):
        logger.info("kept")
        logger.warning("shown")
        print("printed by a trainer of somebody's")
    output.close()
    assert stream.getvalue() == "shown\nprinted by a trainer of somebody's\n"
    assert (tmp_path / "log.txt").read_text() == "kept\nshown\nprinted by a trainer of somebody's\n"
