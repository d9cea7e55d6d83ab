"""Where an account's own template runs: it can read its phone's configuration, and can neither reach out of it nor wear
the server out (pure).

Theory of operation. Jinja's immutable sandbox keeps a template away from the machine; it does not keep it from looping
for ever or from making a text of a gigabyte. Here every piece of work is paid for in *steps* out of a budget that each
rendering starts with, and no single piece can be large:

- the compiler is told to charge the number of nodes in a loop's, a macro's, a block's or a template's body each time
  that body runs. So a template costs at most its budget, however it nests, recurses or includes itself;
- operators, filters, tests and calls are replaced by ones that charge the size of what they are given and refuse to
  make a text longer than `MAX_TEXT`, a list longer than `MAX_ITEMS`, a number beyond 64 bits or a list of lists of
  lists, *before* they make it. `*`, `**` and `%` are where a few characters make gigabytes;
- attributes, methods, filters, tests and globals are those named here, and no others.

An account's text may not do some things that the shipped templates, which run in here beside it, may: take a value out
of escaping (`safe`, `autoescape`), say a name that begins with an underscore, use a recursive loop. These are refused
when it is compiled.

The steps left stand on the environment: renderings in one environment follow one another on one thread. Two threads
that share one share a budget, which is far more than a shipped template takes.
"""

import types
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import update_wrapper
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.bccache import Bucket, BytecodeCache
from jinja2.environment import TemplateModule
from jinja2.exceptions import SecurityError
from jinja2.filters import FILTERS
from jinja2.runtime import BlockReference, Context, LoopContext, Macro, TemplateReference, Undefined
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.tests import TESTS

from engine.errors import UnsafeValue
from engine.provisioning.escaping import escaped, escaped_text
from engine.provisioning.sandbox_compiler import (
    ALLOWED_TESTS,
    CHARACTERS_A_STEP,
    MAX_WHOLE,
    Charging,
    charge_bodies,
    refuse_forbidden,
)
from engine.provisioning.sandbox_filters import TooMuch, bounded
from engine.provisioning.sandbox_values import (
    CONTAINERS,
    MAX_ITEMS,
    SCALARS,
    Namespace,
    are_short,
    is_plain_format,
    refuse_deep,
    refuse_long_needles,
    refuse_unwritable,
    weight_of,
)

MAX_STEPS = 60_000  # a phone with 300 function keys takes 33,000 of the shipped templates
STEPS_A_LINE = 1_000  # on top; a DECT base with 250 handsets takes 80,000
STEPS_A_TEMPLATE = 20  # that is looked for by its name
MAX_NAME = 200
MAX_TEXT = 256 * 1024  # characters of one value
MAX_OUTPUT = 512 * 1024  # characters of a file; the longest that phones are known to take is about 200 kB
MAX_SOURCE = 64 * 1024  # characters of a template
MAX_SENTENCE = 300  # characters of what went wrong
SHIPPED = "shipped/"  # before the name of a template: the one that came with the installation

ALLOWED_FILTERS = frozenset(
    {
        "abs", "capitalize", "count", "d", "default", "dictsort", "e", "escape", "first", "float", "int", "items",
        "join", "last", "length", "list", "lower", "map", "max", "min", "reject", "rejectattr", "replace", "reverse",
        "round", "select", "selectattr", "sort", "string", "sum", "title", "trim", "unique", "upper",
    }
)  # fmt: skip
_OF_TEXT = frozenset({"capitalize", "e", "escape", "lower", "string", "title", "trim", "upper"})  # they write anything
_BY_ITEM = frozenset(
    {"first", "last", "list", "map", "max", "min", "reject", "rejectattr", "reverse", "select", "selectattr", "sort"}
) | {"sum", "unique"}
_SHIPPED_FILTERS = ALLOWED_FILTERS | {"safe"}
_TEXT_METHODS = frozenset(
    {
        "capitalize", "count", "endswith", "find", "isalnum", "isalpha", "isdigit", "islower", "isupper", "lower",
        "lstrip", "partition", "removeprefix", "removesuffix", "replace", "rfind", "rpartition", "rsplit", "rstrip",
        "split", "splitlines", "startswith", "strip", "title", "upper",
    }
)  # fmt: skip
_SLOW_METHODS = frozenset({"lstrip", "rfind", "rpartition", "rsplit", "rstrip", "strip"})  # each letter with each
_METHODS: tuple[tuple[type, frozenset[str]], ...] = (
    (str, _TEXT_METHODS),
    (list, frozenset({"index", "count"})),
    (tuple, frozenset({"index", "count"})),
    (dict, frozenset({"get", "items", "keys", "values"})),
    (LoopContext, frozenset({"cycle", "changed"})),
)
_OF_LOOPS = frozenset({"index", "index0", "first", "last", "length", "revindex", "revindex0"})  # which never fail
_OPEN = (LoopContext, TemplateReference, TemplateModule, Namespace, BlockReference)


