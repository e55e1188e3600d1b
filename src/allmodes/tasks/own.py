"""A user's own task or reward function, with checks of its results; errors name the user's code.

The code is the user's and is trusted: it runs in this process.
"""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from numbers import Real
from pathlib import Path
from typing import Any, final

from allmodes.errors import ConfigError, InputError, shown
from allmodes.runs.user_code import call
from allmodes.tasks.creative import read_prompts
from allmodes.tasks.task import Task, WritesExamples, check_same_length

_METHODS = ("parse", "rewards", "known_answers")


def own_task(make: Any, *, name: str, settings: Mapping[str, Any]) -> Task:
    """Make a task from a user's class or function and `settings`, and try all of its methods once.

    name: `module:object`, for messages. Raises InputError, which names the object, what was expected and what
    was got: here for what makes no task, later for a method that raises or gives something else than it must.

    >>> class Colours:
    ...     name, prompts = "colours", ("Name a colour.",)
    ...     def parse(self, response):
    ...         return response.strip() or None
    ...     def rewards(self, prompts, responses):
    ...         return [float(self.parse(response) in self.known_answers("")) for response in responses]
    ...     def known_answers(self, prompt):
    ...         return ("red", "blue")
    ...
    >>> task = own_task(Colours, name="colours:Colours", settings={})
    >>> task.rewards(task.prompts, [" blue"])
    [1.0]
    """
    where = f"`{name}`"
    if not callable(make):
        raise ConfigError(f"{where}: expected a class or a function that makes a task; got {shown(make)}")
    made = call(where, make, **settings)
    task = (OwnWritingTask if isinstance(made, WritesExamples) else OwnTask)(made, where=where)
    _try_once(task)
    return task


class OwnTask:
    """A user's task, each of whose results is checked. where: begins the messages."""

    def __init__(self, task: Any, *, where: str) -> None:
        missing = [part for part in ("name", "prompts") if not hasattr(task, part)]
        missing += [part for part in _METHODS if not callable(getattr(task, part, None))]
        if missing:
            raise ConfigError(
                f"{where}: expected a task with name, prompts, {', '.join(_METHODS)}; got "
                f"{type(task).__name__} without {', '.join(missing)}"
            )
        self._task, self._where = task, where
        self.name = _text(f"{where}: `name`", task.name)
        self.prompts = _texts(f"{where}: `prompts`", task.prompts)
        test_prompts = getattr(task, "test_prompts", ())
        self.test_prompts = _texts(f"{where}: `test_prompts`", test_prompts) if test_prompts else ()
        if not all(prompt.strip() for prompt in (*self.prompts, *self.test_prompts)):
            raise ConfigError(f"{where}: `prompts`: expected texts; got one that is empty")
        both = next((prompt for prompt in self.test_prompts if prompt in self.prompts), None)
        if both is not None:
            raise ConfigError(f"{where}: `test_prompts`: expected other prompts; got {shown(both)} in both")

    def parse(self, response: str) -> str | None:
        """The answer that the task reads in a response, or None."""
        return _parsed(f"{self._where}: `parse`", self._task.parse, response)

    def rewards(self, prompts: Sequence[str], responses: Sequence[str]) -> list[float | None]:
        """The task's reward of each response to its prompt."""
        return _rewarded(f"{self._where}: `rewards`", self._task.rewards, prompts, responses)

    def known_answers(self, prompt: str) -> tuple[str, ...] | None:
        """The answers of the highest reward that the task knows, or None."""
        where = f"{self._where}: `known_answers`"
        answers = call(where, self._task.known_answers, prompt)
        return None if answers is None else _texts(where, answers)


@final
class OwnWritingTask(OwnTask):
    """A user's task that also writes examples of its format, for a warm start."""

    def write(self, prompt: str, answer: str) -> str:
        """A response with an answer."""
        where = f"{self._where}: `write`"
        return _text(where, call(where, self._task.write, prompt, answer))

    def near_misses(self, prompt: str) -> tuple[str, ...]:
        """Responses in nearly the right format."""
        where = f"{self._where}: `near_misses`"
        return _texts(where, call(where, self._task.near_misses, prompt))


