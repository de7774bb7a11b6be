"""Fills the report's templates; all inserted text is escaped."""

from __future__ import annotations

import pathlib
from typing import Any

import jinja2
import markupsafe

from feelvos_tf.evaluation import tables


def render(template: str, **values: Any) -> markupsafe.Markup:
    """Returns a filled template, which can be inserted into another one unescaped.

    Args:
      template: name of a file in `templates/`.
      **values: values of its variables; a missing one is an error.
    """
    return markupsafe.Markup(_ENVIRONMENT.get_template(template).render(**values))


_ENVIRONMENT = jinja2.Environment(
    loader=jinja2.FileSystemLoader(pathlib.Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_ENVIRONMENT.filters["number"] = tables.number