class BrokenTemplate(UnsafeValue):
    """An account's own template that cannot be used. `template`, `line`: where (0: no line can be told)."""

    title = "A template cannot be used"

    def __init__(self, detail: str, *, template: str = "", line: int = 0) -> None:
        super().__init__(detail)
        self.template, self.line = template, line


# --- The environment ------------------------------------------------------------------------------------------------


class Sandbox(ImmutableSandboxedEnvironment):
    """The templates of one vendor with an account's own in place of some. `render` is the only door."""

    intercepted_binops = frozenset({"+", "*", "**", "%", "-", "//", "/"})

    def __init__(
        self,
        shipped: Mapping[str, str],
        own: Mapping[str, str],
        *,
        is_xml: bool,
        filters: Mapping[str, Callable[..., Any]],
    ) -> None:
        texts = {SHIPPED + name: text for name, text in shipped.items()} | {**shipped, **own}
        super().__init__(
            loader=_Texts(texts),
            undefined=jinja2.StrictUndefined,
            autoescape=is_xml,
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=True,
            auto_reload=False,
            optimized=False,  # nothing runs while a template is compiled
            cache_size=-1,
            bytecode_cache=_COMPILED[is_xml],
        )
        self.own, self.shipped = frozenset(own), shipped
        self.left = 0
        self._having: dict[str, set[type]] = {}
        self.template_class = _Template
        self.code_generator_class = Charging
        self.globals = {"range": self._range, "namespace": Namespace}
        kept = {name: FILTERS[name] for name in _SHIPPED_FILTERS}
        self.filters = {
            name: self._weighed(one, is_by_item=name in _BY_ITEM, is_of_text=name in _OF_TEXT)
            for name, one in kept.items()
        }
        # what `map` and `|` are given by name alone: these precheck the size of what they would make
        self.filters |= {"replace": self._replace, "join": self._join, "round": self._round}
        self.filters |= {name: self._weighed(bounded(name, one, self.step)) for name, one in filters.items()}
        self.tests = {name: self._weighed(TESTS[name], is_of_text=name in _OF_TEXT) for name in ALLOWED_TESTS}
        self.allowed_filters = ALLOWED_FILTERS | filters.keys()

    def render(self, name: str, values: Mapping[str, Any], *, lines: int = 0) -> str:
        """The text of one template. `lines`: how many the phone has; each may cost some more.

        Raises:
            BrokenTemplate: it fails, or asks for too much; the line is told where it is known.
        """
        self.left = MAX_STEPS + STEPS_A_LINE * lines
        try:
            text = self.get_template(name).render(values)
        except (BrokenTemplate, UnsafeValue):
            raise
        except Exception as exc:  # whatever a stranger's template can bring about is the template's fault
            raise self._broken(name, exc) from exc
        if len(text) > MAX_OUTPUT:
            raise BrokenTemplate(f"{name} makes a file of more than {MAX_OUTPUT} characters.", template=name)
        return text

    def compile_all(self) -> None:
        """Compile what the account wrote. Raises BrokenTemplate."""
        for name in sorted(self.own):
            try:
                self.get_template(name)
            except Exception as exc:
                raise self._broken(name, exc) from exc

    def _broken(self, name: str, exc: Exception) -> BrokenTemplate:
        template, line = _place(exc, self.own) or (name, 0)
        where = f"line {line} of {template}" if line else template
        return BrokenTemplate(f"{where}: {_sentence(exc)}", template=template, line=line)

    def join_path(self, template: Any, parent: str) -> str:
        """A text that names itself means the shipped one it stands in place of."""
        if not isinstance(template, str) or len(template) > MAX_NAME:  # it stands in the sentence that there is none
            raise TypeError("a template is called by its name")
        self.step(STEPS_A_TEMPLATE)  # one that is not there costs as well
        return SHIPPED + template if template == parent and template in self.own else template

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        if len(source) > MAX_SOURCE:
            raise TooMuch(f"the text is longer than {MAX_SOURCE} characters")
        tree = super()._parse(source, name, filename)
        if name in self.own:
            refuse_forbidden(tree, name or "", self.allowed_filters)
        charge_bodies(tree)
        return tree

    # --- what templates may touch ---

    def having(self, attribute: str) -> set[type]:
        """The kinds of values that have such a field, as far as they were met: what is compiled asks this first."""
        return self._having.setdefault(attribute, set())

    def getattr(self, obj: Any, attribute: str) -> Any:
        shown = getattr(type(obj), "__dataclass_fields__", None)
        if shown is not None:  # a value of the configuration: its fields, and nothing else of it
            if attribute in shown:
                if attribute in self._having:
                    self._having[attribute].add(type(obj))
                return getattr(obj, attribute)
            return self.undefined(f"there is no value {attribute!r} here; known are {', '.join(shown)}")
        if (isinstance(obj, dict) and attribute in obj) or (isinstance(obj, str) and attribute == "replace"):
            return obj[attribute] if isinstance(obj, dict) else _Replace(self, obj)
        if isinstance(obj, _OPEN) and not attribute.startswith("_"):
            return self._of_jinja(obj, attribute)
        # an undefined name raises at any attribute, and says which name it was
        if isinstance(obj, Undefined) or self.is_safe_attribute(obj, attribute, None):
            return getattr(obj, attribute)
        return self.unsafe_undefined(obj, attribute)

    def _of_jinja(self, obj: Any, attribute: str) -> Any:
        """What Jinja itself hands a template: `loop`, `self`, an imported module, a namespace."""
        if type(obj) is LoopContext and attribute in _OF_LOOPS and attribute in self._having:
            self._having[attribute].add(LoopContext)
        try:
            return obj[attribute] if isinstance(obj, TemplateReference) else getattr(obj, attribute)
        except (AttributeError, LookupError):
            return self.undefined(obj=obj, name=attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        self.left -= 1  # `map(attribute="a.a.a")` comes here for each of its parts
        if self.left < 0:
            self.step(0)
        if isinstance(obj, (str, range, *CONTAINERS)):
            with suppress(TypeError, LookupError):
                return obj[argument]  # type: ignore[index]
        elif isinstance(argument, str):
            return self.getattr(obj, argument)
        named = argument if type(argument) in SCALARS else type(argument).__name__  # a list would be written whole
        return self.undefined(obj=obj, name=named)

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:  # noqa: ARG002  # the base class's signature
        if isinstance(obj, str):
            return attr in _TEXT_METHODS
        return any(isinstance(obj, kind) and attr in names for kind, names in _METHODS)

    def is_safe_callable(self, obj: Any) -> bool:
        if type(obj) is types.BuiltinMethodType or type(obj) is types.MethodType:
            return self.is_safe_attribute(obj.__self__, obj.__name__, obj) or obj == self._range
        return isinstance(obj, (Macro, BlockReference, _Replace)) or obj is Namespace

    def call(__self, __context: Context, __obj: Any, /, *args: Any, **kwargs: Any) -> Any:  # noqa: N805  # as Jinja calls
        kwargs.pop("_loop_vars", None)  # for functions that are given a context, of which there are none here
        kwargs.pop("_block_vars", None)
        if type(__obj) is Macro:
            return __obj(__context.eval_ctx, *args, **kwargs)  # its body charges itself
        if isinstance(__obj, Undefined):
            return __obj()  # raises, and says which name is not known
        if not __self.is_safe_callable(__obj):
            name = getattr(__obj, "__name__", type(__obj).__name__)
            raise SecurityError(f"{name} may not be called here")
        owner = getattr(__obj, "__self__", None)
        if isinstance(owner, str) and __obj.__name__ in _SLOW_METHODS:
            refuse_long_needles(args, kwargs)
        __self.step(weight_of(owner) + sum(map(weight_of, args)))
        return __self._held(__obj(*args, **kwargs))

    def call_filter(self, name: str, *args: Any, **kwargs: Any) -> Any:
        """What `map` and `select` call by name: only what an account's text may name itself."""
        if name not in self.allowed_filters:
            raise SecurityError(f"there is no filter {name!r} here")
        return super().call_filter(name, *args, **kwargs)

    # --- what work costs ---

    def step(self, count: int) -> None:
        self.left -= count
        if self.left < 0:
            raise TooMuch("it works too long: more loops, or larger texts and lists, than a phone's file needs")

    def steps(self, items: Any, weight: int) -> Any:
        """What a loop runs over, paid for before it begins."""
        try:
            count = len(items)
        except TypeError:
            return self._paid_one_by_one(items, weight)
        self.step(count * weight)
        return items

    def _paid_one_by_one(self, items: Iterable[Any], weight: int) -> Iterator[Any]:
        for item in items:
            self.step(weight)
            yield item

    def weighed(self, value: Any) -> Any:
        """A value that will be compared: the comparison is paid for by its size."""
        if type(value) not in SCALARS or (isinstance(value, str) and len(value) > CHARACTERS_A_STEP):
            self.step(weight_of(value))
        return value

    def joined(self, join: Callable[[Iterable[Any]], str], parts: tuple[Any, ...]) -> str:
        """`~`: no longer than a value may be."""
        if are_short(parts):
            return "".join(map(str, parts))  # a few short ones: as `join` writes them
        if sum([len(part) if isinstance(part, str) else 20 for part in parts]) > MAX_TEXT:
            raise TooMuch(f"a text of more than {MAX_TEXT} characters")
        return join([self._written(part) for part in parts])

    def concat(self, parts: Iterable[str]) -> str:
        """What a macro or block wrote into a list, no longer than a value may be; or the whole template, as it goes."""
        text = "".join(parts)
        return self._held(text) if isinstance(parts, list) else text

    def escaped(self, value: Any) -> str:
        """`{{ value }}` in XML."""
        if type(value) is str:
            if value.isalnum() and len(value) <= CHARACTERS_A_STEP:
                return value
            if len(value) > CHARACTERS_A_STEP:
                self.step(len(value) // CHARACTERS_A_STEP)
            return escaped_text(value)
        return str(value) if type(value) is int else escaped(self._written(value))

    def written(self, value: Any) -> str:
        """`{{ value }}` in a text file."""
        if type(value) is str and len(value) <= CHARACTERS_A_STEP:
            return value
        return str(self._written(value))

    def _written(self, value: Any) -> Any:
        """What may stand between `{{` and `}}`: text and numbers. A list would be written in Python's spelling, and a
        list in a list in a list without end.
        """
        if type(value) is str:
            if len(value) > CHARACTERS_A_STEP:
                self.step(len(value) // CHARACTERS_A_STEP)
            return value
        if isinstance(value, Undefined):
            return str(value)  # nothing, of an `if` without `else`; a name that is not known raises, and says which
        refuse_unwritable(value)
        return self._held(value)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:  # noqa: ARG002  # as Jinja calls
        if type(left) is int and type(right) is int and operator != "**":
            made = self.binop_table[operator](left, right)
            return made if type(made) is int and -MAX_WHOLE <= made <= MAX_WHOLE else self._held(made)
        if operator == "**":
            raise TooMuch("** is not needed in a phone's file and could take for ever")
        if operator == "%" and isinstance(left, str):
            return self._formatted(left, right)
        if operator == "*" and not (isinstance(left, (int, float)) and isinstance(right, (int, float))):
            self._refuse_long_repeat(left, right)
        if operator == "+":
            self.step(weight_of(left) + weight_of(right))
        return self._held(self.binop_table[operator](left, right))

    def _refuse_long_repeat(self, left: Any, right: Any) -> None:
        repeated, times = (left, right) if isinstance(right, int) else (right, left)
        if not isinstance(repeated, str) or not isinstance(times, int):
            raise TypeError("only numbers can be multiplied, and a text by a number")
        if len(repeated) * max(times, 0) > MAX_TEXT:
            raise TooMuch(f"a text of more than {MAX_TEXT} characters")

    def _formatted(self, text: str, values: Any) -> str:
        """`"%02d" % number`: fields of at most two digits' width, filled with text and numbers."""
        if len(text) > MAX_ITEMS or not is_plain_format(text):
            raise TooMuch("only %s, %d, %x and %X with at most two digits before the letter are known here")
        given = values if type(values) is tuple else (values,)
        if len(text) <= CHARACTERS_A_STEP and are_short(given):
            return text % values  # type: ignore[no-any-return]
        written = [self._written(value) for value in (values if isinstance(values, tuple) else (values,))]
        if sum([len(value) for value in written if isinstance(value, str)]) > MAX_TEXT:
            raise TooMuch(f"a text of more than {MAX_TEXT} characters")
        return self._held(text % values)  # type: ignore[no-any-return]

    def _weighed(self, function: Any, *, is_by_item: bool = False, is_of_text: bool = False) -> Callable[..., Any]:
        """A filter or a test that is paid for by the size of what it is given, and makes nothing too large.
        `is_by_item`: it takes a text letter by letter. `is_of_text`: it writes what it is given, as `{{ … }}` does.
        """

        def paid(*args: Any, **kwargs: Any) -> Any:
            cost = 1
            if is_of_text and (type(args[0]) is not str or kwargs or len(args) > 1):
                refuse_unwritable(args[0])
                refuse_long_needles(args[1:], kwargs)
            for value in args:
                if isinstance(value, str):
                    if is_by_item or len(value) > CHARACTERS_A_STEP:
                        cost += len(value) if is_by_item else len(value) // CHARACTERS_A_STEP
                elif type(value) is not int:
                    cost += weight_of(value)
            self.left -= cost
            if self.left < 0:
                self.step(0)
            made = function(*args, **kwargs)
            kind = type(made)
            if kind is bool or (kind is str and len(made) <= CHARACTERS_A_STEP):
                return made
            return self._paid_one_by_one(made, 1) if kind is types.GeneratorType else self._held(made)

        return update_wrapper(paid, function)  # with the mark that says whether Jinja hands it an environment

    def _held(self, made: Any) -> Any:
        """Pass on a value that is not too large."""
        kind = type(made)
        if (kind is str and len(made) <= CHARACTERS_A_STEP) or kind is bool:
            return made
        if isinstance(made, str):
            if len(made) > MAX_TEXT:
                raise TooMuch(f"a text of more than {MAX_TEXT} characters")
            self.step(len(made) // CHARACTERS_A_STEP)
        elif isinstance(made, int):
            if not -MAX_WHOLE <= made <= MAX_WHOLE:
                raise TooMuch("a number of more than 64 bits")
        elif isinstance(made, (list, tuple, dict)):
            if len(made) > MAX_ITEMS:
                raise TooMuch(f"a list of more than {MAX_ITEMS} entries")
            self.step(1 + len(made) // 8)
            for item in made.values() if isinstance(made, dict) else made:
                if isinstance(item, CONTAINERS):
                    refuse_deep(item)
        return made

    def held(self, made: Any) -> Any:
        """A list, tuple or mapping that the template wrote out itself."""
        return self._held(made)

    def _range(self, *args: int) -> range:
        numbers = range(*args)
        if len(numbers) > MAX_ITEMS:
            raise TooMuch(f"a range of more than {MAX_ITEMS} numbers")
        return numbers

    @jinja2.pass_eval_context
    def _join(self, context: Any, value: Any, d: str = "") -> str:
        items = list(self.steps(value, 1))
        if len(d) * len(items) + sum([len(item) if isinstance(item, str) else 20 for item in items]) > MAX_TEXT:
            raise TooMuch(f"a text of more than {MAX_TEXT} characters")
        return self._held(FILTERS["join"](context, [self._written(item) for item in items], d))  # type: ignore[no-any-return]

    @jinja2.pass_eval_context
    def _replace(self, context: Any, s: str, old: str, new: str, count: int | None = None) -> str:
        self._refuse_long_replace(s, old, new)
        return self._held(FILTERS["replace"](context, s, old, new, count))  # type: ignore[no-any-return]

    def _refuse_long_replace(self, text: Any, old: Any, new: Any) -> None:
        text, old, new = str(self._written(text)), str(self._written(old)), str(self._written(new))
        self.step(len(text) // 8 + 1)
        if len(text) + (text.count(old) if old else len(text) + 1) * 5 * len(new) > MAX_TEXT:  # escaped: five times
            raise TooMuch(f"a text of more than {MAX_TEXT} characters")

    def _round(self, value: Any, precision: int = 0, method: str = "common") -> float:
        if not isinstance(precision, int) or abs(precision) > 9:
            raise TooMuch("a number is rounded to at most 9 digits")
        return FILTERS["round"](value, precision, method)  # type: ignore[no-any-return]


class _Replace:
    """`text.replace` that looks first how long the text would become."""

    __slots__ = ("_sandbox", "_text")

    def __init__(self, sandbox: Sandbox, text: str) -> None:
        self._sandbox, self._text = sandbox, text

    def __call__(self, old: str, new: str, count: int = -1) -> str:
        self._sandbox._refuse_long_replace(self._text, old, new)  # noqa: SLF001  # of one module
        return self._text.replace(old, new, count)


# --- Compiling ------------------------------------------------------------------------------------------------------


class _Texts(jinja2.BaseLoader):
    """Templates by name; the name is also what an error says it happened in."""

    def __init__(self, texts: Mapping[str, str]) -> None:
        self._texts = texts

    def get_source(self, environment: jinja2.Environment, template: str) -> tuple[str, str, None]:  # noqa: ARG002
        if template not in self._texts:
            raise jinja2.TemplateNotFound(template)
        return self._texts[template], template, None


class _Template(jinja2.Template):
    """A template whose module is made anew for each import: a kept one would carry a phone's values to the next."""

    def _get_default_module(self, ctx: Context | None = None) -> Any:
        return self.make_module({key: ctx.parent[key] for key in ctx.globals_keys} if ctx is not None else None)


class _Compiled(BytecodeCache):
    """Compiled templates by name and text, for every environment of one way of escaping; the last used are kept. What
    an account wrote is checked as it is compiled, so a text that is allowed in one environment is in all.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._codes: OrderedDict[tuple[bool, str, str], Any] = OrderedDict()

    def _key(self, bucket: Bucket) -> tuple[bool, str, str]:
        # an account's text named like a shipped one with the same words would be compiled unchecked: told apart here
        return (bucket.key in _own_keys(bucket.environment), bucket.key, bucket.checksum)

    def load_bytecode(self, bucket: Bucket) -> None:
        bucket.code = self._codes.pop(self._key(bucket), None)  # and back to the end: another thread may do the same
        if bucket.code is not None:
            self._codes[self._key(bucket)] = bucket.code

    def dump_bytecode(self, bucket: Bucket) -> None:
        self._codes[self._key(bucket)] = bucket.code
        while len(self._codes) > self._size:
            with suppress(KeyError):
                self._codes.popitem(last=False)

    def get_cache_key(self, name: str, filename: str | None = None) -> str:  # noqa: ARG002  # the name says it all
        return name


def _own_keys(environment: jinja2.Environment) -> frozenset[str]:
    return environment.own if isinstance(environment, Sandbox) else frozenset()


_COMPILED = {True: _Compiled(512), False: _Compiled(512)}


# --- What went wrong, and where -------------------------------------------------------------------------------------


def _place(exc: BaseException, own: frozenset[str]) -> tuple[str, int] | None:
    """The template and line an exception came from: the account's own text that is deepest in, else any template."""
    if isinstance(exc, jinja2.TemplateSyntaxError):
        return exc.name or exc.filename or "", exc.lineno
    found, trace = None, exc.__traceback__
    while trace is not None:
        name = trace.tb_frame.f_code.co_filename
        if "__jinja_exception__" in trace.tb_frame.f_globals and (name in own or found is None or found[0] not in own):
            found = (name, trace.tb_lineno)
        trace = trace.tb_next
    return found


def _sentence(exc: BaseException) -> str:
    if isinstance(exc, jinja2.TemplateNotFound):
        return f"there is no template {exc.name} of this vendor"
    if isinstance(exc, RecursionError):
        return "it calls or includes itself without end, or is nested too deep"
    text = str(exc).strip() or type(exc).__name__
    return text if len(text) <= MAX_SENTENCE else f"{text[:MAX_SENTENCE].rpartition(' ')[0]} …"
