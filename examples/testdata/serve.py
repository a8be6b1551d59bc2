"""Serves the example on a free loopback port and prints its address."""

import sys
from pathlib import Path
from wsgiref.simple_server import WSGIRequestHandler, make_server

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).parent.parent))

from portal import app  # noqa: E402


def routed(environ, start_response):
    if environ["PATH_INFO"] == "/manage-subscriptions":
        return app(environ, start_response)
    start_response("404 Not Found", [("Content-Type", "text/plain")])
    return [b"Not found"]


class Silent(WSGIRequestHandler):
    def log_message(self, *_):
        pass


server = make_server("127.0.0.1", 0, routed, handler_class=Silent)
print(f"http://127.0.0.1:{server.server_port}", flush=True)
server.serve_forever()
