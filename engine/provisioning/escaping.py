"""Writing values into templates without a wrapper object for each, and without asking twice for the same one (pure).

Jinja writes `{{ value }}` as `escape(value)`, which makes a `Markup` of every value, only for it to be joined with the
rest, and hands on each piece of text by itself. A configuration holds hundreds of values, most of them short and
without any mark, and names of settings that are written twice, in an opening tag and a closing one. Here what stands
between two statements is one text, a value is written as it is where it has no mark, and one that stands there again is
written again as it was. The bytes are the same as Jinja's and markupsafe's.
"""

import keyword
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

from jinja2 import Environment, nodes
from jinja2.compiler import CodeGenerator, Frame
from markupsafe import escape

_MARKS = re.compile("[&<>'\"]")
_WRITTEN = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", "'": "&#39;", '"': "&#34;"})
VALUE = "written_value"  # in what is compiled: no name of a template begins like this
_Piece = list[Any] | nodes.Expr  # constant texts that follow one another, or what is asked for at run time


def escaped_text(value: str) -> str:
    """The text as element content or inside quotes."""
    return value if value.isalnum() or _MARKS.search(value) is None else value.translate(_WRITTEN)


def escaped(value: Any) -> str:
    """Any value as it stands in XML; `Markup` as it is."""
    kind = type(value)
    if kind is str:
        text: str = value
        return text if text.isalnum() or _MARKS.search(text) is None else text.translate(_WRITTEN)
    return str(value) if kind is int else str(escape(value))


class WholeOutput(CodeGenerator):
    """Jinja's compiler with the text between two statements handed on in one piece."""

    def visit_Output(self, node: nodes.Output, frame: Frame) -> None:  # noqa: N802  # as Jinja names it
        pieces = self._pieces(node, frame)
        if frame.buffer is not None or frame.require_output_check or len(pieces) == 1:
            super().visit_Output(node, frame)
            return
        asked = Counter(_path(piece) for piece in pieces if isinstance(piece, nodes.Expr))
        kept: dict[tuple[str, ...], str] = {}
        self.writeline('yield "".join((', node)
        self.indent()
        for piece in pieces:
            if isinstance(piece, list):
                self.writeline(f"{self._output_const_repr(piece)},")
            else:
                self.newline(piece)
                path = _path(piece)
                self._write_value(piece, frame, kept, path if asked[path] > 1 else None)
                self.write(",")
        self.outdent()
        self.writeline("))")

    def _pieces(self, node: nodes.Output, frame: Frame) -> Sequence[_Piece]:
        finalize, pieces = self._make_finalize(), list[_Piece]()
        for child in node.nodes:
            try:
                constant = self._output_child_to_const(child, frame, finalize)
            except Exception:  # noqa: BLE001  # as Jinja does: it is asked for at run time, and fails there
                pieces.append(child)
                continue
            last = pieces[-1] if pieces else None
            if isinstance(last, list):
                last.append(constant)
            else:
                pieces.append([constant])
        return pieces

    def _write_value(
        self, value: nodes.Expr, frame: Frame, kept: dict[tuple[str, ...], str], path: tuple[str, ...] | None
    ) -> None:
        """`path`: of a value that stands there again; None: of any other."""
        if path is None:
            self._write_asked(value, frame)
            return
        if path in kept:
            self._write_kept(kept[path], value, frame)
            return
        kept[path] = self.temporary_identifier()
        self.write(f"({kept[path]} := ")
        self._write_asked(value, frame)
        self.write(")")

    def _write_asked(self, value: nodes.Expr, frame: Frame) -> None:
        finalize = self._make_finalize()
        self._output_child_pre(value, frame, finalize)
        self.visit(value, frame)
        self._output_child_post(value, frame, finalize)

    def _write_kept(self, name: str, value: nodes.Expr, frame: Frame) -> None:  # noqa: ARG002  # for those who charge
        self.write(name)


def _path(value: nodes.Expr) -> tuple[str, ...] | None:
    """How a value is reached that is the same each time it is asked for between two statements: a name, or a part of
    one. None: it may be another each time.
    """
    parts = []
    while not isinstance(value, nodes.Name):
        match value:
            case nodes.Getattr():
                parts.append(f".{value.attr}")
            case nodes.Getitem(arg=nodes.Const(value=place)):
                parts.append(f"[{place!r}]")
            case _:
                return None
        value = value.node
    return (value.name, *reversed(parts))


class Escaping(WholeOutput):
    """Jinja's compiler with values written by the environment's own `escaped`, and attributes read as Python's."""

    def _output_child_pre(self, node: nodes.Expr, frame: Frame, finalize: Any) -> None:
        if frame.eval_ctx.autoescape and finalize.src is None:
            self.write(f"({VALUE} if type({VALUE} := ")
        else:
            super()._output_child_pre(node, frame, finalize)

    def _output_child_post(self, node: nodes.Expr, frame: Frame, finalize: Any) -> None:
        if frame.eval_ctx.autoescape and finalize.src is None:
            self.write(f") is str and {VALUE}.isalnum() else environment.escaped({VALUE}))")
        else:
            super()._output_child_post(node, frame, finalize)

    def visit_Getattr(self, node: nodes.Getattr, frame: Frame) -> None:  # noqa: N802  # as Jinja names it
        """The values that shipped templates see are dataclasses and texts: there is no mapping to look into instead."""
        is_of_self = isinstance(node.node, nodes.Name) and node.node.name == "self"
        if is_of_self or keyword.iskeyword(node.attr) or not isinstance(node.node, nodes.Name | nodes.Getattr):
            super().visit_Getattr(node, frame)
            return
        self.visit(node.node, frame)
        self.write(f".{node.attr}")


class EscapingEnvironment(Environment):
    """Where shipped templates are compiled."""

    code_generator_class = Escaping
    escaped = staticmethod(escaped)
