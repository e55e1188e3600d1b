"""The command line. Every command imports what it needs when it runs, so `--help` answers at once."""

import importlib.util
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, final

import tyro

from allmodes.errors import AllmodesError, ConfigError, InputError

app = tyro.extras.SubcommandApp()
chem = tyro.extras.SubcommandApp()
app.command(chem, name="chem", help="Molecules: receptor, score, surrogate, pretrain.")


@app.command(name="run")
@final
@dataclass(frozen=True, kw_only=True)
class Run:
    """Run a recipe (TOML, YAML or JSON), or resume a run that was interrupted.

    Keys of the recipe are flags, too, and win over the file: --budget 500 --mara.threshold 0.7

    Args:
        recipe: the recipe file.
        out: folder of the run; a new one below runs/ by default.
        dry_run: check everything, print the resolved configuration, and stop.
        resume: folder of an interrupted run.
        scale: for a recipe with several scales: "quick" by default, "paper" for the papers' settings.
    """

    recipe: tyro.conf.Positional[Path | None] = None
    out: Path | None = None
    scale: str | None = None
    dry_run: bool = False
    resume: Path | None = None


def run(arguments: Run, flags: Sequence[str]) -> None:
    """What `allmodes run` does."""
    if arguments.resume is not None:
        others = (arguments.recipe, arguments.out, arguments.scale)
        if any(other is not None for other in others) or flags or arguments.dry_run:
            raise InputError("--resume takes a run folder and nothing else: its configuration is saved there")
        print(f"report: {_kind_of_run(arguments.resume).resume(arguments.resume)}")
        return
    if arguments.recipe is None:
        raise InputError("expected a recipe file or --resume RUN; got neither")
    from allmodes.runs.config import apply_flags, apply_scale, build_config, read_config_file

    values = apply_flags(apply_scale(read_config_file(arguments.recipe), arguments.scale), flags)
    kind = _find_kind(values, source=str(arguments.recipe))
    config = build_config(kind.config, values, source=str(arguments.recipe))
    experiment = kind.load()
    if arguments.dry_run:
        experiment.check(config)
        print(config.model_dump_json(indent=2))
        return
    out = _new_folder(arguments.recipe) if arguments.out is None else arguments.out
    print(f"report: {experiment.new(config, out)}")


@final
@dataclass(frozen=True, kw_only=True)
class _Experiment:
    """What can be done with a configuration: check it, run it in a new folder, resume a folder's run."""

    check: Callable[[Any], None]
    new: Callable[[Any, Path], Path]
    resume: Callable[[Path], Path]


@final
@dataclass(frozen=True, kw_only=True)
class _Kind:
    """A recipe's `kind`: its configuration, and what carries it out."""

    config: Any
    load: Callable[[], _Experiment]


def _molecules() -> _Experiment:
    _require("rdkit", "molecules", "chem,report")
    from allmodes.chem.design import check_design, new_design, resume_design

    return _Experiment(check=check_design, new=new_design, resume=resume_design)


def _text() -> _Experiment:
    _require("trl", "language models", "text,report")
    from allmodes.text.experiment import check_training, new_training, resume_training

    return _Experiment(check=check_training, new=new_training, resume=resume_training)


def _find_kind(values: dict[str, Any], *, source: str) -> _Kind:
    from allmodes.runs.molecules_config import MoleculesConfig
    from allmodes.runs.text_config import TextConfig

    kinds = {
        "molecules": _Kind(config=MoleculesConfig, load=_molecules),
        "text": _Kind(config=TextConfig, load=_text),
    }
    name = values.get("kind")
    if not isinstance(name, str) or name not in kinds:
        got = "none" if name is None else repr(name)
        raise ConfigError(f"{source}: `kind`: expected one of {', '.join(kinds)}; got {got}")
    return kinds[name]


def _kind_of_run(path: Path) -> _Experiment:
    from allmodes.runs.config import read_config_file

    if not (path / "config.json").exists():
        raise ConfigError(f"--resume: expected a run folder with config.json; got {path}")
    file = path / "config.json"
    return _find_kind(read_config_file(file), source=str(file)).load()


def _require(module: str, what: str, extras: str) -> None:
    if importlib.util.find_spec(module) is None:
        raise InputError(f"{what} need `pip install allmodes[{extras}]`; {module} is not installed")


def _new_folder(recipe: Path) -> Path:
    numbers = range(1, 10**6)
    return next(p for n in numbers if not (p := Path("runs") / f"{recipe.stem}-{n}").exists())


