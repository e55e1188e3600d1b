"""Maximum-likelihood training of a SMILES policy: the prior of the design loop."""

import json
import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor

from allmodes.checks import check_count, check_positive
from allmodes.chem.molecule_file import Rejected, read_molecules, write_rejected
from allmodes.chem.molecules import canonical_smiles
from allmodes.chem.policies.model_card import model_card
from allmodes.chem.policies.policy import (
    Cell,
    Policy,
    Precision,
    load_policy,
    make_policy,
    pad_tokens,
    save_policy,
)
from allmodes.chem.policies.tokenizer import SmilesTokenizer, split_smiles
from allmodes.errors import InputError, RunError, shown
from allmodes.reports.progress import console, progress_bar
from allmodes.runs.checkpoint import adam_state, load_checkpoint, restore_adam_state, save_checkpoint
from allmodes.runs.files import write_text
from allmodes.runs.folder import RunFolder
from allmodes.runs.provenance import PROVENANCE, file_sha256, provenance
from allmodes.runs.seals import restoring, say_unverified

BATCHES_PER_POOL = 50  # batches that are formed together by length from shuffled sequences

_RECURRENT = {"hidden_size": 512, "num_layers": 3, "embedding_size": 256}
# That of Saturn (Guo & Schwaller 2024): 5.27M parameters, about as many as the LSTM has.
_MAMBA = {"hidden_size": 256, "num_layers": 12, "state_size": 16}
DEFAULT_SIZES: dict[Cell, dict[str, int]] = {"lstm": _RECURRENT, "gru": _RECURRENT, "mamba": _MAMBA}
# Beyond every use: larger values are typing errors and would exhaust the memory.
_MOST = {
    "hidden_size": 2**14,
    "num_layers": 256,
    "embedding_size": 2**14,
    "state_size": 2**10,
    "batch_size": 10**6,
    "max_tokens": 10**5,
    "checkpoint_every": 10**9,
    "num_samples": 10**8,
}
_BEST = "best."  # weights of the epoch with the lowest validation NLL, in a checkpoint
_SIZE_OF: dict[Cell, str] = {"lstm": "embedding_size", "gru": "embedding_size", "mamba": "state_size"}


@final
@dataclass(frozen=True, kw_only=True)
class PretrainSettings:
    """Settings of `pretrain`; they are saved with the run, and a resumed run must have the same.

    An LSTM and a GRU have an embedding_size, a Mamba a state_size (its embeddings have hidden_size).
    """

    cell: Cell
    hidden_size: int
    num_layers: int
    embedding_size: int | None = None
    state_size: int | None = None
    epochs: float
    batch_size: int
    learning_rate: float
    validation_fraction: float
    max_tokens: int
    seed: int
    precision: Precision
    checkpoint_every: int
    num_samples: int

    def __post_init__(self) -> None:
        own, foreign = _SIZE_OF[self.cell], _SIZE_OF["lstm" if self.cell == "mamba" else "mamba"]
        if getattr(self, own) is None or getattr(self, foreign) is not None:
            raise InputError(f"cell {self.cell!r} must have `{own}` and no `{foreign}`; "
                             f"got {getattr(self, own)} and {getattr(self, foreign)}")  # fmt: skip
        for name in (own, "hidden_size", "num_layers", "batch_size", "max_tokens", "checkpoint_every",
                     "num_samples"):  # fmt: skip
            check_count(name, getattr(self, name), most=_MOST[name])
        if not 0 <= self.seed < 2**63:
            raise InputError(f"`seed` must be from 0 to 2^63 - 1; got {shown(self.seed)}")
        for name, most in (("epochs", 1e6), ("learning_rate", 1.0)):
            check_positive(name, getattr(self, name))
            if getattr(self, name) > most:
                raise InputError(f"`{name}` must be at most {most:g}; got {getattr(self, name):g}")
        if not 0 < self.validation_fraction < 1:
            raise InputError(
                f"`validation_fraction` must be above 0 and below 1; got {self.validation_fraction}"
            )

    @property
    def sizes(self) -> dict[str, int]:
        """The sizes of the policy, as `make_policy` takes them."""
        return {name: getattr(self, name) for name in ("hidden_size", "num_layers", _SIZE_OF[self.cell])}


