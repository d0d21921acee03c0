"""A web service: worker processes answer the requests. A killed worker is replaced.

python service.py [--port 8000] [--workers 2]
curl --data-binary @photo.raw http://127.0.0.1:8000/
"""

import argparse
import json
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np

import onecopy as oc


def analyze(data: np.ndarray) -> dict:
    lowest, highest = int(data.min()), int(data.max())
    return {"bytes": data.size, "range": [lowest, highest], "pid": os.getpid()}


class Handler(BaseHTTPRequestHandler):
    """Answers requests, each in its own thread."""

    def do_POST(self):
        body = oc.empty(int(self.headers["Content-Length"]), "u1")
        self.rfile.readinto(body)  # the one copy: from the socket into shared memory
        try:
            status, answer = 200, executor.submit(analyze, body).result()
        except Exception as error:  # noqa: BLE001 - any error of the work, or the death of three workers
            status, answer = 500, {"error": repr(error)}
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(answer).encode())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    server = ThreadingHTTPServer(("127.0.0.1", options.port), Handler)
    with server, oc.Executor(options.workers, restart_workers=True) as executor:
        print(f"listening on port {server.server_port}", flush=True)
        server.serve_forever()
