"""The checker of annotations in tests: beartype, with an int where a float is asked for, as PEP 484 has it.

jaxtyping's own wrapper costs every call some 40 microseconds, shapes or none. `lighten` leaves it where there are
shapes and has beartype alone check the rest, by the same rules. Of a function that one test calls very often, as for
every token and layer, the first calls are checked and then one in so many.
"""

from collections.abc import Callable
from dataclasses import is_dataclass
from functools import partial, wraps
from typing import Any

import jaxtyping
from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True, violation_type=jaxtyping.TypeCheckError))
_shaped = jaxtyping.jaxtyped
ALL_OF_THE_FIRST = 100
THEN_ONE_IN = 20
_test = 0


def lighten() -> None:
    """Have jaxtyping's import hook wrap only what is annotated with shapes."""
    jaxtyping.jaxtyped = lambda *, typechecker: partial(_checked, typechecker=typechecker)


def _checked(one: Any, typechecker: Callable[..., Any]) -> Any:
    """A function, or a class whose fields are checked when one is made."""
    if isinstance(one, type):
        if is_dataclass(one) and not _has_shapes(one.__init__):
            one.__init__ = check(one.__init__)
            return one
        return _shaped(one, typechecker=typechecker)
    return _sampled(one, _shaped(one, typechecker=typechecker)) if _has_shapes(one) else check(one)


def begin_test() -> None:
    """Have every function's calls counted anew."""
    global _test
    _test += 1


def _sampled(plain: Callable[..., Any], checked: Callable[..., Any]) -> Callable[..., Any]:
    """The checked function for a test's first calls and then for one in so many, else the plain one."""
    of_test = calls = 0

    @wraps(checked)
    def call(*args: Any, **kwargs: Any) -> Any:
        nonlocal of_test, calls
        of_test, calls = _test, calls + 1 if of_test == _test else 1
        check_it = calls <= ALL_OF_THE_FIRST or calls % THEN_ONE_IN == 0
        return (checked if check_it else plain)(*args, **kwargs)

    return call


def _has_shapes(function: Any) -> bool:
    """Whether an annotation holds a jaxtyping array; one that is text, unless it is a mere name, may hold one."""
    told = getattr(function, "__annotations__", None)
    if told is None:
        return True
    return any("jaxtyping" in str(one) or (isinstance(one, str) and not one.isidentifier()) for one in told.values())
