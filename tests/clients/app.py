"""What the tests serve from Python."""

import threading
from http.server import BaseHTTPRequestHandler

met = threading.Barrier(2, timeout=20)
gone = threading.Event()


def twice(broken):
    yield b"first\n"
    gone.wait(20)
    if broken:
        raise RuntimeError("half-way")
    yield b"second\n"


def app(environ, start_response):
    path, query = environ["PATH_INFO"], environ["QUERY_STRING"]
    if path == "/fail":
        raise RuntimeError("deliberate failure")
    if path == "/none":
        start_response("204 No Content", [])
        return []
    if path == "/echo":
        body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
        start_response("200 OK", [("X-Length", environ["CONTENT_LENGTH"])])
        return [body]
    if path in ("/stream", "/broken"):
        start_response("200 OK", [("Content-Type", "text/plain")])
        return twice(path == "/broken")
    if path == "/meet":
        met.wait()
        text = "met"
    elif path == "/go":
        gone.set()
        text = "gone"
    else:
        text = environ["REQUEST_METHOD"] + " " + path + ("?" + query if query else "")
    cookies = [("X-Cookie", environ.get("HTTP_COOKIE", "")), ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")]
    start_response("200 OK", cookies)
    return [text.encode()]


class Handler(BaseHTTPRequestHandler):
    """The same in the manner of http.server, as far as one test needs it."""

    def do_GET(self):
        if self.path == "/fail":
            raise RuntimeError("deliberate failure")
        self.send_response(200)
        self.end_headers()
        self.wfile.write(f"GET {self.path}".encode())

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)
