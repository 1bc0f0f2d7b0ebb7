"""The suite says what it ran twice, and may not need that more often than it did."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).parents[2]
FAILURE = '<testcase classname="tests.unit" name="test_{}"><failure message="late&#10;more">x</failure></testcase>'


def ran_twice(report: Path, failures: int) -> subprocess.CompletedProcess[str]:
    """Run the script over a report with so many failures."""
    cases = "".join(FAILURE.format(number) for number in range(failures))
    report.write_text(
        f'<testsuites><testsuite>{cases}<testcase name="good"/></testsuite></testsuites>'
    )
    script = PROJECT / "scripts" / "ran-twice"
    return subprocess.run(
        [sys.executable, script, report], capture_output=True, text=True, check=False
    )


def test_ran_twice_is_listed_and_limited(tmp_path: Path) -> None:
    """What failed at first is named with its reason, and one more than may be is a failure."""
    most = int((PROJECT / "tests" / "ran-twice.most").read_text())
    done = ran_twice(tmp_path / "report.xml", most)
    assert done.returncode == 0, done.stderr
    assert f"run twice: {most} " in done.stdout
    assert done.stdout.count("    late\n") == most
    assert ran_twice(tmp_path / "report.xml", most + 1).returncode == 1
    assert "run twice: 0 " in ran_twice(tmp_path / "report.xml", 0).stdout
