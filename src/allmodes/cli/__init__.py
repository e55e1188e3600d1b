"""The command line. Every command imports what it needs when it runs, so `--help` answers at once."""

import sys

import tyro

from allmodes.cli.audit import audit
from allmodes.cli.chem import chem
from allmodes.cli.reports import evaluate, paper, target
from allmodes.cli.run import Run, run, split_flags
from allmodes.errors import AllmodesError, InputError

app = tyro.extras.SubcommandApp()
app.command(chem, name="chem", help="Molecules: receptor, score, surrogate, pretrain.")
app.command(name="run")(Run)
app.command(name="target")(target)
app.command(name="paper")(paper)
app.command(name="evaluate")(evaluate)
app.command(name="audit")(audit)


def main() -> None:
    """Entry point: exit code 2 for wrong input, 1 for a run that failed, 130 after Ctrl-C."""
    try:
        _dispatch(sys.argv[1:])
    except AllmodesError as error:
        # One line, whatever a user's module or a file had to say; no control characters for the terminal.
        words = " ".join(str(error).split())
        print("allmodes:", "".join(c if c.isprintable() else "?" for c in words), file=sys.stderr)
        sys.exit(2 if isinstance(error, InputError) else 1)
    except KeyboardInterrupt:
        resume = {
            "run": "; continue with `allmodes run --resume RUN`",
            "chem": "; the same command continues",
            "audit": "; the same command continues",
        }
        print(f"allmodes: interrupted{resume.get(''.join(sys.argv[1:2]), '')}", file=sys.stderr)
        sys.exit(130)


def _dispatch(arguments: list[str]) -> None:
    if arguments[:1] == ["run"]:
        own, flags = split_flags(arguments[1:])
        run(tyro.cli(Run, args=own, prog="allmodes run"), flags)
    else:
        app.cli(prog="allmodes", args=arguments)
