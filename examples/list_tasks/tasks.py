"""List tasks over people's names, in the manner of ParallelBench's "waiting line" (furiosa-ai/ParallelBench).

A prompt asks for one operation on a list of full names; the answer is the new list. The names, the wordings and
the split are this project's own: nothing is taken from ParallelBench's files. What is kept is the idea: `copy` can
be written in one parallel step, while the entries of `shuffle` and `insert_any` depend on each other, so that tokens
committed together may repeat or drop a person.

Held-out split: a fixed fifth of all (first, last) pairs never occurs in training. Evaluation lists are made of
held-out pairs only. Within one list no first name and no last name occurs twice.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

SPLIT_SEED = 20261123
HELD_OUT_FRACTION = 0.2
LENGTHS = (3, 4, 5, 6)

_FIRST_STARTS = ("Al", "Be", "Cor", "Da", "El", "Fi", "Gar", "Hol", "Ja", "Ka", "Lo", "Mar", "Ni", "Or", "Ra", "Ti")
_LAST_STARTS = (
    *("Ash", "Birch", "Clay", "Dun", "East", "Fern", "Glen", "Heath"),
    *("Iron", "Kirk", "Lind", "Moss", "North", "Oak", "Pine", "Stone"),
)
FIRST_NAMES = tuple(start + end for start in _FIRST_STARTS for end in ("bin", "den", "la", "mis"))
LAST_NAMES = tuple(start + end for start in _LAST_STARTS for end in ("brook", "field", "ley", "wick"))

WORDINGS: dict[str, tuple[str, ...]] = {
    "copy": ("Copy the line :", "Write the same list again :", "Repeat this list :"),
    "reverse": ("Reverse the line :", "Write the list backwards :", "Turn this list around :"),
    "sort": ("Sort the line :", "Write the list in alphabetical order :", "Put this list in order :"),
    "insert": ("Insert {name} at position {index} :", "{name} joins the line at position {index} :"),
    "remove": ("Remove the person at position {index} :", "The person at position {index} leaves the line :"),
    "replace": ("Replace position {index} with {name} :", "{name} takes the place at position {index} :"),
    "shuffle": ("Shuffle the line :", "Write the list in another order :", "Mix this list :"),
    "insert_any": ("Insert {name} in the line :", "{name} joins the line :"),
}
TASKS: tuple[str, ...] = tuple(WORDINGS)


@dataclass(frozen=True)
class Example:
    """One task instance: `prompt` is the user's text, `answer` a right one (`shuffle`, `insert_any`: one of many)."""

    task: str
    prompt: str
    answer: str
    people: tuple[str, ...]
    target: tuple[str, ...]
    name: str  # who comes in (`insert`, `insert_any`, `replace`); drawn but not used by the others


@cache
def split_pairs() -> tuple[tuple[tuple[str, str], ...], tuple[tuple[str, str], ...]]:
    """Return the (training, held-out) pairs of first and last names; a pure function of `SPLIT_SEED`."""
    pairs = [(first, last) for first in FIRST_NAMES for last in LAST_NAMES]
    random.Random(SPLIT_SEED).shuffle(pairs)
    cut = int(len(pairs) * HELD_OUT_FRACTION)
    return tuple(pairs[cut:]), tuple(pairs[:cut])


def draw_people(rng: random.Random, count: int, held_out: bool) -> list[str]:
    """Draw `count` full names of one side of the split; no first and no last name occurs twice."""
    pool = split_pairs()[1 if held_out else 0]
    firsts: set[str] = set()
    lasts: set[str] = set()
    people: list[str] = []
    while len(people) < count:
        first, last = rng.choice(pool)
        if first in firsts or last in lasts:
            continue
        firsts.add(first)
        lasts.add(last)
        people.append(f"{first} {last}")
    return people


def render(people: Sequence[str]) -> str:
    """Write a list the way prompts and answers do: `[Albin Ashley, Tila Oakwick]`."""
    return "[" + ", ".join(people) + "]"


def parse(text: str) -> list[str] | None:
    """Read the text between the last "[" and the next "]" (ParallelBench's rule); None without such a pair."""
    match = re.match(r"([^\]]*)\]", text.rpartition("[")[2]) if "[" in text else None
    return [" ".join(item.split()) for item in match.group(1).split(",")] if match else None


def _shuffled(people: list[str], rng: random.Random) -> list[str]:
    result = list(people)
    while result == people:
        rng.shuffle(result)
    return result


def make_example(task: str, rng: random.Random, *, held_out: bool, length: int | None = None) -> Example:
    """Make one instance of `task`; positions count from 0, as in ParallelBench."""
    size = rng.choice(LENGTHS) if length is None else length
    *people, name = draw_people(rng, size + 1, held_out)
    index = rng.randrange(size + 1 if task.startswith("insert") else size)
    edits: dict[str, Callable[[], list[str]]] = {
        "copy": lambda: list(people),
        "reverse": lambda: people[::-1],
        "sort": lambda: sorted(people),
        "insert": lambda: [*people[:index], name, *people[index:]],
        "remove": lambda: people[:index] + people[index + 1 :],
        "replace": lambda: [*people[:index], name, *people[index + 1 :]],
        "shuffle": lambda: _shuffled(people, rng),
        "insert_any": lambda: [*people[:index], name, *people[index:]],
    }
    target = edits[task]()
    words = rng.choice(WORDINGS[task]).format(name=name, index=index)
    return Example(task, f"{words} {render(people)}", render(target), tuple(people), tuple(target), name)


def make_set(task: str, count: int, seed: int = 0, *, held_out: bool = True) -> list[Example]:
    """Make `count` instances with the list lengths in equal shares; the same arguments give the same set."""
    rng = random.Random(f"{task}/{seed}/{held_out}")
    return [make_example(task, rng, held_out=held_out, length=LENGTHS[i % len(LENGTHS)]) for i in range(count)]


def score(example: Example, text: str) -> bool:
    """Tell whether `text` is a right answer: the exact list; for `shuffle` the same people in another order; for
    `insert_any` the list with the new person at any one place."""
    people = parse(text)
    if people is None:
        return False
    if example.task == "shuffle":
        return Counter(people) == Counter(example.people) and tuple(people) != example.people
    if example.task == "insert_any":
        others = [person for person in people if person != example.name]
        return len(people) == len(others) + 1 and tuple(others) == example.people
    return tuple(people) == example.target


def vocabulary() -> list[str]:
    """Return every word and sign that a prompt or an answer can contain, in a fixed order."""
    text = " ".join(wording for wordings in WORDINGS.values() for wording in wordings)
    words = re.findall(r"[A-Za-z]+", text.replace("{name}", "").replace("{index}", ""))
    digits = [str(index) for index in range(max(LENGTHS) + 1)]
    return list(dict.fromkeys(["[", "]", ",", ":", *digits, *sorted(set(words)), *FIRST_NAMES, *LAST_NAMES]))
