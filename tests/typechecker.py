"""The checker of annotations in tests: beartype, with an int where a float is asked for, as PEP 484 has it.

jaxtyping's own wrapper costs every call some 40 microseconds, shapes or none. `lighten` leaves it where there are
shapes and has beartype alone check the rest, by the same rules.
"""

from collections.abc import Callable
from dataclasses import is_dataclass
from functools import partial
from typing import Any

import jaxtyping
from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True, violation_type=jaxtyping.TypeCheckError))
_shaped = jaxtyping.jaxtyped


def lighten() -> None:
    """Have jaxtyping's import hook wrap only what is annotated with shapes."""
    jaxtyping.jaxtyped = lambda *, typechecker: partial(_checked, typechecker=typechecker)


def _checked(one: Any, typechecker: Callable[..., Any]) -> Any:
    """A function, or a class whose fields are checked when one is made."""
    if isinstance(one, type):
        if is_dataclass(one) and not _has_shapes(one.__init__):
            one.__init__ = check(one.__init__)
            return one
    elif not _has_shapes(one):
        return check(one)
    return _shaped(one, typechecker=typechecker)


def _has_shapes(function: Any) -> bool:
    """Whether an annotation holds a jaxtyping array; one that is text, unless it is a mere name, may hold one."""
    told = getattr(function, "__annotations__", None)
    if told is None:
        return True
    return any("jaxtyping" in str(one) or (isinstance(one, str) and not one.isidentifier()) for one in told.values())
