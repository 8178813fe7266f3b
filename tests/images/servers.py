"""Servers for the tests: Debian's docker-registry, and a front before it that asks for tokens, breaks
connections, redirects, or speaks TLS."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import shutil
import socket
import ssl
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

# "user:secret", bcrypt of 2^5 rounds: docker-registry takes no other kind.
_HTPASSWD = "user:$2y$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a"


def need(*programs: str) -> None:
    for program in programs:
        if shutil.which(program) is None:
            pytest.skip(f"needs the program {program} (apt-get install {program})")


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


@contextlib.contextmanager
def docker_registry(directory: Path, basic: bool = False) -> Iterator[str]:
    """A real registry on loopback; its host:port."""
    need("docker-registry")
    port = free_port()
    auth = ""
    if basic:
        (directory / "htpasswd").write_text(_HTPASSWD + "\n")
        auth = f"auth: {{htpasswd: {{realm: here, path: {directory}/htpasswd}}}}\n"
    config = directory / f"registry-{port}.yml"
    config.write_text(
        f"version: 0.1\nstorage: {{filesystem: {{rootdirectory: {directory}/data}}}}\n"
        f"http: {{addr: '127.0.0.1:{port}'}}\nlog: {{level: error, accesslog: {{disabled: true}}}}\n{auth}"
    )
    with open(directory / "registry.log", "ab") as log:
        process = subprocess.Popen(["docker-registry", "serve", str(config)], stdout=log, stderr=log)
    try:
        _wait_for(port, process)
        yield f"127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    for _ in range(1200):
        assert process.poll() is None, "docker-registry ended"
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise AssertionError("docker-registry doesn't answer")


def skopeo(*words: str) -> bytes:
    """What it prints. Passwords are nobody's: those of a user without a login session lie beneath /run/containers,
    which podman makes root's alone."""
    need("skopeo")
    with tempfile.TemporaryDirectory() as nothing:
        env = {**os.environ, "XDG_RUNTIME_DIR": nothing}
        return subprocess.run(["skopeo", *words], check=True, stdout=subprocess.PIPE, env=env).stdout


def copy(source: str, target: str, *options: str) -> None:
    skopeo("copy", "-q", "--insecure-policy", "--dest-tls-verify=false", *options, source, target)


class Front:
    """Passes requests on to a registry, but for what `before` and `cut` make of them.

    ``log``: (method, path, headers) of every request. ``before(handler)``: answers a request itself by
    returning True. ``cut(path, count)``: how many bytes of the count-th answer to that path get
    through before the connection breaks; None for all.
    """

    def __init__(self, behind: str, context: ssl.SSLContext | None = None) -> None:
        self.behind = behind
        self.log: list[tuple[str, str, dict[str, str]]] = []
        self.before: Callable[[Handler], bool] = lambda handler: False
        self.cut: Callable[[str, int], int | None] = lambda path, count: None
        self.counts: dict[str, int] = {}
        self.lock = threading.Lock()
        front = self

        class Bound(Handler):
            pass

        Bound.front = front
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Bound)
        self.server.daemon_threads = True
        if context is not None:
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.address = f"127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> Front:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    def paths(self, part: str) -> list[dict[str, str]]:
        """The headers of all requests whose path holds ``part``."""
        return [headers for _, path, headers in self.log if part in path]


class Handler(BaseHTTPRequestHandler):
    front: Front

    def log_message(self, *_: object) -> None: ...

    def do_POST(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        front = self.front
        with front.lock:
            front.log.append((self.command, self.path, dict(self.headers.items())))
            count = front.counts.get(self.path, 0)
            front.counts[self.path] = count + 1
        if front.before(self):
            return
        behind = http.client.HTTPConnection(front.behind, timeout=60)
        passed = ("Accept", "Range", "Authorization")
        behind.request("GET", self.path, headers={k: v for k, v in self.headers.items() if k in passed})
        answer = behind.getresponse()
        body = answer.read()
        behind.close()
        self.send_response(answer.status)
        for key, value in answer.getheaders():
            if key.lower() not in ("connection", "transfer-encoding", "server", "date"):
                self.send_header(key, value)
        self.end_headers()
        most = front.cut(self.path, count)
        self.wfile.write(body if most is None else body[:most])
        self.close_connection = True

    def reply(self, status: int, body: bytes = b"", **headers: str) -> bool:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        return True


class TokenGate:
    """`Front.before` for a registry with token authentication (a token server of its own below /token).

    ``login``: the user:password that the token server wants; None for anonymous tokens.
    ``lives``: how many requests a token is good for.
    """

    def __init__(self, login: str | None = None, lives: int = 1000) -> None:
        self.login = login
        self.lives = lives
        self.tokens: dict[str, int] = {}
        self.asked: list[dict[str, list[str]]] = []

    def __call__(self, handler: Handler) -> bool:
        parts = urlsplit(handler.path)
        if parts.path == "/token":
            return self._token(handler, parts.query)
        token = handler.headers.get("Authorization", "").removeprefix("Bearer ")
        if self.tokens.get(token, 0) > 0:
            self.tokens[token] -= 1
            del handler.headers["Authorization"]
            return False
        realm = f"http://{handler.front.address}/token"
        challenge = f'Bearer realm="{realm}",service="test, \\"quoted\\"",scope="repository:x:pull"'
        return handler.reply(401, b"{}", WWW_Authenticate=challenge)

    def _token(self, handler: Handler, query: str) -> bool:
        if handler.command == "POST":
            body = handler.rfile.read(int(handler.headers["Content-Length"])).decode()
            fields = parse_qs(body)
            good = self.login == "refresh:" + fields.get("refresh_token", [""])[0]
        else:
            fields = parse_qs(query)
            wanted = base64.b64encode((self.login or "").encode()).decode()
            good = self.login is None or handler.headers.get("Authorization") == f"Basic {wanted}"
        self.asked.append(fields)
        if not good:
            return handler.reply(401, b'{"errors": [{"code": "UNAUTHORIZED", "message": "who are you?"}]}')
        token = f"token{len(self.tokens)}"
        self.tokens[token] = self.lives
        return handler.reply(200, json.dumps({"token": token, "expires_in": 60}).encode())


def self_signed(directory: Path) -> tuple[ssl.SSLContext, Path]:
    """A server context for 127.0.0.1 and the certificate it uses."""
    need("openssl")
    key, certificate = directory / "key.pem", directory / "cert.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=test",
         "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context, certificate