@final
class RewardFunction:
    """Prompts from a file, and a user's function that scores responses.

    path: JSON Lines in UTF-8, one object with `prompt` a line; other keys are not read. function: (prompts,
    responses) → a number or None for each. outcome: text → its answer or None. answer_key: instead of it,
    `function` gives for each response an object with `reward` and this key, whose value is the answer. With
    neither a response is its own answer, without white space around it. function_name, outcome_name:
    `module:object`, for messages. A prompt that comes again is left out and counted in `duplicates`. Both
    functions are tried once.

    Raises ConfigError for the file and for what cannot be called, and InputError for a function that raises
    or gives something else.
    """

    name = "reward"

    def __init__(
        self,
        path: Path,
        *,
        function: Callable[..., Any],
        function_name: str,
        outcome: Callable[..., Any] | None = None,
        outcome_name: str = "",
        answer_key: str | None = None,
    ) -> None:
        everything = read_prompts(path)
        self.prompts = tuple(dict.fromkeys(everything))
        self.duplicates = len(everything) - len(self.prompts)
        self._function, self._where = function, f"`{function_name}`"
        self._outcome, self._outcome_where = outcome, f"`{outcome_name}`"
        self._key = answer_key
        self._answers: dict[str, str | None] = {}  # by response, of the last rewards
        for where, given in ((self._where, function), (self._outcome_where, outcome)):
            if given is not None and not callable(given):
                raise ConfigError(f"{where}: expected a function; got {shown(given)}")
        _try_once(self)

    def parse(self, response: str) -> str | None:
        """What `outcome` gives, or the response without white space around it; None if nothing is left."""
        if self._key is not None:
            if response not in self._answers:  # mostly it has just been scored
                self.rewards(self.prompts[:1], [response])
            return self._answers[response]
        if self._outcome is None:
            return response.strip() or None
        return _parsed(self._outcome_where, self._outcome, response)

    def rewards(self, prompts: Sequence[str], responses: Sequence[str]) -> list[float | None]:
        """What the function gives."""
        key = self._key
        if key is None:
            return _rewarded(self._where, self._function, prompts, responses)
        given = _given(self._where, self._function, prompts, responses)
        answers = [_answer(self._where, one, key) for one in given]
        found = _rewards(self._where, [one["reward"] for one in given])
        self._answers = dict(zip(responses, answers, strict=True))
        for response, answer in zip(responses, answers, strict=True):
            if self._answers[response] != answer:
                raise InputError(
                    f"{self._where}: expected one `{key}` of a response, whatever its prompt; got "
                    f"{shown(answer)} and {shown(self._answers[response])} for {shown(response)}"
                )
        return found

    def known_answers(self, prompt: str) -> None:
        """None: a function does not say."""


def _answer(where: str, given: Any, key: str) -> str | None:
    """The answer in what a function gives for a response."""
    if not isinstance(given, Mapping) or not {"reward", key} <= set(given):
        raise InputError(
            f"{where}: expected an object with `reward` and `{key}` for each response, as `task.outcome` = "
            f"{key!r} says; got {shown(given)}"
        )
    return None if given[key] is None else _text(f"{where}: `{key}`", given[key], also=" or None")


def _try_once(task: Task) -> None:
    """Call everything before a model is loaded: what is always wrong is said at once."""
    prompt = task.prompts[0]
    task.parse("")
    task.rewards([prompt, prompt], ["", ""])
    answers = task.known_answers(prompt)
    if isinstance(task, OwnWritingTask):
        task.near_misses(prompt)
        if answers is not None:
            task.write(prompt, answers[0])


def _parsed(where: str, function: Callable[..., Any], response: str) -> str | None:
    try:
        answer = call(where, function, response)
        return None if answer is None else _text(where, answer, also=" or None")
    except InputError as error:
        raise InputError(f"{error}, for the response {shown(response)}") from error


def _rewarded(
    where: str, function: Callable[..., Any], prompts: Sequence[str], responses: Sequence[str]
) -> list[float | None]:
    """A finite number or None for each response; an array or tensor is as good as a list."""
    return _rewards(where, _given(where, function, prompts, responses))


def _given(
    where: str, function: Callable[..., Any], prompts: Sequence[str], responses: Sequence[str]
) -> Sequence[Any]:
    """What a function gives, one for each response."""
    check_same_length(prompts, responses)
    given = call(where, function, list(prompts), list(responses))
    given = given.tolist() if hasattr(given, "tolist") else given
    if not isinstance(given, list | tuple):
        raise InputError(f"{where}: expected a list of {len(responses)} rewards; got {shown(given)}")
    if len(given) != len(responses):
        raise InputError(
            f"{where}: expected {len(responses)} rewards, one for each response; got {len(given)}"
        )
    return given


def _rewards(where: str, given: Sequence[Any]) -> list[float | None]:
    return [None if value is None else _reward(where, place, value) for place, value in enumerate(given)]


def _reward(where: str, place: int, value: Any) -> float:
    value = value.item() if hasattr(value, "item") else value  # a number of numpy's or torch's
    try:
        reward = float(value) if isinstance(value, Real) else math.nan
    except (OverflowError, ValueError):
        reward = math.nan
    if not math.isfinite(reward):
        raise InputError(
            f"{where}: expected finite numbers or None; got {shown(value)} of type {type(value).__name__} "
            f"at {place}"
        )
    return reward


def _texts(where: str, given: Any) -> tuple[str, ...]:
    """Different texts, at least one."""
    if isinstance(given, str) or not isinstance(given, Sequence) or not given:
        raise InputError(f"{where}: expected a list of texts, at least one; got {shown(given)}")
    texts = tuple(_text(where, text) for text in given)
    twice = next((text for text, count in Counter(texts).items() if count > 1), None)
    if twice is not None:
        raise InputError(f"{where}: expected each text once; got {shown(twice)} twice")
    return texts


def _text(where: str, given: Any, *, also: str = "") -> str:
    """A text that a file can hold."""
    if not isinstance(given, str):
        raise InputError(f"{where}: expected a text{also}; got {shown(given)} of type {type(given).__name__}")
    try:
        given.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InputError(f"{where}: expected a text{also}; got half a surrogate pair") from error
    return given
