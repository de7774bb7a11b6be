"""Finds the frames and masks of a data set on disk, as lists of `VideoFiles` (paths, no pixels).

Each data set is one entry of `DATASETS`, which describes its layout (a frame and its mask have the
same stem):

    davis_2016, davis_2017            youtube_vos                    youtube_objects
    ROOT/                             ROOT/<split>/                  ROOT/
      JPEGImages/480p/<seq>/*.jpg       JPEGImages/<seq>/*.jpg         JPEGImages/<seq>/*.jpg
      Annotations/480p/<seq>/*.png      Annotations/<seq>/*.png        Annotations/<seq>/*.png
      ImageSets/2017/<split>.txt        meta.json                      ImageSets/*.txt (or none)

DAVIS 2016 as first published keeps its lists in `ImageSets/480p/`, with a pair of paths per line
instead of a name; both forms are read. YouTube-VOS (`valid`) ships masks only for the frames in
which an object first appears, YouTube-Objects for about every tenth frame: `VideoFiles.masks` holds
None for the others. YouTube-Objects is not published in such a layout; convert it to the one above.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, get_args

from feelvos_tf.core import whole_files
from feelvos_tf.core.constants import VOID
from feelvos_tf.core.errors import InputError
from feelvos_tf.media import pictures

MaskRequirement = Literal["all", "first", "none"]


@dataclass(frozen=True)
class DatasetLayout:
    """Where the frames, masks and lists of a data set are below its root.

    Attributes:
      split_files: files that may list a split, with `{split}` and `{resolution}` filled in; the
        first one that exists is used. Without any, every folder is a sequence.
      needs_split_file: whether one of them must exist.
      has_resolutions: `JPEGImages` and `Annotations` contain one folder per resolution.
      has_split_folders: every split is a folder that contains `JPEGImages`.
      binary_masks: masks hold 0 and 255, and 255 is the one object (not void).
      begins_at_first_mask: frames before a sequence's first mask are skipped.
      meta_file: JSON file next to `JPEGImages` that lists the frames of every object.
    """

    split_files: tuple[str, ...] = ()
    needs_split_file: bool = True
    has_resolutions: bool = False
    has_split_folders: bool = False
    binary_masks: bool = False
    begins_at_first_mask: bool = False
    meta_file: str | None = None


DATASETS = {
    "davis_2016": DatasetLayout(
        split_files=("ImageSets/2016/{split}.txt", "ImageSets/{resolution}/{split}.txt"),
        has_resolutions=True,
        binary_masks=True,
    ),
    "davis_2017": DatasetLayout(split_files=("ImageSets/2017/{split}.txt",), has_resolutions=True),
    "youtube_vos": DatasetLayout(has_split_folders=True, meta_file="meta.json"),
    "youtube_objects": DatasetLayout(
        split_files=("ImageSets/{split}.txt",),
        needs_split_file=False,
        binary_masks=True,
        # Propagation starts from a mask, and frame 0 does not always have one.
        begins_at_first_mask=True,
    ),
}


@dataclass(frozen=True)
class VideoFiles:
    """One video on disk.

    Attributes:
      name: the folder's name.
      frames: the images in order.
      masks: one per frame; None for frames without ground truth.
      binary_masks: the masks hold 0 and 255, and 255 is the one object (not void).
      mask_colors: (red, green, blue) -> id, if the masks hold colors.
      object_frames: YouTube-VOS only: object id -> the positions in `frames` at which `meta.json`
        lists it, ascending. Its mask is given at the first; the later ones are scored.
    """

    name: str
    frames: tuple[Path, ...]
    masks: tuple[Path | None, ...]
    binary_masks: bool = False
    mask_colors: dict[tuple[int, int, int], int] = field(default_factory=dict, hash=False)
    object_frames: dict[int, tuple[int, ...]] = field(default_factory=dict, hash=False)


def list_sequences(
    root: str | Path,
    dataset: str = "davis_2017",
    split: str = "val",
    resolution: str = "480p",
    sequences: Iterable[str] | None = None,
    require_masks: MaskRequirement = "all",
    require_frames: bool = True,
) -> list[VideoFiles]:
    """Returns the files of every sequence of a split, in the order of its list.

    Args:
      root: the data set's folder.
      dataset: one of `DATASETS`.
      split: name of the list or, for YouTube-VOS, of the folder (`val` also finds `valid`).
      resolution: the folder below `JPEGImages` and `Annotations`; DAVIS only.
      sequences: names to keep; None keeps all.
      require_masks: which frames must have a mask: `all`, `first` (only the first) or `none`.
      require_frames: False accepts a root without `JPEGImages`; the masks then stand in for the
        frames.

    Raises:
      InputError: a folder, list, sequence, frame or required mask is missing.
    """
    check_names("dataset", [dataset], list(DATASETS))
    check_names("require_masks", [require_masks], get_args(MaskRequirement))
    layout = DATASETS[dataset]
    root = Path(root)
    whole_files.check_is_folder(root, "a data set")
    base = root
    if layout.has_split_folders:
        base /= "valid" if split == "val" and not (root / "val").is_dir() else split
        whole_files.check_is_folder(base, f"the split {base.name!r}")
    subfolder = resolution if layout.has_resolutions else ""
    annotations = base / "Annotations" / subfolder
    images = base / "JPEGImages" / subfolder
    if not require_frames and not images.is_dir():
        images = annotations
    kind = "masks" if images == annotations else "frames"
    whole_files.check_is_folder(images, f"the folder of {dataset}'s {kind}")
    names = _split_names(images, _split_file(root, split, resolution, layout))
    if sequences is not None:
        wanted = list(sequences)
        check_names(f"sequences of the split {split!r}", wanted, names)
        names = [name for name in names if name in wanted]
    appearances = _read_meta(base / layout.meta_file) if layout.meta_file else {}
    return [
        _with_objects(
            in_folders(images / name, annotations / name, layout, require_masks),
            appearances.get(name, {}),
        )
        for name in names
    ]


def with_masks_alone(video: VideoFiles) -> VideoFiles:
    """Returns the video reduced to the frames that have a mask.

    Raises:
      InputError: no frame has one.
    """
    pairs = [(frame, mask) for frame, mask in zip(video.frames, video.masks) if mask is not None]
    if not pairs:
        raise InputError(f"{video.name}: expected masks to train on, found none")
    frames, masks = zip(*pairs)
    return replace(video, frames=frames, masks=masks, object_frames={})


def _split_names(images: Path, split_file: Path | None) -> list[str]:
    """Returns the names of the split's sequences, each with an existing folder below `images`."""
    if split_file is None:
        names = sorted(entry.name for entry in images.iterdir() if entry.is_dir())
    else:
        lines = whole_files.read_text(split_file, "a list of sequences").splitlines()
        names = list(dict.fromkeys(_name_in_line(line) for line in lines if line.strip()))
    source = split_file or images
    if not names:
        raise InputError(f"{source} lists no sequences")
    for name in names:
        # Results go into a folder of this name, which must not lead out of the output folder.
        if name in ("", ".", "..") or "/" in name or not name.isprintable():
            raise InputError(f"{source}: expected sequence names, found {name!r}")
        if not (images / name).is_dir():
            raise InputError(
                f"{source} lists the sequence {name!r}, but {images / name} is missing"
            )
    return names


