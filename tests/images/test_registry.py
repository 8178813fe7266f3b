"""Pulls from a real registry (Debian's docker-registry on loopback), straight and through trouble."""

from __future__ import annotations

import base64
import gzip
import io
import json
import os
import stat
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyminicon.cli.image import main as image_command
from pyminicon.errors import SpecError
from pyminicon.images import resolve
from pyminicon.images.assemble import Job
from pyminicon.images.errors import ImageError, RegistryError
from pyminicon.images.export import export
from pyminicon.images.limits import Limits
from pyminicon.images.lookup import open_image
from pyminicon.images.progress import Progress
from pyminicon.images.puller import pull
from pyminicon.images.store import Store

from .servers import Front, Handler, TokenGate, copy, docker_registry, need, self_signed, skopeo
from .tars import Layout, directory, file, tar

LAYERS = (
    tar(directory("a"), file("a/one", b"one"), file("a/two", b"two"), directory("o"), file("o/old")),
    tar(directory("a"), file("a/.wh.one", b""), directory("o"), file("o/.wh..wh..opq", b""), file("o/new")),
    tar(file("big", os.urandom(700_000), mode=0o4755), file("a/three", b"three")),
)
MERGED = [".", "./a", "./a/three", "./a/two", "./big", "./o", "./o/new"]


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    path = tmp_path_factory.mktemp("registry")
    layout = Layout(path / "layout")
    packed = [gzip.compress(layer) for layer in LAYERS]
    layout.index(layout.image(*LAYERS, packed=packed, Cmd=["/bin/true"], Env=["A=b"]))
    with docker_registry(path) as host:
        source = f"oci:{layout.path}"
        copy(source, f"docker://{host}/test/oci:1")
        copy(source, f"docker://{host}/test/docker:1", "--format", "v2s2")
        copy(source, f"oci:{path}/zstd:z", "--dest-compress-format", "zstd", "--dest-compress")
        copy(f"oci:{path}/zstd:z", f"docker://{host}/test/zstd:1")
        yield host


@pytest.fixture
def front(registry: str) -> Iterator[Front]:
    with Front(registry) as made:
        yield made


