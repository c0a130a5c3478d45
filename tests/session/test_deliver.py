"""Deliveries: order, keys, errors, the gate; and a real kernel, idle and busy."""

import threading
import time

import pytest

from workbench.session.deliver import deliver, flush, free, gate, is_delivering


@pytest.fixture(autouse=True)
def strict(monkeypatch):
    monkeypatch.setenv("WORKBENCH_STRICT", "1")


def test_deliveries_go_out_in_order_on_one_thread_of_their_own():
    seen, threads = [], set()

    def tell(i):
        seen.append(i)
        threads.add(threading.current_thread())
        assert is_delivering()

    for i in range(20):
        deliver(tell, i)
    assert flush()
    assert seen == list(range(20)) and len(threads) == 1 and not is_delivering()


def held():
    go, begun = threading.Event(), threading.Event()
    deliver(lambda: (begun.set(), go.wait(5)))
    assert begun.wait(5)
    return go


def test_of_one_key_only_the_newest_goes_out_in_its_own_turn():
    seen, go = [], held()
    deliver(seen.append, "10 %", key="progress")
    deliver(seen.append, "answer")
    for share in range(20, 100):
        deliver(seen.append, f"{share} %", key="progress")
    go.set()
    assert flush() and seen == ["answer", "99 %"]


def test_an_error_is_logged_and_the_next_delivery_goes_out(caplog):
    seen = []
    deliver(lambda: 1 / 0)
    deliver(seen.append, 1)
    with pytest.raises(ZeroDivisionError):
        flush()
    assert seen == [1] and "A delivery to the notebook failed" in caplog.text
    assert flush()


def test_errors_are_only_logged_unless_strict(monkeypatch):
    monkeypatch.setenv("WORKBENCH_STRICT", "0")
    deliver(lambda: 1 / 0)
    assert flush()


def test_flush_within_a_delivery_returns_and_gives_up_in_time():
    seen = []
    deliver(lambda: seen.append(flush()))
    assert flush() and seen == [True]
    go = held()
    assert not flush(0.02)
    go.set()
    assert flush()


def test_the_gate_is_exclusive_but_never_freezes_the_rest():
    with gate(), gate():  # a handler may come back to it
        started, seen = time.monotonic(), []
        deliver(lambda: seen.append(time.monotonic() - started))
        time.sleep(0.05)
        assert seen == []
        assert flush(2)
    assert 0.1 < seen[0] < 1.5


def test_free_forgets_where_the_kernel_last_spoke():
    class Comm:
        _reply_subshell_id = None

        def __init__(self):
            self._reply_subshell_id = "main"

    comm = Comm()
    free(comm)
    free(comm)  # older kernels note nothing
    assert "_reply_subshell_id" not in vars(comm)
    free(None)


KERNEL = """
import threading, time
import ipywidgets, traitlets
from workbench.session.deliver import deliver, free
from workbench.session.lane import Lane

class Asker(ipywidgets.Widget):
    value = traitlets.Int(0).tag(sync=True)

    def _send(self, *args, **kwargs):
        super()._send(*args, **kwargs)
        free(self.comm)

lane = Lane()
asker = Asker()
free(asker.comm)
threads = []

def got(widget, content, buffers):
    threads.append(threading.current_thread() is threading.main_thread())
    job = lane.submit(lambda: content["n"] * 2)
    job.add_done_callback(lambda job: deliver(asker.send, {"to": content["n"], "result": job.result(0)}))

asker.on_msg(got)
"""


@pytest.fixture(scope="module")
def kernel():
    manager = pytest.importorskip("jupyter_client.manager")
    pytest.importorskip("ipykernel")
    km = manager.KernelManager(kernel_name="python3")
    km.start_kernel()
    client = km.client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=60)
        yield Kernel(client)
    finally:
        client.stop_channels()
        km.shutdown_kernel(now=True)


class Kernel:
    """The little of a notebook page that the tests need."""

    def __init__(self, client):
        self.client, self.comm, self.subshell = client, None, None
        features = client.kernel_info(reply=True, timeout=20)["content"].get("supported_features", [])
        if "kernel subshells" in features:
            client.control_channel.send(client.session.msg("create_subshell_request"))
            self.subshell = client.get_control_msg(timeout=20)["content"]["subshell_id"]

    def start(self, code):
        return self.client.execute(code)

    def until(self, test, timeout=20):
        """Read what the kernel publishes until `test(message)` holds; return the seconds that took."""
        started = time.monotonic()
        while time.monotonic() - started < timeout:
            message = self.client.get_iopub_msg(timeout=timeout)
            if message["header"]["msg_type"] == "error":
                raise AssertionError(message["content"]["traceback"])
            if message["header"]["msg_type"] == "comm_open":
                self.comm = message["content"]["comm_id"]
            if test(message):
                return time.monotonic() - started
        raise AssertionError("The kernel did not answer in time.")

    def run(self, code):
        sent = self.start(code)
        return self.until(lambda m: m["parent_header"].get("msg_id") == sent and _state(m) == "idle")

    def ask(self, n):
        data = {"method": "custom", "content": {"n": n}}
        message = self.client.session.msg("comm_msg", {"comm_id": self.comm, "data": data})
        if self.subshell:
            message["header"]["subshell_id"] = self.subshell
        self.client.shell_channel.send(message)
        return self.until(lambda m: _answer(m).get("to") == n and _answer(m)["result"] == 2 * n)


def _state(message):
    return message["content"].get("execution_state")


def _answer(message):
    content = message["content"].get("data", {}) if message["header"]["msg_type"] == "comm_msg" else {}
    return content.get("content", {})


def test_a_real_kernel_answers_between_cells_and_while_one_runs(kernel):
    kernel.run(KERNEL)
    assert kernel.ask(1) < 1
    kernel.run("asker.value += 1")
    # A cell that has spoken over the comm and goes on for two seconds: the case that chains the comm to it.
    busy = kernel.start("asker.value += 1\nfor _ in range(200): time.sleep(0.01)\nthreads.append('cell')")
    kernel.until(lambda m: _state(m) == "busy" and m["parent_header"].get("msg_id") == busy)
    time.sleep(0.2)
    waited = kernel.ask(2)
    if kernel.subshell:
        assert waited < 1
        kernel.until(lambda m: m["parent_header"].get("msg_id") == busy and _state(m) == "idle")
    kernel.run("assert threads == " + ("[False, False, 'cell']" if kernel.subshell else "[True, 'cell', True]"))


def test_progress_reaches_the_page_while_a_cell_waits_for_the_job(kernel):
    busy = kernel.start(
        "def work(progress):\n"
        "    progress.start('work', 3)\n"
        "    for n in range(1, 4):\n"
        "        deliver(asker.set_trait, 'value', n + 100)\n"
        "        time.sleep(0.2)\n"
        "        progress.step()\n"
        "lane.run(work)"
    )

    def is_value(message):
        data = message["content"].get("data", {}) if message["header"]["msg_type"] == "comm_msg" else {}
        return data.get("state", {}).get("value") == 101

    assert kernel.until(is_value) < 1
    kernel.until(lambda m: m["parent_header"].get("msg_id") == busy and _state(m) == "idle")
