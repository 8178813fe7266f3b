"""doctor tries each thing for real, and its verdict is run's."""

from __future__ import annotations

import json
import os
import subprocess

import pytest

from tests.cli.conftest import COMMAND, Cli, environment


def test_doctor_ends_with_what_works(anybody: Cli) -> None:
    assert anybody("run", "host", "true").returncode == 0
    r = anybody("doctor")
    assert r.stderr == ""
    assert "\nok  run " in r.stdout
    table, _, end = r.stdout.partition("\n\n")
    lines = dict(line.split(": ", 1) for line in end.splitlines())
    assert list(lines) == ["containers", "writable images", "limits", "user namespaces"]
    assert lines["containers"].startswith("yes, as ")
    works = {name: line.startswith("yes") for name, line in lines.items()}
    limits = [
        line
        for line in table.splitlines()
        if line[4:].startswith(("limit: memory", "limit: pids", "limit: cpus "))
    ]
    assert len(limits) == 3
    assert works["limits"] is all(line.startswith("ok") for line in limits)
    assert r.returncode == (0 if all(works.values()) else 1)


def test_a_limit_that_cant_be_had_is_a_failure_with_its_command(needs_root: None) -> None:
    """Everything works but limits, as where no cgroup may be made."""
    r = without_cgroups("doctor")
    assert r.returncode == 1
    lines = dict(line.split(": ", 1) for line in r.stdout.partition("\n\n")[2].splitlines())
    assert lines["containers"].startswith("yes") and lines["user namespaces"].startswith("yes")
    assert not lines["limits"].startswith("yes")
    fix = without_cgroups("doctor", "--fix")
    assert fix.returncode == 1
    assert fix.stdout.startswith("# limits: ")
    assert "user namespaces: " not in fix.stdout and "containers: " not in fix.stdout


def without_cgroups(*words: str) -> subprocess.CompletedProcess[str]:
    hidden = 'mount -t tmpfs -o ro none /sys/fs/cgroup; exec "$@"'
    argv = ["unshare", "--mount", "--propagation", "private", "sh", "-c", hidden, "sh", *COMMAND, *words]
    return subprocess.run(argv, capture_output=True, text=True, env=environment(), check=False)


def test_json_has_every_check_with_what_is_lost_and_the_remedy(cli: Cli) -> None:
    found = json.loads(cli("doctor", "--json").stdout)
    assert found["run_works"] is True
    checks = {row["name"]: row for row in found["checks"]}
    for name in (
        "kernel",
        "mount namespace",
        "pid namespace",
        "ipc namespace",
        "uts namespace",
        "network namespace",
        "cgroup namespace",
        "time namespace",
        "user namespace",
        "ranges of ids",
        "overlayfs, rootless",
        "cgroups",
        "limit: memory",
        "limit: pids",
        "seccomp",
        "id-mapped mounts",
        "openat2",
        "clone3",
        "CLONE_INTO_CGROUP",
        "OPEN_TREE_NAMESPACE",
        "TIOCSTI",
        "run",
    ):
        assert checks[name]["mark"] in ("ok", "no", "none"), name
    for row in found["checks"]:
        if row["mark"] != "ok":
            assert row["seen"], row
            assert row["remedy"], row


def test_doctor_says_who_forbids_it_where_run_cant_work(needs_root: None) -> None:
    """User namespaces turned off, as an administrator does it; here in a user namespace of the test's own."""
    if os.path.exists("/proc/sys/user/max_user_namespaces") is False:
        pytest.skip("needs Linux 4.9 (user.max_user_namespaces)")
    off = "echo 0 > /proc/sys/user/max_user_namespaces; exec setpriv --bounding-set=-all --inh-caps=-all "
    words = ["unshare", "--user", "--map-root-user", "sh", "-c", f'{off} "$@"', "sh", *COMMAND]
    r = subprocess.run([*words, "doctor"], capture_output=True, text=True, env=environment(), check=False)
    assert r.returncode == 1
    end = r.stdout.partition("\n\n")[2].splitlines()
    assert end[0].startswith("containers: no (")
    assert end[3].startswith("user namespaces: no (") and end[3].endswith(
        ": sysctl user.max_user_namespaces=10000"
    )
    assert "remedy: user namespaces are turned off: sysctl user.max_user_namespaces=10000" in r.stdout
    fix = subprocess.run(
        [*words, "doctor", "--fix"], capture_output=True, text=True, env=environment(), check=False
    )
    assert "\nsysctl user.max_user_namespaces=10000\n" in fix.stdout
    assert all(
        line.startswith(("# ", "sysctl ", "usermod ", "mount ")) for line in fix.stdout.splitlines()
    ), fix.stdout
    run = subprocess.run(
        [*words, "run", "host", "true"], capture_output=True, text=True, env=environment(), check=False
    )
    assert run.returncode == 125
    assert "sysctl user.max_user_namespaces" in run.stderr
