"""Logins that docker and podman have kept: read, never written.

In order: $REGISTRY_AUTH_FILE; podman's $XDG_RUNTIME_DIR/containers/auth.json and
~/.config/containers/auth.json (containers-auth.json(5)); docker's config.json below $DOCKER_CONFIG
or ~/.docker. The first that knows the registry counts.
"""

from __future__ import annotations

import base64
import binascii
import json
import os

from .errors import RegistryError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_HUB_KEYS = ("https://index.docker.io/v1/", "index.docker.io", "registry-1.docker.io")


class Login:
    """``username`` and ``password`` (str), or ``identity`` (str): a refresh token, or ``bearer``
    (str): a token to be used as it is. What isn't there is empty."""

    __slots__ = ("bearer", "identity", "password", "username")

    def __init__(self, username: str = "", password: str = "", identity: str = "", bearer: str = "") -> None:
        self.username: str = username
        self.password: str = password
        self.identity: str = identity
        self.bearer: str = bearer

    @property
    def basic(self) -> str:
        """The value of an Authorization header."""
        pair = f"{self.username}:{self.password}".encode()
        return f"Basic {base64.b64encode(pair).decode('ascii')}"


def find(registry: str, repository: str) -> Login | None:
    """The login kept for ``registry`` (podman keeps some for ``registry/repository`` or a part of it).

    Raises RegistryError for a file that can't be read or a helper that fails.
    """
    for path in _files():
        try:
            with open(path, "rb") as file:
                data = file.read(1 << 20)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise RegistryError(f"{path}: {error.strerror}") from None
        login = from_config(data, path, registry, repository)
        if login is not None:
            return login
    return None


def _files() -> list[str]:
    given = os.environ.get("REGISTRY_AUTH_FILE")
    if given:
        return [given]
    config = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    docker = os.environ.get("DOCKER_CONFIG") or os.path.expanduser("~/.docker")
    return [
        *([f"{runtime}/containers/auth.json"] if runtime else []),
        f"{config}/containers/auth.json",
        f"{docker}/config.json",
    ]


def from_config(data: bytes, path: str, registry: str, repository: str) -> Login | None:
    """The login for a registry in one file's content. Raises RegistryError naming ``path``."""
    try:
        raw = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise RegistryError(f"{path} isn't JSON: {error}") from None
    if not isinstance(raw, dict):
        raise RegistryError(f"{path} isn't a JSON object")
    keys = _keys(registry, repository)
    helpers = raw.get("credHelpers")
    if isinstance(helpers, dict):
        for key in keys:
            if isinstance(helpers.get(key), str):
                return _from_helper(helpers[key], key)
    auths = raw.get("auths")
    if isinstance(auths, dict):
        for key in keys:
            if isinstance(auths.get(key), dict) and (login := _from_entry(auths[key], path, key)):
                return login
    if isinstance(raw.get("credsStore"), str):
        server = _HUB_KEYS[0] if registry == "docker.io" else registry
        return _from_helper(raw["credsStore"], server)
    return None


def _keys(registry: str, repository: str) -> list[str]:
    """The keys that a login may lie under, the most particular first."""
    parts = repository.split("/")
    keys = [f"{registry}/{'/'.join(parts[:n])}" for n in range(len(parts), 0, -1)] + [registry]
    for scheme in ("https://", "http://"):
        keys += [
            f"{scheme}{registry}",
            f"{scheme}{registry}/",
            f"{scheme}{registry}/v1/",
            f"{scheme}{registry}/v2/",
        ]
    return keys + list(_HUB_KEYS) if registry == "docker.io" else keys


def _from_entry(entry: dict[str, Any], path: str, key: str) -> Login | None:
    text = {
        name: entry.get(name) for name in ("auth", "username", "password", "identitytoken", "registrytoken")
    }
    if not all(value is None or isinstance(value, str) for value in text.values()):
        raise RegistryError(f"{path}: the login for {key} isn't made of strings")
    username, password = text["username"] or "", text["password"] or ""
    if text["auth"]:
        try:
            pair = base64.b64decode(text["auth"], validate=True).decode()
        except (binascii.Error, ValueError):
            raise RegistryError(f"{path}: the login for {key} isn't base64") from None
        username, colon, password = pair.rstrip("\0").partition(":")
        if not colon:
            raise RegistryError(f"{path}: the login for {key} isn't user:password")
    login = Login(username, password, text["identitytoken"] or "", text["registrytoken"] or "")
    return login if login.username or login.identity or login.bearer else None


def _from_helper(name: str, server: str) -> Login | None:
    """Ask docker-credential-NAME, as docker does (docker/docker-credential-helpers, "Development")."""
    import subprocess

    if not name.replace("-", "").replace("_", "").replace(".", "").isalnum() or name.startswith("."):
        raise RegistryError(f"{name!r} isn't the name of a credential helper")
    program = f"docker-credential-{name}"
    try:
        done = subprocess.run(
            [program, "get"], input=server.encode(), capture_output=True, timeout=60, check=False
        )
    except OSError as error:
        reason = "isn't installed" if isinstance(error, FileNotFoundError) else error.strerror
        raise RegistryError(f"the login for {server} is kept by {program}: {reason}") from None
    except subprocess.TimeoutExpired:
        raise RegistryError(f"{program} didn't answer within a minute") from None
    if done.returncode:
        said = (done.stdout or done.stderr).decode("utf-8", "replace").strip()
        if "credentials not found" in said:
            return None
        raise RegistryError(f"{program} failed: {said[:200]}")
    try:
        raw = json.loads(done.stdout)
        username, secret = str(raw["Username"]), str(raw["Secret"])
    except (ValueError, KeyError, TypeError):
        raise RegistryError(f"{program} gave an answer that isn't a login") from None
    return Login(identity=secret) if username == "<token>" else Login(username, secret)
