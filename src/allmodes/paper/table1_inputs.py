"""The inputs of Table 1: models, prompts, a judge and an embedder, checked before anything is trained."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import torch
from transformers import AutoConfig

from allmodes.errors import ConfigError, one_line
from allmodes.paper.real_models import prepared
from allmodes.paper.table1_rewards import AlikeEmbeddings, BaseLikelihood, Relevance
from allmodes.paper.table1_settings import LIKELIHOOD, RELEVANCE, Settings
from allmodes.runs.files import write_text
from allmodes.tasks import Creative, RewardModel
from allmodes.tasks.creative import SamenessJudge, Scorer
from allmodes.text.config import STAND_IN
from allmodes.text.evaluation.measures import STAND_IN as STAND_IN_EMBEDDER
from allmodes.text.evaluation.measures import Embed, load_embedder, stand_in_embeddings
from allmodes.text.models import load_model, load_tokenizer
from allmodes.text.packaged_models import PACKAGED, packaged_file
from allmodes.text.sampling import chat_prompt
from allmodes.text.stand_ins.creative_stand_in import load_creative_stand_ins, make_creative_stand_ins
from allmodes.text.stand_ins.made_up_answers import SameItem
from allmodes.text.task_kinds.open_questions import make_judge

WILDCHAT, NOVELTY_BENCH = "allenai/WildChat-1M", "yimingzhang/novelty-bench"


@final
@dataclass(frozen=True, kw_only=True)
class Inputs:
    """Names or folders of the models, files of the prompts, and figures of the stand-ins (else empty)."""

    model: str
    reward_model: str
    other_reward_model: str
    embedder: str
    training_prompts: Path
    test_prompts: Path
    stand_ins: dict[str, float]


def prepare(settings: Settings, folder: Path, *, share: float) -> Inputs:
    """Prepare all inputs: build stand-ins, and download prompts into `folder`.

    An existing training.jsonl or test.jsonl in `folder` is used. share: as for `make_creative_stand_ins`.
    Raises ConfigError if prompts cannot be downloaded.
    """
    if settings.is_stand_in:
        place = folder / "stand-ins"
        made = load_creative_stand_ins(place) or make_creative_stand_ins(place, share=share)
        return Inputs(
            model=str(made.base),
            reward_model=str(made.reward_model),
            other_reward_model=str(made.other_reward_model),
            embedder=settings.embedder,
            training_prompts=settings.training_prompts or made.training_prompts,
            test_prompts=settings.test_prompts or made.held_out_prompts,
            stand_ins=made.statistics,
        )
    # Prompts first: a machine without a hub lacks them, and models take longer.
    training = settings.training_prompts or _saved(
        folder / "training.jsonl", lambda path: _training_prompts(settings, path)
    )
    test = settings.test_prompts or _saved(
        folder / "test.jsonl", lambda path: _novelty_bench("curated", path)
    )
    return Inputs(
        model=prepared(settings.model, folder, item="table1"),
        reward_model=settings.reward_model,
        other_reward_model=settings.other_reward_model,
        embedder=prepared(settings.embedder, folder, item="table1"),
        training_prompts=training,
        test_prompts=test,
        stand_ins={},
    )


def check_settings(settings: Settings) -> None:
    """Raise ConfigError that names what the settings need and is missing: models, or an accelerator."""
    models = (settings.model, settings.reward_model, settings.other_reward_model)
    if STAND_IN in models:
        if set(models) != {STAND_IN}:
            raise ConfigError(f"`model` and both reward models: expected all stand-ins or none; got {models}")
        return
    judge = [] if settings.judge is None else [settings.judge.model]
    named = [name for name in (*models, *judge) if name not in (RELEVANCE, LIKELIHOOD)]
    for name in (*named, settings.embedder):
        if name in PACKAGED:
            packaged_file(name)
    others = [name for name in named if name not in PACKAGED]
    check_models(others, item="table1", on_accelerator=settings.needs_accelerator)


def check_models(names: Sequence[str], *, item: str, on_accelerator: bool) -> None:
    """Raise ConfigError that names all that is missing: an accelerator, or models that cannot be found."""
    wanted = f"{item}: expected {', '.join(names)} in folders, on the model hub or in its cache"
    if on_accelerator and not torch.cuda.is_available():
        raise ConfigError(f"{wanted}, and a CUDA accelerator; got no accelerator")
    missing = [name for name in names if not _is_there(name)]
    if missing:
        raise ConfigError(f"{wanted}; got no {', no '.join(missing)}")


def _is_there(name: str) -> bool:
    try:
        AutoConfig.from_pretrained(name, trust_remote_code=False)
    except (OSError, ValueError):
        return False
    return True


def sameness(settings: Settings, task: Creative) -> Callable[[str, str], bool]:
    """Whether two responses are the same answer: by the task's rule, or for stand-ins by the item they name.

    NoveltyBench's rule would treat the generated answers "Maybe fig." and "Maybe plum." as the same.
    """
    is_made_up = settings.is_stand_in and settings.judge is None
    return SameItem().same if is_made_up else task.same


def find_judge(settings: Settings, embed: Embed) -> SamenessJudge | None:
    """The judge of long responses; where rewards are stand-ins, without one of its own, the embedder's."""
    if settings.judge is None and settings.has_made_up_rewards:
        return AlikeEmbeddings(embed)
    return make_judge(settings.judge)


