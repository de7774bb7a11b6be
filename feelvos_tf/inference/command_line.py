"""The flags shared by all programs that write masks, and what they do.

A program defines them once and calls `run` after the command line has been parsed:

    _COMMAND_LINE = command_line.CommandLine(cli.flag_values(__name__))
    ...
    _COMMAND_LINE.run(make_predictor, settings)
"""

from __future__ import annotations

import collections
import contextlib
import functools
import pathlib
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from absl import flags
from tqdm import tqdm

from feelvos_tf.core import atomic_files, cli
from feelvos_tf.core.errors import InputError
from feelvos_tf.data import dataset_flags, datasets
from feelvos_tf.inference import distance_maps, input_video, submission, video_flags
from feelvos_tf.inference.input_video import InputVideo
from feelvos_tf.inference.prompt import Prompter
from feelvos_tf.inference.propagation import Outputs, Propagator, Report, propagate_videos
from feelvos_tf.inference.video_predictor import VideoPredictor
from feelvos_tf.media import result_files, video_writing
from feelvos_tf.media.result_files import OverlayFiles

# Value of --save -> function from the folder of the masks to what writes the files there.
FURTHER = {
    "cutout": lambda folder: result_files.Cutout(folder / "cutout.webm"),
    "object_videos": result_files.ObjectVideos,
    "rle": lambda folder: result_files.RunLengths(folder / "masks.json"),
    "csv": lambda folder: result_files.ObjectTable(folder / "objects.csv"),
}


