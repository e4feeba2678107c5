"""What two pieces of other people's work take on this machine, in milliseconds, as JSON.

`http`: the standard library's server answers a kept connection with 5 kB. `numpy`: 100,000 vectors of 256 single floats
times a vector, with as many threads as the environment lets it have.
"""

import http.client
import http.server
import json
import statistics
import threading
import time
from collections.abc import Callable

import numpy as np

ASKED = json.dumps({"question": "What is a class?", "numResults": 5}).encode()
ANSWER = b"x" * 5000


class Answers(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one piece

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-length", str(len(ANSWER)))
        self.end_headers()
        self.wfile.write(ANSWER)

    def log_message(self, *_: object) -> None: ...


def median(work: Callable[[], object], times: int) -> float:
    took = []
    for _ in range(times):
        started = time.perf_counter()
        work()
        took.append(1000 * (time.perf_counter() - started))
    return statistics.median(took)


def over_http() -> float:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1])

        def ask() -> None:
            connection.request("POST", "/", ASKED, {"Authorization": "Bearer b"})
            assert connection.getresponse().read() == ANSWER

        found = median(ask, 1000)
        connection.close()
        server.shutdown()
    return found


def in_numpy() -> float:
    vectors = np.random.default_rng(0).standard_normal((100_000, 256), dtype=np.float32)
    question = vectors[0].copy()
    return median(lambda: vectors @ question, 40)


if __name__ == "__main__":
    print(json.dumps({"http": over_http(), "numpy": in_numpy()}))
