"""Compiling an account's own template so that its work is counted (pure); `engine.provisioning.sandbox` says why.

The tree that Jinja parsed is changed before it is compiled: calls of the environment's own `step`, `steps`, `weighed`
and `held` are put where work begins. Templates cannot write these calls themselves.
"""

import keyword
from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from typing import Any, cast

import jinja2
from jinja2 import nodes
from jinja2.compiler import Frame
from jinja2.visitor import NodeTransformer

from engine.provisioning.escaping import VALUE, WholeOutput

CHARACTERS_A_STEP = 64
OWNER = "owner_of_value"  # in what is compiled, as `VALUE`: what an attribute is asked of, or a value that is compared
MAX_WHOLE = 2**63
MAX_NODES = 4_000  # the longest shipped template has 700
MAX_ASSIGNED = 200
ALLOWED_TESTS = frozenset(
    {
        "!=", "<", "<=", "==", ">", ">=", "boolean", "defined", "divisibleby", "eq", "equalto", "even", "false",
        "float", "ge", "greaterthan", "gt", "in", "integer", "iterable", "le", "lessthan", "lower", "lt", "mapping",
        "ne", "none", "number", "odd", "sequence", "string", "true", "undefined", "upper",
    }
)  # fmt: skip


class Charging(WholeOutput):
    """Jinja's compiler with what costs work sent through the sandbox."""

    def _output_child_to_const(self, node: nodes.Expr, frame: Frame, finalize: Any) -> str:
        if not isinstance(node, nodes.TemplateData):
            raise nodes.Impossible  # nothing runs while a template is compiled
        return super()._output_child_to_const(node, frame, finalize)

    def _output_child_pre(self, node: nodes.Expr, frame: Frame, finalize: Any) -> None:  # noqa: ARG002  # as Jinja calls
        self.write(f"({VALUE} if type({VALUE} := ")

    def _output_child_post(self, node: nodes.Expr, frame: Frame, finalize: Any) -> None:  # noqa: ARG002  # as Jinja calls
        """A short text is written as it is; the environment looks at anything else."""
        is_plain = f") is str and len({VALUE}) <= {CHARACTERS_A_STEP}"
        if frame.eval_ctx.autoescape:
            self.write(f"{is_plain} and {VALUE}.isalnum() else environment.escaped({VALUE}))")
        else:
            self.write(f"{is_plain} else environment.written({VALUE}))")

    def _write_kept(self, name: str, value: nodes.Expr, frame: Frame) -> None:
        """A long text is paid for each time it is written."""
        self.write(f"({name} if len({name}) <= {CHARACTERS_A_STEP} else ")
        self._write_asked(value, frame)
        self.write(")")

    def visit_Template(self, node: nodes.Template, frame: Frame | None = None) -> None:  # noqa: N802  # as Jinja names it
        self._attributes: dict[str, None] = {}
        super().visit_Template(node, frame)
        for attribute in self._attributes:
            self.writeline(f"having_{attribute} = environment.having({attribute!r})")

    def visit_Getattr(self, node: nodes.Getattr, frame: Frame) -> None:  # noqa: N802  # as Jinja names it
        """Where the environment has found before that this kind of value has such a field, it is not asked again. Names
        beyond ASCII are never written as Python's own: Python reads some of them as others.
        """
        name = node.attr
        if not (name.isascii() and name.isidentifier()) or name[0] == "_" or keyword.iskeyword(name):
            super().visit_Getattr(node, frame)
            return
        self._attributes[name] = None
        self.write(f"({OWNER}.{name} if type({OWNER} := ")
        self.visit(node.node, frame)
        self.write(f") in having_{name} else environment.getattr({OWNER}, {name!r}))")

    def visit_Call(self, node: nodes.Call, frame: Frame, forward_caller: bool = False) -> None:  # noqa: N802  # as Jinja names it
        if not isinstance(node.node, nodes.EnvironmentAttribute):
            super().visit_Call(node, frame, forward_caller=forward_caller)
            return
        if node.node.name == "weighed":
            self.write(f"({OWNER} if (kind_of_value := type({OWNER} := ")
            self.visit(node.args[0], frame)
            self.write(f")) is int or kind_of_value is str and len({OWNER}) <= {CHARACTERS_A_STEP}")
            self.write(f" else environment.weighed({OWNER}))")
            return
        self.write(f"environment.{node.node.name}(")
        for argument in node.args:
            self.visit(argument, frame)
            self.write(", ")
        self.write(")")

    def visit_Concat(self, node: nodes.Concat, frame: Frame) -> None:  # noqa: N802  # as Jinja names it
        join = "markup_join" if frame.eval_ctx.autoescape else "str_join"
        self.write(f"environment.joined({join}, (")
        for argument in node.nodes:
            self.visit(argument, frame)
            self.write(", ")
        self.write("))")


