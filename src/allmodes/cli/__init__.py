"""The command line. Every command imports its modules when it runs, so `--help` is fast."""

import sys
import warnings
from typing import TextIO

import tyro

import allmodes
from allmodes.cli.audit import audit
from allmodes.cli.benchmark import benchmark
from allmodes.cli.chem import chem
from allmodes.cli.flags import REGISTRY
from allmodes.cli.reports import evaluate, explore, paper, target
from allmodes.cli.run import Run, help_on, run, split_flags
from allmodes.cli.samples import demo, samples
from allmodes.cli.streams import OutputError, give_up_output, prepare_streams
from allmodes.cli.text import text
from allmodes.errors import AllmodesError, AllmodesWarning, InputError, one_line

app = tyro.extras.SubcommandApp()
app.command(chem, name="chem", help="Molecules: receptor, score, surrogate, pretrain.")
app.command(text, name="text", help="Language models: model.")
app.command(benchmark, name="benchmark", help="Benchmarks of molecular design: pmo, molexp.")
app.command(name="run")(Run)
app.command(name="target")(target)
app.command(name="explore")(explore)
app.command(name="paper")(paper)
app.command(name="evaluate")(evaluate)
app.command(name="audit")(audit)
app.command(demo, name="demo", help="See in seconds how RL collapses good answers: collapse.")
app.command(name="samples")(samples)


def main() -> None:
    """Entry point: exit code 2 for wrong input, 1 for a run that failed, 130 after Ctrl-C."""
    prepare_streams()
    warnings.showwarning = _show_warning
    try:
        code = _exit_code(sys.argv[1:])
        sys.stdout.flush()
    except OutputError as error:
        code = 1
        give_up_output()
        reason = error.__cause__
        if isinstance(reason, OSError) and not isinstance(reason, BrokenPipeError):  # as with `... | head`
            _say(f"cannot write to standard output: {reason.strerror}")
    sys.exit(code)


def _exit_code(arguments: list[str]) -> int | str | None:
    try:
        _dispatch(arguments)
    except SystemExit as left:  # raised by the parser after a help text or an error
        return left.code
    except AllmodesError as error:
        _say(str(error))
        return 2 if isinstance(error, InputError) else 1
    except OSError as error:  # such as too long a name or an unreadable folder, which many places can raise
        named = error.filename is not None
        _say(f"cannot use {error.filename}: {error.strerror}" if named else str(error))
        return 2 if named else 1
    except MemoryError as error:
        _say(f"not enough memory: {error}")
        return 1
    except KeyboardInterrupt as interrupt:
        _say("; ".join(["interrupted", *getattr(interrupt, "__notes__", [])]))
        return 130
    return 0


def _say(message: str) -> None:
    """Print one line on standard error, without control characters from user modules or files."""
    print("allmodes:", "".join(c if c.isprintable() else "?" for c in one_line(message)), file=sys.stderr)


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Show a warning of allmodes as one line, and other warnings as Python does."""
    if issubclass(category, AllmodesWarning):
        _say(f"warning: {message}")
    else:
        (file or sys.stderr).write(warnings.formatwarning(message, category, filename, lineno, line))


def _dispatch(arguments: list[str]) -> None:
    if arguments[:1] == ["--version"]:
        print(f"allmodes {allmodes.__version__}")
    elif arguments[:1] == ["run"]:
        own, flags = split_flags(arguments[1:])
        with REGISTRY:
            if {"--help", "-h"} & set(own):
                help_on(own)
                return
            chosen = tyro.cli(Run, args=own, prog="allmodes run")
        run(chosen, flags)
    else:
        description = f"Train generative models to keep every good answer. Version {allmodes.__version__}."
        app.cli(prog="allmodes", args=arguments, description=description, registry=REGISTRY)
