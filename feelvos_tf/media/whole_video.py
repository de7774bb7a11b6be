"""Detects videos that hold less than they declare: broken downloads and recordings.

Decoders end without an error there, and a tenth of the masks would look like all of them.
"""

from __future__ import annotations

import os
import pathlib
import re
import sys
from fractions import Fraction

import av

from feelvos_tf.core.errors import InputError

_SLACK = Fraction(6, 5)  # Frames: the last one may not say how long it lasts.
_OTHER_STREAMS_SECONDS = 1  # How much longer than the pictures the sound may be.
_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"
_HEAD_BYTES = 4096


class Seen:
    """What was read of a stream of pictures.

    Attributes:
      is_corrupt: whether the last packet was cut.
      end: when the latest picture ends, seconds.
    """

    def __init__(self):
        self.is_corrupt, self.end = False, Fraction(0)

    def add(self, packet: av.Packet) -> None:
        """Takes account of the next packet."""
        if not packet.size:
            return
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
    """Raises InputError where a video that was read to its end has been cut off.

    A declared length that is only an estimate gives a warning on stderr instead: sound may last
    longer than the pictures, frames may have been dropped, and the last one of a variable rate may
    last long.

    Args:
      path: the file.
      container: the same, opened.
      seen: what was read.
      num_frames: how many frames it gave.
    """
    prefix = f"{path}: the video is cut off after {num_frames} frames"
    if container.format.name == "gif" and not _gif_is_whole(pathlib.Path(path)):
        raise InputError(f"{prefix}: expected the mark that ends a GIF, found none")
    declared_bytes, found_bytes = _declared_bytes(path), os.stat(path).st_size
    if found_bytes + 1 < declared_bytes:  # Some count a byte of padding.
        raise InputError(f"{prefix}: expected {declared_bytes} bytes, found {found_bytes}")
    declared, is_exact = _declared_end(container)
    rate = container.streams.video[0].average_rate or 10
    is_short = declared - seen.end > _SLACK / Fraction(rate)
    sentence = f"{prefix}: expected {float(declared):.2f} s, found {float(seen.end):.2f} s"
    if seen.is_corrupt or (is_short and is_exact):
        raise InputError(sentence)
    if is_short:
        print(f"warning: {sentence.replace('is cut', 'may be cut')}", file=sys.stderr, flush=True)


def _declared_end(container: av.container.InputContainer) -> tuple[Fraction, bool]:
    """Returns when the last picture should end, seconds, 0 for unknown; and whether it must."""
    stream = container.streams.video[0]
    # Matroska and WebM count from time 0; the tag is in hours, minutes and seconds.
    found = re.fullmatch(r"(\d+):(\d+):(\d+\.?\d*)", stream.metadata.get("DURATION", ""))
    if found:
        hours, minutes, seconds = map(Fraction, found.groups())
        return 3600 * hours + 60 * minutes + seconds, False
    tolerance = _OTHER_STREAMS_SECONDS if len(container.streams) > 1 else 0
    length = Fraction(container.duration or 0, av.time_base) - tolerance
    if "matroska" in container.format.name:
        return length, False
    if stream.duration:
        length = stream.duration * Fraction(stream.time_base)
    begin = (stream.start_time or 0) * Fraction(stream.time_base)
    return begin + length, bool(stream.duration) and container.format.name.startswith("mov")


def _declared_bytes(path: str | os.PathLike[str]) -> int:
    """Returns how long an AVI or Matroska (WebM) file says it is; 0 for unknown."""
    with open(path, "rb") as file:
        head = file.read(_HEAD_BYTES)
    if head[:4] == b"RIFF":
        return 8 + int.from_bytes(head[4:8], "little")
    if head[:4] != _EBML:
        return 0
    header_end, header = _sized(head, 4)
    position = header_end + header
    if head[position : position + 4] != _SEGMENT:
        return 0
    content, size = _sized(head, position + 4)
    # All ones mean that the size was not known, as in a live recording.
    return content + size if size != (1 << 7 * (content - position - 4)) - 1 else 0


def _sized(head: bytes, position: int) -> tuple[int, int]:
    """Returns where an EBML element's content begins, and its size; the size is at `position`."""
    length = 9 - head[position].bit_length()
    value = int.from_bytes(head[position : position + length], "big")
    return position + length, value & ((1 << 7 * length) - 1)


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
                position += 1  # Writers pad, and readers search for the next block, too.
    except IndexError:
        return False
    return True
