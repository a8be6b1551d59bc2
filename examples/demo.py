"""A DEMO: it lets portal.py run alone. Anybody can sign in here as one of the sandbox's shoppers. Replace it
with your own sessions. What must stay: the server itself remembers who has which session, and customer_of
takes the customer from there. An id from a parameter, a form or a header would let anybody into anybody's
portal."""

import os
import secrets
import sys
from http.cookies import SimpleCookie
from socketserver import ThreadingMixIn
from urllib.parse import parse_qs
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

SHOPPERS = {
    "Pat": "6100200300400",  # Shopify's id
    "Kim": 70100500,  # Recharge's id, of a customer at Recharge only
}
sessions = {}  # from a random session id to a customer


def customer_of(cookie):
    session = SimpleCookie(cookie).get("session")
    return sessions.get(session.value) if session else None


def sign_in(environ, start_response, page):
    form = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0)).decode()
    name = parse_qs(form).get("as", [""])[0]
    if name not in SHOPPERS:
        buttons = " ".join(f'<button name="as" value="{each}">{each}</button>' for each in SHOPPERS)
        start_response("200 OK", [("Content-Type", "text/html; charset=utf-8")])
        return [f'<h1>Demo sign-in</h1><form method="post">{buttons}</form>'.encode()]
    session = secrets.token_hex(16)
    sessions[session] = SHOPPERS[name]
    cookie = f"session={session}; Path=/; HttpOnly; SameSite=Lax"
    start_response("303 See Other", [("Location", page), ("Set-Cookie", cookie)])
    return []


class Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True  # so that Ctrl-C ends the program


class Quiet(WSGIRequestHandler):
    def log_message(self, *_):
        pass


def serve(app, page, needs):
    """Serves the page and the demo sign-in, on this machine only, and prints the page's address."""
    missing = [name for name in needs if not os.environ.get(name)]
    if missing:
        sys.exit(f"Set {', '.join(missing)} in the environment. docs/headless.md explains each.")

    def route(environ, start_response):
        if environ["PATH_INFO"] == "/login":
            return sign_in(environ, start_response, page)
        if environ["PATH_INFO"] == page:
            return app(environ, start_response)
        start_response("404 Not Found", [("Content-Type", "text/plain")])
        return [b"Your own storefront has a page here."]

    port = int(os.environ.get("PORT", "3000"))
    server = make_server("127.0.0.1", port, route, server_class=Server, handler_class=Quiet)
    print(f"Listening on http://127.0.0.1:{server.server_port}{page}", flush=True)
    server.serve_forever()