@chem.command(name="pretrain")
def chem_pretrain(
    file: tyro.conf.Positional[Path],
    *,
    out: Path,
    cell: Literal["lstm", "gru", "mamba"] = "lstm",
    hidden_size: int | None = None,
    num_layers: int | None = None,
    embedding_size: int | None = None,
    state_size: int | None = None,
    epochs: float = 5,
    batch_size: int = 128,
    learning_rate: float = 1e-3,
    validation_fraction: float = 0.02,
    max_tokens: int = 128,
    seed: int = 0,
    precision: Literal["float32", "bfloat16"] = "float32",
    checkpoint_every: int = 200,
    num_samples: int = 10000,
) -> None:
    """Train a prior on a file of SMILES (.smi or .smi.gz, one molecule a line).

    The folder of an interrupted run is resumed by the same command.

    Args:
        file: the SMILES file; the first column of each line counts.
        out: run folder; holds prior.safetensors and model_card.md at the end.
        cell: kind of policy; mamba needs transformers.
        hidden_size: units a layer; 512, and 256 for mamba.
        num_layers: layers; 3, and 12 for mamba.
        embedding_size: size of a token's embedding; 256. mamba has hidden_size.
        state_size: numbers that each of mamba's channels remembers; 16. For mamba alone.
        epochs: passes over the data; may be a fraction.
        batch_size: molecules an update.
        learning_rate: Adam's peak rate, after a warm-up and before a cosine to zero.
        validation_fraction: share of the molecules held out.
        max_tokens: longer molecules are left out.
        seed: seed of the split, the weights, the order and the samples.
        precision: bfloat16 autocast, or float32.
        checkpoint_every: updates between two checkpoints.
        num_samples: molecules drawn for validity, uniqueness and novelty.
    """
    _require("rdkit", "molecules", "chem,report")
    if cell == "mamba":
        _require("transformers", "Mamba policies", "chem,report,text")
    from allmodes.chem.pretrain import DEFAULT_SIZES, PretrainSettings, pretrain

    given = {"hidden_size": hidden_size, "num_layers": num_layers, "embedding_size": embedding_size,
             "state_size": state_size}  # fmt: skip
    sizes = {**DEFAULT_SIZES[cell], **{name: size for name, size in given.items() if size is not None}}
    settings = PretrainSettings(
        cell=cell,
        **sizes,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        validation_fraction=validation_fraction,
        max_tokens=max_tokens,
        seed=seed,
        precision=precision,
        checkpoint_every=checkpoint_every,
        num_samples=num_samples,
    )
    results = pretrain(file, out, settings)
    for key in ("validation_nll", "validity", "uniqueness", "novelty"):
        print(f"{key}: {results[key]:.4f}")
    print(f"prior: {out / 'prior.safetensors'}")


@chem.command(name="receptor")
def chem_receptor(
    file: tyro.conf.Positional[Path],
    *,
    out: Path,
    ligand: str | None = None,
    chains: tuple[str, ...] = (),
    ph: float = 7.4,
) -> None:
    """Prepare a receptor for docking from a PDB file as it is downloaded.

    Args:
        file: the PDB file.
        out: folder for receptor.pdbqt, reference_ligand.pdb and docking.toml, the component for a recipe.
        ligand: residue name of the co-crystallised ligand, around which the box is put.
        chains: chains to keep; all by default.
        ph: hydrogens are added as at this pH.
    """
    _require("rdkit", "molecules", "chem,report")
    from allmodes.chem.docking.receptor import prepare_receptor

    for line in prepare_receptor(file, out, ligand=ligand, chains=chains, ph=ph).lines():
        print(line)


@chem.command(name="score")
def chem_score(
    file: tyro.conf.Positional[Path],
    *,
    oracle: Path,
    out: Path,
    screen: float | None = None,
    scale: str | None = None,
) -> None:
    """Score the molecules of a file with the oracle of a recipe; the same command goes on after a stop.

    Args:
        file: SMILES, one a line (.smi, .smi.gz; a name may follow), or a CSV with a column smiles.
        oracle: a recipe, or any file with its [oracle] table.
        out: folder for scores.csv, scores.sdf with poses, and report.html.
        screen: the reward from which a molecule is a hit; that of the recipe by default.
        scale: for a recipe with several scales: "quick" by default.
    """
    _require("rdkit", "molecules", "chem,report")
    from allmodes.chem.score import score_file
    from allmodes.runs.config import apply_scale, build_config, read_config_file
    from allmodes.runs.scoring_config import ScoringConfig

    values = apply_scale(read_config_file(oracle), scale)
    known = {key: values[key] for key in ("oracle", "screen") if key in values}
    config = build_config(ScoringConfig, known, source=str(oracle))
    chosen = config.screen if screen is None else screen
    print(f"report: {score_file(file, config.oracle, screen=chosen, out=out)}")


@chem.command(name="surrogate")
def chem_surrogate(
    file: tyro.conf.Positional[Path], *, out: Path, column: str = "docking raw", target: str | None = None
) -> None:
    """Fit a regression to scores, as a stand-in for a slow scorer, and print its held-out error.

    Args:
        file: CSV with the columns smiles and the score's, such as scores.csv of `allmodes chem score`.
        out: the surrogate's file, for a component of kind "surrogate".
        column: the score's column.
        target: words for what it stands in for; the file's and the column's name by default.
    """
    _require("rdkit", "molecules", "chem,report")
    from allmodes.chem.surrogate import fit_surrogate

    card = fit_surrogate(file, out, column=column, target=target or f"{column} of {file.name}")
    print(f"{card.molecules} molecules, scores with a standard deviation of {card.spread:.3f}")
    print(
        f"held-out error: RMSE {card.rmse:.3f}, mean {card.mean_error:.3f}; R² {card.r2:.3f}, "
        f"rank correlation {card.rank_correlation:.3f} (five folds)"
    )
    print(f"surrogate: {out}")