@pytest.fixture(autouse=True)
def no_long_waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Waits between attempts are recorded, not waited."""
    waits: list[float] = []
    monkeypatch.setattr("pyminicon.images.transport.Transport.pause", lambda self, s: waits.append(s))
    return waits


def job(store: Store, platform: str | None = None) -> Job:
    return Job(store, Limits(), Progress(), platform=platform)


def merged(store: Store, digest: str) -> tarfile.TarFile:
    found = open_image(store.path, digest)
    assert found is not None
    out = io.BytesIO()
    export(found.layers, out)
    found.close()
    out.seek(0)
    return tarfile.open(fileobj=out)


@pytest.mark.parametrize("kind", ["oci", "docker", "zstd"])
def test_an_image_of_several_layers_comes_whole(store: Store, registry: str, kind: str) -> None:
    digest = pull(job(store), f"{registry}/test/{kind}:1")
    archive = merged(store, digest)
    assert sorted(archive.getnames()) == MERGED
    assert archive.getmember("./big").mode == 0o4755
    found = resolve(f"{registry}/test/{kind}:1")
    assert len(found.layers) == 3
    assert found.config is not None
    assert (found.config.cmd, found.config.env) == (["/bin/true"], ["A=b"])
    assert stat.S_ISCHR(os.lstat(f"{found.layers[1]}/a/one").st_mode)
    found.close()


def test_the_zstd_one_is_zstd(registry: str) -> None:
    assert b"tar+zstd" in skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{registry}/test/zstd:1")


def test_what_umoci_and_buildah_build_comes_whole(store: Store, registry: str, tmp_path: Path) -> None:
    need("umoci", "buildah")
    layout, bundle = tmp_path / "umoci", tmp_path / "bundle"

    def umoci(*words: str) -> None:
        subprocess.run(["umoci", *words], check=True, capture_output=True)

    umoci("init", "--layout", str(layout))
    umoci("new", "--image", f"{layout}:x")
    rootless = [] if os.geteuid() == 0 else ["--rootless"]
    for step in range(3):
        umoci("unpack", *rootless, "--image", f"{layout}:x", f"{bundle}{step}")
        root = Path(f"{bundle}{step}/rootfs")
        if step == 0:
            (root / "dir/sub").mkdir(parents=True)
            (root / "dir/gone").write_text("gone")
            (root / "dir/sub/gone").write_text("gone")
            os.link(root / "dir/gone", root / "dir/hard")
        elif step == 1:
            (root / "dir/gone").unlink()
            (root / "dir/sub/gone").unlink()
            (root / "dir/sub").rmdir()
        else:
            (root / "dir/sub").mkdir()
            (root / "dir/sub/new").write_text("new")
        umoci("repack", "--image", f"{layout}:x", f"{bundle}{step}")
    copy(f"oci:{layout}:x", f"docker://{registry}/test/umoci:x")
    names = merged(store, pull(job(store), f"{registry}/test/umoci:x")).getnames()
    assert sorted(n for n in names if "dir" in n) == ["./dir", "./dir/hard", "./dir/sub", "./dir/sub/new"]


def test_an_index_gives_the_image_of_the_platform_asked_for(
    store: Store, registry: str, tmp_path: Path
) -> None:
    layout = Layout(tmp_path / "layout")
    entries = []
    for architecture, name in (("amd64", b"amd"), ("arm64", b"arm"), ("riscv64", b"risc")):
        entry = layout.image(tar(file("which", name)))
        entries.append({**entry, "platform": {"os": "linux", "architecture": architecture}})
    kind = "application/vnd.oci.image.index.v1+json"
    inner = json.dumps({"schemaVersion": 2, "mediaType": kind, "manifests": entries}).encode()
    layout.index({"mediaType": kind, **layout.blob(inner)})
    copy(f"oci:{layout.path}", f"docker://{registry}/test/multi:1", "--all")
    digests = {}
    for platform, name in (("linux/arm64", b"arm"), ("linux/riscv64", b"risc"), ("linux/amd64", b"amd")):
        digests[platform] = pull(job(store, platform), f"{registry}/test/multi:1")
        content = merged(store, digests[platform]).extractfile("./which")
        assert content is not None
        assert content.read() == name
    assert len(set(digests.values())) == 3
    with pytest.raises(ImageError, match="no image for linux/s390x; there are linux/amd64, linux/arm64"):
        pull(job(store, "linux/s390x"), f"{registry}/test/multi:1")


def test_a_digest_pulls_exactly_that(store: Store, registry: str) -> None:
    digest = pull(job(store), f"{registry}/test/oci:1")
    assert pull(job(store), f"{registry}/test/oci@{digest}") == digest
    with pytest.raises(RegistryError, match="no such image"):
        pull(job(store), f"{registry}/test/oci@sha256:{'0' * 64}")


def test_what_is_there_is_not_fetched_again(store: Store, front: Front) -> None:
    pull(job(store), f"{front.address}/test/oci:1")
    before = len(front.paths("/blobs/"))
    pull(job(store), f"{front.address}/test/docker:1")
    # Only the configuration: its layers are the same ones.
    assert len(front.paths("/blobs/")) == before + 1


def test_two_pullers_fetch_a_layer_once(store: Store, front: Front) -> None:
    digests: list[str] = []

    def one() -> None:
        digests.append(pull(job(store), f"{front.address}/test/oci:1"))

    threads = [threading.Thread(target=one) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(digests) == 6
    assert len(set(digests)) == 1
    fetched = [path for _, path, _ in front.log if "/blobs/" in path]
    manifest = store.about(digests[0])["manifest"]
    for layer in manifest["layers"]:
        assert sum(layer["digest"] in path for path in fetched) == 1


def test_an_interrupted_blob_goes_on_where_it_broke(store: Store, front: Front) -> None:
    front.cut = lambda path, count: 100_000 if "/blobs/" in path and count < 4 else None
    digest = pull(job(store), f"{front.address}/test/oci:1")
    big = store.about(digest)["manifest"]["layers"][2]["digest"]
    ranges = [headers.get("Range") for headers in front.paths(big)]
    assert ranges == [None, *(f"bytes={n}00000-" for n in (1, 2, 3, 4))]
    assert sorted(merged(store, digest).getnames()) == MERGED


def test_a_server_without_ranges_is_asked_from_the_start(store: Store, front: Front) -> None:
    def no_ranges(handler: object) -> bool:
        del handler.headers["Range"]  # type: ignore[attr-defined]
        return False

    front.before = no_ranges
    front.cut = lambda path, count: 300_000 if "/blobs/" in path and count < 2 else None
    digest = pull(job(store), f"{front.address}/test/oci:1")
    assert sorted(merged(store, digest).getnames()) == MERGED


def test_a_blob_that_never_gets_further_is_given_up(store: Store, front: Front) -> None:
    front.cut = lambda path, count: (50_000 if count == 0 else 0) if "/blobs/" in path else None
    with pytest.raises(RegistryError, match="breaks again and again"):
        pull(job(store), f"{front.address}/test/oci:1")
    assert store.digests() == []


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_server_is_asked_again_later(
    store: Store, front: Front, no_long_waits: list[float], status: int
) -> None:
    front.before = lambda handler: (
        front.counts[handler.path] < 3 and handler.reply(status, b"", Retry_After="7")
    )
    digest = pull(job(store), f"{front.address}/test/oci:1")
    assert sorted(merged(store, digest).getnames()) == MERGED
    assert 7.0 in no_long_waits


def test_a_server_that_stays_busy_is_an_error_with_its_words(store: Store, front: Front) -> None:
    body = b'{"errors": [{"code": "TOOMANYREQUESTS", "message": "slow down\\u001b[2J"}]}'
    front.before = lambda handler: handler.path != "/v2/" and handler.reply(429, body)
    with pytest.raises(RegistryError, match="TOOMANYREQUESTS slow down") as caught:
        pull(job(store), f"{front.address}/test/oci:1")
    assert caught.value.status == 429
    assert "\x1b" not in str(caught.value)


def test_a_blob_with_a_wrong_digest_is_refused(store: Store, front: Front) -> None:
    evil = gzip.compress(tar(file("evil")))

    def exchange(handler: object) -> bool:
        if "/blobs/" not in handler.path or front.counts[handler.path] > 1:  # type: ignore[attr-defined]
            return False
        return handler.reply(200, evil.ljust(1000, b"\0"))  # type: ignore[attr-defined,no-any-return]

    front.before = exchange
    with pytest.raises(ImageError, match=r"wrong digest|announced|damaged|breaks"):
        pull(job(store), f"{front.address}/test/oci:1")
    assert store.digests() == []


def test_a_manifest_by_digest_with_other_content_is_refused(store: Store, front: Front) -> None:
    front.before = lambda handler: (
        "/manifests/" in handler.path and handler.reply(200, b'{"schemaVersion": 2}')
    )
    with pytest.raises(ImageError, match="wrong digest"):
        pull(job(store), f"{front.address}/test/oci@sha256:{'1' * 64}")


def test_an_endless_manifest_is_refused(store: Store, front: Front) -> None:
    front.before = lambda handler: "/manifests/" in handler.path and handler.reply(200, b" " * (5 << 20))
    with pytest.raises(RegistryError, match="more than"):
        pull(job(store), f"{front.address}/test/oci:1")


def test_anonymous_tokens_are_fetched_and_renewed(store: Store, front: Front) -> None:
    gate = TokenGate(lives=1)
    front.before = gate
    digest = pull(job(store), f"{front.address}/test/oci:1", workers=1)
    assert sorted(merged(store, digest).getnames()) == MERGED
    assert gate.asked[0] == {"scope": ["repository:x:pull"], "service": ['test, "quoted"']}
    assert len(gate.tokens) >= 4


def _auths(path: Path, host: str, **entry: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"auths": {host: entry}}))


def _basic(login: str) -> str:
    return base64.b64encode(login.encode()).decode()


@pytest.mark.parametrize("where", ["docker", "podman", "given"])
def test_a_kept_login_gets_the_token(
    store: Store, front: Front, where: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    front.before = TokenGate("me:my:password")
    with pytest.raises(RegistryError, match="docker login"):
        pull(job(store), f"{front.address}/test/oci:1")
    if where == "docker":
        path = Path(os.environ["HOME"]) / ".docker/config.json"
    elif where == "podman":
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
        path = tmp_path / "containers/auth.json"
    else:
        path = tmp_path / "given.json"
        monkeypatch.setenv("REGISTRY_AUTH_FILE", str(path))
    _auths(path, front.address, auth=_basic("me:my:password"))
    pull(job(store), f"{front.address}/test/oci:1")
    _auths(path, front.address, auth=_basic("me:wrong"))
    with pytest.raises(RegistryError, match="isn't accepted") as caught:
        pull(job(store), f"{front.address}/test/oci:1")
    assert "wrong" not in str(caught.value)


def test_a_credential_helper_is_asked(
    store: Store, front: Front, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    front.before = TokenGate("me:from-helper")
    helper = tmp_path / "bin/docker-credential-test"
    helper.parent.mkdir()
    helper.write_text(
        '#!/bin/sh\nread server\n[ "$1" = get ] || exit 1\n'
        f'[ "$server" = {front.address} ] || {{ echo credentials not found; exit 1; }}\n'
        'echo \'{"Username": "me", "Secret": "from-helper"}\'\n'
    )
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{helper.parent}:{os.environ['PATH']}")
    config = Path(os.environ["HOME"]) / ".docker/config.json"
    config.parent.mkdir()
    for content in ({"credHelpers": {front.address: "test"}}, {"credsStore": "test"}):
        config.write_text(json.dumps(content))
        pull(job(store), f"{front.address}/test/oci:1")
    config.write_text(json.dumps({"credHelpers": {front.address: "missing"}}))
    with pytest.raises(RegistryError, match="docker-credential-missing"):
        pull(job(store), f"{front.address}/test/oci:1")
    config.write_text(json.dumps({"credHelpers": {front.address: "../../bin/sh"}}))
    with pytest.raises(RegistryError, match="isn't the name"):
        pull(job(store), f"{front.address}/test/oci:1")


def test_an_identity_token_is_exchanged(store: Store, front: Front) -> None:
    front.before = TokenGate("refresh:abc")
    path = Path(os.environ["HOME"]) / ".docker/config.json"
    _auths(path, front.address, auth=_basic("00000000-0000-0000-0000-000000000000:"), identitytoken="abc")
    pull(job(store), f"{front.address}/test/oci:1")


def test_basic_authentication_works_with_the_real_registry(
    store: Store, registry: str, tmp_path: Path
) -> None:
    layout = Layout(tmp_path / "layout")
    layout.index(layout.image(tar(file("a"))))
    with docker_registry(tmp_path, basic=True) as host:
        copy(f"oci:{layout.path}", f"docker://{host}/private:1", "--dest-creds", "user:secret")
        with pytest.raises(RegistryError, match="docker login"):
            pull(job(store), f"{host}/private:1")
        _auths(Path(os.environ["HOME"]) / ".docker/config.json", host, auth=_basic("user:secret"))
        pull(job(store), f"{host}/private:1")


def test_a_redirect_to_another_host_goes_without_the_login(store: Store, front: Front, registry: str) -> None:
    front.before = (gate := TokenGate())
    with Front(registry) as storage:

        def redirect(handler: object) -> bool:
            if gate(handler):  # type: ignore[arg-type]
                return True
            if "/blobs/" in handler.path:  # type: ignore[attr-defined]
                place = f"http://{storage.address}{handler.path}"  # type: ignore[attr-defined]
                return handler.reply(307, b"", Location=place)  # type: ignore[attr-defined,no-any-return]
            return False

        front.before = redirect
        digest = pull(job(store), f"{front.address}/test/oci:1")
        assert sorted(merged(store, digest).getnames()) == MERGED
        assert len(storage.log) >= 4
        assert all("Authorization" not in headers for _, _, headers in storage.log)
        assert any("Authorization" in headers for _, _, headers in front.log)


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/x", "/v2/loop", "gopher://x"])
def test_a_redirect_elsewhere_is_refused(store: Store, front: Front, target: str) -> None:
    front.before = lambda handler: handler.path != "/v2/" and handler.reply(302, b"", Location=target)
    with pytest.raises(RegistryError, match="redirected"):
        pull(job(store), f"{front.address}/test/oci:1")


def test_tls_wants_a_certificate_that_is_trusted(store: Store, registry: str, tmp_path: Path) -> None:
    context, certificate = self_signed(tmp_path)
    with Front(registry, context) as front:
        with pytest.raises(RegistryError, match="--ca"):
            pull(job(store), f"{front.address}/test/oci:1")
        pull(job(store), f"{front.address}/test/oci:1", ca=str(certificate))
        with pytest.raises(RegistryError, match="--ca"):
            pull(job(store), f"{front.address}/test/oci:1", ca="/dev/null")


def _with_refresh_token(front: Front, gate: TokenGate) -> None:
    """Logged in to ``front`` by a refresh token, which is posted."""
    path = Path(os.environ["HOME"]) / ".docker/config.json"
    _auths(path, front.address, auth=_basic("me:"), identitytoken="secret")
    gate.login = "refresh:secret"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_refresh_token_never_goes_to_another_host(
    store: Store, registry: str, front: Front, status: int
) -> None:
    gate = TokenGate()
    _with_refresh_token(front, gate)
    with Front(registry) as other:
        place = f"http://{other.address}/token"
        front.before = lambda handler: (
            handler.reply(status, b"", Location=place) if handler.command == "POST" else gate(handler)
        )
        with pytest.raises(RegistryError, match="redirects a login to"):
            pull(job(store), f"{front.address}/test/oci:1")
        assert other.log == []


@pytest.mark.parametrize(
    ("status", "method"), [(301, "GET"), (302, "GET"), (303, "GET"), (307, "POST"), (308, "POST")]
)
def test_a_post_redirected_on_its_host_goes_on_as_its_status_says(
    store: Store, front: Front, status: int, method: str
) -> None:
    gate = TokenGate()
    _with_refresh_token(front, gate)
    seen: list[tuple[str, str | None]] = []

    def before(handler: Handler) -> bool:
        if handler.path == "/moved":
            body = handler.rfile.read(int(handler.headers.get("Content-Length", 0))).decode()
            seen.append((handler.command, body))
            assert ("Content-Type" in handler.headers) == (method == "POST")
            gate.tokens["moved"] = 1000
            return handler.reply(200, b'{"token": "moved"}')
        if handler.command == "POST":
            return handler.reply(status, b"", Location="/moved")
        return gate(handler)

    front.before = before
    pull(job(store), f"{front.address}/test/oci:1")
    ((used, body),) = seen
    assert used == method
    assert ("refresh_token=secret" in (body or "")) == (method == "POST")


def test_tls_redirected_to_plain_http_is_refused(store: Store, registry: str, tmp_path: Path) -> None:
    context, certificate = self_signed(tmp_path)
    with Front(registry) as plain, Front(registry, context) as front:
        front.before = lambda handler: handler.reply(
            302, b"", Location=f"http://{plain.address}{handler.path}"
        )
        with pytest.raises(RegistryError, match="isn't safe"):
            pull(job(store), f"{front.address}/test/oci:1", ca=str(certificate))
        assert plain.log == []


def test_a_login_server_without_tls_gets_no_password_from_a_registry_with_it(
    store: Store, registry: str, tmp_path: Path
) -> None:
    context, certificate = self_signed(tmp_path)
    with Front(registry, context) as front:
        _auths(Path(os.environ["HOME"]) / ".docker/config.json", front.address, auth=_basic("me:secret"))
        front.before = lambda handler: handler.reply(
            401, b"", WWW_Authenticate='Bearer realm="http://127.0.0.1:1/token"'
        )
        with pytest.raises(RegistryError, match="asks for a login at"):
            pull(job(store), f"{front.address}/test/oci:1", ca=str(certificate))


LONG_LABEL = "x" * 64 + ".example"


@pytest.mark.parametrize(
    "place",
    ["http://[", "http://127.0.0.1:99999/x", "http://127.0.0.1:port/x", f"http://{LONG_LABEL}/x", "http://a..b/x",
     "http://[::1/x", "//[", "http://127.0.0.1:1/a\tb c", "/caf\xe9", "ftp://x/y", "http:///x"],
)  # fmt: skip
def test_a_redirection_to_what_cannot_be_is_one_line(
    store: Store, front: Front, place: str, capsys: pytest.CaptureFixture[str]
) -> None:
    front.before = lambda handler: "/manifests/" in handler.path and handler.reply(302, b"", Location=place)
    _refused_in_one_line(front, capsys)


@pytest.mark.parametrize(
    "realm",
    ["http://[", "http://127.0.0.1:99999/t", f"http://{LONG_LABEL}/t", "http://[::1", "", "http://127.0.0.1:1/a b"],
)  # fmt: skip
@pytest.mark.parametrize("identity", [False, True])
def test_a_login_server_that_cannot_be_is_one_line(
    store: Store, front: Front, realm: str, identity: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    if identity:
        path = Path(os.environ["HOME"]) / ".docker/config.json"
        _auths(path, front.address, auth=_basic("me:"), identitytoken="secret")
    front.before = lambda handler: (
        "/manifests/" in handler.path and handler.reply(401, b"", WWW_Authenticate=f'Bearer realm="{realm}"')
    )
    _refused_in_one_line(front, capsys)


@pytest.mark.parametrize("length", ["abc", "-5", "1" * 5000, "\xb2"])
def test_a_length_that_is_none_is_one_line(
    store: Store, front: Front, length: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def before(handler: Handler) -> bool:
        if "/manifests/" not in handler.path:
            return False
        handler.send_response(200)
        handler.send_header("Content-Length", length)
        handler.end_headers()
        handler.wfile.write(b"{}")
        handler.close_connection = True
        return True

    front.before = before
    _refused_in_one_line(front, capsys)


def test_a_token_nested_beyond_all_bounds_is_one_line(
    store: Store, front: Front, capsys: pytest.CaptureFixture[str]
) -> None:
    def before(handler: Handler) -> bool:
        if handler.path.startswith("/token"):
            return handler.reply(200, b"[" * 200_000)
        challenge = f'Bearer realm="http://{front.address}/token"'
        return "/manifests/" in handler.path and handler.reply(401, b"", WWW_Authenticate=challenge)

    front.before = before
    _refused_in_one_line(front, capsys)


def _refused_in_one_line(front: Front, capsys: pytest.CaptureFixture[str]) -> None:
    assert image_command(["pull", "-q", f"{front.address}/test/oci:1"]) == 125
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("pyminicon: image: ")
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize("host", [LONG_LABEL, "127.0.0.1:99999"])
def test_a_registry_that_cannot_be_is_an_error(store: Store, host: str) -> None:
    with pytest.raises(RegistryError, match="an address that can't be"):
        pull(job(store), f"{host}/x:1")


def test_nobody_there_is_an_error_that_names_the_place(store: Store) -> None:
    with pytest.raises(RegistryError, match=r"127\.0\.0\.1:1"):
        pull(job(store), "127.0.0.1:1/x:1")


def test_run_can_pull_what_is_missing(store: Store, registry: str) -> None:
    with pytest.raises(SpecError, match="image pull"):
        resolve(f"{registry}/test/oci:1")
    found = resolve(f"{registry}/test/oci:1", pull="missing")
    assert len(found.layers) == 3
    found.close()
