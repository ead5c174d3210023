"""The checker: what must hold between all that was asked and acknowledged and the history that came of it. Pure.

An acknowledged request is in the history exactly once and whole; one that was not acknowledged is there once and whole
or not at all; nothing is there that nobody asked for; who was answered before another asked comes before it; each
answer is the one that the history before it makes, and the same whenever it is asked for again. Where the store may
lose its last second, what it lost is an end of what it had.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from .record import Asked, Cut, Happened


class Violation(NamedTuple):
    """What is wrong, in a word that can be counted, and with what."""

    what: str
    detail: str


def check(asked: Sequence[Asked], happened: Sequence[Happened], cuts: Sequence[Cut] = ()) -> list[Violation]:
    """All that is wrong with a history."""
    known = {each.id: each for each in asked}
    places = defaultdict[str, list[int]](list)
    for place, event in enumerate(happened):
        places[event.id].append(place)
    wrong = [Violation("invented", f"event {place + 1} is nobody's") for place in places.pop("", [])]
    wrong += [Violation("invented", f"{name} was never asked") for name in places if name not in known]
    for each in asked:
        found = [happened[place] for place in places[each.id]]
        wrong += _counted(each, len(found), cuts)
        wrong += [Violation("half applied", each.id) for event in found if not event.whole]
        wrong += _answered(each, found)
    lost = {each.id for each in asked if each.first and not places[each.id]}
    return wrong + _ordered(asked, places) + _an_end(asked, lost, cuts)


def lost(asked: Sequence[Asked], happened: Sequence[Happened]) -> set[str]:
    """What was acknowledged and is not in the history."""
    return {each.id for each in asked if each.first} - {event.id for event in happened}


def disagreements(views: Mapping[str, Mapping[str, object]]) -> list[Violation]:
    """What those who look at one run see differently; `views`: by who looks, then by what is looked at."""
    wrong = []
    for what in sorted({what for view in views.values() for what in view}):
        seen = [(who, view[what]) for who, view in views.items() if what in view]
        wrong += [Violation("disagreeing", f"{what}: {seen[0][0]} and {who}") for who, it in seen if it != seen[0][1]]
    return wrong


def _counted(each: Asked, times: int, cuts: Sequence[Cut]) -> list[Violation]:
    if times > 1:
        return [Violation("doubled", f"{each.id}, {times} times")]
    if times and not each.whole:
        return [Violation("half applied", f"{each.id} was never sent whole")]
    if times and not each.first and any(told.refused for told in each.told):
        return [Violation("refused and done", each.id)]
    if (
        not times
        and each.first
        and not any(cut.flushed <= each.first.at and each.first.sent <= cut.back for cut in cuts)
    ):
        return [Violation("lost", each.id)]
    return []


def _answered(each: Asked, found: Sequence[Happened]) -> list[Violation]:
    answers = [told.body for told in each.told if told.done]
    wrong = [
        Violation("answered otherwise", f"{each.id}, try {n + 1}") for n, it in enumerate(answers) if it != answers[0]
    ]
    if answers and len(found) == 1 and found[0].answer not in {None, answers[0]}:
        wrong.append(Violation("answer of another history", f"{each.id}: {answers[0]!r}, not {found[0].answer!r}"))
    return wrong


def _ordered(asked: Sequence[Asked], places: Mapping[str, list[int]]) -> list[Violation]:
    """Who was acknowledged before another asked for the first time stands before it."""
    done = sorted((each.first.at, places[each.id][0], each.id) for each in asked if each.first and places[each.id])
    wrong, behind, n = [], (-1, ""), 0
    for each in sorted((each for each in asked if each.sent and places[each.id]), key=lambda each: each.sent[0]):
        while n < len(done) and done[n][0] < each.sent[0]:
            behind = max(behind, done[n][1:])
            n += 1
        if places[each.id][0] < behind[0]:
            wrong.append(Violation("reordered", f"{each.id} stands before {behind[1]}, which was answered before"))
    return wrong


def _an_end(asked: Sequence[Asked], gone: set[str], cuts: Sequence[Cut]) -> list[Violation]:
    """What was asked when a lost request had been answered, and answered before the loss, is lost with it."""
    wrong = []
    for cut in cuts:
        ends = [each.first.at for each in asked if each.id in gone and each.first and each.first.at < cut.killed]
        since = min(ends, default=cut.killed)
        wrong += [
            Violation("a gap", f"{each.id} is there, and what was answered before it was asked is lost")
            for each in asked
            if each.id not in gone and each.first and since < each.sent[0] and each.first.at < cut.killed
        ]
    return wrong


def told_apart(wrong: Sequence[Violation]) -> Counter[str]:
    """How many there are of each."""
    return Counter(violation.what for violation in wrong)
