"""`allmodes run`: read a recipe's configuration, and run it."""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import tyro

from allmodes.cli.program import how_to_resume, say_how_to_continue
from allmodes.cli.recipes import find_recipe, list_keys, list_recipes, looks_like_recipe
from allmodes.cli.streams import printable_json
from allmodes.errors import ConfigError, InputError, shown
from allmodes.extras import require

if TYPE_CHECKING:
    from rich.console import Console


@final
@dataclass(frozen=True, kw_only=True)
class Run:
    """Run a recipe (TOML, YAML or JSON), or resume an interrupted run.

    `allmodes run` lists the recipes that come with allmodes; `allmodes run RECIPE --help` lists a recipe's
    keys.

    Keys of the recipe are also flags, which override the file: --budget 500 --methods.mara.threshold 0.7

    A list is written --seeds 0 1 2, or --seeds 0,1,2, or --seeds [0,1,2].

    Args:
        recipe: the recipe: the name of one that comes with allmodes, or a file.
        out: folder of the run; a new one in runs/ by default.
        dry_run: check everything, print the resolved configuration, and stop. A recipe is code: this check
            also starts its programs, imports its modules and loads its models.
        no_execute: with --dry-run: check only keys, values and files; run nothing that the recipe names.
        resume: folder of an interrupted run.
        accept_changes: with --resume: resume even if settings, or files that the run reads, have changed
            since it began; provenance.json in the folder records the change.
        scale: for a recipe with several scales: "quick" by default, "paper" for the papers' settings.
    """

    recipe: tyro.conf.Positional[Path | None] = None
    out: Path | None = None
    scale: str | None = None
    dry_run: bool = False
    no_execute: tyro.conf.FlagCreatePairsOff[bool] = False
    resume: Path | None = None
    accept_changes: tyro.conf.FlagCreatePairsOff[bool] = False


def help_on(arguments: Sequence[str]) -> None:
    """`allmodes run RECIPE --help`: the flags of every run, then the keys of the recipe."""
    asked = [argument for argument in arguments if argument not in ("--help", "-h")]
    with contextlib.suppress(SystemExit):  # the parser raises it after a help text
        tyro.cli(Run, args=["--help"], prog="allmodes run")
    recipe = next((argument for argument in asked if not argument.startswith("-")), None)
    if recipe is not None:
        scale = asked[asked.index("--scale") + 1] if "--scale" in asked[:-1] else None
        print("", *list_keys(find_recipe(Path(recipe)), scale), sep="\n")


def run(arguments: Run, flags: Sequence[str]) -> None:
    """Carry out `allmodes run`."""
    if arguments.resume is not None:
        others = (arguments.recipe, arguments.out, arguments.scale)
        if any(other is not None for other in others) or flags or arguments.dry_run or arguments.no_execute:
            raise InputError(
                "--resume takes a run folder, --accept-changes and nothing else: "
                "its configuration is saved there"
            )
        with say_how_to_continue(partial(how_to_resume, arguments.resume)):
            experiment = _kind_of_run(arguments.resume)
            report = experiment.resume(arguments.resume, accept_changes=arguments.accept_changes)
        _show(experiment, report)
        return
    if arguments.recipe is None:
        print("Recipes that come with allmodes:", *list_recipes(), sep="\n")
        raise InputError("expected a recipe, by name or file, or --resume FOLDER; got neither")
    if arguments.accept_changes:
        raise InputError("--accept-changes: expected only with --resume: a new run has no earlier settings")
    if arguments.no_execute and not arguments.dry_run:
        raise InputError("--no-execute: expected only with --dry-run: a run executes what its recipe names")
    from allmodes.runs.config import apply_flags, apply_scale, build_config, check_scales, read_config_file

    file = find_recipe(arguments.recipe)
    source = str(file)
    recipe = read_config_file(file)
    kind = find_kind(recipe, source=source)
    values = apply_flags(apply_scale(recipe, arguments.scale, kind.config), flags, kind.config)
    check_scales(kind.config, recipe, but=arguments.scale, source=source)
    config = build_config(kind.config, values, source=source, recipe_folder=file.parent)
    experiment = kind.load()
    if arguments.dry_run:
        (experiment.check_files if arguments.no_execute else experiment.check)(config)
        print(printable_json(config.model_dump_json(indent=2)))
        return
    out = _new_folder(file) if arguments.out is None else arguments.out
    with say_how_to_continue(partial(how_to_resume, out)):
        report = experiment.new(config, out)
    _show(experiment, report)


