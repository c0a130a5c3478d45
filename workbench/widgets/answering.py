"""How a widget listens: view state and questions from the page, each checked, each answered."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

import anywidget
import traitlets

from workbench.core.config import settings
from workbench.core.errors import BadValueError, WorkbenchError
from workbench.session.deliver import deliver, gate
from workbench.session.lane import Job
from workbench.widgets import handlers, wire
from workbench.widgets.handlers import on

__all__ = ["Answering"]

logger = logging.getLogger(__name__)


class Answering:
    """The part of `SessionWidget` that messages reach; expects its traits and jobs."""

    _handlers: dict[str, tuple[str, dict[str, Any]]] = {}

    if TYPE_CHECKING:
        _is_closed: bool
        _hear: Any
        to_code: Any
        pin: Any
        submit: Any
        recipe: Any
        follows: tuple[str, ...]
        hold_sync: Any
        send: Any
        keys: Any
        traits: Any
        send_state: Any
        show_error: Any
        is_newest: Any
        cancel: Any
        _here: Any
        _report: Any
        _failed_topics: Any
        _problem: Any
        _missing: list[Any]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._handlers = handlers.handlers_of(cls)

    def _handle_msg(self, msg: dict[str, Any]) -> None:
        # Not ipywidgets' own, which prints errors and goes on: here the page hears of them, and strict tests too.
        data = msg["content"]["data"]
        with gate():
            if data["method"] == "update":
                state = data.get("state", {})
                self.set_state(wire.with_buffers(state, data.get("buffer_paths", []), msg.get("buffers", [])))
            elif data["method"] == "request_state":
                self.send_state()
            elif data["method"] == "custom":
                self._handle_custom_msg(data.get("content", {}), msg.get("buffers", []))

    def set_state(self, sync_data: dict[str, Any]) -> None:
        """Take view state from the page. What is wrong, or not the page's to set, is refused and sent back as it is."""
        accepted: dict[str, Any] = {}
        refused: list[str] = []
        error: Exception | None = None
        sync_data = dict(sync_data)
        with self.hold_sync():
            if (said := sync_data.pop("_said", None)) is not None:
                try:
                    news = self._hear(said)
                    for field in said["values"]:  # which the page also set as traits
                        sync_data.pop(field, None)
                    sync_data.update(news)
                except WorkbenchError as why:
                    refused, error = ["_seen"], why
            for name, value in sync_data.items():
                try:
                    accepted[name] = self._acceptable(name, value)
                except (WorkbenchError, traitlets.TraitError) as why:
                    refused.append(name)
                    error = why
            try:
                if accepted:
                    super().set_state(accepted)  # type: ignore[misc]
            except Exception as why:
                error = why
        # What was taken for something else without being a change, such as no layer for the one on show.
        other = [n for n, v in accepted.items() if isinstance(v, str) and n in self.keys and getattr(self, n) != v]
        if refused or other:
            self.send_state([*refused, *other, *(["_seen"] if refused else [])])
        if error is not None:
            self.show_error(", ".join(refused) or "a change", error)
            if settings().strict:
                raise error

    def _acceptable(self, name: str, value: Any) -> Any:
        trait = self.traits().get(name)
        if trait is None or name not in self.keys:
            return value  # ipywidgets ignores what is no trait of ours
        if type(self)._is_ours(name):
            if not (trait.metadata.get("view") or name in self.follows):
                raise BadValueError(f"{name} of {type(self).__name__} is written by Python only.")
            read = trait.metadata.get("from_json", lambda value, widget: value)
            trait._validate(self, read(value, self))
        return value

    @classmethod
    def _is_ours(cls, name: str) -> bool:
        return not hasattr(anywidget.AnyWidget, name) and name not in ("_esm", "_css", "_anywidget_id")

    def _handle_custom_msg(self, content: Any, buffers: list[Any]) -> None:
        question = content if isinstance(content, dict) else {}
        kind, number = question.get("kind"), question.get("id")
        try:
            if kind not in self._handlers:
                raise handlers.unknown_kind(kind, self._handlers)
            method, schema = self._handlers[kind]
            body = handlers.read_body(kind, schema, question.get("body"))
            if buffers:
                body["buffers"] = buffers
            self._here.is_answering = True  # a job that fails tells the question, not the status line
            try:
                result = getattr(self, method)(**body)
            finally:
                self._here.is_answering = False
        except Exception as error:
            self._answer(number, error=handlers.problem(str(kind), error))
            if not isinstance(error, WorkbenchError):
                logger.error("%s: the message %r failed.", type(self).__name__, kind, exc_info=error)
            if settings().strict:
                raise
            return
        if isinstance(result, Job):
            result.add_done_callback(lambda job: deliver(self._answer_job, number, kind, job))
        else:
            self._answer(number, result)

    def _answer_job(self, number: Any, kind: str, job: Job) -> None:
        if job.state == "done" and self.is_newest(job):
            self._answer(number, job.result(0))
        elif job.state == "failed" and self.is_newest(job) and job.error is not None:
            self._answer(number, error=handlers.problem(job.title or kind, job.error))
            if settings().strict:
                raise job.error
        else:
            self._answer(number, dropped=True)

    def _answer(self, number: Any, result: Any = None, *, error: Any = None, dropped: bool = False) -> None:
        if self._is_closed or number is None:
            return
        # "to" and not "id": ipykernel 7.4 keeps every id that it sends, waiting for the browser to answer it.
        head = {"kind": "answer", "to": number, "ok": error is None and not dropped}
        if error is not None or dropped:
            self.send({**head, "error": error, "dropped": dropped})
            return
        content, buffers = wire.extract(result)
        pieces = wire.parts(buffers)
        for i, part in enumerate(pieces):
            body = {**head, "part": i, "of": len(pieces), "pieces": [number for number, _ in part]}
            if i == len(pieces) - 1:
                body["result"] = content
            self.send(body, buffers=[piece for _, piece in part])

    @on("cancel")
    def _on_cancel(self) -> None:
        self.cancel()

    @on("code")
    def _on_code(self) -> dict[str, str]:
        return {"text": self.to_code()}

    @on("recipe")
    def _on_recipe(self) -> dict[str, str]:
        return {"text": json.dumps(self.recipe(), indent=2)}

    @on("pin", note=str)
    def _on_pin(self, note: str) -> Job:
        """Pin what is on show into the session's journal, whether a journal is shown or not."""
        return self.submit(self._pinned, note, title="Pin")

    def _pinned(self, note: str) -> dict[str, Any]:
        found = self.pin(note)
        return {"id": found.id, "title": found.title}

    @on("dismiss")
    def _on_dismiss(self) -> None:
        self._problem = {}
        self._failed_topics.clear()
        self._missing.clear()
        self._report()
