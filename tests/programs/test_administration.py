"""What administrators and services do: other users, sessions, packages, daemons."""

from __future__ import annotations

from typing import Any

import pytest

import pyminicon
from tests.programs.conftest import shell

Mode = dict[str, Any]

AS_NOBODY = [
    "su nobody -s /bin/sh -c 'id -un'",
    "runuser -u nobody -- id -un",
    "sudo -u nobody id -un",
    "sudo -u nobody sh -c 'ulimit -c 0; id -un >/dev/stdout'",
]


@pytest.mark.parametrize("line", AS_NOBODY)
def test_root_becomes_another_user(line: str, tools: str, root_mode: Mode) -> None:
    assert shell(line, tools, root_mode) == "nobody\n"


SSHD = """
mkdir -p /run/sshd /root/.ssh
ssh-keygen -qt ed25519 -N '' -f /root/.ssh/id
cp /root/.ssh/id.pub /root/.ssh/authorized_keys
ssh-keygen -A >/dev/null
/usr/sbin/sshd -E /tmp/log
ssh -i /root/.ssh/id -o StrictHostKeyChecking=no -o LogLevel=ERROR root@127.0.0.1 'id -un; echo to stderr >&2; exit 5' || test $? = 5
ssh -tt -i /root/.ssh/id -o StrictHostKeyChecking=no -o LogLevel=ERROR root@127.0.0.1 tty </dev/null
"""


def test_sshd_runs_a_remote_command_and_gives_a_terminal(tools: str, root_mode: Mode) -> None:
    user, terminal = shell(SSHD, tools, root_mode).splitlines()
    assert user == "root" and terminal.strip().startswith("/dev/pts/")


def test_an_agent_keeps_a_key(tools: str, mode: Mode) -> None:
    if "user" in mode:  # ssh-keygen wants a name for its uid
        mode = {**mode, "user": "www-data"}
    script = """
        eval $(ssh-agent) >/dev/null; trap 'kill $SSH_AGENT_PID' EXIT
        ssh-keygen -qt ed25519 -N '' -C mine -f /tmp/k; ssh-add -q /tmp/k; ssh-add -l
    """
    assert " mine (ED25519)" in shell(script, tools, mode)


REPOSITORY = """
mkdir -p /repo/p/DEBIAN /repo/p/usr/bin
printf 'Package: hi\\nVersion: 1\\nArchitecture: all\\nMaintainer: me <me@example.org>\\nDescription: x\\n' >/repo/p/DEBIAN/control
printf '#!/bin/sh\\necho hi\\n' >/repo/p/usr/bin/hi; chmod 755 /repo/p/usr/bin/hi
cd /repo; dpkg-deb -b p hi_1_all.deb >/dev/null; dpkg-scanpackages . >Packages 2>/dev/null
python3 -m http.server 8000 >/dev/null 2>&1 & server=$!
until python3 -c 'import socket; socket.create_connection(("127.0.0.1", 8000))' 2>/dev/null; do sleep 0.1; done
rm -f /etc/apt/sources.list.d/*; echo 'deb [trusted=yes] http://127.0.0.1:8000 ./' >/etc/apt/sources.list
apt-get -qq update >&2; apt-get -qq -y install hi >&2; hi
apt-get -qq -y remove hi >&2; test ! -e /usr/bin/hi; kill $server
"""


def test_apt_installs_from_a_repository_on_loopback(tools: str, root_mode: Mode) -> None:
    assert shell(REPOSITORY, tools, root_mode) == "hi\n"


POSTGRES = """
cat >/tmp/work <<'END'
set -e
b=$(echo /usr/lib/postgresql/*/bin)
$b/initdb -D /tmp/db >/dev/null
$b/pg_ctl -D /tmp/db -o '-k /tmp' -l /tmp/pg.log -w start >/dev/null
psql -h /tmp -Atc 'create table t (n int); insert into t select generate_series(1, 1000); select sum(n) from t' postgres
$b/pg_ctl -D /tmp/db -m fast -w stop >/dev/null
END
chmod 644 /tmp/work
"""


def test_postgresql_keeps_a_table(tools: str, mode: Mode) -> None:
    as_user = "su postgres -c 'sh /tmp/work'" if "user" not in mode else "sh /tmp/work"
    if "user" in mode:  # initdb wants a name for its uid
        mode = {**mode, "user": "postgres"}
    assert shell(POSTGRES + as_user, tools, mode).splitlines()[-1] == "500500"


NGINX = """
cat >/tmp/n.conf <<'END'
daemon off; pid /tmp/n.pid; error_log /dev/stderr notice;
events {}
http {
    access_log /dev/stdout;
    client_body_temp_path /tmp/b; proxy_temp_path /tmp/p; fastcgi_temp_path /tmp/f; uwsgi_temp_path /tmp/u; scgi_temp_path /tmp/s;
    server { listen 8080; location / { return 200 "served\\n"; } }
}
END
nginx -e /dev/stderr -c /tmp/n.conf & server=$!
until python3 -c 'import urllib.request as u; print(u.urlopen("http://127.0.0.1:8080/").read())' >&2 2>/dev/null; do sleep 0.1; done
kill -QUIT $server; wait $server
"""


@pytest.mark.parametrize("user", [None, "www-data", "1000"])
def test_nginx_logs_to_its_standard_streams(user: str | None, tools: str) -> None:
    options: Mode = {"user": user} if user else {}
    assert '"GET / HTTP/1.1" 200' in shell(NGINX, tools, options)


def test_nginx_logs_as_its_own_user_in_a_user_namespace(tools: str) -> None:
    assert '"GET / HTTP/1.1" 200' in shell(NGINX, tools, {"userns": "private"})


# /dev can't be written to, so there is no /dev/log: the socket is elsewhere, as in other containers.
RSYSLOG = """
printf 'module(load="imuxsock" SysSock.Name="/tmp/log")\\n*.* /tmp/messages\\n' >/tmp/r.conf
rsyslogd -i /tmp/r.pid -f /tmp/r.conf
until test -S /tmp/log; do sleep 0.1; done
logger -u /tmp/log --tag me told
until grep -q 'me.*told' /tmp/messages 2>/dev/null; do sleep 0.1; done
cat /tmp/messages; kill $(cat /tmp/r.pid)
"""


def test_rsyslogd_writes_what_it_is_told(tools: str, mode: Mode) -> None:
    assert "told" in shell(RSYSLOG, tools, mode)


def test_tmux_has_a_terminal_of_its_own(tools: str, mode: Mode) -> None:
    script = """
        tmux new-session -d 'tty; echo inside; sleep 60'
        until tmux capture-pane -p | grep -q inside; do sleep 0.1; done
        tmux capture-pane -p | head -n 2; tmux kill-server
    """
    terminal, said = shell(script, tools, mode, env={"TMUX_TMPDIR": "/tmp", "LC_ALL": "C.UTF-8"}).split()
    assert terminal.startswith("/dev/pts/") and said == "inside"


def test_a_shell_in_a_terminal_is_talked_to(tools: str, mode: Mode) -> None:
    with pyminicon.start(["sh"], image=tools, tty=True, **mode) as c:
        assert c.terminal is not None
        c.terminal.write(b"stty size; tty; echo $((6*7)) >/dev/tty; exit\n")
        said = b""
        while piece := c.terminal.read():
            said += piece
        assert b"24 80" in said and b"42\r\n" in said
