"""MARA's Table 1: quality and diversity of the answers to open questions, for nine methods.

    from dataclasses import replace
    from allmodes.paper.table1 import table1
    from allmodes.paper.table1_settings import PAPER

    settings = replace(PAPER, model="models/qwen", training_prompts=Path("train.jsonl"), steps=100)
    table = table1(settings, Path("runs/table1"))

Models are Hugging Face names or folders; prompts JSON Lines with `prompt`, as NoveltyBench's are. Each row of
each seed has a folder of its own: metrics.jsonl and checkpoints of its training, samples.json with the
trained model's responses, result.json with its figures. A call with the same settings and folder resumes
where a killed one stopped. Source: MARA, section 6.2, appendix C.3, Tables 1 and 3 to 5.
"""

import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, final

from allmodes.metrics import bootstrap_sem, partition, summarise, welch_test
from allmodes.paper.table1_inputs import (
    Inputs,
    check_settings,
    find_embedder,
    find_judge,
    find_scorer,
    prepare,
    sameness,
)
from allmodes.paper.table1_settings import BASE, ENSEMBLE, NAMES, TRAINED, Row, Settings, text_config
from allmodes.runs.experiment import refuse_other_settings
from allmodes.runs.folder import RunFolder
from allmodes.runs.provenance import file_sha256
from allmodes.runs.seals import read_sealed_json, seal_json
from allmodes.tasks import Creative
from allmodes.tasks.creative import Scorer, read_prompts
from allmodes.text.adapters import merged
from allmodes.text.config import TextConfig
from allmodes.text.evaluation.ensemble import ensemble_weights
from allmodes.text.evaluation.evaluate import Measures, measure_prompt
from allmodes.text.evaluation.generations import Generation
from allmodes.text.models import autocast, free_memory, load_model, load_tokenizer, quieten
from allmodes.text.reporting.results import Arm
from allmodes.text.sampling import sample_responses
from allmodes.text.training import train, usable_prompts

IN_DIST, OUT_DIST = "in_dist_reward", "out_dist_reward"
METRICS = (IN_DIST, OUT_DIST, "ead", "semantic_diversity", "distinct_classes", "utility")
_RLOO = "RLOO"


@final
@dataclass(frozen=True, kw_only=True)
class Figure:
    """One cell. mean: over prompts and seeds; sem: bootstrap standard error over prompts, NaN for one prompt.

    prompts: each prompt's mean over seeds. seeds: each seed's mean over prompts.
    """

    mean: float
    sem: float
    prompts: tuple[float, ...]
    seeds: tuple[float, ...]


@final
@dataclass(frozen=True, kw_only=True)
class Table:
    """The finished table. rows: name → metric → figure. unscored: shares of responses without a reward.

    embedder: the one that was used. stand_ins: figures of the models built at run time, else empty.
    """

    rows: dict[str, dict[str, Figure]]
    unscored: dict[str, float]
    embedder: str
    stand_ins: dict[str, float]

    def p_greater(self, row: str, other: str, metric: str) -> float:
        """One-sided p-value of Welch's test over prompts that `row` is not above `other`; NaN for too few."""
        return welch_test(self.rows[row][metric].prompts, self.rows[other][metric].prompts)


def table1(
    settings: Settings,
    folder: Path,
    *,
    share: float = 1.0,
    advance: Callable[[int], object] = lambda done: None,
) -> Table:
    """Train every row for every seed, sample, score and measure; results in `folder` are reused.

    The unlikeliness reward of He et al. needs rewards that are not negative: for its training only, the
    lowest reward of the base model's samples is subtracted, and rewards below it become 0. The ensemble is
    the mean of RLOO's first and last checkpoint. share: of the stand-ins' own training, below 1 in tests
    alone. advance: called with 1 after each training step.

    Raises ConfigError if a model, prompts or an accelerator is missing, before anything is trained; RunError
    if `folder` holds a table of other settings or prompts.
    """
    check_settings(settings)
    quieten()
    with RunFolder(folder):
        inputs = prepare(settings, folder, share=share)
        for prompts in (inputs.training_prompts, inputs.test_prompts):
            read_prompts(prompts)  # errors in a file are reported before anything is trained
        _check_same(settings, share, inputs, folder / "settings.json")
        work = _Work(settings, folder, inputs, advance)
        cells = [(name, seed) for seed in settings.seeds for name in NAMES]
        for name, seed in cells:
            if not work.samples_path(name, seed).exists():
                work.sample(name, seed)
        work.forget_models()  # the second reward model may need their memory
        for name, seed in cells:
            if not work.result_path(name, seed).exists():
                work.measure(name, seed)
        return work.table()


