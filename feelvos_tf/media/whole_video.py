"""Detects truncated videos, which hold less than they declare: broken downloads and recordings.

Decoders stop there without an error, so a tenth of the masks would pass for all of them.
"""

from __future__ import annotations

import os
import pathlib
import re
import sys
from fractions import Fraction
from typing import BinaryIO

import av

from feelvos_tf.core.errors import InputError

_SLACK = Fraction(6, 5)  # Frames, as the last one may not declare its duration.
_OTHER_STREAMS_SECONDS = 1  # How much longer than the pictures the sound may be.
_TS_PACKET = 188
_PACK_START = b"\0\0\1\xba"
_TAIL_BYTES = 1 << 18
_ASF_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_FLV_TAGS = (8, 9, 18)
_NUT_INDEX = b"NX\xdd\x67\x2f\x23\xe6\x4e"


class Seen:
    """What has been read of a video stream.

    Attributes:
      is_corrupt: whether the last packet was truncated.
      last_frame_is_corrupt: whether the decoder had to make up parts of the last frame.
      end: latest end of a picture, in seconds.
      num_packets: how many were read.
      num_frames: how many were decoded.
      packet_bytes: size of the first packet.
    """

    def __init__(self):
        self.is_corrupt = self.last_frame_is_corrupt = False
        self.end = Fraction(0)
        self.num_packets = self.num_frames = self.packet_bytes = 0

    def add(self, packet: av.Packet) -> None:
        """Records the next packet."""
        if not packet.size:
            return
        self.is_corrupt = packet.is_corrupt
        self.num_packets += 1
        self.packet_bytes = self.packet_bytes or packet.size
        if packet.pts is not None:
            end = (packet.pts + (packet.duration or 0)) * Fraction(packet.time_base)
            self.end = max(self.end, end)


def check(path: str | os.PathLike[str], container: av.container.InputContainer, seen: Seen) -> None:
    """Raises InputError if a video that was read to its end is truncated.

    If the declared length is only an estimate, prints a warning to stderr instead: sound may last
    longer than the pictures, frames may have been dropped, and with a variable rate the last frame
    may be long.
    """
    prefix = f"{path}: the video is cut off after {seen.num_frames} frames"
    if not _parts_are_whole(pathlib.Path(path), container.format.name, seen):
        raise InputError(f"{prefix}: the file ends inside one of its parts")
    declared, is_exact = _declared_end(container)
    stream = container.streams.video[0]
    is_short = declared - seen.end > _SLACK / Fraction(stream.average_rate or 10)
    # Nothing is missing if all were read: the last one may be declared longer than its packet says.
    is_short = is_short and not 0 < stream.frames <= seen.num_packets
    sentence = f"{prefix}: expected {float(declared):.2f} s, found {float(seen.end):.2f} s"
    if seen.last_frame_is_corrupt:
        raise InputError(f"{prefix}: parts of the last one are missing")
    if seen.is_corrupt or (is_short and is_exact):
        raise InputError(sentence)
    if is_short:
        print(f"warning: {sentence.replace('is cut', 'may be cut')}", file=sys.stderr, flush=True)


def _declared_end(container: av.container.InputContainer) -> tuple[Fraction, bool]:
    """Returns when the last picture should end, in seconds (0: unknown), and whether it must."""
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
    if container.format.name in ("flv", "nut"):  # These count from time 0 as well.
        begin = Fraction(0)
    return begin + length, bool(stream.duration) and container.format.name.startswith("mov")


def _parts_are_whole(path: pathlib.Path, format_name: str, seen: Seen) -> bool:
    """Returns whether the lengths declared by a container's parts lead to the end of the file."""
    size = path.stat().st_size
    name = format_name.split(",")[0]
    with path.open("rb") as file:
        if name == "gif":
            return _gif_is_whole(file.read())
        if name in ("matroska", "webm"):
            return _ebml_is_whole(file, size)
        if name in ("avi", "mov"):
            return _chunks_are_whole(file, size, name)
        if name == "mpegts":
            return _transport_stream_is_whole(file.read(1000), size)
        if name == "asf":
            head = file.read(_TAIL_BYTES)
            begin = head.find(_ASF_PROPERTIES) + 40
            return begin < 40 or int.from_bytes(head[begin : begin + 8], "little") <= size
        if name == "flv":
            # Every tag is followed by its size; the length inside it excludes the 11-byte header.
            file.seek(max(0, size - 4))
            length = int.from_bytes(file.read(4), "big")
            file.seek(max(0, size - 4 - length))
            head = file.read(4)
            return int.from_bytes(head[1:], "big") + 11 == length and head[0] in _FLV_TAGS
        if name in ("mpeg", "ogg", "mjpeg", "jpeg_pipe"):
            file.seek(max(0, size - _TAIL_BYTES))
            tail = file.read()
            if "jpeg" in name:
                return tail.rfind(b"\xff\xd9") > tail.rfind(b"\xff\xd8")  # End and begin.
            return (_program_stream_is_whole if name == "mpeg" else _ogg_is_whole)(tail)
        if name == "nut":
            # The file ends with an index; its size is stored before the last checksum.
            file.seek(max(0, size - 12))
            file.seek(max(0, size - int.from_bytes(file.read(8), "big")))
            return file.read(8) == _NUT_INDEX
        if name == "yuv4mpegpipe":
            frames = size - len(file.readline())
            return frames % (len(b"FRAME\n") + seen.packet_bytes) == 0
    return True


