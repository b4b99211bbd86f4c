"""The source of a function that is to run where nothing of its DAG file is."""

from __future__ import annotations
import __future__

import ast
import builtins
import dis
import inspect
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import CodeType, FunctionType, ModuleType
from typing import Any

from kpo_multicluster.errors import ConfigurationError

_LOADS = frozenset({"LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"})
# Every module has them.
_OF_MODULES = frozenset(
    {"__name__", "__file__", "__doc__", "__builtins__", "__annotations__", "__conditional_annotations__"}
)


@dataclass(frozen=True)
class FunctionSource:
    """A function, as it is sent.

    Attributes:
        name: of the function, as it stands there.
        text: of it alone, without decorators.
        file: that it is in.
        line: of the file at which `text` begins.
        returns: whether it returns anything.
    """

    name: str
    text: str
    file: str
    line: int
    returns: bool


def source_of(function: Callable[..., Any], decorator: str) -> FunctionSource:
    """The source of a function that needs nothing but its arguments and what it imports itself.

    Args:
        function: as it stands in the DAG file.
        decorator: that it was given to, for messages.

    Raises:
        ConfigurationError: it is no plain function, its source is not to be had, or it uses what is outside of it.
    """
    plain = _plain(function, decorator)
    where = (
        f"{decorator} function {plain.__name__!r} ({plain.__code__.co_filename}, line {plain.__code__.co_firstlineno})"
    )
    source, definition = _without_decorators(plain, where)
    if any(isinstance(node, (ast.Yield, ast.YieldFrom)) for node in _own_nodes(definition)):
        raise ConfigurationError(f"The {where} is a generator, whose values have nowhere to go: return a list instead.")
    _check_names(plain, source, where)
    return source


def _plain(function: Callable[..., Any], decorator: str) -> FunctionType:
    if not isinstance(function, FunctionType) or function.__name__ == "<lambda>":
        kind = "a lambda" if isinstance(function, FunctionType) else f"of type {type(function).__name__}"
        raise ConfigurationError(
            f"{decorator} needs a function that is written with def, as its source is what is sent to the pod; "
            f"{function!r} is {kind}."
        )
    if hasattr(function, "__wrapped__"):
        raise ConfigurationError(
            f"The {decorator} function {function.__name__!r} is wrapped by another decorator below, which would not be "
            "there in the pod: do what that decorator does inside of the function."
        )
    return function


def _without_decorators(
    function: FunctionType, where: str
) -> tuple[FunctionSource, ast.FunctionDef | ast.AsyncFunctionDef]:
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    try:
        lines, first = inspect.getsourcelines(function)
        # A block around it takes any indentation; taking that away would change texts of several lines.
        nested = lines[0][:1].isspace()
        tree = ast.parse("".join(["if True:\n", *lines] if nested else lines))
        definition = next((node for node in ast.walk(tree) if isinstance(node, kinds)), None)
        # Python 3.13 takes the lines of `python -c` for those of any code without a file.
        if definition is None and not os.path.isfile(function.__code__.co_filename):
            raise OSError("its lines are of something else")
    except (OSError, SyntaxError, TypeError) as error:
        raise ConfigurationError(
            f"The source of the {where} cannot be read ({type(error).__name__}: {error}): define it with def in a file."
        ) from None
    if definition is None or definition.name != function.__code__.co_name:
        raise ConfigurationError(
            f"The source of the {where} is not what was imported, as its file has changed since: run the task again."
        )
    skipped = definition.lineno - (2 if nested else 1)
    text, line = "".join(lines[skipped:]), first + skipped
    if nested:
        text, line = f"if True:\n{text}", line - 1
    returns = any(isinstance(node, ast.Return) and not _is_none(node.value) for node in _own_nodes(definition))
    return FunctionSource(definition.name, text, function.__code__.co_filename, line, returns), definition


def _is_none(value: ast.expr | None) -> bool:
    return value is None or (isinstance(value, ast.Constant) and value.value is None)


def _own_nodes(definition: ast.AST) -> Iterator[ast.AST]:
    """All below a function, save what is in functions and classes within it."""
    for child in ast.iter_child_nodes(definition):
        yield child
        if not isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)):
            yield from _own_nodes(child)


def _check_names(function: FunctionType, source: FunctionSource, where: str) -> None:
    # As it is compiled in the pod, where every name that is not the function's own is a global one.
    code = compile(source.text, source.file, "exec", __future__.annotations.compiler_flag, dont_inherit=True)
    every = list(_codes(code))
    known = _named(code, "STORE_NAME") | set(vars(builtins)) | _OF_MODULES
    known = known.union(*(_named(each, "STORE_GLOBAL") for each in every))
    used: set[str] = set()
    for each in every:
        used |= _named(each, *_LOADS) - _named(each, "STORE_NAME")
    outside = [_outside(name, function) for name in sorted(used - known)]
    if outside:
        raise ConfigurationError(
            f"The {where} runs in a pod, where only its own lines are. It uses {'; '.join(outside)}."
        )


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


def _named(code: CodeType, *operations: str) -> set[str]:
    return {str(step.argval) for step in dis.get_instructions(code) if step.opname in operations}


def _outside(name: str, function: FunctionType) -> str:
    if name in function.__code__.co_freevars:
        return f"{name}, a variable of the function around it: pass it as an argument"
    if name not in function.__globals__:
        # Of a default value one cannot know more: what it was made with is gone.
        return f"{name}, which the file does not define at its top: pass it as an argument, or define it inside of it"
    value = function.__globals__[name]
    if isinstance(value, ModuleType):
        alias = "" if value.__name__ == name else f" as {name}"
        return f"{name}, a module that the file imports: write `import {value.__name__}{alias}` inside of it"
    module = getattr(value, "__module__", None)
    if (inspect.isroutine(value) or inspect.isclass(value)) and module not in (None, function.__module__):
        return f"{name}, which the file imports: write `from {module} import {name}` inside of it"
    if inspect.isroutine(value) or inspect.isclass(value):
        return f"{name}, which the file defines: define it inside of it"
    return f"{name}, which the file defines: pass it as an argument, or define it inside of it"
