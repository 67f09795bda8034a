"""HTML from templates that escape every value and fail where one is missing."""

from pathlib import Path

import jinja2


def template(path: Path) -> jinja2.Template:
    """The template in a file."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(path.parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(path.name)
