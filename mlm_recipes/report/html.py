"""The one environment in which pages and the model card are rendered."""

from __future__ import annotations

from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, pass_eval_context, select_autoescape
from jinja2.nodes import EvalContext

from ..sources.escaping import markdown


@cache
def environment() -> Environment:
    """Return what templates are rendered with: every value is escaped, and a misspelt one is an error.

    In a template whose name ends in `.html` values are escaped for HTML, in any other for Markdown.

    >>> environment().from_string("{{ value }}").render(value="<b>")
    '&lt;b&gt;'
    """
    return Environment(
        loader=PackageLoader("mlm_recipes.report"),
        autoescape=select_autoescape(),
        finalize=_escape_unless_html,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


@pass_eval_context
def _escape_unless_html(context: EvalContext, value: Any) -> Any:
    # What Jinja's escaping is for HTML: applied to whatever a template prints, so that none can forget it.
    return value if context.autoescape else markdown(value)