def read_smiles(
    path: Path, *, max_tokens: int, vocabulary: Collection[str] | None = None
) -> tuple[list[str], list[Rejected]]:
    """Canonical SMILES of a file of molecules, duplicates dropped, and the rejected lines.

    The file is SMILES, a table or an SDF, as `read_records` reads them. vocabulary: the tokens that a
    molecule may have; any by default. Raises `InputError` if it cannot be read, or holds no molecule of at
    most `max_tokens` tokens; a malformed line is never fatal.
    """
    kept: dict[str, None] = {}
    rejected = []
    for molecule in read_molecules(path):
        tokens = [] if molecule.smiles is None else split_smiles(molecule.smiles)
        unknown = [token for token in tokens if vocabulary is not None and token not in vocabulary]
        if molecule.smiles is not None and len(tokens) <= max_tokens and not unknown:
            kept[molecule.smiles] = None
        else:
            reason = molecule.reason or (
                f"{len(tokens)} tokens, more than {max_tokens}"
                if len(tokens) > max_tokens
                else f"token {unknown[0]}, which is unknown to the prior"
            )
            rejected.append(Rejected(line=molecule.line, text=molecule.text, reason=reason))
    if not kept:
        first = f"line {rejected[0].line} has {rejected[0].reason}"
        raise InputError(f"{path}: expected molecules of at most {max_tokens} tokens; {first}")
    return list(kept), rejected


def length_batches(
    lengths: Sequence[int], *, batch_size: int, generator: torch.Generator
) -> Iterator[list[int]]:
    """Shuffled batches of indices in which all sequences have about the same length."""
    order = torch.randperm(len(lengths), generator=generator).tolist()
    pool_size = batch_size * BATCHES_PER_POOL
    for start in range(0, len(order), pool_size):
        pool = sorted(order[start : start + pool_size], key=lambda index: lengths[index])
        batches = [pool[i : i + batch_size] for i in range(0, len(pool), batch_size)]
        for position in torch.randperm(len(batches), generator=generator).tolist():
            yield batches[position]


def learning_rate_at(step: int, total: int, peak: float) -> float:
    """Linear warm-up over the first 2 % of steps, then a cosine down to zero."""
    warmup = max(1, total // 50)
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))


@torch.no_grad()
def mean_nll(policy: Policy, sequences: Sequence[Sequence[int]], batch_size: int) -> float:
    """Mean −log p(y) in nats per molecule, including EOS."""
    total = 0.0
    for start in range(0, len(sequences), batch_size):
        total -= float(policy.logprobs(pad_tokens(sequences[start : start + batch_size])).double().sum())
    return total / len(sequences)


def sample_quality(
    policy: Policy,
    tokenizer: SmilesTokenizer,
    *,
    known: set[str],
    count: int,
    max_length: int,
    seed: int,
) -> dict[str, float]:
    """Validity (of all), uniqueness (of the valid) and novelty (of the unique) of `count` samples."""
    generator = torch.Generator().manual_seed(seed)
    valid: list[str] = []
    for start in range(0, count, 500):
        samples = policy.sample(min(500, count - start), max_length=max_length, generator=generator)
        for ids, finished in zip(samples.tokens.tolist(), samples.finished.tolist(), strict=True):
            smiles = canonical_smiles(tokenizer.decode(ids)) if finished else None
            if smiles is not None:
                valid.append(smiles)
    unique = set(valid)
    return {
        "samples": count,
        "validity": len(valid) / count,
        "uniqueness": len(unique) / max(1, len(valid)),
        "novelty": len(unique - known) / max(1, len(unique)),
    }


def pretrain(
    file: Path, out: Path, settings: PretrainSettings, *, start: Path | None = None
) -> dict[str, Any]:
    """Train a policy on a file of SMILES and write it, its metrics and its model card to folder `out`.

    The policy that is written has the weights of the epoch with the lowest validation NLL. start: a policy to
    continue with (transfer learning), whose kind and sizes `settings` must have; molecules with tokens that
    it does not know are rejected, and its validation NLL is that of epoch 0.

    A folder that holds an unfinished run of the same files and settings is resumed from its last checkpoint,
    and ends as an uninterrupted run would. Returns what the model card says. Raises `InputError` for a bad
    file and `RunError` for a folder that cannot be written or holds another run.
    """
    started = None if start is None else (start, *load_policy(start, precision=settings.precision))
    vocabulary = None if started is None else frozenset(started[2].tokens)
    smiles, rejected = read_smiles(file, max_tokens=settings.max_tokens, vocabulary=vocabulary)
    with RunFolder(out) as folder:
        return _Pretraining(folder, file, smiles, rejected, settings, started).run()


