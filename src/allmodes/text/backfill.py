"""Fill in missing log-probabilities of a log under a language model or a policy over SMILES."""

import hashlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from allmodes.audit.logs.backfill import BackfilledSource, Column, Request, ResponseLogprob, Scorer, backfill
from allmodes.audit.logs.formats import Mapped
from allmodes.audit.logs.sources import Source
from allmodes.chem.policies.policy import load_policy
from allmodes.chem.policies.smiles_logprobs import named_policy, smiles_logprobs
from allmodes.errors import ConfigError
from allmodes.extras import require
from allmodes.text.logged_prompts import Prompts

_TEXTS, _SMILES = 256, 2400  # responses between two writes
_FILES = (".bin", ".jinja", ".json", ".model", ".safetensors")
_PIECE, _PIECES = 1 << 16, 64  # bytes, and how many of a file


def backfill_log(
    source: Source,
    mapped: Mapped,
    *,
    model: str,
    column: Column,
    folder: Path,
    prompts: Prompts,
    max_tokens: int | None,
) -> BackfilledSource:
    """Fill in missing log-probabilities of a log's responses with `backfill`.

    model: a policy over SMILES (a .safetensors file, or the name of a shipped prior), which ignores prompts;
    anything else is a language model by Hugging Face name, folder or GGUF file. It is only loaded if there is
    something to compute. folder: for ref_logprobs.jsonl or policy_logprobs.jsonl. prompts: how to read a
    prompt given as text, as in `PromptReader`; "auto" is "decoded" for logs of programs that decode prompts.
    max_tokens: length limit; a response of this length counts as cut off if the log does not say.

    Raises ConfigError if a model cannot be loaded, InputError for missing packages, and the errors of
    `backfill`.
    """
    policy = named_policy(model)
    if policy is not None:
        scorer, batch = _smiles_scorer(policy), _SMILES
        identity = {"model": _fingerprint(policy)}
    else:
        require("language models need", "transformers", extras="text")
        mode: Prompts = "decoded" if prompts == "auto" and mapped.has_decoded_prompts else prompts
        scorer, batch = _text_scorer(model, prompts=mode, max_tokens=max_tokens), _TEXTS
        identity = {
            "model": _fingerprint(Path(model)) if Path(model).exists() else model,
            "prompts": mode,
            "max_tokens": str(max_tokens),
        }
    path = folder / f"{column}s.jsonl"
    return backfill(source, mapped, scorer, column=column, path=path, identity=identity, batch=batch)


def _smiles_scorer(path: Path) -> Scorer:
    loaded = cache(lambda: load_policy(path))

    def score(requests: Sequence[Request]) -> list[ResponseLogprob | None]:
        policy, tokenizer = loaded()
        found = smiles_logprobs(
            policy,
            tokenizer,
            [request.response for request in requests],
            is_whole=[request.truncated is not True for request in requests],
        )
        return [None if one is None else ResponseLogprob(logprob=one[0], num_tokens=one[1]) for one in found]

    return score


def _text_scorer(model: str, *, prompts: Prompts, max_tokens: int | None) -> Scorer:
    @cache
    def loaded() -> Scorer:
        # Not at the top: it takes seconds, and SMILES need none of it.
        from allmodes.text.models import load_model, load_tokenizer, quieten
        from allmodes.text.response_logprobs import ResponseScorer

        quieten()
        tokenizer = load_tokenizer(model, needs_template=False)
        return ResponseScorer(load_model(model), tokenizer, prompts=prompts, max_tokens=max_tokens)

    return lambda requests: loaded()(requests)


def _fingerprint(path: Path) -> str:
    """The name of a model on disk, and a digest that differs when it has been trained on.

    Of the files in a folder that a model is made of; of a long one 64 pieces, 4 MiB together. Raises
    ConfigError for a file that cannot be read.
    """
    files = sorted(one for one in path.iterdir() if one.suffix in _FILES) if path.is_dir() else [path]
    digest = hashlib.blake2b(digest_size=8)
    for file in files:
        try:
            size = file.stat().st_size
            digest.update(f"{file.name} {size}\n".encode())
            with open(file, "rb") as handle:
                for start in range(0, size, max(_PIECE, size // _PIECES)):
                    handle.seek(start)
                    digest.update(handle.read(_PIECE))
        except OSError as error:
            raise ConfigError(f"`model`: cannot read {file}: {error.strerror or error}") from error
    return f"{path.resolve().name} {digest.hexdigest()}"
