"""Wrong uses, to be checked and never run: each marked line must be refused."""

import os

import pyminicon
from pyminicon import aio


async def wrong() -> None:
    pyminicon.run(["true"], memroy="64M")  # wrong
    pyminicon.run(["true"], network="bridg")  # wrong
    pyminicon.rnu(["true"])  # wrong
    pyminicon.run(["true"], pid="mine")  # wrong
    pyminicon.run(["true"], text=True).stdout + b""  # wrong
    pyminicon.run(["true"], input=3)  # wrong
    pyminicon.run(["true"], cpus="one")  # wrong
    pyminicon.run(["true"], read_only="yes")  # wrong
    pyminicon.run(["true"], env=["A=b"])  # wrong
    pyminicon.run(["true"], tty=True)  # wrong
    pyminicon.run(3)  # wrong
    pyminicon.run(["true"], text=True).stdout.decode()  # wrong
    pyminicon.run(["true"]).stdout.encode()  # wrong
    pyminicon.start(["true"], timeout=3)  # wrong
    pyminicon.start(["true"], capture_output=True)  # wrong
    pyminicon.Template(env={"A": "b"})  # wrong
    pyminicon.Template().run(["true"], memory="64M")  # wrong
    pyminicon.Template().start(["true"], input=b"x")  # wrong
    aio.Template(env={"A": "b"})  # wrong
    await aio.Template().run(["true"], memory="64M")  # wrong
    pyminicon.start(["true"]).communicate("x")  # wrong
    pyminicon.start(["true"]).update(image="host")  # wrong
    pyminicon.start(tty=True)  # wrong
    pyminicon.start().run(["true"], memory="1G")  # wrong
    pyminicon.start().start(["true"], timeout=1)  # wrong
    pyminicon.start().run()  # wrong
    os.fspath(pyminicon.start().path("/etc/passwd"))  # wrong
    pyminicon.start().path(b"/etc/passwd")  # wrong
    pyminicon.start().path("/a").write_text(b"x")  # wrong
    pyminicon.start().copy_in("/a")  # wrong
    (await aio.start()).path("/a").read_text().strip()  # wrong
    await aio.run(["true"], memroy=1)  # wrong
    await aio.start(["true"], check=True)  # wrong
