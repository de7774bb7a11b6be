"""Scores as one HTML file that needs nothing else: tables, curves over time, pictures."""

from __future__ import annotations

import dataclasses
import html
import os
import pathlib

import numpy as np

from feelvos_tf.core import atomic_files
from feelvos_tf.evaluation import region_and_contour, tables
from feelvos_tf.evaluation.protocols import SequenceGroundTruth
from feelvos_tf.evaluation.region_and_contour import SequenceScores
from feelvos_tf.evaluation.report import curves, pictures
from feelvos_tf.evaluation.report.style import STYLE
from feelvos_tf.evaluation.score_predictions import Scores


@dataclasses.dataclass(frozen=True)
class Scored:
    """One folder of predictions with its scores."""

    folder: pathlib.Path
    scores: Scores

    def find(self, name: str) -> SequenceScores | None:
        """Returns the scores of a sequence; None where it was not there to be scored."""
        return next((one for one in self.scores.sequences if one.name == name), None)


def write_report(
    path: str | os.PathLike[str],
    targets: list[SequenceGroundTruth],
    shown: Scored,
    compared: Scored | None = None,
) -> None:
    """Writes the report, whole or not at all.

    Args:
      path: the HTML file.
      targets: the ground truth that was scored against.
      shown: the predictions that the report is about.
      compared: other predictions of the same targets, shown beside them.
    """
    by_name = {target.name: target for target in targets}
    sections = [
        _section(by_name[sequence.name], sequence, shown, compared)
        for sequence in shown.scores.sequences
    ]
    title = f"Scores of {html.escape(shown.folder.name)}"
    page = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style>'
        f"</head><body><h1>{title}</h1>{_overall(shown, compared)}{_table(shown, compared)}"
        f"{_missing(shown, compared)}{''.join(sections)}</body></html>\n"
    )
    with atomic_files.replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def _overall(shown: Scored, compared: Scored | None) -> str:
    """Returns the large numbers on top."""
    other = None if compared is None else dict(_means(compared.scores.summary))
    cards = []
    for name, value in _means(shown.scores.summary):
        difference = "" if other is None else _difference(value, other[name])
        cards.append(
            f"<div class=card><b>{_number(value)}</b>{difference}<span>{name}</span></div>"
        )
    against = ""
    if compared is not None:
        against = (
            f"<p>Compared with <b>{html.escape(compared.folder.name)}</b>, whose curves are "
            f"dashed. Where a difference is positive, {html.escape(shown.folder.name)} is "
            "better.</p>"
        )
    return f"<div class=cards>{''.join(cards)}</div>{against}"


def _means(summary: region_and_contour.Summary) -> list[tuple[str, float]]:
    if summary.f is None:
        return [("J mean", summary.j.mean)]
    return [
        ("J&amp;F mean", summary.j_and_f),
        ("J mean", summary.j.mean),
        ("F mean", summary.f.mean),
    ]


def _table(shown: Scored, compared: Scored | None) -> str:
    """Returns a row of values per sequence, the best and worst marked, and one for all."""
    summaries = [region_and_contour.summarise([one]) for one in shown.scores.sequences]
    remarks = tables.best_and_worst(summaries)
    rows = [
        _row(one.name, summary, remark, compared)
        for one, summary, remark in zip(shown.scores.sequences, summaries, remarks)
    ]
    columns = "".join(
        f"<th>{html.escape(name.replace('-', ' '))}</th>"
        for name in tables.summary_row(shown.scores.summary)
    )
    head = f"<th>sequence</th>{columns}{'<th>difference</th>' if compared else ''}<th></th>"
    total = "".join(
        f"<td>{_number(value)}</td>" for value in tables.summary_row(shown.scores.summary).values()
    )
    foot = f"<td>all objects</td>{total}{'<td></td>' if compared else ''}<td></td>"
    return (
        f"<div class=wide><table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody>"
        f"<tfoot><tr>{foot}</tr></tfoot></table></div>"
    )


def _row(
    name: str, summary: region_and_contour.Summary, remark: str, compared: Scored | None
) -> str:
    link = f'<td><a href="#{html.escape(name)}">{html.escape(name)}</a></td>'
    values = tables.summary_row(summary).values()
    cells = "".join(f"<td>{_number(value)}</td>" for value in values)
    difference = ""
    if compared is not None:
        other = compared.find(name)
        value = np.nan
        if other is not None:
            value = tables.ranking_value(region_and_contour.summarise([other]))
        difference = f"<td>{_difference(tables.ranking_value(summary), value)}</td>"
    return f'<tr class="{remark}">{link}{cells}{difference}<td>{remark}</td></tr>'


