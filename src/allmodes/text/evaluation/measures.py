"""Inputs of the metrics of text: tokens, embeddings, and classes of answers."""

import importlib
import importlib.util
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from allmodes.errors import InputError
from allmodes.extras import require
from allmodes.metrics.text import SHORT_ANSWER
from allmodes.runs.hub import reach_hub
from allmodes.runs.weights import refuse_pickled_weights
from allmodes.text.evaluation.plain_embedder import is_plain, load_plain_embedder

STAND_IN = "stand-in"

Tokenise = Callable[[str], Sequence[Hashable]]
Embed = Callable[[Sequence[str]], Tensor]

_STAND_IN_SIZE = 1024


def load_tokeniser(path: Path) -> Tokenise:
    """Token ids by a Hugging Face tokenizer: a tokenizer.json, or a folder that holds one.

    No special tokens are added. Raises InputError without the package `tokenizers` or for a file that it
    cannot read.
    """
    require("a tokenizer needs", "tokenizers", extras="text")
    file = path / "tokenizer.json" if path.is_dir() else path
    tokenizers: Any = importlib.import_module("tokenizers")
    try:
        loaded = tokenizers.Tokenizer.from_file(str(file))
    except Exception as error:  # the package raises no other kind
        raise InputError(f"{file}: expected a tokenizer.json of Hugging Face's; {error}") from error
    loaded.no_truncation()
    loaded.no_padding()

    def tokenise(text: str) -> Sequence[Hashable]:
        return loaded.encode(text, add_special_tokens=False).ids

    return tokenise


def load_embedder(name: str) -> Embed | str:
    """Embeddings (N, D) of texts by a sentence-transformers model, or the reason why there are none.

    name: of the model, or its folder; "stand-in" is `stand_in_embeddings`. The folder of a plain model needs
    transformers alone, any other model the package sentence-transformers. Raises InputError if the model
    cannot be loaded.
    """
    if name == STAND_IN:
        return stand_in_embeddings
    if is_plain(Path(name)) and importlib.util.find_spec("transformers") is not None:
        return load_plain_embedder(Path(name))
    if importlib.util.find_spec("sentence_transformers") is None:
        return "sentence-transformers is not installed"
    refuse_pickled_weights(name)
    if "/" in name:  # a name without one is looked for under sentence-transformers/
        reach_hub(name)
    library: Any = importlib.import_module("sentence_transformers")
    try:
        model = library.SentenceTransformer(
            name, trust_remote_code=False, model_kwargs={"use_safetensors": True}
        )
    except Exception as error:  # whatever a hub, a disk or a model raises
        raise InputError(f"cannot load the embedder {name!r}: {error}") from error

    def embed(texts: Sequence[str]) -> Tensor:
        return model.encode(list(texts), convert_to_tensor=True, show_progress_bar=False).cpu()

    return embed


def stand_in_embeddings(texts: Sequence[str]) -> Tensor:
    """A stand-in for an embedder, (N, 1024): counts of hashed three-character sequences.

    It compares spelling, not meaning. Hashes may collide, but counts are never negative, so no embedding is
    0.
    """
    counts = torch.zeros(len(texts), _STAND_IN_SIZE, dtype=torch.float64)
    for row, text in zip(counts, texts, strict=True):
        points = np.frombuffer(f"\n{text.lower()}\n\n".encode("utf-32-le"), dtype="<u4").astype(np.uint64)
        mixed = (points[:-2] * 2**42 + points[1:-1] * 2**21 + points[2:]) * np.uint64(0x9E3779B97F4A7C15)
        hashes = (mixed >> np.uint64(54)).astype(np.int64)  # the top 10 bits of the product
        row += torch.from_numpy(np.bincount(hashes, minlength=_STAND_IN_SIZE))
    return counts


def short_answer_classes(answers: Iterable[str]) -> list[int]:
    """`partition` with `same_short_answer` if both have at most five words, else with equal words.

    Words are lower-cased and split at white space. Only classes with a common word are compared, so a prompt
    may have many answers.
    """
    known: dict[Hashable, int] = {}
    holders: defaultdict[str, list[int]] = defaultdict(list)  # word to the classes whose first member has it
    sizes: dict[int, int] = {}
    classes: list[int] = []
    count = 0
    for answer in answers:
        key = tuple(answer.lower().split())
        unique = frozenset(key)
        is_short = len(key) <= SHORT_ANSWER
        if key not in known:
            shared = Counter(which for word in unique for which in holders[word]) if is_short else {}
            same = [which for which, n in shared.items() if 2 * n >= max(len(key), sizes[which])]
            known[key] = min(same, default=count)
            if not same:
                if is_short:
                    sizes[count] = len(key)
                    for word in unique:
                        holders[word].append(count)
                count += 1
        classes.append(known[key])
    return classes
