"""``pyminicon image``: what is in the store, and how it gets there and away.

Imported only for this command: argparse and json cost more than a container's start does.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time

from ..errors import SpecError
from ..images import config, limits, lookup, progress, reference, remove
from ..images.assemble import Job, Stopped
from ..images.errors import ImageError, Missing
from ..images.store import Store
from . import one_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

_OWN_FAILURE = 125
_INTERRUPTED = 130


class _Help(argparse.RawDescriptionHelpFormatter):
    """In the style of all other commands' help."""

    def add_usage(self, usage: Any, actions: Any, groups: Any, prefix: str | None = None) -> None:
        super().add_usage(usage, actions, groups, "Usage: " if prefix is None else prefix)


class _Parser(argparse.ArgumentParser):
    """Answers bad usage in one line, with the status of a failure of our own."""

    def error(self, message: str) -> NoReturn:
        self.exit(_OWN_FAILURE, f"{self.prog}: {message}\n")


def main(argv: list[str]) -> int:
    """Run ``pyminicon image`` with the words behind it; the exit status."""
    options = _parser().parse_args(argv)
    try:
        status: int = options.run(options)
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:
        # Whoever read the output has had enough; Python would complain again at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 0
    except (SpecError, Stopped, OSError) as error:
        print(one_line(str(error)), file=sys.stderr)
        return _OWN_FAILURE


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="pyminicon image",
        description="Images in the store: bring in, look at, remove.",
        formatter_class=_Help,
        epilog=_examples("pull debian", "ls"),
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Parser)

    def command(name: str, run: Any, text: str, *examples: str) -> argparse.ArgumentParser:
        made = commands.add_parser(
            name, help=text, description=text, formatter_class=_Help, epilog=_examples(*examples)
        )
        made.set_defaults(run=run)
        return made

    one = command(
        "import",
        _import,
        "Bring in a root file system (tar), a docker archive or an OCI layout.",
        "import root.tar.gz mine:1",
        "import - mine < root.tar",
    )
    one.add_argument("file", metavar="FILE", help="archive or directory; - is a tar on standard input")
    one.add_argument("name", metavar="NAME", nargs="?", help="default: the archive's own, or the file's")
    one.add_argument("--ref", metavar="NAME", help="which of several images in the archive")
    _add_work(one)
    one = command(
        "pull", _pull, "Fetch images from their registries.", "pull debian:12 quay.io/fedora/fedora"
    )
    one.add_argument("names", metavar="NAME", nargs="+", help="[registry/]repository[:tag][@digest]")
    one.add_argument("--ca", metavar="FILE", help="certificates trusted besides the system's")
    one.add_argument("--plain-http", action="store_true", help="no TLS (default only for this machine)")
    _add_work(one)
    one = command("ls", _ls, "List the images.", "ls", "ls --json")
    one.add_argument("-q", "--quiet", action="store_true", help="digests only")
    one.add_argument("--json", action="store_true")
    one = command("inspect", _inspect, "Show what is known of images.", "inspect debian")
    one.add_argument("names", metavar="NAME", nargs="+")
    one.add_argument("--json", action="store_true")
    one = command("rm", _rm, "Remove names, and images that have no other.", "rm mine:1")
    one.add_argument("names", metavar="NAME", nargs="+")
    one = command(
        "prune", _prune, "Remove images without a name, and what killed commands left.", "prune", "prune -a"
    )
    one.add_argument("-a", "--all", action="store_true", help="every image that no container uses")
    one = command("export", _export, "Write an image's file system as a tar.", "export debian > root.tar")
    one.add_argument("name", metavar="NAME")
    one.add_argument("-o", "--output", metavar="FILE", default="-", help="default: -, standard output")
    one.add_argument("-q", "--quiet", action="store_true")
    return parser


def _examples(*lines: str) -> str:
    return "\n".join(["Examples:", *(f"  pyminicon image {line}" for line in lines)])


