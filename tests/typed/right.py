"""Right uses, to be checked and never run: what each call gives, as a type checker sees it."""

import asyncio
import os
from pathlib import Path
from typing import assert_type

import pyminicon
from pyminicon import aio


def runs() -> None:
    assert_type(pyminicon.run(["true"]), pyminicon.Result[bytes])
    assert_type(pyminicon.run(["true"]).stdout, bytes)
    assert_type(pyminicon.run(["true"], text=True).stdout, str)
    assert_type(pyminicon.run(["true"], encoding="utf-8", capture_output=True).stderr, str)
    assert_type(pyminicon.run(["true"], errors="replace").stdout, str)
    assert_type(pyminicon.run(["true"], universal_newlines=True).stdout, str)
    assert_type(pyminicon.run(["true"], text=False, input=b"x").stdout, bytes)
    r = pyminicon.run(
        [Path("/bin/true"), b"x"], image=Path("."), memory="64M", cpus=1.5, network="off", check=True
    )
    assert_type(r.returncode, int)
    assert_type(r.limit, str | None)
    assert_type(r.usage.memory_peak, int | None)
    assert_type(r.files, dict[str, bytes])
    pyminicon.run(
        ["cat"], text=True, input="words", timeout=1, env={"A": "b"}, rlimits={"nofile": (1, 2), "core": 1}
    )
    pyminicon.run(
        ["true"], files={"/a": b"", "/b": Path("b")}, collect=["/c"], seccomp={"defaultAction": "x"}
    )


def starts() -> None:
    with pyminicon.start(["cat"], text=True, stdin=pyminicon.PIPE, tty=False) as c:
        assert_type(c, pyminicon.Container[str])
        assert_type(c.communicate("x"), tuple[str, str])
        assert_type(c.wait(timeout=1), int)
        c.update(memory="1G", pids=3)
    b = pyminicon.start(["cat"], wall_time=3)
    assert_type(b, pyminicon.Container[bytes])
    assert_type(b.communicate(), tuple[bytes, bytes])


def living() -> None:
    with pyminicon.start(image="host", memory="1G", wall_time=3) as c:
        assert_type(c, pyminicon.Container[bytes])
        assert_type(c.run(["true"], text=True).stdout, str)
        assert_type(c.run(["true"], input=b"x", user="nobody", cwd="/tmp", timeout=1).stdout, bytes)
        with c.start(["cat"], text=True, stdin=pyminicon.PIPE) as p:
            assert_type(p, pyminicon.Process[str])
            assert_type(p.communicate("x"), tuple[str, str])
            assert_type(p.host_pid, int | None)
        assert_type(c.start(["sh"], tty=True), pyminicon.Process[bytes])
        path = c.path("/src", user="1000", strict=True) / "a.c"
        assert_type(path.read_text(), str)
        assert_type(path.read_bytes(), bytes)
        assert_type(path.stat(), os.stat_result)
        assert_type(path.parent.with_suffix(".o").name, str)
        assert_type([one.exists() for one in path.glob("*")], list[bool])
        c.copy_in(Path("project"), "/src", user="1000")
        c.copy_out(path, "result")
        c.put_archive("/src", c.get_archive(path))


def templates(word: str) -> None:
    with pyminicon.Template(image="host", memory="64M", stock=2) as t:
        assert_type(t.run(["true"], text=True).stdout, str)
        assert_type(t.run(["true"]).stdout, bytes)
        assert_type(t.start(["true"]), pyminicon.Container[bytes])
        assert_type(t.ready, int)


async def loops() -> None:
    assert_type((await aio.run(["true"], text=True)).stdout, str)
    assert_type((await aio.run(["true"])).stdout, bytes)
    async with await aio.start(["cat"], stdin=pyminicon.PIPE) as c:
        assert_type(c, aio.AsyncContainer[bytes])
        assert_type(await c.communicate(b"x"), tuple[bytes, bytes])
    async with aio.Template(image="host", memory="64M", stock=2) as t:
        assert_type((await t.run(["true"], text=True)).stdout, str)
        assert_type(await t.start(["cat"]), aio.AsyncContainer[bytes])
        assert_type(await t.start(), aio.AsyncContainer[bytes])


def errors() -> str:
    try:
        asyncio.run(loops())
    except pyminicon.LaunchError as error:
        return f"{error.stage} {error.subject} {error.errno} {error.hint}"
    except (pyminicon.ImageError, pyminicon.SpecError) as error:
        return error.option
    except pyminicon.TimeoutExpired as error:
        return str(error.timeout)
    except pyminicon.CalledProcessError as error:
        return f"{error.returncode} {error.limit}"
    except pyminicon.Error as error:
        return str(error)
    return pyminicon.__version__
