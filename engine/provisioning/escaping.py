"""Writing values into XML templates without a wrapper object for each (pure).

Jinja writes `{{ value }}` as `escape(value)`, which makes a `Markup` of every value, only for it to be joined with the
rest. A configuration holds hundreds of values, most of them short and without any mark; here they are written as they
are. The bytes are the same as markupsafe's.
"""

import re
from typing import Any

from jinja2 import Environment, nodes
from jinja2.compiler import CodeGenerator, Frame
from markupsafe import escape

_MARKS = re.compile("[&<>'\"]")
_WRITTEN = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", "'": "&#39;", '"': "&#34;"})


def escaped_text(value: str) -> str:
    """The text as element content or inside quotes."""
    return value if _MARKS.search(value) is None else value.translate(_WRITTEN)


def escaped(value: Any) -> str:
    """Any value as it stands in XML; `Markup` as it is."""
    kind = type(value)
    if kind is str:
        text: str = value
        return text if _MARKS.search(text) is None else text.translate(_WRITTEN)
    return str(value) if kind is int else str(escape(value))


class Escaping(CodeGenerator):
    """Jinja's compiler with values written by the environment's own `escaped`."""

    def _output_child_pre(self, node: nodes.Expr, frame: Frame, finalize: Any) -> None:
        if frame.eval_ctx.autoescape and finalize.src is None:
            self.write("environment.escaped(")
        else:
            super()._output_child_pre(node, frame, finalize)


class EscapingEnvironment(Environment):
    """Where shipped templates are compiled."""

    code_generator_class = Escaping
    escaped = staticmethod(escaped)
