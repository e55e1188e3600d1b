"""`allmodes samples` and `allmodes demo`: a first try without files of your own."""

import re
import shutil
from pathlib import Path

import tyro

SAMPLES = Path(__file__).resolve().parents[1] / "samples"
"""Files that come with allmodes, and a README with a command for each."""

demo = tyro.extras.SubcommandApp()


def samples(*, out: Path = Path("samples")) -> None:
    """Write small files to try the commands on, and print the commands.

    Args:
        out: a new folder for outcomes.csv, samples.jsonl, ideas.smi, oracle.toml and README.md.
    """
    from allmodes.cli.program import program
    from allmodes.runs.files import new_folder

    with new_folder(out) as folder:
        for path in sorted(SAMPLES.iterdir()):
            shutil.copyfile(path, folder / path.name)
    print(f"written: {out}\n\nTry, in that folder:")
    for command in sample_commands():
        print(f"  {command.replace('allmodes', program(), 1)}")


def sample_commands() -> list[str]:
    """The commands of the samples' README, in its order."""
    text = (SAMPLES / "README.md").read_text(encoding="utf-8")
    return [line for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL) for line in block.splitlines()]


@demo.command(name="collapse")
def demo_collapse() -> None:
    """Show the exact optimum of plain RL and of each method over eight answers, without training."""
    from rich.console import Console

    from allmodes.cli.program import program
    from allmodes.worlds.own_outcomes.demo import show_collapse

    console = Console()
    show_collapse(SAMPLES / "outcomes.csv", console=console)
    console.print("\nTo see this for your own outcomes in a browser or a terminal, or to get sample files:")
    for command in ("explore FILE.csv", "target FILE.csv --threshold 0.8 --method all", "samples"):
        console.print(f"  {program()} {command}", highlight=False, markup=False, soft_wrap=True)