def _missing(*folders: Scored | None) -> str:
    """Returns what was not scored, which a reader of the averages must know."""
    sentences = [
        f"<li>{html.escape(one.folder.name)}: {html.escape(sentence)}</li>"
        for one in folders
        if one is not None
        for sentence in one.scores.missing
    ]
    return f"<h2>Not scored</h2><ul>{''.join(sentences)}</ul>" if sentences else ""


def _section(
    target: SequenceGroundTruth, sequence: SequenceScores, shown: Scored, compared: Scored | None
) -> str:
    """Returns curves and pictures of one sequence."""
    other = None if compared is None else compared.find(sequence.name)
    curves = _panel("J", sequence, sequence.j, other and _aligned(other.j, other, sequence))
    if sequence.f is not None:
        curves += _panel("F", sequence, sequence.f, other and _aligned(other.f, other, sequence))
    pictures = _pictures(target, sequence, shown, compared)
    name = html.escape(sequence.name)
    return (
        f'<section id="{name}"><h2>{name}</h2>{_legend(sequence)}'
        f"<div class=pair>{curves}</div><div class=pair>{pictures}</div></section>"
    )


def _panel(
    measure: str, sequence: SequenceScores, values: np.ndarray, compared: np.ndarray | None
) -> str:
    drawing = curves.draw(measure, sequence.frames, sequence.objects, values, compared)
    return f"<figure>{drawing}<figcaption>{measure} of each frame</figcaption></figure>"


def _aligned(values: np.ndarray, scored: SequenceScores, shown: SequenceScores) -> np.ndarray:
    """Returns values [objects, frames] in the shown frames; NaN for those not scored there."""
    position = {frame: i for i, frame in enumerate(scored.frames)}
    result = np.full([len(values), len(shown.frames)], np.nan)
    for i, frame in enumerate(shown.frames):
        if frame in position:
            result[:, i] = values[:, position[frame]]
    return result


def _legend(sequence: SequenceScores) -> str:
    """Returns the objects' colours and averages."""
    entries = []
    f_statistics = sequence.f_statistics() or [None] * len(sequence.objects)
    for object_id, j, f in zip(sequence.objects, sequence.j_statistics(), f_statistics):
        text = f"object {object_id}: J {_number(j.mean)}"
        text += "" if f is None else f", F {_number(f.mean)}"
        swatch = f'<i style="background:{curves.colour(object_id)}"></i>'
        entries.append(f"<span>{swatch}{text}</span>")
    return f"<p class=legend>{''.join(entries)}</p>"


def _pictures(
    target: SequenceGroundTruth, sequence: SequenceScores, shown: Scored, compared: Scored | None
) -> str:
    """Returns the best and the worst frame, and the same frames of the compared predictions."""
    values = frame_values(sequence)
    if np.isnan(values).all():
        return ""
    figures = []
    for word, i in (("best", int(np.nanargmax(values))), ("worst", int(np.nanargmin(values)))):
        frame = sequence.frames[i]
        caption = f"{word} frame {html.escape(frame)}: {_number(values[i])}"
        figures.append(_figure(target, frame, shown.folder, caption))
        other = None if compared is None else compared.find(sequence.name)
        if other is not None and frame in other.frames:
            value = frame_values(other)[other.frames.index(frame)]
            caption = f"the same in {html.escape(compared.folder.name)}: {_number(value)}"
            figures.append(_figure(target, frame, compared.folder, caption))
    return "".join(figures)


def _figure(target: SequenceGroundTruth, frame: str, folder: pathlib.Path, caption: str) -> str:
    source = pictures.frame_picture(target, frame, folder)
    return (
        f'<figure><img src="{source}" alt="{caption}">'
        f"<figcaption>{caption} (white: ground truth)</figcaption></figure>"
    )


def frame_values(sequence: SequenceScores) -> np.ndarray:
    """Returns J&F of each frame, or J where F is not measured, averaged over its objects."""
    values = sequence.j if sequence.f is None else (sequence.j + sequence.f) / 2
    known = ~np.isnan(values)
    count = known.sum(axis=0)
    total = np.where(known, values, 0).sum(axis=0)
    return np.divide(total, count, out=np.full(len(count), np.nan), where=count > 0)


def _number(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.3f}"


def _difference(value: float, other: float) -> str:
    """Returns how much higher a value is than the compared one."""
    if np.isnan(value) or np.isnan(other):
        return "<em>-</em>"
    kind = "up" if value > other else "down" if value < other else ""
    return f'<em class="{kind}">{value - other:+.3f}</em>'