def _chunks_are_whole(file: BinaryIO, size: int, name: str) -> bool:
    """Returns whether the top-level boxes of an .mp4 or .mov, or chunks of an .avi, are complete.

    A box begins with length and name; a RIFF chunk with name and length, excluding these 8 bytes.
    """
    position = 0
    while position + 8 <= size:
        file.seek(position)
        head = file.read(16)
        if name == "avi":
            if head[:4] != b"RIFF":
                return True  # Trailing data.
            position += 8 + int.from_bytes(head[4:8], "little")
            size += 1 if position > size else 0  # Some writers count a byte of padding.
            continue
        length = int.from_bytes(head[:4], "big")
        if length == 1:
            length = int.from_bytes(head[8:], "big")
        if length < 8:
            return True  # A box up to the end of the file, or trailing data.
        position += length
    return position <= size


def _ebml_is_whole(file: BinaryIO, size: int) -> bool:
    """Returns whether the elements of a Matroska (WebM) file lead to its end or to other data."""
    position = 0
    while position < size:
        file.seek(position)
        head = file.read(16)
        begin = 9 - head[0].bit_length()
        if begin > 4:
            return True  # Not an element.
        first = head[begin] if begin < len(head) else 0
        content = begin + 9 - first.bit_length()
        if not first or content > len(head):
            return False
        most = (1 << 7 * (content - begin)) - 1
        length = int.from_bytes(head[begin:content], "big") & most
        if length == most:  # Unknown, as that of a live recording's segment: descend into it.
            length = 0
        elif head[:4] == b"\x18\x53\x80\x67":  # A segment.
            return position + content + length <= size
        position += content + length
    return position == size


def _transport_stream_is_whole(head: bytes, size: int) -> bool:
    """Returns whether whole packets of a transport stream fill the file.

    Packets may carry a timestamp before them or error correction after them.
    """
    for offset, length in ((0, _TS_PACKET), (4, _TS_PACKET + 4), (0, _TS_PACKET + 16)):
        starts = head[offset::length]
        if len(starts) > 3 and set(starts) == {0x47}:
            return size % length == 0
    return True


def _ogg_is_whole(tail: bytes) -> bool:
    """Returns whether the last page of an Ogg file ends with the file (RFC 3533, section 6)."""
    begin = tail.rfind(b"OggS")
    page = tail[begin:]
    if begin < 0:
        return True
    content = 27 + page[26] if len(page) > 26 else len(page) + 1
    return content + sum(page[27:content]) == len(page)


def _program_stream_is_whole(tail: bytes) -> bool:
    """Returns whether the packets of an MPEG-1 or MPEG-2 program stream lead to its end."""
    position = tail.rfind(_PACK_START)
    while 0 <= position < len(tail):
        head = tail[position : position + 14]
        if head[:3] != b"\0\0\1" or head[3:4] == b"\xb9":
            return len(head) > 3  # Trailing data, or the end code.
        if len(head) < 6:
            return False
        if head[3] != _PACK_START[3]:
            position += 6 + int.from_bytes(head[4:6], "big")
        elif head[4] >> 6 == 1:
            position += 14 + (head[13] & 7 if len(head) == 14 else 0)
        else:
            position += 12
    return position <= len(tail)


def _gif_is_whole(content: bytes) -> bool:
    """Returns whether the blocks of a GIF lead to its trailer (GIF89a, section 17)."""

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
                position += 1  # Writers pad, and readers skip to the next block as well.
    except IndexError:
        return False
    return True
