"""Defines the flags that all programs that write masks share, and does what they say.

A program defines them once and runs after the command line was parsed:

    _COMMAND_LINE = command_line.define(cli.flag_values(__name__))
    ...
    _COMMAND_LINE.run(make_segmenter, settings)
"""

from __future__ import annotations

import pathlib
from typing import Any, Callable

from absl import flags
from tqdm import tqdm

from feelvos_tf.core.errors import InputError
from feelvos_tf.data import dataset_flags
from feelvos_tf.inference import embedding_writer, input_video
from feelvos_tf.inference.input_video import InputVideo
from feelvos_tf.inference.segment_videos import Outputs, segment_videos
from feelvos_tf.inference.video_segmenter import VideoSegmenter
from feelvos_tf.media import video
from feelvos_tf.media.overlay_files import OverlayFiles


def define(flag_values: flags.FlagValues) -> CommandLine:
    """Defines the flags of a data set, --video, --mask, --output_dir, --overlay and the like.

    Args:
      flag_values: the program's, see `feelvos_tf.core.cli.flag_values`.
    """
    own = {"flag_values": flag_values}
    dataset = dataset_flags.define(flag_values, "Folder of the data set to segment.")
    holders = {
        "video": flags.DEFINE_string(
            "video", None, "Instead of a data set: a video or folder of pictures.", **own
        ),
        "mask": flags.DEFINE_string(
            "mask",
            None,
            "PNG with the objects of the first frame of --video: one value per object.",
            **own,
        ),
        "output_dir": flags.DEFINE_string(
            "output_dir", None, "Folder the masks are written to.", **own
        ),
        "overlay": flags.DEFINE_string(
            "overlay", None, "With --video: an .mp4 to write, to look at.", **own
        ),
        "overlays": flags.DEFINE_string(
            "overlays",
            None,
            "With --dataset_root: folder for an .mp4 and a picture per sequence.",
            **own,
        ),
        "overwrite": flags.DEFINE_bool(
            "overwrite", False, "Segment again what is complete.", **own
        ),
    }
    return CommandLine(dataset, holders)


class CommandLine:
    """The flags of one program, from `define`."""

    def __init__(self, dataset: dataset_flags.DatasetFlags, holders: dict[str, flags.FlagHolder]):
        self._dataset = dataset
        self._holders = holders

    def run(
        self,
        make_segmenter: Callable[[], VideoSegmenter],
        settings: dict[str, Any],
        embeddings_dir: str | None = None,
    ) -> None:
        """Segments the videos that the flags name, draws them and says what was done.

        Args:
          make_segmenter: see `segment_videos`.
          settings: see `segment_videos`.
          embeddings_dir: where to save embeddings, for which what is complete is segmented again.

        Raises:
          InputError: the flags do not fit together, or the data cannot be used.
        """
        self._check()
        videos = self._videos()
        on_frame = None
        if embeddings_dir is not None:
            on_frame = embedding_writer.Writer(lambda video: self._folder(embeddings_dir, video))
        done, timing = segment_videos(
            make_segmenter,
            videos,
            self._outputs,
            settings,
            self._value("overwrite") or on_frame is not None,
            on_frame,
            _print_objects,
        )
        if len(done) < len(videos):
            print(
                f"{len(videos) - len(done)} of {len(videos)} sequences were complete already "
                "(--overwrite segments them again)"
            )
        if done:
            print(timing.sentence())
        print(f"masks: {self._value('output_dir')}")
        if embeddings_dir is not None:
            print(f"embeddings: {embeddings_dir}")
        for overlays in filter(None, (self._value("overlay"), self._value("overlays"))):
            print(f"overlays: {overlays}")

    def _value(self, name: str) -> Any:
        return self._holders[name].value

    def _check(self) -> None:
        """Raises InputError where the flags do not fit together."""
        root, overlay = self._dataset.choice().root, self._value("overlay")
        is_video = self._value("video") is not None
        if (root is None) != is_video:
            raise InputError("expected either --dataset_root (a data set) or --video (one video)")
        if is_video != (self._value("mask") is not None):
            raise InputError("--video and --mask (of its first frame) belong together")
        if self._value("output_dir") is None:
            raise InputError("expected --output_dir, the folder to write masks to")
        if overlay is not None:
            if not is_video:
                raise InputError(
                    "--overlay is for --video; with --dataset_root use --overlays=FOLDER"
                )
            video.check_video_path(overlay)
        if self._value("overlays") is not None and is_video:
            raise InputError(
                "--overlays is for --dataset_root; with --video use --overlay=FILE.mp4"
            )

    def _videos(self) -> list[InputVideo]:
        if self._value("video") is not None:
            return [input_video.from_video(self._value("video"), self._value("mask"))]
        return input_video.from_dataset(self._dataset.choice().list_sequences("first"))

    def _outputs(self, video: InputVideo) -> Outputs:
        masks = self._folder(self._value("output_dir"), video)
        if self._value("overlay") is not None:
            return Outputs(masks, OverlayFiles(pathlib.Path(self._value("overlay"))))
        if self._value("overlays") is not None:
            folder = pathlib.Path(self._value("overlays"))
            files = OverlayFiles(folder / f"{video.name}.mp4", folder / f"{video.name}.jpg")
            return Outputs(masks, files)
        return Outputs(masks)

    def _folder(self, output: str, video: InputVideo) -> pathlib.Path:
        """Returns the folder of a video: `output` itself, or below it with a data set."""
        folder = pathlib.Path(output)
        return folder if self._value("video") is not None else folder / video.name


def _print_objects(video: InputVideo) -> None:
    """Says which objects were found, beside the progress bar."""
    tqdm.write(f"{video.name}: objects {', '.join(map(str, video.object_ids()))}")