def find_scorer(name: str, settings: Settings, inputs: Inputs, embed: Embed) -> Scorer:
    """A reward model by its name, or what stands in for it."""
    if name == RELEVANCE:
        return Relevance(embed)
    if name == LIKELIHOOD:
        return BaseLikelihood(
            load_model(inputs.model),
            load_tokenizer(inputs.model),
            chat_template=settings.chat_template,
            precision=settings.precision,
            batch_size=settings.reward_batch,
        )
    return RewardModel(name, batch_size=settings.reward_batch)


def find_embedder(settings: Settings, place: str) -> tuple[Embed, str]:
    """The embedder at `place`, and its name: the stand-in where sentence-transformers is missing."""
    embed = load_embedder(place)
    return (stand_in_embeddings, STAND_IN_EMBEDDER) if isinstance(embed, str) else (embed, settings.embedder)


def english_first_turns(
    chats: Iterable[dict[str, Any]], fits: Callable[[str], bool], *, count: int
) -> list[str]:
    """The first `count` distinct prompts that fit, of the first turns of WildChat's chats in English."""
    prompts: dict[str, None] = {}
    for chat in chats:
        turns = chat["conversation"]
        if chat["language"] != "English" or not turns or turns[0]["role"] != "user":
            continue
        prompt = turns[0]["content"]
        if prompt.strip() and prompt not in prompts and fits(prompt):
            prompts[prompt] = None
            if len(prompts) == count:
                break
    return list(prompts)


def _training_prompts(settings: Settings, path: Path) -> list[str]:
    if settings.training_source == "novelty-bench":
        return _novelty_bench("wildchat", path)
    return wildchat_prompts(settings, path)


def wildchat_prompts(settings: Settings, path: Path) -> list[str]:
    """The first prompts of WildChat in English, in the settings' number and length; for the file `path`."""
    count = settings.max_training_prompts
    if count is None:
        raise ConfigError(f"`max_training_prompts`: expected how many of {WILDCHAT} to take; got None")
    tokenizer = load_tokenizer(settings.model)

    def fits(prompt: str) -> bool:
        if settings.max_prompt_tokens is None:
            return True
        text = chat_prompt(tokenizer, prompt, **settings.chat_template)
        return len(tokenizer.encode(text, add_special_tokens=False)) <= settings.max_prompt_tokens

    return english_first_turns(_from_hub(WILDCHAT, path, split="train", streaming=True), fits, count=count)


def _novelty_bench(split: str, path: Path) -> list[str]:
    return list(dict.fromkeys(row["prompt"] for row in _from_hub(NOVELTY_BENCH, path, split=split)))


def _from_hub(name: str, path: Path, **where: Any) -> Any:
    from datasets import load_dataset

    try:
        return load_dataset(name, **where)
    except Exception as error:  # any error of the hub, the network or the disk
        file = {"curated": "curated.jsonl", "wildchat": "wildchat-1k.jsonl"}.get(str(where.get("split")))
        own = "" if file is None else f": data/{file} of github.com/novelty-bench/novelty-bench"
        raise ConfigError(
            f"table1: expected the prompts of {name} from the hub, or {path}, JSON Lines with `prompt`{own}; "
            f"got {one_line(error)}"
        ) from error


def _saved(path: Path, prompts: Callable[[Path], list[str]]) -> Path:
    if not path.exists():
        write_text(path, "".join(json.dumps({"prompt": prompt}) + "\n" for prompt in prompts(path)))
    return path
