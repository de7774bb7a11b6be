"""`tools/benchmark sizes`: the cost of a frame by size, number of objects and backbone."""

from __future__ import annotations

import multiprocessing
import statistics
import time
from collections.abc import Iterator, Sequence

import measure


def table(
    repeats: int,
    short_sides: Sequence[int] = (240, 320, 400, 480),
    objects: Sequence[int] = (1, 3, 8),
    backbones: Sequence[str] = ("mobilenet_v2", "xception_65"),
) -> Iterator[str]:
    """Yields the lines of a table; each size and backbone is measured in a process of its own.

    Args:
      repeats: frames that each median is taken over.
      short_sides: of the frames, in pixels; the long side is 16/9 of it.
      objects: numbers of objects, ascending.
      backbones: mobilenet_v2 as in the bundled model, xception_65 with random weights.
    """
    titles = "processor, s | wall, s | peak, MB"
    yield f"| size | objects |{''.join(f' {name}: {titles} |' for name in backbones)}"
    yield "|---|---|" + "---|" * 3 * len(backbones)
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        for side in short_sides:
            jobs = [(name, side, tuple(objects), repeats) for name in backbones]
            costs = pool.starmap(costs_of, jobs, chunksize=1)
            for count, *cells in zip(objects, *costs):
                row = "".join(f" {cpu:.2f} | {wall:.2f} | {mb:.0f} |" for cpu, wall, mb in cells)
                yield f"| {side}x{long_side(side)} | {count} |{row}"


def long_side(short_side: int) -> int:
    """Returns the long side of a 16:9 frame in pixels."""
    return round(short_side * 16 / 9)


def costs_of(
    backbone: str, side: int, objects: Sequence[int], repeats: int
) -> list[tuple[float, float, float]]:
    """Returns a frame's cost for each number of objects; the process should be fresh.

    It consists of CPU seconds, summed over all cores, wall-clock seconds, and the peak memory of
    the process so far in MB.
    """
    from frame import Sizes, image_and_mask, predictor_of

    predictor = predictor_of(backbone)
    costs = []
    for count in objects:
        image, mask = image_and_mask(Sizes(side, long_side(side), count + 1))
        state = predictor.start(image, mask)
        times = []
        for _ in range(repeats + 1):
            begin, began = time.process_time(), time.perf_counter()
            predictor.step(image, state)[0].numpy()
            times.append((time.process_time() - begin, time.perf_counter() - began))
        medians = map(statistics.median, zip(*times[1:]))  # The first step traces.
        costs.append((*medians, measure.peak_mb()))
    return costs