def _show(experiment: "_Experiment", report: Path) -> None:
    from rich.console import Console

    experiment.show(report.parent, Console())
    print(f"report: {report}")


@final
@dataclass(frozen=True, kw_only=True)
class _Experiment:
    """The functions for a configuration: check it, run it in a new folder, resume a folder's run.

    check_files only looks at its files; check also starts and loads everything that it names. show prints the
    main figures of the finished run in a folder.
    """

    check_files: Callable[[Any], None]
    check: Callable[[Any], None]
    new: Callable[[Any, Path], Path]
    resume: Callable[..., Path]
    show: Callable[[Path, "Console"], None]


@final
@dataclass(frozen=True, kw_only=True)
class Kind:
    """A recipe's `kind`: its configuration model and its functions."""

    config: Any
    load: Callable[[], _Experiment]


def _molecules() -> _Experiment:
    require("molecules need", "rdkit", extras="chem,report")
    from allmodes.chem.design.design import check_design, check_design_files, new_design, resume_design
    from allmodes.chem.reporting.summary import print_design

    return _Experiment(
        check_files=check_design_files,
        check=check_design,
        new=new_design,
        resume=resume_design,
        show=print_design,
    )


def _text() -> _Experiment:
    require("language models need", "trl", extras="text,report")
    from allmodes.text.experiment import check_training, check_training_files, new_training, resume_training
    from allmodes.text.reporting.summary import print_training

    return _Experiment(
        check_files=check_training_files,
        check=check_training,
        new=new_training,
        resume=resume_training,
        show=print_training,
    )


def find_kind(values: dict[str, Any], *, source: str) -> Kind:
    """The kind of a recipe, from its key `kind`. Raises ConfigError for an unknown or missing one."""
    from allmodes.chem.config import MoleculesConfig
    from allmodes.text.config import TextConfig

    kinds = {
        "molecules": Kind(config=MoleculesConfig, load=_molecules),
        "text": Kind(config=TextConfig, load=_text),
    }
    name = values.get("kind")
    if not isinstance(name, str) or name not in kinds:
        got = "none" if name is None else shown(name)
        raise ConfigError(f"{source}: `kind`: expected one of {', '.join(kinds)}; got {got}")
    return kinds[name]


def _kind_of_run(path: Path) -> _Experiment:
    from allmodes.runs.config import read_config_file

    if not (path / "config.json").exists():
        raise ConfigError(f"--resume: expected a run folder with config.json; got {path}")
    file = path / "config.json"
    return find_kind(read_config_file(file), source=str(file)).load()


def _new_folder(recipe: Path) -> Path:
    numbers = range(1, 10**6)
    return next(p for n in numbers if not (p := Path("runs") / f"{recipe.stem}-{n}").exists())


def split_flags(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Separate the flags of `Run` from flags that are keys of a recipe.

    A key's flag takes all values after it, so a recipe after several values must look like a recipe.
    """
    own, flags, rest = [], [], list(arguments)
    recipe = None
    while rest:
        argument = rest.pop(0)
        name, equals, _ = argument.partition("=")
        if not name.startswith("-"):
            (own if recipe is None else flags).append(argument)
            recipe = recipe or argument
        elif name in ("--out", "--resume", "--scale"):
            own.append(argument)
            if not equals and rest and not rest[0].startswith("--"):
                own.append(rest.pop(0))
        elif argument in ("--accept-changes", "--dry-run", "--no-execute", "--help", "-h"):
            own.append(argument)
        else:
            flags.append(argument)
            values = 1 if equals else 0
            while name.startswith("--") and rest and not rest[0].startswith("--"):
                if recipe is None and values and looks_like_recipe(rest[0]):
                    break
                flags.append(rest.pop(0))
                values += 1
    return own, flags
