"""Audits that are stopped from outside, as processes: Ctrl-C shows what was gathered, a kill loses nothing."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from validator.audit.command import run_audit
from validator.audit.journal import read_journal
from validator.audit.options import AuditOptions

SCRIPT = """
import sys
from audit_fakes import Opener
from pathlib import Path
from validator.audit.command import run_audit
from validator.audit.options import AuditOptions
options = AuditOptions(model="bundled", endpoint=sys.argv[1], json_path=Path(sys.argv[2]), max_requests=100)
sys.exit(run_audit(options, Opener().instruments))
"""
ROOT = Path(__file__).parents[3]


@pytest.fixture
def running(served, tmp_path):
    """Start an audit that takes a while, and wait until a batch of answers is kept and examined."""
    served.fake.delay_s = 0.3
    environment = {**os.environ, "PYTHONPATH": f"{Path(__file__).parent / 'support'}:{ROOT}"}
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, served.url, str(tmp_path / "result.json")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        cwd=tmp_path,
        # What a terminal gives a program: tests run in the background inherit an ignored Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    journal = tmp_path / "result.json.journal.jsonl"
    end_s = time.monotonic() + 30
    while not journal.exists() or len(journal.read_bytes().splitlines()) < 14:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end_s
        time.sleep(0.02)
    # No further answer comes, however late the signal is: the audit cannot end by itself first.
    served.fake.delay_s = 60.0
    yield process
    process.kill()
    process.communicate()


def resume(served, opener, tmp_path) -> dict:
    served.fake.delay_s = 0.0
    options = AuditOptions(
        model="bundled", endpoint=served.url, json_path=tmp_path / "result.json", is_resumed=True, max_requests=20
    )
    assert run_audit(options, opener.instruments, io.StringIO()) == 0
    return json.loads((tmp_path / "result.json").read_text())


class InterruptedScreen(io.StringIO):
    """Ctrl-C at the moment at which a line is shown."""

    def write(self, text: str) -> int:
        if text.startswith("asking what the endpoint offers"):
            raise KeyboardInterrupt
        return super().write(text)


def test_ctrl_c_during_the_first_look_promises_no_journal_that_is_not_there(served, opener, tmp_path) -> None:
    options = AuditOptions(model="bundled", endpoint=served.url, json_path=tmp_path / "result.json")
    screen = InterruptedScreen()
    assert run_audit(options, opener.instruments, screen) == 130
    assert "--resume" not in screen.getvalue()
    assert [path.name for path in tmp_path.iterdir()] == ["result.json"]


@pytest.mark.slow
def test_ctrl_c_prints_what_was_gathered_and_exits_with_130(running, served, opener, tmp_path) -> None:
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=20)
    assert running.returncode == 130, err
    assert "CONSISTENT" in out and "--resume" in err
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["ended"] == "interrupted"
    assert resume(served, opener, tmp_path)["requests"] == 20


@pytest.mark.slow
def test_a_kill_loses_no_answer(running, served, opener, tmp_path) -> None:
    running.send_signal(signal.SIGKILL)
    running.wait(20)
    kept = read_journal(tmp_path / "result.json.journal.jsonl")
    assert kept is not None and len(kept.entries) >= 6
    asked = len(served.fake.asked)
    result = resume(served, opener, tmp_path)
    assert result["requests"] == 20
    # What was in flight is asked again, what was kept is not.
    assert len(served.fake.asked) - asked == 20 - len(kept.entries)
