from __future__ import annotations

import json
import logging

import pytest

from mailmapd.app.logs import Logs
from mailmapd.config.schema import LogSection
from mailmapd.model import Found, TempFail
from mailmapd.model.legible import legible, legible_bytes
from mailmapd.verify.comparison import shown

FORGED = "gone\nERROR forged \x1b[31m\x9b2J\u202e\u2028"
WRITTEN = "gone\\nERROR forged \\x1b[31m\\u009b2J\\u202e\\u2028"


def test_what_is_obeyed_is_written_out() -> None:
    """Line ends, escape sequences, marks of direction and halves of characters are written out, all else stays."""
    assert legible(FORGED) == WRITTEN
    assert legible("zoë 😀 مرحبا \\n") == "zoë 😀 مرحبا \\n"
    assert legible("one\ntwo\r", keep="\n") == "one\ntwo\\r"
    assert legible("\udcff\x7f") == "\\udcff\\u007f"
    assert legible_bytes(b"\xff\tzo\xc3\xab") == "\\xff\\tzoë"


def test_json_stays_json() -> None:
    """JSON whose text is made fit for a terminal says the same to a program."""
    value = {"key": FORGED + "\x7f\udcff"}
    text = legible(json.dumps(value, ensure_ascii=False, indent=2), keep="\n")
    assert json.loads(text) == value
    assert "\x9b" not in text
    assert "\x7f" not in text


@pytest.mark.parametrize("form", ["plain", "journald", "json"])
def test_log(capsys: pytest.CaptureFixture[str], form: str) -> None:
    """A message is one line of the log, whatever it holds; a traceback keeps its lines and nothing else."""
    before, level = logging.getLogger().handlers[:], logging.getLogger().level
    logs = Logs(LogSection(format=form))
    try:
        logging.getLogger("test").error("database: %s", FORGED)
        try:
            raise ValueError(FORGED)
        except ValueError:
            logging.getLogger("test").exception("failed")
    finally:
        logging.basicConfig(handlers=before, force=True)
        logging.getLogger().setLevel(level)
    lines = capsys.readouterr().err.splitlines()
    assert "forged" in lines[0]
    assert lines[1].endswith("failed") or "failed" in lines[1]
    assert not any("\x1b" in line or "\x9b" in line or "\u202e" in line for line in lines)
    assert logs.recent.lines[1].message == f"database: {WRITTEN}"


def test_answers() -> None:
    """An answer in a list of differences cannot rewrite the terminal."""
    assert shown(Found(b"a\x1b]0;title\x07")) == "a\\x1b]0;title\\x07"
    assert shown(TempFail(FORGED)) == f"temporary failure: {WRITTEN}"
