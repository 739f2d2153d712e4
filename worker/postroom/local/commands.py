"""Commands that are shown, written so that they work when they are copied.

Input: the words of a command of ours. Output: one line, with the program as the user called it and what
has to be said again: a data folder that is not the default one, manifests of one's own.
"""

import shlex
import shutil
import sys
from pathlib import Path

from postroom.local.folder import DEFAULT
from postroom.local.plan import Wishes


def command(*words: str, data: Path = DEFAULT) -> str:
    """A command line that works where this one worked."""
    told = [] if data == DEFAULT else ["--data", str(data)]
    return f"{_program()} {shlex.join([*words, *told])}"


def up_again(wishes: Wishes) -> str:
    """The `up` that serves the same manifests from the same data folder, in the same places."""
    words = ["up", *([str(wishes.manifests)] if wishes.own_manifests else [])]
    if wishes.bootstrap:
        words += ["--bootstrap-servers", wishes.bootstrap]
    for name in sorted(wishes.fixed_ports):
        words += [f"--port-{name}", str(getattr(wishes.ports, name))]
    return command(*words, data=wishes.data)


def broken(line: str, width: int) -> str:
    """A command over several lines, each but the last ended by a backslash: a shell reads it whole."""
    lines = [""]
    for word in map(shlex.quote, shlex.split(line)):
        longer = f"{lines[-1]} {word}" if lines[-1] else word
        if lines[-1] and len(longer) + len(" \\") > width:
            lines.append(f"  {word}")
        else:
            lines[-1] = longer
    return " \\\n".join(lines)


def _program() -> str:
    called = Path(sys.argv[0])
    if called.name == "__main__.py":
        return f"{_shortest(Path(sys.executable))} -m postroom"
    return _shortest(called) if called.name == "postroom" else "postroom"


def _shortest(program: Path) -> str:
    """The bare name where the PATH leads to the very program, else the way to it."""
    found = shutil.which(program.name)
    same = found is not None and Path(found).absolute() == program.absolute()
    return program.name if same or program.name == str(program) else shlex.quote(str(program))
