"""Asking a dict about one user, and writing down what each of its tables says."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass

from mailmapd.engine.dicts.dict import Dict, MismatchQuestion, Question
from mailmapd.errors import DatabaseError
from mailmapd.model import NOT_FOUND, Answer, Found, TempFail
from mailmapd.template.dovecot_variables import BOUNDED, FREE
from mailmapd.trace.story import HostRecorder

NAMESPACES = ("passdb", "userdb")


@dataclass(frozen=True, slots=True)
class DictStep:
    """One step of the story: a table of the dict, and its answer.

    The value of a Found answer is the JSON object that Dovecot gets, hashes included.
    """

    namespace: str
    table: str
    answer: Answer
    sql: str = ""
    host: str = ""
    seconds: float = 0.0
    sql_key: bytes | None = None


async def trace_dict(
    dict_: Dict, values: Mapping[str, bytes], recorder: HostRecorder, clock: Callable[[], float]
) -> AsyncIterator[DictStep]:
    """Ask every table of the dict anew.

    `values` maps Dovecot's variables to bytes and must hold ``user``; the others may be missing.
    """
    values = dict.fromkeys((*BOUNDED, *FREE), b"") | dict(values)
    for namespace, served in zip(NAMESPACES, (dict_.passdb, dict_.userdb), strict=True):
        if served is None:
            continue
        question = dict_.question(namespace, values)
        if isinstance(question, Question):
            yield await _ask(namespace, question, recorder, clock)
        elif not isinstance(question, MismatchQuestion):
            yield DictStep(namespace, served.table.name, question)


async def _ask(
    namespace: str, question: Question, recorder: HostRecorder, clock: Callable[[], float]
) -> DictStep:
    table, sql_key = question
    recorder.host = ""
    started = clock()
    sql = ""
    try:
        statement = table.definition.statement(sql_key)
        sql = table.database.describe(statement)
        payload = table.definition.payload(await table.database.fetch(statement))
    except DatabaseError as error:
        answer: Answer = TempFail(str(error))
    else:
        answer = Found(payload) if isinstance(payload, bytes) else NOT_FOUND
    return DictStep(namespace, table.name, answer, sql, recorder.host, clock() - started, sql_key)
