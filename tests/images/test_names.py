"""References, configurations, manifests, challenges and logins: what strangers and people write."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from pyminicon.images import challenge, config, credentials, lookup, manifest, reference
from pyminicon.images.errors import ImageError, RegistryError
from pyminicon.images.manifest import Descriptor, choose, find

from .tars import sha

HEX = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("text", "full"),
    [
        ("debian", "docker.io/library/debian:latest"),
        ("debian:12-slim", "docker.io/library/debian:12-slim"),
        ("me/tool", "docker.io/me/tool:latest"),
        ("docker.io/debian", "docker.io/library/debian:latest"),
        ("index.docker.io/me/tool", "docker.io/me/tool:latest"),
        ("ghcr.io/a/b/c:v1", "ghcr.io/a/b/c:v1"),
        ("localhost/x", "localhost/x:latest"),
        ("localhost:5000/x:1", "localhost:5000/x:1"),
        ("127.0.0.1:5000/x", "127.0.0.1:5000/x:latest"),
        ("[::1]:5000/x", "[::1]:5000/x:latest"),
        ("a__b/c.d-e--f", "docker.io/a__b/c.d-e--f:latest"),
        (f"debian@sha256:{HEX}", f"docker.io/library/debian@sha256:{HEX}"),
        (f"ghcr.io/a:1@sha256:{HEX}", f"ghcr.io/a:1@sha256:{HEX}"),
    ],
)
def test_short_names_stand_for_full_ones(text: str, full: str) -> None:
    assert str(reference.parse(text)) == full


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        "@",
        "/",
        "a/",
        "/a",
        "a//b",
        "UPPER",
        "a:b:c",
        "a:",
        "a:-tag",
        "a:" + "t" * 129,
        "a b",
        "ä",
        "a@sha256:123",
        f"a@sha256:{HEX.upper()}",
        f"a@sha512:{HEX}",
        "a_-b",
        "-a",
        "a-",
        "..",
        "a/../b",
        "ghcr.io/",
        "ghcr.io:port/a",
        "ho st.io/a",
        "x.io/a\n",
        "x.io/a\0",
        "x" * 300,
        "http://x.io/a",
        "x.io/a?b",
        "user@x.io/a",
    ],
)
def test_what_is_no_reference_is_refused(text: str) -> None:
    with pytest.raises(ImageError, match="image: "):
        reference.parse(text)


def test_docker_hubs_name_is_not_its_server() -> None:
    assert reference.parse("debian").api_host == "registry-1.docker.io"
    assert reference.parse("ghcr.io/a").api_host == "ghcr.io"


def test_local_names_are_kept_apart_from_registries() -> None:
    assert reference.parse_local("mine") == "localhost/mine:latest"
    assert reference.parse_local("a/b:1") == "localhost/a/b:1"
    assert reference.parse_local("ghcr.io/a") == "ghcr.io/a:latest"
    assert reference.familiar("localhost/mine:latest") == "mine:latest"
    assert reference.familiar("docker.io/library/debian:12") == "debian:12"
    with pytest.raises(ImageError):
        reference.parse_local(f"a@sha256:{HEX}")


@pytest.mark.parametrize(
    "name",
    [
        "debian",
        "me/tool:1",
        "ghcr.io/a/b",
        f"ghcr.io/a@sha256:{HEX}",
        "localhost/x",
        "localhost:5000/x:1",
        "docker.io/debian",
        "index.docker.io/me/tool",
        "Host/x",
    ],
)
def test_the_quick_lookup_looks_where_the_full_name_is_kept(name: str) -> None:
    full = str(reference.parse(name)).replace("/", "%")
    assert full in lookup.ref_names(name)
    assert not any("/" in ref for ref in lookup.ref_names(name + "/../../x"))


# -- configuration -----------------------------------------------------------------------------


def image_config(**changes: Any) -> bytes:
    made = {
        "architecture": "arm64",
        "variant": "v8",
        "os": "linux",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{HEX}"]},
    }
    return json.dumps({**made, **changes}).encode()


def test_a_configuration_is_read() -> None:
    wants = {
        "Entrypoint": ["/entry"],
        "Cmd": ["a", "b"],
        "Env": ["PATH=/bin", "EMPTY=", "=bad", "bad"],
        "WorkingDir": "/work",
        "User": "me:us",
        "StopSignal": "SIGQUIT",
        "Volumes": {"/data": {}, "relative": {}},
        "Labels": {"any": "thing"},
    }
    found = config.parse(image_config(config=wants))
    assert found.platform == "linux/arm64/v8"
    assert found.diff_ids == [f"sha256:{HEX}"]
    c = found.config
    assert (c.entrypoint, c.cmd, c.env) == (["/entry"], ["a", "b"], ["PATH=/bin", "EMPTY="])
    assert (c.workdir, c.user, c.stopsignal, c.volumes) == ("/work", "me:us", "SIGQUIT", ["/data"])


def test_what_is_not_said_is_empty() -> None:
    for wants in (None, {}, {"Cmd": None, "Env": None, "Volumes": None, "User": None}):
        c = config.parse(image_config(config=wants)).config
        assert (c.entrypoint, c.cmd, c.env, c.workdir, c.user, c.volumes) == (None, None, [], "", "", [])


@pytest.mark.parametrize(
    "changes",
    [
        {"rootfs": None},
        {"rootfs": {"diff_ids": []}},
        {"rootfs": {"diff_ids": ["sha256:x"]}},
        {"rootfs": {"diff_ids": [5]}},
        {"rootfs": {"diff_ids": f"sha256:{HEX}"}},
        {"config": []},
        {"os": 5},
        {"rootfs": {"diff_ids": [f"sha256:{HEX}"] * 501}},
        {"config": {"Env": "A=b\0c"}},
        {"config": {"Cmd": [1]}},
        {"config": {"Cmd": ["a\0b"]}},
        {"config": {"Cmd": {"a": "b"}}},
        {"config": {"User": ["me"]}},
        {"config": {"Volumes": ["/a"]}},
        {"config": {"Cmd": ["\ud800"]}},
        {"os": "linux\x1b[31m"},
        {"architecture": "a/b"},
        {"architecture": "a\0"},
    ],
)
def test_a_configuration_that_cannot_be_right_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ImageError):
        config.parse(image_config(**changes))


@pytest.mark.parametrize("data", [b"", b"[]", b"5", b"{", b"\xff", b"[" * 100_000, b'{"a": 1e999}' * 2])
def test_what_is_no_json_object_is_refused(data: bytes) -> None:
    with pytest.raises(ImageError):
        config.parse(data)


def test_a_plain_root_gets_the_same_digest_every_time() -> None:
    data = config.for_plain(f"sha256:{HEX}", "linux/arm/v7")
    assert data == config.for_plain(f"sha256:{HEX}", "linux/arm/v7")
    assert config.parse(data).diff_ids == [f"sha256:{HEX}"]


# -- manifests and platforms --------------------------------------------------------------------


def entries(*platforms: str) -> list[Descriptor]:
    return [Descriptor(manifest.MANIFESTS[0], f"sha256:{HEX}", 1, p, "") for p in platforms]


@pytest.mark.parametrize(
    ("have", "wanted", "chosen"),
    [
        (["linux/arm64", "linux/amd64"], "linux/amd64", "linux/amd64"),
        (["linux/amd64/v3", "linux/amd64"], "linux/amd64", "linux/amd64"),
        (["linux/amd64/v3"], "linux/amd64", None),
        (["linux/amd64/v2"], "linux/amd64/v3", "linux/amd64/v2"),
        (["linux/amd64/v3"], "linux/amd64/v2", None),
        (["linux/arm/v6", "linux/arm/v7"], "linux/arm/v7", "linux/arm/v7"),
        (["linux/arm/v6"], "linux/arm/v7", "linux/arm/v6"),
        (["linux/arm/v7"], "linux/arm/v6", None),
        (["linux/arm64/v8"], "linux/arm64", "linux/arm64/v8"),
        (["linux/arm64"], "linux/arm64/v8", "linux/arm64"),
        (["unknown/unknown", "linux/amd64"], "linux/amd64", "linux/amd64"),
        (["windows/amd64"], "linux/amd64", None),
        (["", "linux/amd64"], "linux/amd64", "linux/amd64"),
        ([""], "linux/amd64", ""),
        ([], "linux/amd64", None),
    ],
)
def test_the_right_platform_is_chosen(have: list[str], wanted: str, chosen: str | None) -> None:
    found = choose(entries(*have), wanted)
    assert (found[0].platform if found else None) == chosen


def index_of(digest: str, size: int | None = None) -> bytes:
    entry = {"mediaType": manifest.INDEXES[0], "digest": digest, "size": size}
    if size is None:  # as long as itself
        entry["size"] = len(index_of(digest, 999))
    return json.dumps({"mediaType": manifest.INDEXES[0], "manifests": [entry]}).encode()


def test_an_index_that_leads_to_itself_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Digests make it impossible; take them away and the loop still ends."""
    data = index_of(f"sha256:{HEX}")
    monkeypatch.setattr(manifest, "digest_of", lambda *_: f"sha256:{HEX}")
    with pytest.raises(ImageError, match="itself"):
        find(data, None, lambda _: data)