def _add_work(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--platform", metavar="OS/ARCH", help="default: this machine's")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress")
    parser.add_argument("--max-bytes", metavar="SIZE", help="what an image may unpack to (64G)")
    parser.add_argument("--max-entries", metavar="N", help="members an image may have (2000000)")


def _job(options: argparse.Namespace, names: list[str] | None) -> Job:
    given = {}
    for option, name in (("max_bytes", "bytes"), ("max_entries", "entries")):
        if getattr(options, option):
            given[name] = limits.number(getattr(options, option), f"--{option.replace('_', '-')}")
    if options.platform:
        config.check_platform(options.platform)
    shown = progress.for_terminal(options.quiet)
    return Job(Store(), limits.Limits(**given), shown, platform=options.platform, names=names)


def _import(options: argparse.Namespace) -> int:
    from ..images.archive import import_path

    names = [reference.parse_local(options.name)] if options.name else None
    job = _job(options, names)
    digest = import_path(job, options.file, options.ref)
    if names is None and digest not in job.store.names() and (name := _stem(options.file)):
        job.store.tag(digest, [name])
    return _done(job, digest)


def _stem(path: str) -> str:
    """A name made of a file's: ``./Ubuntu-base.tar.gz`` is ``localhost/ubuntu-base:latest``."""
    stem = os.path.basename(os.path.abspath(path)).lower() if path != "-" else ""
    for suffix in (".gz", ".xz", ".zst", ".bz2", ".tgz", ".txz", ".tar"):
        stem = stem.removesuffix(suffix)
    try:
        return reference.parse_local(stem.replace(":", "-"))
    except SpecError:
        return ""


def _pull(options: argparse.Namespace) -> int:
    from ..images.puller import pull

    for name in options.names:
        job = _job(options, None)
        _done(job, pull(job, name, options.ca, options.plain_http))
    return 0


def _done(job: Job, digest: str) -> int:
    for note in job.store.about(digest).get("notes", []):
        job.progress.say(f"note: {note}")
    names = job.store.names().get(digest, [])
    job.progress.say(
        f"in the store as {', '.join(map(reference.familiar, names)) or 'an image without a name'}"
    )
    print(digest)
    return 0


def _ls(options: argparse.Namespace) -> int:
    store = Store()
    names = store.names()
    found: list[dict[str, Any]] = []
    status = 0
    for digest in store.digests():
        try:
            about = store.about(digest)
        except Missing:  # removed meanwhile
            continue
        except ImageError as error:
            print(one_line(str(error)), file=sys.stderr)
            status = _OWN_FAILURE
            continue
        keys = ("platform", "size", "created_here", "source")
        found.append(
            {"digest": digest, "names": names.get(digest, []), **{key: about.get(key) for key in keys}}
        )
    if options.json:
        print(json.dumps(found, indent=1))
        return status
    if options.quiet:
        for image in found:
            print(image["digest"])
        return status
    rows = [("NAME", "DIGEST", "PLATFORM", "SIZE", "SINCE")]
    for image in sorted(found, key=lambda one: one["names"] or ["~"]):
        source = str(image["source"] or "-")
        for name in image["names"] or [source if source.isprintable() else "-"]:
            rows.append(
                (
                    _short(store, name, image["digest"]),
                    image["digest"][7:19],
                    image["platform"],
                    progress.size(image["size"] or 0),
                    _age(image["created_here"]),
                )
            )
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False)).rstrip())
    return status


def _short(store: Store, name: str, digest: str) -> str:
    """``name`` as people write it, unless the store finds another image by that."""
    short = reference.familiar(name)
    return short if lookup.find_digest(store.path, short) == digest else name


def _age(since: int) -> str:
    seconds = max(int(time.time()) - since, 0)
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= length:
            count = seconds // length
            return f"{count} {unit}{'s' if count > 1 else ''}"
    return "now"


def _inspect(options: argparse.Namespace) -> int:
    store = Store()
    names = store.names()
    found = []
    for name in options.names:
        digest = _digest(store, name)
        found.append({**store.about(digest), "names": names.get(digest, [])})
    if options.json:
        print(json.dumps(found, indent=1))
        return 0
    for about in found:
        wants = (about.get("config") or {}).get("config") or {}
        lines = {
            "Digest": about["digest"],
            "Names": ", ".join(about["names"]) or "-",
            "Platform": about["platform"],
            "Source": about.get("source"),
            "Size": progress.size(about.get("size") or 0),
            "Layers": "\n            ".join(about["diff_ids"]),
            **{
                key: wants.get(key)
                for key in ("Entrypoint", "Cmd", "Env", "WorkingDir", "User", "StopSignal")
            },
            "Volumes": list(wants.get("Volumes") or []),
            "Notes": "; ".join(about.get("notes") or []),
        }
        for key, value in lines.items():
            if value:
                plain = isinstance(value, str) and value.replace("\n", "").isprintable()
                print(f"{key + ':':<12}{value if plain else json.dumps(value)}")
    return 0


def _digest(store: Store, name: str) -> str:
    digest = store.find(name)
    if digest is None or not store.has(digest):
        raise SpecError("image", f"no image {name!r} in the store {store.path}")
    return digest


def _rm(options: argparse.Namespace) -> int:
    store = Store()
    status = 0
    for name in options.names:
        try:
            print("\n".join(remove.remove(store, name)))
        except SpecError as error:
            print(one_line(str(error)), file=sys.stderr)
            status = _OWN_FAILURE
    return status


def _prune(options: argparse.Namespace) -> int:
    for digest, source in remove.prune(Store(), options.all):
        print(one_line(f"removed {digest[7:19]}, from {source}"), file=sys.stderr)
        print(digest)
    return 0


def _export(options: argparse.Namespace) -> int:
    from ..images.export import export
    from .image_output import output

    store = Store()
    found = lookup.open_image(store.path, _digest(store, options.name))
    if found is None:
        raise SpecError("image", f"{options.name!r} has just been removed")
    if options.output == "-" and sys.stdout.isatty():
        raise SpecError("image", "a tar doesn't belong on a terminal; -o names a file")
    shown = progress.for_terminal(options.quiet)
    try:
        with (
            shown.task(options.name, store.about(found.digest).get("size") or 0) as task,
            output(options.output) as file,
        ):
            export(found.layers, file, task.add)
    finally:
        found.close()
    return 0