class CommandLine:
    """The flags of one program: of a video, of a data set, --output_dir, --overlay and the like."""

    def __init__(self, flag_values: flags.FlagValues):
        """Defines them.

        Args:
          flag_values: the program's, see `feelvos_tf.core.cli.flag_values`.
        """
        self._video = video_flags.VideoFlags(flag_values)
        self._dataset = dataset_flags.define(
            flag_values, "Folder of the data set.", title="Instead, the videos of a data set"
        )
        outputs = cli.FlagGroup(flag_values, "What to write")
        outputs.string("output_dir", "Folder the masks are written to.")
        outputs.string("overlay", "With --video: an .mp4 of the frames under their masks.")
        outputs.string(
            "overlays", "With many videos: folder for such an .mp4 and a picture per video."
        )
        outputs.comma_list(
            "save",
            f"Other files to write with the masks: {', '.join(FURTHER)} (comma-separated).",
            [],
        )
        outputs.string(
            "submission",
            "With --dataset_root: the .zip of masks for the evaluation servers of DAVIS "
            "(--split=test-dev) and YouTube-VOS.",
        )
        outputs.boolean("overwrite", "Redo complete videos.", False)
        cluster = cli.FlagGroup(flag_values, "On several machines")
        cluster.boolean(
            "ray",
            "Distribute the videos over a Ray cluster: the one that RAY_ADDRESS names, or this "
            "machine.",
            False,
        )
        cluster.integer(
            "ray_workers",
            "Number of models on it; by default one per GPU or, without GPUs, per four cores.",
            lower_bound=1,
        )
        self._flags = flag_values

    def write_first_frame(self) -> bool:
        """Writes the first frame and returns True if the flags ask for this alone.

        Raises:
          InputError: the flags contradict each other, or the video cannot be used.
        """
        if self._flags.first_frame is None:
            return False
        self._check()
        self._video.write_first_frame()
        return True

    def run(
        self,
        make_predictor: Callable[[], Propagator],
        settings: dict[str, Any],
        embeddings_dir: str | None = None,
        distance_maps_dir: str | None = None,
    ) -> None:
        """Propagates masks through the videos that the flags name and reports what was done.

        Args:
          make_predictor: see `propagate_videos`.
          settings: see `propagate_videos`.
          embeddings_dir: where to save embeddings; complete videos are then redone.
          distance_maps_dir: where to write distance maps; complete videos are then redone.

        Raises:
          InputError: the flags contradict each other, or the data cannot be used.
        """
        self._check()
        waiting, on_frame = collections.deque(), []
        if distance_maps_dir is not None:
            on_frame.append(functools.partial(distance_maps.keep, waiting))
        if embeddings_dir is not None:
            on_frame.append(functools.partial(self._write_embeddings, embeddings_dir))
        if self._flags.ray and (on_frame or self._video.is_live):
            raise InputError(
                "--ray: expected videos in files, without --save_embeddings or --distance_maps"
            )
        make, prompter = self._prompter(make_predictor)
        overwrite = self._flags.overwrite or bool(on_frame)
        outputs_of = functools.partial(self._outputs, distance_maps_dir, waiting)
        with tempfile.TemporaryDirectory() as folder:
            videos = self._videos(folder, prompter)
            work = (videos, outputs_of, settings, overwrite)
            with _stopping(videos, continues=not overwrite):
                if self._flags.ray:
                    from feelvos_tf.inference.deploy.ray_cluster import propagate_videos_on_ray

                    report = propagate_videos_on_ray(make_predictor, *work, self._flags.ray_workers)
                else:
                    report = propagate_videos(make, *work, on_frame, _print_objects)
        written = {
            "masks": self._flags.output_dir,
            "embeddings": embeddings_dir,
            "distance maps": distance_maps_dir,
            "overlays": self._flags.overlay or self._flags.overlays,
        }
        _print_report(report, len(videos), written)
        if self._flags.submission is not None:
            self._write_submission(videos)

    def _write_embeddings(
        self, output: str, video: InputVideo, position: int, predictor: VideoPredictor
    ) -> None:
        """Writes `<folder of the video>/<frame>.npz`, with the array `embeddings`.

        It is float32 [h, w, channels] at stride 4 of the size the model runs at; its corner vectors
        belong to the corner pixels of the frame.
        """
        path = self._folder(output, video) / f"{video.frames.name(position)}.npz"
        with atomic_files.replacing(path) as temporary:
            np.savez(temporary, embeddings=predictor.embeddings)

    def _write_submission(self, videos: list[InputVideo]) -> None:
        path, output = self._flags.submission, self._flags.output_dir
        dataset = self._dataset.choice().dataset
        count = submission.write(path, dataset, videos, lambda video: self._folder(output, video))
        print(f"submission: {path}, {count} masks of {len(videos)} sequences")

    def _check(self) -> None:
        """Raises InputError if the flags contradict each other."""
        chosen, is_video = self._dataset.choice(), self._flags.video is not None
        if chosen.root is None or not is_video:
            self._video.check()
        if [chosen.root, self._flags.video, self._flags.videos].count(None) != 2:
            raise InputError(
                "expected either --dataset_root (a data set), --video (one video) or --videos "
                "(many)"
            )
        if self._flags.output_dir is None and self._flags.first_frame is None:
            raise InputError("expected --output_dir, the folder to write masks to")
        if self._flags.submission is not None:
            if chosen.root is None:
                raise InputError("--submission needs --dataset_root")
            submission.check(self._flags.submission, chosen.dataset, chosen.sequences is None)
        datasets.check_names("--save", self._flags.save, list(FURTHER))
        wrong = "overlays" if is_video else "overlay"
        if self._flags[wrong].value is not None:
            raise InputError(
                "expected --overlay=FILE.mp4 with --video, --overlays=FOLDER with many videos, "
                f"found --{wrong}"
            )
        if self._flags.overlay is not None:
            video_writing.check_video_path(self._flags.overlay)

    def _prompter(self, make_predictor: Callable[[], Propagator]) -> tuple:
        """Returns a function that makes the predictor, and the prompter for --points, if given."""

        def make() -> Propagator:
            tqdm.write("loading the model ...")
            return make_predictor()

        if self._flags.points is None:
            return make, None
        predictor = make()
        if self._flags.ray or not hasattr(predictor, "prompter"):
            raise InputError("--points is for feelvos_tf.predict without --ray")
        return lambda: predictor, predictor.prompter()

    def _videos(self, points_folder: str, prompter: Prompter | None) -> list[InputVideo]:
        chosen = self._dataset.choice()
        if chosen.root is None:
            return self._video.input_videos(points_folder, prompter)
        return input_video.from_dataset(chosen.list_sequences("first"))

    def _outputs(
        self, maps_dir: str | None, waiting: collections.deque, video: InputVideo
    ) -> Outputs:
        masks = self._folder(self._flags.output_dir, video)
        files = [FURTHER[name](masks) for name in self._flags.save]
        if self._flags.overlay is not None:
            files.append(OverlayFiles(pathlib.Path(self._flags.overlay)))
        if self._flags.overlays is not None:
            folder = pathlib.Path(self._flags.overlays)
            _check_inside(folder / f"{video.name}.mp4", folder)
            files.append(OverlayFiles(folder / f"{video.name}.mp4", folder / f"{video.name}.jpg"))
        if maps_dir is not None:
            files.append(distance_maps.DistanceMapFiles(self._folder(maps_dir, video), waiting))
        return Outputs(masks, tuple(files))

    def _folder(self, output: str, video: InputVideo) -> pathlib.Path:
        """Returns the folder of a video: `output` itself, or a subfolder with several videos."""
        root = pathlib.Path(output)
        if self._flags.video is not None:
            return root
        folder = root / video.name
        _check_inside(folder, root)
        return folder


