"""Load-tests the page of `feelvos_tf.demo` with simultaneous visitors.

    python tools/benchmark/page_load.py --visitors=20 --minutes=10

starts the page with a small network input. Every visitor opens the example clip, views frames,
clicks, paints, tracks, stops at some point, downloads the masks, and starts over. Prints the number
of requests, refusals and failures and the response times, by kind of request, and the server's
memory. Fails if the server did not answer a request or answered with a server error, or if files
are left behind.
"""

from __future__ import annotations

import collections
import contextlib
import http.client
import json
import os
import pathlib
import random
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time

from feelvos_tf.core import cli, process_memory
from feelvos_tf.core.errors import InputError

_FLAGS = cli.flag_values(__name__)
_DEFINE = cli.FlagGroup(_FLAGS)
_VISITORS = _DEFINE.integer("visitors", "Number of visitors.", 20, lower_bound=1)
_MINUTES = _DEFINE.floating("minutes", "How long they stay.", 10, lower_bound=0.1)
_INFERENCE_SIZE = _DEFINE.integer(
    "inference_size", "Size of the network's input.", 64, lower_bound=16
)
_TIMEOUT = 120  # Seconds for an answer.
_HEIGHT, _WIDTH, _FRAMES = 240, 426, 36  # Of the example clip.


class Log:
    """Kind of request -> status and seconds of each request."""

    def __init__(self):
        self.requests = collections.defaultdict(list)

    def table(self) -> str:
        """Returns a table with a line for each kind."""
        names = ("count", "refused", "failed", "median", "99 %", "max")
        lines = [f"{'request':<16}" + "".join(f"{name:>9}" for name in names)]
        for kind, results in sorted(self.requests.items()):
            seconds = sorted(taken for _, taken in results)
            codes = [code for code, _ in results]
            lines.append(
                f"{kind:<16}{len(codes):>9}{sum(400 <= code < 500 for code in codes):>9}"
                f"{self.failures(kind):>9}{statistics.median(seconds):>8.2f}s"
                f"{seconds[int(0.99 * (len(seconds) - 1))]:>8.2f}s{seconds[-1]:>8.2f}s"
            )
        return "\n".join(lines)

    def failures(self, *kinds: str) -> int:
        """Returns the number of requests of the given kinds (or all) that the server failed."""
        chosen = kinds or list(self.requests)
        return sum(code >= 500 or code == 0 for kind in chosen for code, _ in self.requests[kind])


class Visitor(threading.Thread):
    """One visitor, in a thread of its own, until `end`."""

    def __init__(self, port: int, log: Log, end: float, seed: int):
        super().__init__(daemon=True)
        self._port, self._log, self._end = port, log, end
        self._random = random.Random(seed)
        self._cookie = ""

    def run(self) -> None:
        """Works until the end, then removes the files."""
        while time.monotonic() < self._end:
            self._work()
        self._ask("POST", "leave")

    def _work(self) -> None:
        self._ask("POST", "example")
        for _ in range(self._random.randint(1, 4)):
            self._ask("GET", f"frame/{self._random.randrange(_FRAMES)}")
        first = self._random.randrange(_FRAMES)
        marks = {"points": [[150, 110]], "labels": [1], "object_id": 2}
        self._ask("POST", f"prepare/{first}")
        self._ask("POST", f"prompt/{first}", json.dumps(marks).encode())
        mask = bytearray(_HEIGHT * _WIDTH)
        for row in range(60, 180):
            mask[row * _WIDTH + 100 : row * _WIDTH + 180] = b"\1" * 80
        self._ask("PUT", f"mask/{first}", bytes(mask))
        asked = {"position": first, "direction": self._random.choice(["both", "forward"])}
        self._ask("POST", "run", json.dumps(asked).encode())
        for _ in range(self._random.randint(2, 12)):
            time.sleep(0.5 + self._random.random())
            state = self._ask("GET", "state")
            self._ask("GET", f"mask/{self._random.randrange(_FRAMES)}")
            if not state or not json.loads(state).get("running") or time.monotonic() > self._end:
                break
        self._ask("POST", "stop")
        for _ in range(20):  # A stopped run may first finish its frame.
            state = self._ask("GET", "state")
            if not state or not json.loads(state).get("running"):
                break
            time.sleep(0.5)
        self._ask("GET", f"download/{self._random.choice(['masks.zip', 'objects.csv'])}")

    def _ask(self, method: str, what: str, body: bytes | None = None) -> bytes | None:
        """Returns the content of the answer; None unless its status is 200."""
        begin, code, answer = time.monotonic(), 0, b""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=_TIMEOUT)
        with contextlib.closing(connection), contextlib.suppress(OSError):
            headers = {"x-feelvos": "1", "cookie": self._cookie}
            connection.request(method, f"/api/{what}", body, headers)
            response = connection.getresponse()
            answer, code = response.read(), response.status
            cookie = response.getheader("set-cookie")
            self._cookie = cookie.partition(";")[0] if cookie else self._cookie
        kind = re.sub(r"/.*", "", what) + (" (paint)" if method == "PUT" else "")
        self._log.requests[kind].append((code, time.monotonic() - begin))
        return answer if code == 200 else None


def main() -> None:
    """Starts the page, runs the visitors, and prints the results."""
    with tempfile.TemporaryDirectory() as folder:
        server = subprocess.Popen(
            [
                *(sys.executable, "-m", "feelvos_tf.demo", "--port=0"),
                f"--inference_size={_INFERENCE_SIZE.value}",
                f"--max_visitors={_VISITORS.value}",
            ],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "TMPDIR": folder},
        )
        try:
            port = next(
                int(found[1])
                for line in server.stdout
                if (found := re.search(r"open http://127\.0\.0\.1:(\d+)", line))
            )
            log, memory = _load(server, port)
        except StopIteration:
            raise InputError("the page did not start; its message is above") from None
        finally:
            server.send_signal(signal.SIGINT)
            server.wait(timeout=_TIMEOUT)
        left = [path for path in pathlib.Path(folder).rglob("*") if path.is_file()]
    print(log.table())
    print("memory of the server, MB, by minute: " + ", ".join(f"{each:.0f}" for each in memory))
    print(f"left behind: {len(left)} files")
    if log.failures() or left:
        raise InputError(f"{log.failures()} requests failed, {len(left)} files were left behind")


def _load(server: subprocess.Popen, port: int) -> tuple[Log, list[float]]:
    """Runs the visitors; returns their log and the server's memory in megabytes by minute.

    It is NaN once the server has died, and where there is no /proc.
    """
    log, memory = Log(), []
    status = pathlib.Path(f"/proc/{server.pid}/status")
    end = time.monotonic() + 60 * _MINUTES.value
    visitors = [Visitor(port, log, end, seed) for seed in range(_VISITORS.value)]
    for visitor in visitors:
        visitor.start()
    while alive := [visitor for visitor in visitors if visitor.is_alive()]:
        # Without its status, `resident` would return the memory of this process.
        is_known = server.poll() is None and status.exists()
        memory.append(process_memory.resident(status) / 2**20 if is_known else float("nan"))
        next_minute = time.monotonic() + 60
        for visitor in alive:
            visitor.join(max(next_minute - time.monotonic(), 0))
    return log, memory


if __name__ == "__main__":
    cli.run(main)