def _check_same(settings: Settings, share: float, inputs: Inputs, path: Path) -> None:
    prompts = {"training": file_sha256(inputs.training_prompts), "test": file_sha256(inputs.test_prompts)}
    everything = {**asdict(settings), "share": share, "prompts": prompts}
    now = json.loads(json.dumps(everything, default=_plain))
    if not path.exists():
        seal_json(path, now)
        return
    refuse_other_settings(path.parent, then=read_sealed_json(path), now=now)


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value.model_dump()


@final
class _Floored:
    """Rewards above a floor, and 0 below it."""

    def __init__(self, scorer: Scorer, floor: float) -> None:
        self._scorer, self._floor = scorer, floor

    def scores(self, prompts: Sequence[str], responses: Sequence[str]) -> list[float | None]:
        return [
            None if score is None else max(score - self._floor, 0.0)
            for score in self._scorer.scores(prompts, responses)
        ]


@final
class _Work:
    """One folder's table while it is computed."""

    def __init__(
        self, settings: Settings, folder: Path, inputs: Inputs, advance: Callable[[int], object]
    ) -> None:
        self._settings, self._folder, self._inputs, self._advance = settings, folder, inputs, advance
        self._embed, self._embedder = find_embedder(settings, inputs.embedder)

    @cached_property
    def _tokenizer(self) -> Any:
        return load_tokenizer(self._inputs.model)

    @cached_property
    def _reward_model(self) -> Scorer:
        return self._scorer(self._inputs.reward_model)

    def _scorer(self, name: str) -> Scorer:
        return find_scorer(name, self._settings, self._inputs, self._embed)

    @cached_property
    def _exam(self) -> Creative:
        """Test prompts, the second reward model and the judge."""
        return Creative(
            self._inputs.test_prompts,
            reward_model=self._scorer(self._inputs.other_reward_model),
            judge=find_judge(self._settings, self._embed),
        )

    def forget_models(self) -> None:
        """Release the first reward model."""
        self.__dict__.pop("_reward_model", None)
        free_memory()

    def _path(self, name: str, seed: int) -> Path:
        return self._folder / f"{re.sub('[^A-Za-z0-9]+', '-', name).strip('-')}-{seed}"

    def samples_path(self, name: str, seed: int) -> Path:
        """The trained model's responses."""
        return self._path(name, seed) / "samples.json"

    def result_path(self, name: str, seed: int) -> Path:
        """Its figures."""
        return self._path(name, seed) / "result.json"

    def _task(self, scorer: Scorer) -> Creative:
        settings = self._settings
        return Creative(
            self._inputs.training_prompts, reward_model=scorer, max_prompts=settings.max_training_prompts
        )

    def sample(self, name: str, seed: int) -> None:
        """Train the row, and let its model answer training and test prompts."""
        settings = self._settings
        model = self._model(name, seed)
        task = self._task(self._reward_model)
        prompts = {
            "training": usable_prompts(self._config(TRAINED[0]), task, self._tokenizer)[
                : settings.sampled_prompts
            ],
            "test": list(
                Creative(
                    self._inputs.test_prompts,
                    reward_model=self._reward_model,
                    max_prompts=settings.max_test_prompts,
                ).prompts
            ),
        }
        with autocast(settings.precision):
            responses = {
                part: sample_responses(
                    model,
                    self._tokenizer,
                    prompts[part],
                    count=settings.generations,
                    max_tokens=settings.max_tokens if part == "training" else settings.max_test_tokens,
                    temperature=1.0,
                    seed=seed,
                    batch_size=settings.sampling_batch,
                    chat_template=settings.chat_template,
                )
                for part in prompts
            }
        rewards = [
            task.rewards([prompt] * len(answers), answers)
            for prompt, answers in zip(prompts["training"], responses["training"], strict=True)
        ]
        document = {"row": name, "seed": seed, "rewards": rewards} | {
            part: [
                {"prompt": prompt, "responses": answers}
                for prompt, answers in zip(prompts[part], responses[part], strict=True)
            ]
            for part in prompts
        }
        seal_json(self.samples_path(name, seed), document)
        del model
        free_memory()

    def _model(self, name: str, seed: int) -> Any:
        if name == BASE:
            return load_model(self._inputs.model)
        if name == ENSEMBLE:
            out = self._path(name, seed) / "model"
            if not out.exists():
                checkpoints = sorted(
                    (self._path(_RLOO, seed) / "trainer").glob("checkpoint-*"),
                    key=lambda path: int(path.name.rpartition("-")[2]),
                )
                ensemble_weights(checkpoints[0], checkpoints[-1], out, weight=0.5)
            return load_model(str(out))
        row = next(row for row in TRAINED if row.name == name)
        with RunFolder(self._path(name, seed)) as run:
            return self._train(row, seed, run)

    def _train(self, row: Row, seed: int, run: RunFolder) -> Any:
        config = self._config(row)
        scorer: Scorer = self._reward_model
        if not config.methods.make(row.method).takes_negative_rewards:
            scorer = _Floored(scorer, self._lowest_reward(seed))
        arm = Arm(trainer=row.trainer, kl=row.kl, method=row.method, beta=self._settings.beta)
        trainer = train(
            config,
            self._task(scorer),
            arm,
            seed=seed,
            model=self._inputs.model,
            folder=run,
            on_step=lambda _: self._advance(1),
            keep_checkpoints=row.name == _RLOO,  # for the ensemble
        )
        return merged(trainer.model, source=self._inputs.model)

    def _config(self, row: Row) -> TextConfig:
        inputs = self._inputs
        return text_config(
            self._settings,
            row,
            model=inputs.model,
            prompts=inputs.training_prompts,
            reward_model=inputs.reward_model,
        )

    def _lowest_reward(self, seed: int) -> float:
        """The lowest reward of the base model's samples."""
        rewards = read_sealed_json(self.samples_path(BASE, seed))["rewards"]
        return min((reward for row in rewards for reward in row if reward is not None), default=0.0)

    def measure(self, name: str, seed: int) -> None:
        """Score the answers to the test prompts with the second reward model, and measure them."""
        samples = read_sealed_json(self.samples_path(name, seed))
        measures = Measures(
            tokenise=lambda text: self._tokenizer.encode(text, add_special_tokens=False),
            vocabulary_size=self._settings.vocabulary_size,
            embed=self._embed,
            ks=(),
        )
        prompts, scored = [], []
        for row in samples["test"]:
            responses = row["responses"]
            rewards = self._exam.rewards([row["prompt"]] * len(responses), responses)
            # Responses of one class of the judge are one answer, even if their wording differs.
            classes = partition(responses, sameness(self._settings, self._exam))
            generations = [
                Generation(
                    response=response,
                    reward=reward,
                    # Utility needs scores of 0 or more, and log-likelihoods are negative.
                    score=None if self._settings.has_made_up_rewards else reward,
                    has_answer=True,
                    answer=str(which),
                    correct=None,
                )
                for response, reward, which in zip(responses, rewards, classes, strict=True)
            ]
            values = measure_prompt(generations, measures)
            if "reward" in values:
                values[OUT_DIST] = values.pop("reward")
            prompts.append({metric: values[metric] for metric in METRICS if metric in values})
            scored += [reward is not None for reward in rewards]
        training = [[reward for reward in row if reward is not None] for row in samples["rewards"]]
        document = {
            "row": name,
            "seed": seed,
            "unscored": 1 - sum(scored) / len(scored),
            IN_DIST: [math.fsum(row) / len(row) for row in training if row],
            "prompts": prompts,
        }
        seal_json(self.result_path(name, seed), document)

    def table(self) -> Table:
        """All results together."""
        rows, unscored = {}, {}
        for name in NAMES:
            results = [read_sealed_json(self.result_path(name, seed)) for seed in self._settings.seeds]
            rows[name] = {
                metric: _figure([[row.get(metric) for row in result["prompts"]] for result in results])
                for metric in METRICS[1:]
            }
            rows[name][IN_DIST] = _figure([result[IN_DIST] for result in results])
            unscored[name] = summarise([result["unscored"] for result in results]).mean
        return Table(rows=rows, unscored=unscored, embedder=self._embedder, stand_ins=self._inputs.stand_ins)


def _figure(seeds: Sequence[Sequence[float | None]]) -> Figure:
    """A figure from each seed's value of each prompt; None where a prompt has none."""
    by_prompt = [[value for value in column if value is not None] for column in zip(*seeds, strict=False)]
    prompts = tuple(math.fsum(column) / len(column) for column in by_prompt if column)
    means = [[value for value in seed if value is not None] for seed in seeds]
    return Figure(
        mean=summarise(prompts).mean if prompts else math.nan,
        sem=bootstrap_sem(prompts, resamples=2000) if prompts else math.nan,
        prompts=prompts,
        seeds=tuple(math.fsum(row) / len(row) if row else math.nan for row in means),
    )