def _check_inside(path: pathlib.Path, root: pathlib.Path) -> None:
    """Raises InputError if a path below `root` leads elsewhere through links or dots."""
    try:
        real, real_root = path.resolve(), root.resolve()
        if path.is_symlink() and not path.exists():
            raise OSError("it is a link that leads nowhere")
    except (OSError, RuntimeError) as error:  # RuntimeError: a loop of links.
        raise InputError(f"{path}: cannot be written, {error}") from error
    if real_root not in real.parents:
        raise InputError(f"{path}: expected a path inside {root}, found one that leads to {real}")


def _print_report(report: Report, num_videos: int, written: dict[str, str | None]) -> None:
    """Prints what was done; raises InputError if a video failed."""
    if report.complete:
        print(
            f"{len(report.complete)} of {num_videos} sequences were already complete "
            "(--overwrite redoes them)"
        )
    if report.done:
        print(report.timing.sentence())
    for name, sentence in report.lost.items():
        print(f"{name}: {sentence}")
    for kind, path in written.items():
        if path is not None:
            print(f"{kind}: {path}")
    for name, sentence in report.failed.items():
        tqdm.write(f"failed: {name}: {sentence}", file=sys.stderr)
    if report.failed:
        raise InputError(f"{len(report.failed)} of {num_videos} videos failed")


def _print_objects(video: InputVideo) -> None:
    """Prints the objects and how the masks were read above the progress bar."""
    tqdm.write(f"{video.name}: objects {', '.join(map(str, video.object_ids()))}")
    if video.reading():
        tqdm.write(f"{video.name}: the masks were read as {video.reading()}")


@contextlib.contextmanager
def _stopping(videos: list[InputVideo], continues: bool) -> Iterator[None]:
    """Makes SIGTERM act like Ctrl-C, and the first Ctrl-C end a live video (camera or pipe)."""
    live = [video.source for video in videos if video.source.is_live]

    def stop_live() -> None:
        for frames in live:
            frames.stop()

    def interrupt(*_: object) -> None:
        stop_live()
        raise KeyboardInterrupt

    def end_of_video(*_: object) -> None:
        stop_live()
        tqdm.write("stopping after this frame; press Ctrl-C again to stop at once")
        signal.signal(signal.SIGINT, interrupt)

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGTERM, interrupt)
    if live:
        signal.signal(signal.SIGINT, end_of_video)
    try:
        yield
    except KeyboardInterrupt:
        if continues and not live:
            tqdm.write("run the same command again to continue from here")
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
