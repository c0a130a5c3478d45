"""Settings come from arguments, variables and defaults, in this order; progress notices cancellation."""

import logging
import sys
from pathlib import Path

import pytest

from workbench.core.config import settings
from workbench.core.errors import BadValueError, CancelledError
from workbench.core.progress import (
    CancelToken,
    LoggingProgress,
    Progress,
    SilentProgress,
    TqdmProgress,
    visible_progress,
)


def test_arguments_beat_variables_and_variables_beat_defaults(monkeypatch):
    monkeypatch.setenv("WORKBENCH_STORE", "from-variable")
    monkeypatch.setenv("WORKBENCH_STORE_GB", "2.5")
    assert settings().store == Path("from-variable") and settings().store_gb == 2.5
    assert settings(store="given").store == Path("given")
    monkeypatch.delenv("WORKBENCH_STORE")
    assert settings().store.name == "workbench"


@pytest.mark.parametrize(
    ("name", "value", "hint"),
    [
        ("WORKBENCH_STORE_GB", "much", "number of gigabytes"),
        ("WORKBENCH_MEMORY_GB", "nan", "number of gigabytes"),
        ("WORKBENCH_STRICT", "perhaps", "true or false"),
        ("WORKBENCH_STILL", "sometimes", "separate, bundle or none"),
        ("WORKBENCH_STILL_WAIT_S", "long", "number of seconds"),
        ("WORKBENCH_STILL_WAIT_S", "-1", "number of seconds"),
    ],
)
def test_a_variable_that_cannot_be_read_is_named_and_its_own_hint_given(monkeypatch, name, value, hint):
    monkeypatch.setenv(name, value)
    with pytest.raises(BadValueError, match=f"{name} is '{value}'.*{hint}"):
        settings()


def test_unknown_settings_are_refused():
    with pytest.raises(BadValueError, match="No setting stroe"):
        settings(stroe="x")


@pytest.mark.parametrize("kind", [SilentProgress, LoggingProgress])
def test_progress_counts_and_stops_when_asked(kind):
    token = CancelToken()
    progress = kind(token)
    assert isinstance(progress, Progress)
    progress.start("work", 4)
    progress.step(note="one")
    assert progress.share == 0.25 and progress.note == "one"
    token.cancel()
    with pytest.raises(CancelledError, match="kept"):
        progress.step()
    assert progress.done == 2


def test_logging_progress_says_first_and_last(caplog):
    progress = LoggingProgress(every_s=1000)
    with caplog.at_level(logging.INFO):
        progress.start("sweep", 3)
        for _ in range(3):
            progress.step(note="1 left out")
        progress.close()
    assert [r.message for r in caplog.records] == ["sweep: 0 of 3", "sweep: 3 of 3, 1 left out"]


def test_tqdm_progress_shows_a_bar(capsys):
    progress = TqdmProgress(mininterval=0)
    progress.start("sweep", 2)
    progress.step(2, note="done")
    progress.close()
    assert "sweep: 100%" in capsys.readouterr().err


def test_a_bar_where_someone_looks_and_lines_elsewhere(monkeypatch):
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False, raising=False)
    assert isinstance(visible_progress(), LoggingProgress)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert isinstance(visible_progress(), TqdmProgress)
    monkeypatch.setattr(sys, "stderr", None)
    assert isinstance(visible_progress(), LoggingProgress)
    monkeypatch.setitem(sys.modules, "ipykernel", object())
    assert isinstance(visible_progress(), TqdmProgress)
