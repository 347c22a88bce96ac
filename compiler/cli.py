"""The `tilewright` command: a table of subcommands, each in a file that is imported when it is chosen.

A subcommand's module has ``add_arguments(parser)`` and ``run(args) -> int``. Exit status: 0; 1 when the work failed (a
message on stderr, no traceback); 2 for wrong usage.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module

from tilewright.ir.errors import OptionValueError, TilewrightError, UnknownOptionError, nearest
from tilewright.ir.version import VERSION


@dataclass(frozen=True)
class Command:
    """A subcommand. `bare` gives the value of flags that may stand without one (argparse would take the next word)."""

    module: str
    help: str
    bare: Mapping[str, str] = field(default_factory=dict)


COMMANDS: dict[str, Command] = {
    "compile": Command(
        "tilewright.cli_compile", "compile a model to a directory or an artifact", {"--locked": "true"}
    ),
    "run": Command("tilewright.cli_run", "run an artifact"),
    "tune": Command("tilewright.cli_tune", "measure schedules of a model's kernels, and keep the best"),
    "cache": Command("tilewright.cli_cache", "list, explain and share tuning records"),
    "opt": Command("tilewright.cli_opt", "run passes over IR text", {"--verify-each": "ir"}),
}


def usage() -> str:
    """The help text of the command itself."""
    width = max(map(len, COMMANDS))
    rows = "\n".join(f"  {name:<{width}}  {command.help}" for name, command in COMMANDS.items())
    return f"usage: tilewright COMMAND ...\n\n{rows}\n\ntilewright COMMAND --help tells about one; --version."


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line (`argv`: default the process's) and return its exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words and words[0] in ("-h", "--help"):
        print(usage())
        return 0
    if words == ["--version"]:
        print(f"tilewright {VERSION}")
        return 0
    if not words or words[0] not in COMMANDS:
        wrong = f"unknown command {words[0]!r}{nearest(words[0], COMMANDS)}" if words else "a command is needed"
        print(f"tilewright: {wrong}\n{usage()}", file=sys.stderr)
        return 2
    try:
        return _run(words[0], words[1:])
    except BrokenPipeError:
        # The reader left (`| head`): that is not a failure, but Python must not write to the pipe again on its way out.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return 130
    except (TilewrightError, OSError) as error:
        print(f"tilewright {words[0]}: {_message(error)}", file=sys.stderr)
        return 2 if isinstance(error, (UnknownOptionError, OptionValueError)) else 1


def _message(error: TilewrightError | OSError) -> str:
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return "\n".join([str(error), *getattr(error, "__notes__", ())])


def _run(name: str, words: list[str]) -> int:
    command = COMMANDS[name]
    module = import_module(command.module)
    parser = argparse.ArgumentParser(prog=f"tilewright {name}", description=command.help, allow_abbrev=False)
    module.add_arguments(parser)
    try:
        args, unknown = parser.parse_known_args(
            [f"{word}={command.bare[word]}" if word in command.bare else word for word in words]
        )
        if unknown:
            flags = [flag for action in parser._actions for flag in action.option_strings]
            close = nearest(unknown[0].partition("=")[0], flags)
            parser.error(f"unrecognized arguments: {' '.join(unknown)}{close}")
    except SystemExit as stop:  # argparse has printed its help or its error
        return int(stop.code or 0)
    status = module.run(args)
    sys.stdout.flush()
    return int(status)
