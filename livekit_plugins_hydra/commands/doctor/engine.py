"""Answers the questions of the table from what was observed."""

from __future__ import annotations

from .findings import Finding
from .questions import QUESTIONS


def findings_of(observed: object) -> list[Finding]:
    """Return a finding for each question that this answers, in the order of the table."""
    found = []
    for question in QUESTIONS:
        if not isinstance(observed, question.about):
            continue
        chosen = question.look(observed)
        if chosen is None:
            continue
        answer = question.answers[chosen.answer]
        words = {**chosen.facts, **chosen.words}
        known = question.known if answer.known is None else answer.known
        found.append(
            Finding(
                id=question.id,
                group=question.group,
                title=question.title.format_map(words),
                status=answer.status,
                answer=answer.text.format_map(words),
                remedy=answer.remedy.format_map(words),
                known=known.format_map(words),
                facts=chosen.facts,
            )
        )
    return found
