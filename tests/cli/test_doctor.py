"""doctor tries each thing for real, and its verdict is run's."""

from __future__ import annotations

import json
import os
import subprocess

import pytest

from tests.cli.conftest import COMMAND, Cli, environment


def test_doctor_says_that_run_works_where_it_works(anybody: Cli) -> None:
    assert anybody("run", "host", "true").returncode == 0
    r = anybody("doctor")
    assert (r.returncode, r.stderr) == (0, "")
    assert "\nok  run " in r.stdout
    assert "`run` works here" in r.stdout.splitlines()[-1]


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
    assert "`run` doesn't work here" in r.stdout.splitlines()[-1]
    assert "remedy: user namespaces are turned off: sysctl user.max_user_namespaces" in r.stdout
    run = subprocess.run(
        [*words, "run", "host", "true"], capture_output=True, text=True, env=environment(), check=False
    )
    assert run.returncode == 125
    assert "sysctl user.max_user_namespaces" in run.stderr
