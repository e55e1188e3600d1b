"""Creative questions: many good answers, scored by a reward model.

Source: MARA, section 6.2 and appendix C.3.
"""

import json
import math
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, final

from torch import Tensor

from allmodes.errors import ConfigError, InputError
from allmodes.metrics.text import SHORT_ANSWER, same_short_answer, semantic_diversity
from allmodes.tasks.task import check_same_length

_AROUND = {"P", "Z", "Cc", "Cf"}  # Unicode's categories: punctuation, separators, what cannot be seen


class Scorer(Protocol):
    """The interface of a reward model."""

    def scores(self, prompts: Sequence[str], responses: Sequence[str]) -> Sequence[float | None]:
        """A finite score of each response, or None."""
        ...


class SamenessJudge(Protocol):
    """The interface of a judge."""

    def same(self, first: str, second: str) -> bool:
        """Whether two responses say the same."""
        ...


@final
class Creative:
    """Prompts from a file, rewards by a reward model, and the similarity of responses.

    path: JSON Lines in UTF-8, one object with `prompt` a line; other keys are not read (NoveltyBench's files
    are of this kind). reward_model: a RewardModel, or any object with its `scores`. embedder: texts →
    embeddings (N, D). judge: a Judge, or any object with its `same`. max_prompts: how many prompts are read.

    A repeated prompt is left out and counted in `duplicates`, since it would be a second group of the same
    prompt.

    Raises ConfigError, with the line's number, for a line that is not such an object or whose prompt is
    missing, empty or not text; for a file that cannot be read or has no prompt; for max_prompts < 1.
    """

    name = "creative"

    def __init__(
        self,
        path: Path,
        *,
        reward_model: Scorer,
        embedder: Callable[[list[str]], Tensor] | None = None,
        judge: SamenessJudge | None = None,
        max_prompts: int | None = None,
    ) -> None:
        if max_prompts is not None and max_prompts < 1:
            raise ConfigError(f"`max_prompts` must be at least 1; got {max_prompts}")
        everything = read_prompts(path)
        distinct = tuple(dict.fromkeys(everything))
        self.prompts = distinct[:max_prompts]
        self.duplicates = len(everything) - len(distinct)
        self._reward_model, self._embedder, self._judge = reward_model, embedder, judge

    def parse(self, response: str) -> str | None:
        """The response in normal form; None if nothing is left.

        NFKC, case folded, white space collapsed, punctuation and invisible characters around it taken off.
        """
        text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", response).casefold())
        text = " ".join(text.split())
        kinds = {character: unicodedata.category(character) for character in set(text)}
        around = "".join(c for c, kind in kinds.items() if kind in _AROUND or kind[0] in _AROUND)
        return text.strip(around) or None

    def rewards(self, prompts: Sequence[str], responses: Sequence[str]) -> list[float | None]:
        """The reward model's scores; None if it gives none.

        Raises InputError for lengths that disagree, or where the reward model gives another number of scores
        or one that is not finite.
        """
        check_same_length(prompts, responses)
        given = self._reward_model.scores(prompts, responses)
        scores = [None if score is None else float(score) for score in given]
        if len(scores) != len(responses):
            raise InputError(f"the reward model must give {len(responses)} scores; got {len(scores)}")
        for index, score in enumerate(scores):
            if score is not None and not math.isfinite(score):
                raise InputError(f"the reward model must give finite scores or None; got {score} at {index}")
        return scores

    def known_answers(self, prompt: str) -> None:
        """None, since the answers cannot be enumerated."""

    def same(self, first: str, second: str) -> bool:
        """Whether two responses say the same: short ones by NoveltyBench's rule, others by the judge.

        The rule compares the words of answers of at most five. Without a judge longer ones are the same when
        `parse` gives the same for both. A response of which nothing is left is like another such alone.
        """
        one, other = self.parse(first), self.parse(second)
        if one is None or other is None:
            return one is other
        if max(len(one.split()), len(other.split())) <= SHORT_ANSWER:
            return same_short_answer(one, other)
        return one == other if self._judge is None else self._judge.same(first, second)

    def semantic_diversity(self, responses: Sequence[str]) -> float | None:
        """Mean of 1 − cosine similarity over pairs of one prompt's responses; None without an embedder."""
        return None if self._embedder is None else semantic_diversity(self._embedder(list(responses)))


def read_prompts(path: Path) -> list[str]:
    """The prompts of a JSON Lines file, duplicates too. Raises ConfigError that names the line at fault."""
    try:
        data = path.read_bytes().removeprefix(b"\xef\xbb\xbf")
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror or error}") from error
    lines = data.split(b"\n" if b"\n" in data else b"\r")  # a CR within a line of JSON is white space
    prompts = [
        _prompt(f"{path}, line {number}", line) for number, line in enumerate(lines, 1) if line.strip()
    ]
    if not prompts:
        raise ConfigError(f"{path}: expected at least one line with `prompt`; got none")
    return prompts


def _prompt(where: str, line: bytes) -> str:
    try:
        row: Any = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError) as error:  # also bytes that are not UTF-8
        raise ConfigError(
            f"{where}: expected a JSON object in UTF-8; {' '.join(str(error).split())}"
        ) from error
    if not isinstance(row, dict):
        raise ConfigError(f"{where}: expected a JSON object; got {type(row).__name__}")
    if "prompt" not in row:
        raise ConfigError(f"{where}: expected the key `prompt`; got {sorted(row)[:5]}")
    prompt = row["prompt"]
    if not isinstance(prompt, str) or not prompt.strip():
        raise ConfigError(f"{where}: `prompt` must be text that is not empty; got {json.dumps(prompt)[:60]}")
    try:
        prompt.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ConfigError(f"{where}: `prompt` must be text; got half a surrogate pair") from error
    return prompt
