"""A TensorFlow Datasets builder for every data set that this project supports, from its folders.

    folder = tfds.download.DownloadConfig(manual_dir="DAVIS")
    tfds.builder("feelvos_videos/davis_2017_480p").download_and_prepare(download_config=folder)

prepares one in ~/tensorflow_datasets/feelvos_videos/davis_2017_480p. The features are those of
tfds's own `davis`: one example per video. (Needs `pip install -e '.[tfds]'`.)
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from feelvos_tf.core.errors import InputError
from feelvos_tf.data import datasets, own_folders
from feelvos_tf.media import masks


class FeelvosVideos(tfds.core.GeneratorBasedBuilder):
    """Videos with a mask for every frame."""

    VERSION = tfds.core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = "manual_dir is the data set's own folder."
    BUILDER_CONFIGS = [
        tfds.core.BuilderConfig(name=name)
        for name in (
            "davis_2017_480p",
            "davis_2016_480p",
            "youtube_vos",
            "youtube_objects",
            "folder",
        )
    ]

    def _info(self) -> tfds.core.DatasetInfo:
        mask = tfds.features.Image(shape=(None, None, 1), encoding_format="png")
        video = {"frames": tfds.features.Image(shape=(None, None, 3)), "segmentations": mask}
        return tfds.core.DatasetInfo(
            builder=self,
            description=__doc__,
            features=tfds.features.FeaturesDict(
                {
                    "video": tfds.features.Sequence(video),
                    "metadata": {"num_frames": np.int64, "video_name": np.str_},
                }
            ),
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        root = str(dl_manager.manual_dir)
        if self.builder_config.name == "folder":
            return {"train": self._generate_examples(own_folders.list_folder(root))}
        found = {"train": self._list(root, "train")}
        with contextlib.suppress(InputError):  # Only the training split is required.
            found["val"] = self._list(root, "val")
        return {split: self._generate_examples(videos) for split, videos in found.items()}

    def _list(self, root: str, split: str) -> list[datasets.VideoFiles]:
        dataset = self.builder_config.name.removesuffix("_480p")
        listed = datasets.list_sequences(root, dataset, split, require_masks="none")
        return [datasets.with_masks_alone(video) for video in listed]

    def _generate_examples(
        self, videos: list[datasets.VideoFiles]
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        for video in videos:
            how = video.binary_masks, video.mask_colors
            ids = [masks.read_annotation(path, *how)[..., np.newaxis] for path in video.masks]
            content = {"frames": list(map(str, video.frames)), "segmentations": ids}
            metadata = {"num_frames": len(video.frames), "video_name": video.name}
            yield video.name, {"video": content, "metadata": metadata}