def _split_file(root: Path, split: str, resolution: str, layout: DatasetLayout) -> Path | None:
    """Returns the file that lists the split, or None if every folder is a sequence."""
    candidates = [
        root / pattern.format(split=split, resolution=resolution) for pattern in layout.split_files
    ]
    for path in candidates:
        if path.is_file():
            return path
    if not candidates or not layout.needs_split_file:
        return None
    there = sorted(path.stem for path in candidates[0].parent.glob("*.txt"))
    raise InputError(
        f"split file {candidates[0]} does not exist (splits found next to it: "
        f"{', '.join(there) or 'none'})"
    )


def _name_in_line(line: str) -> str:
    """Returns `bear` for `bear` and for `/JPEGImages/480p/bear/00000.jpg /Annotations/...`."""
    return line.split()[0].split("/")[-2] if "/" in line else line.strip()


def check_names(what: str, names: Iterable[str], known: Sequence[str]) -> None:
    """Raises InputError if a name, described by `what`, is not known: a typo."""
    for name in names:
        if name not in known:
            raise InputError(f"{what}: expected some of {', '.join(known)}, found {name!r}")


def in_folders(
    images: Path,
    annotations: Path,
    layout: DatasetLayout = DatasetLayout(),
    require_masks: MaskRequirement = "all",
) -> VideoFiles:
    """Returns the video whose frames and masks lie directly in two folders, or in one.

    Raises:
      InputError: there is no frame, a required mask is missing, or a mask has no frame.
    """
    suffixes = (".png",) if images == annotations else (".jpg", ".jpeg")
    frames = visible_files(images, suffixes)
    if not frames:
        raise InputError(f"{images} holds no {suffixes[0]} frame")
    by_stem = {path.stem: path for path in visible_files(annotations, (".png",))}
    if layout.begins_at_first_mask and by_stem:
        first = pictures.natural_key(next(iter(by_stem.values())))
        frames = [frame for frame in frames if pictures.natural_key(frame) >= first]
    stems = [frame.stem for frame in frames]
    with_mask = {"all": stems, "first": stems[:1], "none": []}[require_masks]
    missing = [stem for stem in with_mask if stem not in by_stem]
    surplus = sorted(set(by_stem) - set(stems))
    counts = f"{len(stems)} images in {images}, {len(by_stem)} masks in {annotations}"
    if surplus:
        raise InputError(f"{images.name}: mask {surplus[0]}.png has no image ({counts})")
    if missing:
        which = "the first frame" if require_masks == "first" else "frame"
        raise InputError(
            f"{images.name}: expected a mask of {which} {missing[0]}, found none ({counts})"
        )
    masks = tuple(map(by_stem.get, stems))
    return VideoFiles(images.name, tuple(frames), masks, layout.binary_masks)