def test_what_reads_as_manifest_and_as_index_is_refused() -> None:
    data = json.dumps({**json.loads(index_of(f"sha256:{HEX}")), "layers": []}).encode()
    with pytest.raises(ImageError, match="at the same time"):
        find(data, None, lambda _: data)


def test_indexes_within_indexes_end() -> None:
    chain = [b"{}"]
    for _ in range(10):
        chain.append(index_of(sha(chain[-1]), len(chain[-1])))
    by_digest = {sha(data): data for data in chain}
    with pytest.raises(ImageError, match="too many others"):
        find(chain[-1], None, lambda entry: by_digest[entry.digest])


def _one_layer(media_type: str, size: object) -> dict[str, Any]:
    return {"layers": [{"mediaType": media_type, "digest": f"sha256:{HEX}", "size": size}]}


@pytest.mark.parametrize(
    "raw",
    [
        {},
        {"layers": 5},
        {"schemaVersion": 1, "fsLayers": []},
        {"layers": [], "config": None},
        {"layers": [{"digest": "x"}], "config": {}},
        {"layers": [None]},
        _one_layer("application/vnd.cncf.helm.chart.content.v1.tar+gzip", 1),
        _one_layer("application/vnd.oci.image.layer.v1.tar+encrypted", 1),
        _one_layer("application/vnd.oci.image.layer.v1.tar", -1),
        _one_layer("application/vnd.oci.image.layer.v1.tar", True),
        _one_layer("application/vnd.oci.image.layer.v1.tar", 1e9),
    ],
)
def test_what_is_no_manifest_of_a_container_image_is_refused(raw: dict[str, Any]) -> None:
    with pytest.raises(ImageError):
        manifest.parse_manifest(raw, f"sha256:{HEX}")


