"""The stub says what the extension says. That it has the same names and signatures, stubtest checks."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from codomyrmex.service_mesh import _native, fields
from codomyrmex.service_mesh.models import CircuitBreakerConfig, CountWindow, ServiceInstance, TimeWindow


def documented(body: list[ast.stmt], owner: Any) -> Iterator[tuple[str, str, str | None]]:
    """The name of each thing, what it says of itself, and what the stub says."""
    for node, after in zip(body, [*body[1:], None], strict=True):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and inspect.isclass(owner):
            text = after.value.value if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) else None
            yield from said(owner, node.target.id, text if isinstance(text, str) else None)
        elif isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from said(owner, node.name, ast.get_docstring(node))
            yield from documented(node.body, getattr(owner, node.name))
        elif isinstance(node, ast.FunctionDef) and not node.name.startswith("__"):
            kinds = [ast.unparse(each) for each in node.decorator_list]
            if "overload" not in kinds and not any(each.endswith(".setter") for each in kinds):
                yield from said(owner, node.name, ast.get_docstring(node))


def said(owner: Any, name: str, text: str | None) -> Iterator[tuple[str, str, str | None]]:
    thing = inspect.getattr_static(owner, name)
    if thing.__doc__:
        yield f"{owner.__name__}.{name}", inspect.cleandoc(thing.__doc__), text and inspect.cleandoc(text)


def test_the_stub_carries_every_docstring_of_the_extension() -> None:
    stub = Path(_native.__file__).with_name("_native.pyi")
    pairs = list(documented(ast.parse(stub.read_text()).body, _native))
    assert len(pairs) > 50
    assert [name for name, says, stub_says in pairs if says != stub_says] == []


def test_the_fields_that_may_be_given_by_name_are_those_of_the_configuration() -> None:
    assert list(fields.CircuitBreakerFields.__annotations__) == list(CircuitBreakerConfig.__dataclass_fields__)


def test_the_options_of_a_retry_are_the_arguments_of_its_policy() -> None:
    arguments = [name for name in inspect.signature(_native.RetryPolicy).parameters if name != "max_retries"]
    assert list(fields.RetryOptions.__annotations__) == arguments


def test_the_options_of_a_breaker_are_its_arguments() -> None:
    arguments = [
        name
        for name in inspect.signature(_native.CircuitBreaker).parameters
        if name not in ("name", "config", "fields")
    ]
    assert [*fields.CircuitBreakerOptions.__annotations__][-len(arguments) :] == arguments


@pytest.mark.parametrize(
    "kind",
    [
        _native.CircuitBreaker,
        _native.LoadBalancer,
        _native.RetryPolicy,
        _native.ServiceProxy,
        CircuitBreakerConfig,
        CountWindow,
        ServiceInstance,
        TimeWindow,
    ],
)
def test_help_says_what_each_argument_of_a_class_is(kind: type) -> None:
    assert kind.__doc__ is not None and ".py`" not in kind.__doc__
    parameters = inspect.signature(kind).parameters.values()
    told = [each.name for each in parameters if each.default is not each.empty]
    assert told
    assert [name for name in told if f"`{name}`" not in kind.__doc__] == []
