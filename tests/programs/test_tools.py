"""What developers run: compilers with sanitizers, debuggers, version control, package managers."""

from __future__ import annotations

from typing import Any

import pyminicon
from tests.programs.conftest import shell

Mode = dict[str, Any]

OVERFLOW = """
cat >a.c <<'END'
#include <stdlib.h>
int main(void) { char *p = malloc(8); return p[8]; }
END
gcc -g -fsanitize=address a.c -o a; ./a 2>&1 | grep -o 'AddressSanitizer: heap-buffer-overflow' | head -n 1
"""
RACE = """
cat >a.c <<'END'
#include <pthread.h>
int x;
static void *f(void *a) { x++; return a; }
int main(void) { pthread_t t; pthread_create(&t, 0, f, 0); x++; pthread_join(t, 0); return 0; }
END
gcc -g -fsanitize=thread a.c -o a; ./a 2>&1 | grep -o 'ThreadSanitizer: data race' | head -n 1
"""
LEAK = """
cat >a.c <<'END'
#include <stdlib.h>
int main(void) { return malloc(8) == 0; }
END
gcc -g -O0 -fsanitize=address a.c -o a; ./a 2>&1 | grep -o '8 byte(s) leaked' | head -n 1
"""


def test_the_address_sanitizer_finds_an_overflow(tools: str, mode: Mode) -> None:
    assert shell(OVERFLOW, tools, mode) == "AddressSanitizer: heap-buffer-overflow\n"


def test_the_thread_sanitizer_finds_a_race(tools: str, mode: Mode) -> None:
    assert shell(RACE, tools, mode) == "ThreadSanitizer: data race\n"


def test_the_leak_sanitizer_stops_the_program_and_finds_a_leak(tools: str, mode: Mode) -> None:
    assert shell(LEAK, tools, mode) == "8 byte(s) leaked\n"


def test_gdb_stops_at_a_line_and_shows_a_variable(tools: str, mode: Mode) -> None:
    script = """
        printf 'int main(void) {\\n int x = 42;\\n return x;\\n}\\n' >a.c; gcc -g a.c -o a
        gdb -q -batch -ex 'break 3' -ex run -ex 'print x' ./a 2>&1 | grep '^\\$1'
    """
    assert shell(script, tools, mode) == "$1 = 42\n"


def test_strace_follows_children(tools: str, mode: Mode) -> None:
    script = "strace -f -o /tmp/trace -e trace=execve sh -c 'true; /bin/echo x' >/dev/null; grep -c execve /tmp/trace"
    assert int(shell(script, tools, mode)) >= 2


def test_node_reads_stdin_by_its_name_and_has_children(tools: str, mode: Mode) -> None:
    program = """
        const fs = require("fs"), child = require("child_process");
        fs.writeFileSync("/dev/stdout", fs.readFileSync("/dev/stdin", "utf8"));
        console.log(child.execSync("cat", {input: "from a child"}).toString());
        child.spawn("sh", ["-c", "echo inherited >/dev/stderr; exit 3"], {stdio: "inherit"}).on("exit", c => console.log(c));
        child.exec("echo x >/dev/stdout; cat /dev/stdin; echo y >/dev/stderr", (e, out, err) => console.log(!!e, out.trim(), err.trim()));
    """
    options = {"env": {}, **mode}
    r = pyminicon.run(
        ["node", "-e", program],
        image=tools,
        input="given\n",
        capture_output=True,
        text=True,
        timeout=60,
        **options,
    )
    lines = r.stdout.splitlines()
    assert lines[:2] == ["given", "from a child"] and "3" in lines and r.stderr == "inherited\n"


def test_git_commits_and_clones(tools: str, mode: Mode) -> None:
    script = """
        git init -q a; cd a; git config user.email a@example.org; git config user.name n
        echo x >f; git add f; git commit -qm one; cd ..; git clone -q a b; git -C b log --format=%s; git -C b gc -q
    """
    assert shell(script, tools, mode) == "one\n"


def test_pip_installs_a_local_package(tools: str, mode: Mode) -> None:
    script = """
        mkdir p; printf 'from setuptools import setup\\nsetup(name="p", version="1", py_modules=["p"])\\n' >p/setup.py
        echo 'print(6*7)' >p/p.py; python3 -m venv --without-pip --system-site-packages v
        python3 -m pip --python v/bin/python -q install --no-index --no-build-isolation --no-compile ./p >&2
        v/bin/python -m p
    """
    assert shell(script, tools, mode) == "42\n"


def test_npm_installs_a_local_package(tools: str, mode: Mode) -> None:
    script = """
        mkdir p q; echo '{"name": "p", "version": "1.0.0", "main": "i.js"}' >p/package.json
        echo 'module.exports = 42' >p/i.js; cd q; echo '{}' >package.json
        npm install --silent --no-audit --offline ../p >&2; node -p 'require("p")'
    """
    assert shell(script, tools, mode) == "42\n"


MAKE = """
for i in $(seq 40); do echo "int f$i(void) { return $i; }" >$i.c; done
printf 'all: $(patsubst %%.c,%%.o,$(wildcard *.c))\\n\\tld -r -o all $^\\n' >Makefile
make -s -j8; nm all | grep -c ' T '
"""


def test_make_runs_jobs_beside_each_other(tools: str, mode: Mode) -> None:
    assert shell(MAKE, tools, mode) == "40\n"


def test_this_machines_compiler_works_in_the_host_image(mode: Mode) -> None:
    script = "echo 'int main(void) { return 42; }' >a.c; gcc a.c -o a; ./a || echo $?"
    assert shell(script, "host", mode) == "42\n"
