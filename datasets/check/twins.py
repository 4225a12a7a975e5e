"""Images that are there twice: byte for byte, pixel by pixel, or nearly, also mirrored and upside down.

Nearly: the 256-bit perceptual hashes differ in at most :data:`FAR` bits and the 32 x 32 thumbnails correlate by at least
:data:`ALIKE`. X-rays of two patients share much, and correlate by 0.95: hashes of 750 real knees and 389 real chests, a patient
each, differ in 50 bits and more. JPEG at quality 50, half the size, a squeezed side, noise of 8 grey levels, brightness or
contrast changed by a fifth stay within (14 bits at the 95th percentile, in seven of eight kinds of images). A crop of 2 %, a
turn of 2 degrees or a shift of 4 pixels do not: such copies are not found. Neighbouring slices of a volume are, where they are
as alike as copies.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from datasets.check.files import TURNS, Look

FAR = 16  # bits of 256
ALIKE = 0.98
FLAT = 2.0  # grey levels: the standard deviation of a thumbnail in which there is nothing to compare
BLOCK = 64  # images compared with all others at a time: bounds the memory


@dataclass(frozen=True)
class Twins:
    """Two images that nearly are one.

    Attributes:
        first, second: their paths.
        how: the second is turned against the first: a key of ``TURNS``.
        bits: in which the hashes differ, of 256.
        correlation: of the thumbnails.
    """

    first: str
    second: str
    how: str
    bits: int
    correlation: float


def same_pixels(looks: Sequence[Look]) -> list[list[Look]]:
    """Images of the same pixels, two or more in each list."""
    found: dict[str, list[Look]] = {}
    for one in looks:
        found.setdefault(one.pixels, []).append(one)
    return [own for own in found.values() if len(own) > 1]


def near_twins(looks: Sequence[Look], title: str = "") -> tuple[list[Twins], int]:
    """Pairs that nearly are one image, those of the same pixels left out; and how many images are too flat to compare.

    Args:
        looks: of files that could be read. Of those with the same pixels the first stands for all.
    """
    firsts = list({one.pixels: one for one in reversed(looks)}.values())[::-1]
    whole = [one for one in firsts if one.thumbnail.std() >= FLAT]
    twins = []
    for i, j, turn, bits in _close(whole, title):
        correlation = _correlation(whole[i].thumbnail, whole[j].thumbnail[list(TURNS.values())[turn]])
        if correlation >= ALIKE:
            twins.append(Twins(whole[i].path, whole[j].path, list(TURNS)[turn], bits, correlation))
    return twins, len(firsts) - len(whole)


def _close(looks: Sequence[Look], title: str) -> Iterator[tuple[int, int, int, int]]:
    """(first, second, turn, bits) of each pair whose hashes are close, by the turn that makes them closest."""
    if len(looks) < 2:
        return
    hashes = np.stack([one.hashes for one in looks])  # (N, turns, 4)
    for start in tqdm(range(0, len(looks), BLOCK), desc=title, unit="block", disable=None):
        best: dict[tuple[int, int], tuple[int, int]] = {}
        for turn in range(len(TURNS)):
            for i, j, bits in _near(hashes[start : start + BLOCK, 0], hashes[start:, turn]):
                if j > i:
                    best[i, j] = min(best.get((i, j), (bits, turn)), (bits, turn))
        for (i, j), (bits, turn) in sorted(best.items()):
            yield start + i, start + j, turn, bits


def _near(rows: np.ndarray, columns: np.ndarray) -> Iterator[tuple[int, int, int]]:
    """(row, column, bits) of (R, 4) and (N, 4) words that differ in at most :data:`FAR` bits."""
    # most pairs differ by more in the first word already
    i, j = np.nonzero(np.bitwise_count(rows[:, None, 0] ^ columns[None, :, 0]) <= FAR)
    bits = np.bitwise_count(rows[i] ^ columns[j]).sum(axis=1)
    for at in np.nonzero(bits <= FAR)[0]:
        yield int(i[at]), int(j[at]), int(bits[at])


def _correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Pearson's, of two thumbnails that are not flat."""
    return float(np.corrcoef(one.ravel(), other.ravel())[0, 1])
