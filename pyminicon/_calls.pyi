"""The calls of the package as type checkers see them, with overloads for text and bytes as typeshed has them for
subprocess. There is no such module at run time: pyminicon.calls has these functions."""

from typing import Any, Literal, Unpack, overload

from pyminicon.container import Container
from pyminicon.options.types import Args, Buffer, LivingOptions, RunOptions, StartOptions
from pyminicon.result import Result

@overload
def run(
    args: Args,
    *,
    text: Literal[True],
    encoding: str | None = None,
    errors: str | None = None,
    universal_newlines: bool | None = None,
    input: str | None = None,
    **options: Unpack[RunOptions],
) -> Result[str]: ...
@overload
def run(
    args: Args,
    *,
    text: bool | None = None,
    encoding: str,
    errors: str | None = None,
    universal_newlines: bool | None = None,
    input: str | None = None,
    **options: Unpack[RunOptions],
) -> Result[str]: ...
@overload
def run(
    args: Args,
    *,
    text: bool | None = None,
    encoding: str | None = None,
    errors: str,
    universal_newlines: bool | None = None,
    input: str | None = None,
    **options: Unpack[RunOptions],
) -> Result[str]: ...
@overload
def run(
    args: Args,
    *,
    text: bool | None = None,
    encoding: str | None = None,
    errors: str | None = None,
    universal_newlines: Literal[True],
    input: str | None = None,
    **options: Unpack[RunOptions],
) -> Result[str]: ...
@overload
def run(
    args: Args,
    *,
    text: Literal[False] | None = None,
    encoding: None = None,
    errors: None = None,
    universal_newlines: Literal[False] | None = None,
    input: Buffer | None = None,
    **options: Unpack[RunOptions],
) -> Result[bytes]: ...
@overload
def run(
    args: Args,
    *,
    text: bool | None = None,
    encoding: str | None = None,
    errors: str | None = None,
    universal_newlines: bool | None = None,
    input: str | Buffer | None = None,
    **options: Unpack[RunOptions],
) -> Result[Any]: ...
@overload
def start(args: None = None, **options: Unpack[LivingOptions]) -> Container[bytes]: ...
@overload
def start(
    args: Args,
    *,
    text: Literal[True],
    encoding: str | None = None,
    errors: str | None = None,
    universal_newlines: bool | None = None,
    **options: Unpack[StartOptions],
) -> Container[str]: ...
@overload
def start(
    args: Args,
    *,
    text: bool | None = None,
    encoding: str,
    errors: str | None = None,
    universal_newlines: bool | None = None,
    **options: Unpack[StartOptions],
) -> Container[str]: ...
@overload
def start(
    args: Args,
    *,
    text: bool | None = None,
    encoding: str | None = None,
    errors: str,
    universal_newlines: bool | None = None,
    **options: Unpack[StartOptions],
) -> Container[str]: ...
@overload
def start(
    args: Args,
    *,
    text: bool | None = None,
    encoding: str | None = None,
    errors: str | None = None,
    universal_newlines: Literal[True],
    **options: Unpack[StartOptions],
) -> Container[str]: ...
@overload
def start(
    args: Args,
    *,
    text: Literal[False] | None = None,
    encoding: None = None,
    errors: None = None,
    universal_newlines: Literal[False] | None = None,
    **options: Unpack[StartOptions],
) -> Container[bytes]: ...
@overload
def start(
    args: Args,
    *,
    text: bool | None = None,
    encoding: str | None = None,
    errors: str | None = None,
    universal_newlines: bool | None = None,
    **options: Unpack[StartOptions],
) -> Container[Any]: ...