@app.command(name="target")
def target(
    file: tyro.conf.Positional[Path],
    *,
    beta: tuple[float, ...] = (0.01, 0.1, 1.0),
    kl: Literal["reverse", "forward", "both"] = "reverse",
    threshold: float | None = None,
    tolerance: float = 0.1,
    normalise: bool = False,
    out: Path | None = None,
) -> None:
    """Show the optimum of an objective before anything is trained, from your own outcomes.

    Args:
        file: CSV or JSON of outcomes with the columns reward and probability (or logprob), outcome for names.
        beta: strengths of the KL.
        kl: which KL regularises: reverse KL(π ‖ π_ref), forward KL(π_ref ‖ π), or both.
        threshold: τ, the reward from which an outcome is good; without it MARA is left out.
        tolerance: how far, in nats, probabilities of good outcomes may differ and count as equal.
        normalise: make probabilities that do not sum to 1 do so, as for a sample of a larger space.
        out: folder for target.png, target.svg and target.json; without it the report is printed alone.
    """
    from rich.console import Console

    from allmodes.worlds.optimum_report import explain_file

    explain_file(
        file,
        betas=beta,
        kl=kl,
        threshold=threshold,
        tolerance=tolerance,
        normalise=normalise,
        out=out,
        console=Console(),
    )


@app.command(name="paper")
def paper(
    item: tyro.conf.Positional[str],
    *,
    out: Path = Path("runs/paper"),
    scale: Literal["quick", "paper"] = "quick",
) -> None:
    """Reproduce a figure or table of the papers: picture, numbers, and what the paper says beside them.

    Args:
        item: an item's name, "list" for all names, or "all".
        out: folder for NAME.png, NAME.svg, NAME.json and NAME.md.
        scale: "paper" takes the papers' own steps, batch sizes and rates; "quick" fewer replicas and steps.
    """
    from rich.console import Console

    from allmodes.paper.catalogue import find
    from allmodes.paper.reproduction import SCALES
    from allmodes.paper.runner import print_items, reproduce_items

    if item == "list":
        print_items(Console())
    else:
        reproduce_items(find(item), scale=SCALES[scale], out=out, console=Console())


@app.command(name="evaluate")
def evaluate(
    file: tyro.conf.Positional[Path],
    *,
    out: Path | None = None,
    k: tuple[int, ...] = (),
    tokenizer: Path | None = None,
    embedder: str | None = None,
    vocabulary_size: int = 50257,
) -> None:
    """Quality and diversity of generations, with errors over prompts, from a JSONL of any model's samples.

    A line holds prompt and response, and where known reward, score, answer (null: invalid), correct, method.

    Args:
        file: the JSONL file.
        out: folder for evaluation.json; without it the report is printed alone.
        k: the k of pass@k and max@k; powers of two by default.
        tokenizer: a tokenizer.json, or a folder that holds one, for the n-grams; words by default.
        embedder: a sentence-transformers model by name or folder, or "stand-in" for hashed characters.
        vocabulary_size: V of the expectation-adjusted distinct n-grams.
    """
    from rich.console import Console

    from allmodes.text.evaluate import evaluate_file

    evaluate_file(
        file,
        out=out,
        ks=k or None,
        tokenizer=tokenizer,
        embedder=embedder,
        vocabulary_size=vocabulary_size,
        console=Console(),
    )


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
        }
        print(f"allmodes: interrupted{resume.get(''.join(sys.argv[1:2]), '')}", file=sys.stderr)
        sys.exit(130)


def _dispatch(arguments: list[str]) -> None:
    if arguments[:1] == ["run"]:
        own, flags = split_flags(arguments[1:])
        run(tyro.cli(Run, args=own, prog="allmodes run"), flags)
    else:
        app.cli(prog="allmodes", args=arguments)


def split_flags(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Separate what `Run` knows from the flags that are keys of a recipe, which nobody knows beforehand."""
    takes_value = {"--out", "--resume", "--scale"}
    own, flags, rest = [], [], list(arguments)
    has_recipe = False
    while rest:
        argument = rest.pop(0)
        name, equals, _ = argument.partition("=")
        is_recipe = not name.startswith("-") and not has_recipe
        has_recipe = has_recipe or is_recipe
        is_own = is_recipe or name in {*takes_value, "--dry-run", "--help", "-h"}
        chosen = own if is_own else flags
        chosen.append(argument)
        is_flag = name.startswith("--") and (not is_own or name in takes_value)
        if is_flag and not equals and rest and not rest[0].startswith("--"):
            chosen.append(rest.pop(0))
    return own, flags


if __name__ == "__main__":
    main()
