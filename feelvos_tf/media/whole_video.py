"""Notices videos that hold less than they declare: downloads and recordings that broke off.

Decoders end without an error there, and a tenth of the masks would look like all of them.
"""

from __future__ import annotations

import os
import pathlib
import re
from fractions import Fraction

import av

from feelvos_tf.core.errors import InputError

_SLACK = Fraction(6, 5)  # Frames: the last one may not say how long it lasts.
_OTHER_STREAMS_SECONDS = 1  # How much longer than the pictures the sound may be.


class Seen:
    """What was read of a stream of pictures.

    Attributes:
      packets: their number.
      is_corrupt: whether the last one was cut.
      end: where the latest ends, seconds.
    """

    def __init__(self):
        self.packets, self.is_corrupt, self.end = 0, False, Fraction(0)

    def add(self, packet: av.Packet) -> None:
        """Takes account of the next packet."""
        if not packet.size:
            return
        self.packets += 1
        self.is_corrupt = packet.is_corrupt
        if packet.pts is not None:
            end = (packet.pts + (packet.duration or 0)) * Fraction(packet.time_base)
            self.end = max(self.end, end)


def check(
    path: str | os.PathLike[str],
    container: av.container.InputContainer,
    seen: Seen,
    num_frames: int,
) -> None:
    """Raises InputError where a video that was read to its end is shorter than it declares.

    Args:
      path: the file.
      container: the same, opened.
      seen: what was read.
      num_frames: how many frames it gave.
    """
    stream = container.streams.video[0]
    told = f"{path}: the video is cut off after {num_frames} frames"
    # Elsewhere a list of edits may leave out packets for good.
    if container.format.name == "avi" and seen.packets < stream.frames:
        raise InputError(f"{told}, expected {stream.frames}")
    if container.format.name == "gif" and not _gif_is_whole(pathlib.Path(path)):
        raise InputError(f"{told}: expected the mark that ends a GIF, found none")
    declared, tolerance = _declared_seconds(container)
    begin = (stream.start_time or 0) * Fraction(stream.time_base)
    lacking = declared - (seen.end - begin)
    if seen.is_corrupt or lacking > tolerance + _SLACK / Fraction(stream.average_rate or 10):
        raise InputError(
            f"{told}: expected {float(declared):.2f} s, found {float(seen.end - begin):.2f} s"
        )


def _declared_seconds(container: av.container.InputContainer) -> tuple[Fraction, Fraction]:
    """Returns how long the pictures are said to last, 0 for unknown, and how vaguely it is said."""
    stream = container.streams.video[0]
    if stream.duration:
        return stream.duration * Fraction(stream.time_base), Fraction(0)
    # Matroska and WebM have it among the tags, in hours, minutes and seconds.
    found = re.fullmatch(r"(\d+):(\d+):(\d+\.?\d*)", stream.metadata.get("DURATION", ""))
    if found:
        hours, minutes, seconds = map(Fraction, found.groups())
        return 3600 * hours + 60 * minutes + seconds, Fraction(0)
    others = len(container.streams) > 1
    return Fraction(container.duration or 0, av.time_base), Fraction(
        others * _OTHER_STREAMS_SECONDS
    )


def _gif_is_whole(path: pathlib.Path) -> bool:
    """Returns whether the blocks of a GIF lead to its trailer (GIF89a, section 17)."""
    content = path.read_bytes()

    def after_color_table(position: int, flags: int) -> int:
        return position + (3 << (flags & 7) + 1 if flags & 0x80 else 0)

    def after_sub_blocks(position: int) -> int:
        while content[position]:
            position += 1 + content[position]
        return position + 1

    try:
        position = after_color_table(13, content[10])
        while content[position] != 0x3B:
            if content[position] == 0x21:  # An extension: label, sub-blocks.
                position = after_sub_blocks(position + 2)
            elif content[position] == 0x2C:  # A picture: descriptor, colors, code size, sub-blocks.
                position = after_color_table(position + 10, content[position + 9])
                position = after_sub_blocks(position + 1)
            else:
                position += 1  # Writers pad, and readers look for the next block as well.
    except IndexError:
        return False
    return True
