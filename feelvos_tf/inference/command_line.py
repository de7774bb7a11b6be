"""The flags that every program that writes masks shares: which clips, where to, what to look at."""

from __future__ import annotations

import pathlib
from collections.abc import Callable
from typing import Any

from absl import flags

from feelvos_tf.core.errors import InputError
from feelvos_tf.data import datasets
from feelvos_tf.inference import embedding_writer, segment_videos
from feelvos_tf.inference import input_video as clips_lib
from feelvos_tf.inference.input_video import InputVideo
from feelvos_tf.inference.video_segmenter import VideoSegmenter
from feelvos_tf.media import video

_DAVIS_ROOT = flags.DEFINE_string("davis_root", None, "Folder of the data set to segment.")
_YEAR = flags.DEFINE_enum("year", "2017", ["2016", "2017"], "Which DAVIS the root holds.")
_DATASET = flags.DEFINE_enum(
    "dataset", None, datasets.DATASETS, "Kind of data set; by default DAVIS of --year."
)
_SPLIT = flags.DEFINE_string("split", "val", "Split of the data set.")
_RESOLUTION = flags.DEFINE_string(
    "resolution", "480p", "Folder below JPEGImages and Annotations (DAVIS)."
)
_SEQUENCES = flags.DEFINE_list("sequences", None, "Names of the split's sequences to segment; all.")
_VIDEO = flags.DEFINE_string("video", None, "Instead of a data set: a video or folder of pictures.")
_MASK = flags.DEFINE_string(
    "mask", None, "PNG with the objects of the first frame of --video: one value per object."
)
_OUTPUT_DIR = flags.DEFINE_string("output_dir", None, "Folder the masks are written to.")
_OVERLAY = flags.DEFINE_string("overlay", None, "With --video: an .mp4 to write, to look at.")
_OVERLAYS = flags.DEFINE_string(
    "overlays", None, "With --davis_root: folder for an .mp4 and a picture per sequence."
)
_OVERWRITE = flags.DEFINE_bool("overwrite", False, "Segment again what is complete.")


def run(
    make_segmenter: Callable[[], VideoSegmenter],
    settings: dict[str, Any],
    embeddings_dir: str | None = None,
) -> None:
    """Segments the clips that the flags name, writes overlays and says what was done.

    Args:
      make_segmenter: see `prediction.segment_clips`.
      settings: see `prediction.segment_clips`.
      embeddings_dir: where to save embeddings, for which what is complete is segmented again.

    Raises:
      InputError: the flags do not fit together, or the data cannot be used.
    """
    output = _checked_output()
    clips = _clips()
    on_frame = None
    if embeddings_dir is not None:
        on_frame = embedding_writer.Writer(lambda clip: _folder_of(clip, embeddings_dir))
    overwrite = _OVERWRITE.value or on_frame is not None
    done, timing = segment_videos.segment_clips(
        make_segmenter, clips, _folder_of, settings, overwrite, on_frame
    )
    for clip in clips:
        _write_overlays(clip)
    if len(done) < len(clips):
        print(
            f"{len(clips) - len(done)} of {len(clips)} sequences were complete already "
            "(--overwrite segments them again)"
        )
    if done:
        print(timing.sentence())
    print(f"masks: {output}")
    if embeddings_dir is not None:
        print(f"embeddings: {embeddings_dir}")
    for overlays in filter(None, (_OVERLAY.value, _OVERLAYS.value)):
        print(f"overlays: {overlays}")


def _checked_output() -> pathlib.Path:
    """Returns the output folder after checking that the flags fit together."""
    if (_DAVIS_ROOT.value is None) == (_VIDEO.value is None):
        raise InputError("expected either --davis_root (a data set) or --video (one clip)")
    if (_VIDEO.value is None) != (_MASK.value is None):
        raise InputError("--video and --mask (of its first frame) belong together")
    if _OUTPUT_DIR.value is None:
        raise InputError("expected --output_dir, the folder to write masks to")
    if _OVERLAY.value is not None:
        if _VIDEO.value is None:
            raise InputError("--overlay is for --video; with --davis_root use --overlays=FOLDER")
        video.check_video_path(_OVERLAY.value)
    if _OVERLAYS.value is not None and _DAVIS_ROOT.value is None:
        raise InputError("--overlays is for --davis_root; with --video use --overlay=FILE.mp4")
    return pathlib.Path(_OUTPUT_DIR.value)


def _clips() -> list[InputVideo]:
    if _VIDEO.value is not None:
        return [clips_lib.from_video(_VIDEO.value, _MASK.value)]
    sequences = datasets.list_sequences(
        _DAVIS_ROOT.value,
        _DATASET.value or f"davis_{_YEAR.value}",
        _SPLIT.value,
        _RESOLUTION.value,
        _SEQUENCES.value,
        require_masks="first",
    )
    return clips_lib.from_sequences(sequences)


def _folder_of(clip: InputVideo, output: str | None = None) -> pathlib.Path:
    """Returns the folder of a clip: `output` (of masks by default), or below it with a data set."""
    folder = pathlib.Path(output or _OUTPUT_DIR.value)
    return folder if _VIDEO.value is not None else folder / clip.name


def _write_overlays(clip: InputVideo) -> None:
    if _OVERLAY.value is not None:
        segment_videos.write_overlays(clip, _folder_of(clip), pathlib.Path(_OVERLAY.value))
    if _OVERLAYS.value is not None:
        folder = pathlib.Path(_OVERLAYS.value)
        segment_videos.write_overlays(
            clip, _folder_of(clip), folder / f"{clip.name}.mp4", folder / f"{clip.name}.jpg"
        )
