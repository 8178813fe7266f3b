"""``python -m benchmarks NAME [--quick]``: measure, print a table, write JSON, draw a plot."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import subprocess
import sys
from pathlib import Path

from . import report

NAMES = {
    "ladder": "one thing more a rung: the C++ floor, and the product beside it",
    "peers": "the same container through unshare, bwrap, crun, runc",
    "flat": "the same launch while memory, descriptors, mounts, containers grow",
    "throughput": "launches per second from threads and asyncio",
    "sustained": "one caller that goes on asking, cold and from a template",
    "density": "1,000 sleeping containers",
    "cli": "the command line against a bare interpreter",
    "exec": "a command in a container that lives, beside a bare subprocess.run and others' exec",
    "files": "opening, reading and copying files of a container that lives",
    "network": "what egress and published ports cost a start, and how fast their bytes are",
    "filters": "loading a system call filter",
    "before": "another build beside this one: the product's rows of ladder, cli and throughput",
    "mechanisms": "the whole, and without each of its clever parts",
    "cluster": "jobs per second through Dask and Ray, beside the same loops in plain processes",
    "fixtures": "what a container costs a test of pytest's",
    "samples": "how soon inspect_ai's provider has a sample ready",
    "judge": "how soon a server answers while it judges, beside the same with asyncio.subprocess",
}

#: What some of them run, which isn't everywhere.
NEEDS = {
    "cluster": ("distributed", "ray"),
    "samples": ("inspect_ai",),
    "judge": ("fastapi", "uvicorn", "httpx"),
}


def _lacks(name: str) -> bool:
    missing = [module for module in NEEDS.get(name, ()) if importlib.util.find_spec(module) is None]
    if missing:
        report.show(f"{name} is left out: it needs {' '.join(missing)}")
    return bool(missing)


def parser() -> argparse.ArgumentParser:
    """One subcommand a benchmark; each module adds its own options."""
    top = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    commands = top.add_subparsers(dest="name", required=True, metavar="NAME")
    for name, text in NAMES.items():
        sub = commands.add_parser(name, help=text)
        sub.add_argument("--quick", action="store_true", help="a look, not a measurement: under a minute")
        sub.add_argument("--no-save", action="store_true", help="print only")
        sub.add_argument("--results", type=Path, default=report.RESULTS, help="where the JSON goes")
        module = importlib.import_module(f".{name}", __package__)
        module.add_arguments(sub)
    every = commands.add_parser("all", help="all of them but before, one after the other, and then plot")
    every.add_argument("--quick", action="store_true", help="a look, not a measurement")
    every.add_argument("--python", action="append", default=[], help="interpreters for cli; may be repeated")
    text = "an interpreter that an ordinary user can read: flat once more as uid 1000"
    every.add_argument("--user-python", help=text)
    every.add_argument("--results", type=Path, default=report.RESULTS, help="where the JSON goes")
    plot = commands.add_parser("plot", help="draw docs/img and fill docs/performance.md (needs matplotlib)")
    plot.add_argument("--results", type=Path, default=report.RESULTS, help="where the JSON is")
    return top


def _all(options: argparse.Namespace) -> int:
    common = [*(["--quick"] if options.quick else []), "--results", str(options.results)]
    cli = [word for path in options.python for word in ("--python", path)]
    # Another version is measured where somebody asks for it.
    names = [name for name in NAMES if name != "before" and not _lacks(name)]
    runs = [[name, *(cli if name == "cli" else [])] for name in names]
    if options.user_python:
        runs.append(["flat", "--uid", "1000", "--python", options.user_python])
    for run in runs:
        name = " ".join(run)
        # A process each: what one made (warm pools, reapers, caches) is no part of the next.
        command = [sys.executable, "-m", "benchmarks", *run, *common]
        if status := subprocess.run(command, check=False).returncode:
            report.show(f"{name} ended with {status}")
            return status
    return main(["plot", "--results", str(options.results)])


def main(arguments: list[str] | None = None) -> int:
    """Run one benchmark, or all."""
    options = parser().parse_args(arguments)
    if options.name == "all":
        return _all(options)
    if options.name == "plot":
        from . import pages, plots

        for path in plots.draw_all(options.results):
            report.show(f"drew {path}")
        report.show(f"filled {pages.fill_page(options.results)}")
        return 0
    if _lacks(options.name):
        return 1
    module = importlib.import_module(f".{options.name}", __package__)
    body = module.main(options)
    if not options.no_save:
        name = f"{options.name}_user" if getattr(options, "uid", 0) else options.name
        report.show(f"wrote {report.save(name, body, quick=options.quick, folder=options.results)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