def charge_bodies(tree: nodes.Template) -> None:
    """Tell the compiler where to charge: loops by what they run over, the other bodies as they begin."""
    for loop in list(tree.find_all(nodes.For)):
        weight = _size([*loop.body, *([loop.test] if loop.test is not None else [])])
        items = cast("nodes.Expr", loop.iter)
        loop.iter = _asked("steps", loop.lineno, items, nodes.Const(weight, lineno=loop.lineno))
    for body in list(tree.find_all((nodes.Macro, nodes.CallBlock, nodes.Block))):
        assert isinstance(body, nodes.Macro | nodes.CallBlock | nodes.Block)
        body.body.insert(0, _charge(_size(body.body), body.lineno))
    for comparison in list(tree.find_all(nodes.Compare)):
        comparison.expr = _weighed_unless_plain(comparison.expr)
        for operand in comparison.ops:
            operand.expr = _weighed_unless_plain(operand.expr)
    for item in list(tree.find_all(nodes.Getitem)):
        if isinstance(item.arg, nodes.Slice):  # a slice is a copy
            item.node = _asked("weighed", item.lineno, item.node)
    tree.body.insert(0, _charge(_size(tree.body), 1))
    _Held().visit(tree)


class _Held(NodeTransformer):
    """Lists that hold more than constants are looked at when they are made."""

    def visit_List(self, node: nodes.List) -> nodes.Node:  # noqa: N802  # as Jinja names it
        return self._looked_at(node, node.items)

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Node:  # noqa: N802  # as Jinja names it
        return self._looked_at(node, node.items) if node.ctx == "load" else node

    def visit_Dict(self, node: nodes.Dict) -> nodes.Node:  # noqa: N802  # as Jinja names it
        return self._looked_at(node, [pair.value for pair in node.items])

    def _looked_at(self, node: nodes.Expr, items: list[nodes.Expr]) -> nodes.Node:
        if all(isinstance(item, nodes.Const) or _is_row(item) for item in items):
            return node  # written out: as large as the text, and no deeper than two
        self.generic_visit(node)
        return _asked("held", node.lineno, node)


def _is_row(node: nodes.Expr) -> bool:
    return isinstance(node, nodes.Tuple | nodes.List) and all(isinstance(item, nodes.Const) for item in node.items)


def _weighed_unless_plain(node: nodes.Expr) -> nodes.Expr:
    return node if isinstance(node, nodes.Const) else _asked("weighed", node.lineno, node)


def _asked(name: str, line: int, *arguments: nodes.Expr) -> nodes.Call:
    asked = nodes.EnvironmentAttribute(name, lineno=line)
    return nodes.Call(asked, list(arguments), [], None, None, lineno=line)


def _charge(weight: int, line: int) -> nodes.ExprStmt:
    return nodes.ExprStmt(_asked("step", line, nodes.Const(weight, lineno=line)), lineno=line)


def _size(body: Iterable[nodes.Node]) -> int:
    """The nodes of a body, and what of its text is long; a loop or macro inside charges for itself as well."""
    waiting, size = list(body), 1
    while waiting:
        node = waiting.pop()
        size += 1 + (len(node.data) // CHARACTERS_A_STEP if isinstance(node, nodes.TemplateData) else 0)
        if not isinstance(node, (nodes.Macro, nodes.Block)):
            waiting.extend(node.iter_child_nodes())
    return size


def refuse_forbidden(tree: nodes.Template, name: str, filters: AbstractSet[str]) -> None:
    """Raise TemplateSyntaxError, with its line, for what an account's text may not say at all, and for a text that
    would take long to compile: Jinja's own work grows with the square of what is assigned and branched.
    """
    assigned = 0
    for count, node in enumerate(_all_nodes(tree)):
        assigned += isinstance(node, nodes.Assign | nodes.AssignBlock)
        told = _forbidden(node, filters)
        if count > MAX_NODES or assigned > MAX_ASSIGNED:
            told = f"the text is too long: more than {MAX_NODES} expressions, or {MAX_ASSIGNED} assignments"
        if told is not None:
            raise jinja2.TemplateSyntaxError(told, node.lineno, name)


def _all_nodes(tree: nodes.Node) -> Iterator[nodes.Node]:
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        waiting.extend(node.iter_child_nodes())


def _forbidden(node: nodes.Node, filters: AbstractSet[str]) -> str | None:
    told: str | None = None
    match node:
        case nodes.Filter(name="safe"):
            told = "'safe' would take a value out of escaping, so that it could become a second setting"
        case nodes.Filter() if node.name not in filters:
            told = f"there is no filter {node.name!r} here; known are {', '.join(sorted(filters))}"
        case nodes.Test() if node.name not in ALLOWED_TESTS:
            told = f"there is no test {node.name!r} here; known are {', '.join(sorted(ALLOWED_TESTS))}"
        case nodes.EvalContextModifier():
            told = "autoescape follows the format of the file and cannot be changed"
        case nodes.For(recursive=True):
            told = "a recursive loop is not known here"
        case nodes.Pow():
            told = "** is not needed in a phone's file and could take for ever"
        case nodes.Name() if node.name.startswith("_") or node.name in {"varargs", "kwargs"}:
            told = f"the name {node.name!r} is not known here"
        case nodes.Getattr() if node.attr.startswith("_"):
            told = f"the attribute {node.attr!r} is not known here"
        case nodes.Const() if isinstance(node.value, int) and abs(node.value) > MAX_WHOLE:
            told = "a number of more than 64 bits"
    return told
