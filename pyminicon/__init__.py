"""pyminicon: ``subprocess.run``, in a container.

    import pyminicon
    r = pyminicon.run(["/bin/sh", "-c", "echo hi"], capture_output=True, text=True)

Everything is loaded at first use: importing this package costs next to nothing.
"""

# No `from __future__` here, and only what is built into the interpreter: until `__main__` has put it right the
# working directory may come first on the path, with whatever files somebody left there.
import _imp
import posix

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyminicon import aio as aio
    from pyminicon._calls import run as run
    from pyminicon._calls import start as start
    from pyminicon.cancelling import Cancel as Cancel
    from pyminicon.container import Container as Container
    from pyminicon.container import Process as Process
    from pyminicon.errors import CalledProcessError as CalledProcessError
    from pyminicon.errors import Cancelled as Cancelled
    from pyminicon.errors import ContainerEnded as ContainerEnded
    from pyminicon.errors import Error as Error
    from pyminicon.errors import LaunchError as LaunchError
    from pyminicon.errors import SpecError as SpecError
    from pyminicon.errors import TimeoutExpired as TimeoutExpired
    from pyminicon.images.errors import ImageError as ImageError
    from pyminicon.images.pulling import pull as pull
    from pyminicon.keeper.callers import ContainerInfo as ContainerInfo
    from pyminicon.keeper.callers import attach as attach
    from pyminicon.keeper.callers import containers as containers
    from pyminicon.preload import load as load
    from pyminicon.result import Result as Result
    from pyminicon.result import Usage as Usage
    from pyminicon.template import Template as Template

__version__ = "0.2.0"

# subprocess's own numbers, so that subprocess needn't be imported to use them.
PIPE = -1
STDOUT = -2
DEVNULL = -3

_HOMES = {
    "load": "preload",
    "run": "calls",
    "start": "calls",
    "Container": "container",
    "Process": "container",
    "Result": "result",
    "Usage": "result",
    "Template": "template",
    "attach": "keeper.callers",
    "containers": "keeper.callers",
    "ContainerInfo": "keeper.callers",
    "pull": "images.pulling",
    "Error": "errors",
    "SpecError": "errors",
    "LaunchError": "errors",
    "Cancel": "cancelling",
    "Cancelled": "errors",
    "ContainerEnded": "errors",
    "ImageError": "images.errors",
    "TimeoutExpired": "errors",
    "CalledProcessError": "errors",
}

__all__ = ["DEVNULL", "PIPE", "STDOUT", "aio", *_HOMES]  # noqa: PLE0604


def __dir__() -> list[str]:
    return sorted({*(name for name in globals() if name[:2] == "__"), *__all__})


if not TYPE_CHECKING:  # whoever checks types knows all names from above, and any other is a mistake

    def __getattr__(name):
        # Not by importlib, whose import costs more than ours: it is also asked for each submodule that
        # `from pyminicon import …` hasn't loaded yet.
        home = "aio" if name == "aio" else _HOMES.get(name)
        if home is None:
            raise AttributeError(f"module 'pyminicon' has no attribute {name!r}")
        try:
            module = __import__(f"pyminicon.{home}", fromlist=["*"])
        except ModuleNotFoundError as error:
            # The words of errors.LOAD_FIRST, which may be as far away.
            advice = "who changes user, root or sys.path calls pyminicon.load() before"
            raise ImportError(f"{error} ({advice})") from error
        value = module if name == "aio" else getattr(module, name)
        if name in ("run", "start"):
            module.describe(value, name)
        elif name == "Container":
            from pyminicon.calls import describe

            for call in ("run", "start"):
                describe(getattr(value, call), f"{name}.{call}")
        globals()[name] = value
        return value


def _is_built() -> bool:
    try:
        posix.stat(f"{__path__[0]}/{_LIBRARY}")
    except OSError:
        return False
    return True


_LIBRARY = f"_core{_imp.extension_suffixes()[0]}"
if not _is_built():
    from pyminicon import _checkout

    _checkout.hand_over(globals(), _LIBRARY)
