"""Segments the videos of a data set into COCO RLE and reads it with pycocotools.

Running it again resumes where it stopped and skips complete videos. The same as a command:
`python -m feelvos_tf.predict --dataset_root=testdata --output_dir=OUT --save=rle
--inference_size=160`.
"""

import pathlib

from pycocotools.coco import COCO

import feelvos_tf
from feelvos_tf.data import datasets
from feelvos_tf.inference import input_video
from feelvos_tf.inference.propagation import Outputs, propagate_videos
from feelvos_tf.media import result_files

OUTPUT = pathlib.Path("examples_output")


def outputs_of(video: input_video.InputVideo) -> Outputs:
    """Returns where the masks and other files of a video go."""
    folder = OUTPUT / video.name
    return Outputs(folder, (result_files.RunLengths(folder / "masks.json"),))


sequences = datasets.list_sequences("testdata", split="val", require_masks="first")
report = propagate_videos(
    lambda: feelvos_tf.load(inference_size=160),
    input_video.from_dataset(sequences),
    outputs_of,
    settings={"inference_size": 160},
)
print(report.timing.sentence())

for sequence in sequences:
    coco = COCO(OUTPUT / sequence.name / "masks.json")
    last = coco.loadImgs(max(coco.getImgIds()))[0]
    for annotation in coco.loadAnns(coco.getAnnIds(imgIds=last["id"])):
        mask = coco.annToMask(annotation)  # uint8 [height, width]
        assert mask.sum() == annotation["area"]
        print(
            f"{sequence.name}, {last['file_name']}: object {annotation['object_id']}, {mask.sum()}"
        )