# -- logins --------------------------------------------------------------------------------------


def test_challenges_are_read() -> None:
    header = (
        'Bearer realm="https://a/t",service="s, \\"x\\"",scope="r:x:pull,push", Basic realm="b", '
        "Negotiate, Digest a=b"
    )
    assert challenge.parse(header) == [
        ("bearer", {"realm": "https://a/t", "service": 's, "x"', "scope": "r:x:pull,push"}),
        ("basic", {"realm": "b"}),
        ("negotiate", {}),
        ("digest", {"a": "b"}),
    ]
    assert challenge.parse("") == []
    assert challenge.parse("BASIC") == [("basic", {})]


@pytest.mark.parametrize(
    "header", ['"', "Bearer =", 'Bearer a="b', "a=b", "B\x00", "B" * 20000, "Bearer a = = b"]
)
def test_challenges_that_are_none_are_refused(header: str) -> None:
    with pytest.raises(RegistryError):
        challenge.parse(header)


def _file(**content: Any) -> bytes:
    return json.dumps(content).encode()


def _login(data: bytes, registry: str, repository: str = "a/b") -> tuple[str, str] | None:
    found = credentials.from_config(data, "config.json", registry, repository)
    return (found.username, found.password) if found else None


def test_logins_are_found_under_all_their_keys() -> None:
    entry = {"auth": base64.b64encode(b"me:pass:word").decode()}
    for key in ("x.io", "https://x.io", "https://x.io/v2/", "x.io/a", "x.io/a/b"):
        assert _login(_file(auths={key: entry}), "x.io") == ("me", "pass:word")
    for key in ("y.io", "x.io:5000", "x.io/b", "ex.io"):
        assert _login(_file(auths={key: entry}), "x.io") is None
    assert _login(_file(auths={"https://index.docker.io/v1/": entry}), "docker.io") == ("me", "pass:word")
    assert _login(_file(auths={"x.io": {"username": "u", "password": "p"}}), "x.io") == ("u", "p")
    assert _login(_file(auths={"x.io": {}}), "x.io") is None
    assert _login(_file(), "x.io") is None


def test_the_most_particular_login_counts() -> None:
    auths = {key: {"auth": base64.b64encode(f"{key}:p".encode()).decode()} for key in ("x.io", "x.io/a")}
    assert _login(_file(auths=auths), "x.io") == ("x.io/a", "p")
    assert _login(_file(auths=auths), "x.io", "other") == ("x.io", "p")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        _file(auths={"x.io": {"auth": "%"}}),
        _file(auths={"x.io": {"auth": "bWU="}}),
        _file(auths={"x.io": {"auth": 5}}),
    ],
)
def test_login_files_that_are_damaged_are_named(data: bytes) -> None:
    with pytest.raises(RegistryError, match=r"config\.json"):
        credentials.from_config(data, "config.json", "x.io", "a")