def _read_meta(path: Path) -> dict[str, dict[int, list[str]]]:
    """Returns sequence -> object id -> stems of its frames; empty if the file does not exist."""
    if not path.is_file():
        return {}
    what = "a YouTube-VOS meta file (videos > NAME > objects > ID > frames)"
    with whole_files.errors_about(path, what):
        videos = whole_files.read_json(path, what)["videos"]
        return {
            name: {
                _object_id(key): list(map(str, entry["frames"]))
                for key, entry in video["objects"].items()
            }
            for name, video in videos.items()
        }


def _object_id(text: str) -> int:
    """Returns the id in 1..254. Raises ValueError if the text is not one."""
    if not (text.isdecimal() and len(text) < 4 and 0 < int(text) < VOID):
        raise ValueError(f"expected object ids 1..{VOID - 1}, found {text!r}")
    return int(text)


def _with_objects(video: VideoFiles, appearances: dict[int, list[str]]) -> VideoFiles:
    """Returns the video with the positions of the frames at which each object is listed."""
    position = {frame.stem: index for index, frame in enumerate(video.frames)}
    positions = {}
    for object_id, stems in sorted(appearances.items()):
        unknown = [stem for stem in stems if stem not in position]
        if unknown or not stems:
            raise InputError(
                f"{video.name}: expected object {object_id} of meta.json in frames of "
                f"{video.frames[0].parent}, found {unknown[0] if unknown else 'none'}"
            )
        positions[object_id] = tuple(sorted(position[stem] for stem in stems))
    return replace(video, object_frames=positions)


def visible_files(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """Returns the files with one of the suffixes in natural order; none if there is no folder."""
    if not folder.is_dir():
        return []
    found = (path for path in folder.iterdir() if pictures.is_visible(path, suffixes))
    return pictures.in_natural_order(found)


def files_by_folder(root: Path, suffixes: tuple[str, ...]) -> dict[Path, list[Path]]:
    """Returns folder, relative to `root` -> its visible files in natural order, if it has some."""
    found = {}
    for folder, subfolders, names in os.walk(root, followlinks=True):
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        paths = [Path(folder, name) for name in names]
        visible = [path for path in paths if pictures.is_visible(path, suffixes)]
        if visible:
            found[Path(folder).relative_to(root)] = pictures.in_natural_order(visible)
    return found