class _Pretraining:
    def __init__(
        self,
        folder: RunFolder,
        file: Path,
        smiles: list[str],
        rejected: list[Rejected],
        settings: PretrainSettings,
        started: tuple[Path, Policy, SmilesTokenizer] | None,
    ) -> None:
        self.folder, self.settings, self.rejected, self.smiles = folder, settings, rejected, smiles
        self.identity = {"data": file.name, "sha256": file_sha256(file), **asdict(settings)}
        if started is not None:
            self.identity |= {"from": started[0].name, "from_sha256": file_sha256(started[0])}
        self.is_transfer = started is not None
        self.tokenizer = SmilesTokenizer.from_smiles(smiles) if started is None else started[2]
        generator = torch.Generator().manual_seed(settings.seed)
        order = torch.randperm(len(smiles), generator=generator).tolist()
        held_out = max(1, round(settings.validation_fraction * len(smiles)))
        encoded = [self.tokenizer.encode(smiles[index]) for index in order]
        self.validation, self.training = sorted(encoded[:held_out], key=len), encoded[held_out:]
        if not self.training:
            raise InputError(f"{file}: expected at least 2 molecules; got {len(smiles)}")
        self.steps_per_epoch = _steps_per_epoch(len(self.training), settings.batch_size)
        self.total = max(1, round(self.steps_per_epoch * settings.epochs))
        if started is None:
            torch.manual_seed(settings.seed)  # nn.Module initialisation draws from the global generator
            self.policy = make_policy(
                len(self.tokenizer), cell=settings.cell, precision=settings.precision, **settings.sizes
            )
        else:
            self.policy = started[1]
        self.optimizer = torch.optim.Adam(self.policy.parameters(), lr=settings.learning_rate)
        self.step = 0
        self.recent_nlls: list[float] = []
        self.best: dict[str, float] | None = None  # epoch and validation_nll
        self.best_weights: dict[str, Tensor] = {}

    def run(self) -> dict[str, Any]:
        facts = provenance()
        self._resume()
        write_text(self.folder.path / PROVENANCE, json.dumps(facts, indent=2))
        write_rejected(self.folder.path / "rejected.tsv", self.rejected)
        if self.is_transfer and self.step == 0:
            self._evaluate(training_nll=None)
        with progress_bar() as progress:
            task = progress.add_task("pretraining", total=self.total, completed=self.step, note="")
            for batch in self._remaining_batches():
                self.recent_nlls = [*self.recent_nlls[-99:], self._update(batch)]
                self.step += 1
                recent = sum(self.recent_nlls) / len(self.recent_nlls)
                progress.update(task, completed=self.step, note=f"NLL {recent:.2f} nats per molecule")
                if self.step % self.steps_per_epoch == 0 or self.step == self.total:
                    done = self.step % self.steps_per_epoch or self.steps_per_epoch  # of this epoch
                    own = self.recent_nlls[-done:]
                    self._end_epoch(sum(own) / len(own))
                if self.step % self.settings.checkpoint_every == 0 or self.step == self.total:
                    self._save()
        return self._finish(facts)

    def _remaining_batches(self) -> Iterator[Tensor]:
        lengths = [len(ids) for ids in self.training]
        for epoch in range(self.step // self.steps_per_epoch, math.ceil(self.total / self.steps_per_epoch)):
            generator = torch.Generator().manual_seed(self.settings.seed + 1 + epoch)
            batches = length_batches(lengths, batch_size=self.settings.batch_size, generator=generator)
            done = self.step - epoch * self.steps_per_epoch
            left = self.total - epoch * self.steps_per_epoch
            for position, indices in enumerate(batches):
                if done <= position < left:
                    yield pad_tokens([self.training[index] for index in indices])

    def _update(self, batch: Tensor) -> float:
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate_at(self.step, self.total, self.settings.learning_rate)
        # Sequences of a batch have about one length, so one padded pass is best here.
        loss = -self.policy.token_logprobs(batch).sum() / len(batch)
        self.optimizer.zero_grad()
        loss.backward()
        # Typical norms of this loss are 2 to 10; only early spikes are cut.
        torch.nn.utils.clip_grad_norm_(self.policy.parameters(), 10.0)
        self.optimizer.step()
        return float(loss.detach())

    def _end_epoch(self, training_nll: float) -> None:
        row = self._evaluate(training_nll)
        if self.best is None or row["validation_nll"] < self.best["validation_nll"]:
            self.best = {key: row[key] for key in ("epoch", "validation_nll")}
            self.best_weights = {name: value.clone() for name, value in self.policy.state_dict().items()}

    def _evaluate(self, training_nll: float | None) -> dict[str, Any]:
        row = {
            "epoch": round(self.step / self.steps_per_epoch, 3),
            "step": self.step,
            "training_nll": training_nll,
            "validation_nll": mean_nll(self.policy, self.validation, 500),
        }
        self.folder.append_metrics(row)
        console.print(f"epoch {row['epoch']:g}: validation NLL {row['validation_nll']:.3f} nats per molecule")
        return row

    def _save(self) -> None:
        best = {f"{_BEST}{name}": value for name, value in self.best_weights.items()}
        tensors = {**self.policy.state_dict(), **adam_state(self.optimizer), **best}
        state = {
            "identity": self.identity,
            "step": self.step,
            "recent_nlls": self.recent_nlls,
            "best": self.best,
            "files": self.folder.mark_logs(),
        }
        save_checkpoint(self.folder.checkpoint_path, tensors, state)

    def _resume(self) -> None:
        if not self.folder.checkpoint_path.exists():
            self.folder.restore_logs({})
            return
        with restoring(self.folder.checkpoint_path):
            self._restore()
        console.print(f"resuming {self.folder.path} at step {self.step}", markup=False)

    def _restore(self) -> None:
        tensors, state = load_checkpoint(self.folder.checkpoint_path)
        for key, value in self.identity.items():
            if state["identity"].get(key) != value:
                raise RunError(
                    f"{self.folder.path} holds another run: expected {key} = {value!r}; "
                    f"got {state['identity'].get(key)!r}. Choose another folder or delete it"
                )
        own = {key: value for key, value in tensors.items() if not key.startswith(("adam.", _BEST))}
        self.policy.load_state_dict(own)
        restore_adam_state(self.optimizer, tensors)
        self.step, self.recent_nlls, self.best = state["step"], state["recent_nlls"], state.get("best")
        self.best_weights = {
            key.removeprefix(_BEST): value for key, value in tensors.items() if key.startswith(_BEST)
        }
        if "files" in state:
            self.folder.restore_logs(state["files"])
        else:
            say_unverified(self.folder.checkpoint_path)
            self.folder.keep_metrics(lambda row: row["step"] <= self.step)

    def _finish(self, facts: dict[str, Any]) -> dict[str, Any]:
        # Measure the weights as written, after rounding to half precision.
        state = self.best_weights or self.policy.state_dict()
        self.policy.load_state_dict({name: value.half().float() for name, value in state.items()})
        self.policy.precision = "float32"
        quality = sample_quality(
            self.policy,
            self.tokenizer,
            known=set(self.smiles),
            count=self.settings.num_samples,
            max_length=self.settings.max_tokens,
            seed=self.settings.seed,
        )
        results = {
            "from": self.identity.get("from"),
            "from_sha256": self.identity.get("from_sha256"),
            "data": self.identity["data"],
            "data_sha256": self.identity["sha256"],
            "molecules": len(self.smiles),
            "rejected_lines": len(self.rejected),
            "held_out": len(self.validation),
            "parameters": sum(parameter.numel() for parameter in self.policy.parameters()),
            "vocabulary": len(self.tokenizer),
            "epoch": None if self.best is None else self.best["epoch"],
            "validation_nll": mean_nll(self.policy, self.validation, 500),
            **quality,
        }
        save_policy(self.folder.path / "prior.safetensors", self.policy, self.tokenizer, half=True)
        write_text(
            self.folder.path / "model_card.md",
            model_card(results, self.folder.read_metrics(), asdict(self.settings), facts),
        )
        return results


def _steps_per_epoch(count: int, batch_size: int) -> int:
    pools, rest = divmod(count, batch_size * BATCHES_PER_POOL)
    return pools * BATCHES_PER_POOL + math.ceil(rest / batch_size)
