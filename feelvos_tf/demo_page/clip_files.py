"""A clip and its masks in a folder of their own, one file per frame."""

from __future__ import annotations

import pathlib
from collections.abc import Iterable

import av
import av.error
import cv2
import numpy as np

from feelvos_tf.core.errors import InputError
from feelvos_tf.demo_page.limits import Limits
from feelvos_tf.media import masks, pictures

_CONTAINERS = "mov,mp4,matroska,webm,avi,gif,mpeg,mpegts,ogg,flv,asf"
# Of a frame with more than this ratio of its sides nothing would be left after scaling.
_LARGEST_RATIO = 20


class ClipFiles:
    """The frames of a clip as `00000.jpg ...`, their masks as `00000.png ...`.

    Attributes:
      folder: of the files.
      count: number of frames.
      size: height and width.
      frames_per_second: of the clip.
      is_cut: whether the clip was longer than the limit.
    """

    def __init__(
        self,
        folder: pathlib.Path,
        images: Iterable[np.ndarray],
        frames_per_second: float,
        limits: Limits,
    ):
        """Writes the frames.

        Raises:
          InputError: there is no frame, or it is absurdly narrow.
        """
        self.folder = folder
        self.frames_per_second = frames_per_second
        self.count, self.size, self.is_cut = 0, (0, 0), False
        for image in images:
            if self.count == limits.frames:
                self.is_cut = True
                break
            image = _scaled(image, limits.side)
            if not self.count:
                self.size = image.shape[:2]
            elif image.shape[:2] != self.size:
                raise InputError(f"frame {self.count} has another size than the first")
            pictures.write_image(self.image_path(self.count), image)
            self.count += 1
        if not self.count:
            raise InputError("expected a clip with at least one frame, found none")

    def image_path(self, position: int) -> pathlib.Path:
        """Returns where a frame is."""
        return self.folder / f"{position:05d}.jpg"

    def mask_path(self, position: int) -> pathlib.Path:
        """Returns where a frame's mask is, or will be."""
        return self.folder / f"{position:05d}.png"

    def image(self, position: int) -> np.ndarray:
        """Returns uint8 [height, width, 3] RGB."""
        return pictures.read_image(self.image_path(position))

    def mask(self, position: int) -> np.ndarray:
        """Returns uint8 [height, width] ids; nothing but background where there is no mask yet."""
        if self.mask_path(position).exists():
            return masks.read_mask(self.mask_path(position))
        return np.zeros(self.size, np.uint8)

    def write_mask(self, position: int, ids: np.ndarray) -> None:
        """Writes the ids of a frame, uint8 [height, width]."""
        masks.write_mask(self.mask_path(position), ids)

    def masked(self) -> list[int]:
        """Returns the positions of the frames that have a mask, ascending."""
        return sorted(int(path.stem) for path in self.folder.glob("[0-9]*.png"))


def check_is_video(path: pathlib.Path) -> None:
    """Raises InputError unless the file holds pictures itself.

    A playlist would make the decoder open whatever it names, on this machine or elsewhere.
    """
    try:
        av.open(str(path), options={"format_whitelist": _CONTAINERS}).close()
    except (av.error.FFmpegError, OSError) as error:
        raise InputError("expected a video (mp4, mov, webm, mkv, avi, gif), found none") from error


def _scaled(image: np.ndarray, side: int) -> np.ndarray:
    """Returns the image with at most `side` pixels along its long side."""
    height, width = image.shape[:2]
    if max(height, width) > _LARGEST_RATIO * min(height, width):
        raise InputError(f"expected frames of a usual shape, found {width}x{height} pixels")
    scale = side / max(height, width)
    if scale >= 1:
        return image
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)
