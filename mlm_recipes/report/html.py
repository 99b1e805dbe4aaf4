"""The Jinja environment that renders the pages and the model card."""

from __future__ import annotations

from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, pass_eval_context, select_autoescape
from jinja2.nodes import EvalContext

from ..sources.escaping import markdown


@cache
def environment() -> Environment:
    """Return the Jinja environment for all templates: every value is escaped, and an undefined name is an error.

    Values are escaped for HTML in a template whose name ends in `.html`, for Markdown in any other.

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
    # The Markdown counterpart of Jinja's HTML escaping: applied to everything that a template prints.
    return value if context.autoescape else markdown(value)
