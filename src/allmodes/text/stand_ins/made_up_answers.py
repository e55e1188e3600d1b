"""A made-up world of open questions: many answers to each, and how good they are.

It is what the stand-ins of the creative task are trained on and judged by. Nothing in it is a measurement.
"""

import random
from dataclasses import dataclass
from typing import final

_ZIPF = 1.0  # the answer of rank k is k^-1 as likely as the first
_ON_TOPIC, _FLAWED = 0.75, 0.12  # shares of the base model's answers


@final
@dataclass(frozen=True, kw_only=True)
class Kind:
    """Questions that want the same kind of answer, and the answers from the usual to the unusual."""

    training: tuple[str, ...]
    held_out: tuple[str, ...]
    answers: tuple[str, ...]


@final
@dataclass(frozen=True, kw_only=True)
class Answer:
    """One response: to which kind of question, what it names, how it is worded, and what is wrong with it."""

    text: str
    item: str
    is_on_topic: bool
    is_complete: bool
    is_repetitive: bool
    has_reason: bool


KINDS = (
    Kind(
        training=("Name a fruit.", "Which fruit shall I buy?", "Tell me a fruit that I could eat."),
        held_out=("Suggest a fruit for breakfast.", "What fruit would you pick?"),
        answers=(
            *("apple", "banana", "orange", "cherry", "mango", "pear"),
            *("plum", "kiwi", "fig", "papaya", "lychee", "quince"),
        ),
    ),
    Kind(
        training=("Suggest a name for a cat.", "What shall I call my cat?", "My cat needs a name."),
        held_out=("Find a name for my new cat.", "How would you name a cat?"),
        answers=(
            *("Luna", "Milo", "Felix", "Oscar", "Nala", "Simba"),
            *("Pepper", "Biscuit", "Ziggy", "Olive", "Waffles", "Quark"),
        ),
    ),
    Kind(
        training=(
            "Tell me something to do on a rainy day.",
            "What can I do when it rains?",
            "It rains. Any idea?",
        ),
        held_out=("Suggest something for a rainy day.", "How shall I spend a wet day?"),
        answers=(
            *("read", "sleep", "cook", "paint", "bake bread", "play chess"),
            *("write letters", "sew", "learn Latin", "build a fort", "fold cranes", "mend clocks"),
        ),
    ),
    Kind(
        training=("Name a city.", "Which city shall I visit?", "Tell me a city that I could see."),
        held_out=("Suggest a city for a trip.", "What city would you go to?"),
        answers=(
            *("Paris", "London", "Rome", "Tokyo", "Lisbon", "Vienna"),
            *("Cairo", "Lima", "Oslo", "Hanoi", "Quito", "Tbilisi"),
        ),
    ),
    Kind(
        training=("Name an animal.", "Which animal shall I draw?", "Tell me an animal that you like."),
        held_out=("Suggest an animal for a story.", "What animal would you be?"),
        answers=(
            *("dog", "lion", "horse", "elephant", "fox", "owl"),
            *("otter", "hedgehog", "heron", "octopus", "newt", "pangolin"),
        ),
    ),
    Kind(
        training=("Name a colour.", "Which colour shall I paint my door?", "Tell me a colour for my room."),
        held_out=("Suggest a colour for a bike.", "What colour would you wear?"),
        answers=(
            *("blue", "red", "green", "yellow", "white", "purple"),
            *("teal", "amber", "coral", "indigo", "sage", "ochre"),
        ),
    ),
    Kind(
        training=("Name a gift.", "What shall I give my friend?", "Tell me a gift for my sister."),
        held_out=("Suggest a gift for a neighbour.", "What gift would you make?"),
        answers=(
            *("a book", "flowers", "chocolate", "a mug", "a scarf", "a candle"),
            *("a puzzle", "honey", "a kite", "a globe", "seeds", "a harp"),
        ),
    ),
    Kind(
        training=("Name an instrument.", "Which instrument shall I learn?", "Tell me an instrument to play."),
        held_out=("Suggest an instrument for a band.", "What instrument would you choose?"),
        answers=(
            *("piano", "guitar", "violin", "drums", "flute", "cello"),
            *("trumpet", "banjo", "oboe", "lute", "zither", "bagpipes"),
        ),
    ),
)
TRAINING = tuple(question for kind in KINDS for question in kind.training)
HELD_OUT = tuple(question for kind in KINDS for question in kind.held_out)
_KIND_OF = {question: kind for kind in KINDS for question in (*kind.training, *kind.held_out)}
_ITEMS = tuple(sorted((item for kind in KINDS for item in kind.answers), key=len, reverse=True))
_FRAMES = ("{}", "{}", "Maybe {}", "How about {}", "I suggest {}", "Surely {}")
_REASONS = ("it is lovely", "I like it", "it never fails", "everybody smiles", "it is rare", "why not")


def draw_answer(question: str, generator: random.Random, *, is_even: bool = False) -> Answer:
    """A made-up response of the base model. is_even: the rare as often as the usual."""
    kind = _KIND_OF[question]
    topical, flawed = (0.6, 0.3) if is_even else (_ON_TOPIC, _FLAWED)
    is_on_topic = generator.random() < topical
    home = kind if is_on_topic else generator.choice([other for other in KINDS if other is not kind])
    weights = [1.0 if is_even else rank**-_ZIPF for rank in range(1, len(home.answers) + 1)]
    item = generator.choices(home.answers, weights)[0]
    is_repetitive, is_cut = generator.random() < flawed / 2, generator.random() < flawed / 2
    has_reason = generator.random() < 0.4
    text = generator.choice(_FRAMES).format(f"{item} {item} {item}" if is_repetitive else item)
    if has_reason:
        text += f", {generator.choice(_REASONS)}"
    text = text[0].upper() + text[1:]
    return Answer(
        text=text if is_cut else f"{text}.",
        item=item,
        is_on_topic=is_on_topic,
        is_complete=not is_cut,
        is_repetitive=is_repetitive,
        has_reason=has_reason,
    )


def quality(question: str, answer: Answer) -> float:
    """How good a response is, from 0 to 4.

    2 for an answer to the question, of which each kind has four that are worth 1 more; 0.4 for a reason, 0.3
    for a whole sentence, 0.3 for naming the thing once.
    """
    best = best_answers(question)
    topic = (2 + (answer.item in best)) * answer.is_on_topic
    return topic + 0.4 * answer.has_reason + 0.3 * answer.is_complete + 0.3 * (not answer.is_repetitive)


def best_answers(question: str) -> tuple[str, ...]:
    """The answers that are worth most: two usual and two unusual ones."""
    answers = _KIND_OF[question].answers
    return tuple(answers[rank] for rank in (1, 4, 7, 10))


def named(response: str) -> str | None:
    """What a response names first of all that the world knows, None for nothing."""
    text = response.casefold()
    found = [(text.find(item.casefold()), -len(item), item) for item in _ITEMS if item.casefold() in text]
    return min(found)[2] if found else None


@final
class SameItem:
    """A stand-in for a judge: two responses say the same if they name the same thing."""

    def same(self, first: str, second: str) -> bool:
        """Whether both name the same, or neither anything and their texts are equal."""
        one, other = named(first), named(second)
        return first == second if one is None and other is None else one == other
