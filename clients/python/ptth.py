"""Serves a WSGI application, or an http.server handler class, from behind a firewall: one file, no dependencies.

    import ptth
    ptth.serve(app, relay="https://relay.example.org", name="shop", token=token)

A relay takes the public requests, and this module fetches them with ordinary requests of its own (ReverseHttp): a POST
to {relay}/reversehttp registers, and names a Request URL. A GET of that URL is held until a visitor's request comes, which
is the body (message/http). The response goes back, in the same form, as a POST to the same URL; the next URL to ask is in
`Link: <...>; rel="next"`.
"""

import argparse
import contextlib
import functools
import http.client
import http.server
import importlib
import io
import json
import os
import random
import re
import selectors
import signal
import socket
import ssl
import sys
import threading
import time
import traceback
import types
import urllib.parse
import wsgiref.handlers

POLLS = 4  # polls open at once: enough to bridge the round trip between one request and the next
POLL_LOST = 60  # seconds; relays hold a poll for 30 s or less
LEASE = 150  # seconds without a poll until the agent counts as gone: all threads may be busy for as long as visitors wait
PROMPT = 20  # seconds for what a relay answers at once
ANSWER_LOST = 300  # seconds that a visitor may pause while reading a response
BACK_OFF, BACK_OFF_MOST = 0.25, 30  # seconds, the bounds of the first wait and of any
RETRY_AFTER_MOST = 300  # seconds; a relay that asks for more patience is asked again all the same
GRACE = 10  # seconds that requests in hand get when it stops
WHOLE = 256 * 1024  # bytes; responses up to this are sent in one piece
FAILED = b"HTTP/1.1 500 Internal Server Error\r\nContent-Type: text/plain\r\n\r\nInternal Server Error\n"
ANSWER_TRIES = 3  # how often such an answer is offered to a relay that cannot be reached


class Refused(Exception):
    """The relay said no (401, 403): asking again does not help."""


class Trouble(Exception):
    """Something that may be over in a moment; `gone` when the URL is over, `after` the seconds to wait."""

    def __init__(self, text, gone=False, after=0.0):
        super().__init__(text)
        self.gone, self.after = gone, after


def serve(app, **options):
    """Serves until KeyboardInterrupt (SIGINT), or raises Refused; the options are those of `Agent`."""
    agent = Agent(app, **options)
    try:
        agent.start()
        print(agent.url, flush=True)
        agent.wait()
    except KeyboardInterrupt:
        pass
    finally:
        agent.stop()


class Agent:
    """Answers the requests to one name, `threads` at once.

    `app` is a WSGI application, a subclass of BaseHTTPRequestHandler, or a functools.partial of one. `context` is an
    ssl.SSLContext, as of ssl.create_default_context(cafile=...). `log` takes one line of text.
    """

    def __init__(self, app, *, relay, name, token=None, threads=8, context=None, log=None):
        self.relay = urllib.parse.urlsplit(relay if "://" in relay else "https://" + relay)
        if self.relay.scheme not in ("http", "https") or not self.relay.hostname:
            raise ValueError(f"not the URL of a relay: {relay!r}")
        self.name, self.threads = name, threads
        self.credential = {"Authorization": "Bearer " + token} if token else {"PTTH-Instance": os.urandom(8).hex()}
        self.gateway = self.relay.path.rstrip("/") + "/reversehttp"
        self.context = context
        self.log = log or (lambda line: print("ptth:", line, file=sys.stderr, flush=True))
        self.run = _runner(app)
        self.url = None
        self._private = self._failure = None
        self._trouble = ""
        self._stopping, self._ended = threading.Event(), threading.Event()
        self._turns = threading.Semaphore(min(threads, POLLS))
        self._polling, self._workers = set(), []

    def start(self):
        """Registers, however long it takes to reach the relay, and serves in threads; returns the public URL."""
        connection, failures, first = Connection(self), 0, None
        while first is None and not self._stopping.is_set():
            try:
                first = self._register(connection)
            except (Trouble, OSError, http.client.HTTPException) as error:
                self._recover(error, failures)
                failures += 1
        chains = [first] + [None] * (self.threads - 1) if first else []
        self._workers = [threading.Thread(target=self._work, args=(url,), daemon=True) for url in chains]
        for worker in self._workers:
            worker.start()
        return self.url

    def wait(self):
        """Waits until it is stopped; raises Refused when the relay withdraws the name."""
        # Without a bound, some platforms would not deliver SIGINT.
        while not self._ended.wait(60):
            pass
        if self._failure:
            raise self._failure

    def stop(self):
        """Ends the polls, gives requests in hand ten seconds, and gives the name back."""
        self._stopping.set()
        for connection in list(self._polling):
            with contextlib.suppress(OSError, TypeError):  # it may be closed, or not be open yet
                socket.socket.shutdown(connection.http.sock, socket.SHUT_RDWR)
        until = time.monotonic() + GRACE
        for worker in self._workers:
            worker.join(max(0, until - time.monotonic()))
        private, self._private = self._private, None
        if private and not self._failure:
            with contextlib.suppress(OSError, http.client.HTTPException):
                Connection(self).ask("DELETE", private, self.credential, timeout=5)
        self._ended.set()

    def _work(self, url):
        """One poll after the other; each names the next."""
        connection, failures = Connection(self), 0
        while not self._stopping.is_set():
            try:
                with self._turns:
                    url = url or self._register(connection)
                    message, visitor, following = self._poll(connection, url)
                failures, trouble, self._trouble = 0, self._trouble, ""
                if trouble:
                    self.log("connected again")
                asked, url = url, following
                if message is not None:
                    self._answer(connection, asked, message, visitor)
            except Refused as refused:
                self._failure = self._failure or refused
                self._stopping.set()
                self._ended.set()
            except Exception as error:  # whatever it was, the next request is to be answered
                connection.http.close()
                if getattr(error, "gone", False):
                    url = None
                if not self._stopping.is_set():
                    self._recover(error, failures)
                failures += 1
        connection.http.close()

    def _register(self, connection):
        form = urllib.parse.urlencode({"name": self.name, "lease": LEASE}).encode()
        headers = {"Content-Type": "application/x-www-form-urlencoded", **self.credential}
        response, body = connection.ask("POST", self.gateway, headers, form)
        self._expect(response, body, "registering")
        links = _links(response)
        if "first" not in links:
            raise Trouble(f"{self.relay.netloc}{self.gateway} does not speak ReverseHttp: no Link to poll")
        if response.headers["Location"]:
            self._private = self._rebase(response.headers["Location"])
        self.url = urllib.parse.urljoin(self.relay.geturl(), links.get("related", "/"))
        return self._rebase(links["first"])

    def _poll(self, connection, url):
        """Waits for a request. Returns it, or None; the visitor's address; the URL to poll next, None if unknown."""
        self._polling.add(connection)
        try:
            if self._stopping.is_set():
                raise Trouble("stopping")
            response, message = connection.ask("GET", url, {"Accept": "message/http"}, timeout=POLL_LOST)
        finally:
            self._polling.discard(connection)
        self._expect(response, message, "polling")
        following = _links(response).get("next")
        following = following and self._rebase(following)
        if response.status == 204:
            return None, None, following or url
        return message, response.headers["Requesting-Client"] or "", following

    def _answer(self, connection, url, message, visitor):
        answer = Answer(connection, url)
        try:
            self.run(Request(message, visitor, self.url), answer)
        except BaseException:  # SystemExit as well: it would end this thread, not the program
            if not answer.lost:
                self.log("a request failed\n" + traceback.format_exc().rstrip())
            if answer.begun:
                connection.http.close()  # the visitor sees that the response is cut short
                return
            answer.buffer[:] = FAILED
        answer.end()

    def _expect(self, response, body, doing):
        """Raises unless the status is a success."""
        status = response.status
        if 200 <= status < 300:
            return
        said = _detail(body)
        if status in (401, 403):
            raise Refused(
                f'relay {self.relay.netloc} refused the name "{self.name}" ({status}){said}. '
                "Check the token, and that it may serve this name."
            )
        text = f"relay {self.relay.netloc}: {doing} failed with {status}{said}"
        raise Trouble(text, status in (404, 410), _retry_after(response))

    def _rebase(self, link):
        """The path of a link. What the relay calls itself may differ in scheme and port, not in name."""
        url = urllib.parse.urlsplit(urllib.parse.urljoin(self.relay.geturl(), link))
        if url.hostname != self.relay.hostname:
            raise Trouble(f"relay {self.relay.netloc} points to another host, {url.netloc}: not followed")
        return (url.path or "/") + ("?" + url.query if url.query else "")

    def _recover(self, error, failures):
        # A Request URL that is over is nothing to tell of, unless the next one is as well.
        if failures or not getattr(error, "gone", False):
            text = str(error) if isinstance(error, Trouble) else f"relay {self.relay.netloc}: {error or repr(error)}"
            if text != self._trouble:
                self.log(text)
            self._trouble = text
        # Full jitter, so that those who were cut off together do not come back together.
        wait = random.uniform(0, min(BACK_OFF_MOST, BACK_OFF * 2 ** min(failures, 10)))
        self._stopping.wait(max(wait, getattr(error, "after", 0)))


class Connection:
    """A connection to the relay, kept between requests and opened anew when it is not there."""

    def __init__(self, agent):
        secure = {"context": agent.context} if agent.relay.scheme == "https" else {}
        kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
        self.http = kind(agent.relay.hostname, agent.relay.port, **secure)
        if agent.relay.hostname.endswith(".localhost"):
            # These names are this machine (RFC 6761 section 6.3), but not every resolver knows them.
            self.http._create_connection = lambda place, *rest: socket.create_connection(("localhost", place[1]), *rest)

    def ask(self, method, target, headers, body=None, timeout=PROMPT):
        """One request; returns the response and its body."""
        self.ready(timeout)
        self.http.request(method, target, body, headers)
        response = self.http.getresponse()
        return response, response.read()

    def ready(self, timeout):
        """Opens it, unless it is open. One that has something to read while nothing is asked has been closed."""
        if self.http.sock is not None:
            with selectors.DefaultSelector() as selector:
                selector.register(self.http.sock, selectors.EVENT_READ)
                if selector.select(0):
                    self.http.close()
        self.http.timeout = timeout
        if self.http.sock is None:
            self.http.connect()
        self.http.sock.settimeout(timeout)

    def begin(self, target):
        """A POST whose body follows in chunks."""
        self.ready(ANSWER_LOST)
        self.http.putrequest("POST", target)
        self.http.putheader("Content-Type", "message/http")
        self.http.putheader("Transfer-Encoding", "chunked")
        self.http.endheaders()


class Request:
    """One request: `message` is all of it, `body` what follows the head."""

    def __init__(self, message, visitor, url):
        self.message, self.url = message, urllib.parse.urlsplit(url)
        stream = io.BytesIO(message)
        self.method, self.target, self.version = (stream.readline().decode("latin-1").split() + ["", "", ""])[:3]
        if not self.version.startswith("HTTP/"):
            raise Trouble("the relay sent no request")
        self.fields = []
        for line in iter(lambda: stream.readline().decode("latin-1").strip(), ""):
            name, _, value = line.partition(":")
            self.fields.append((name.lower(), value.strip()))
        length = self.field("content-length")
        self.body = message[stream.tell():]
        self.body = self.body[: int(length)] if length.isdecimal() else self.body
        address, _, port = visitor.rpartition(":")
        self.visitor = (address.strip("[]"), int(port) if port.isdecimal() else 0)

    def field(self, name):
        return ", ".join(value for key, value in self.fields if key == name)

    def environ(self):
        """As PEP 3333 asks for it."""
        target = self.target if self.target.startswith("/") else urllib.parse.urlsplit(self.target).path or "/"
        path, _, query = target.partition("?")
        # Where a relay serves a name under a path, that is where the application is mounted.
        mount = self.url.path.rstrip("/")
        mount = mount if (path + "/").startswith(mount + "/") else ""
        scheme = self.field("x-forwarded-proto") or self.url.scheme
        host = urllib.parse.urlsplit("//" + (self.field("host") or self.url.netloc))
        environ = {
            "REQUEST_METHOD": self.method,
            "SCRIPT_NAME": urllib.parse.unquote(mount, "latin-1"),
            "PATH_INFO": urllib.parse.unquote(path[len(mount):], "latin-1"),
            "QUERY_STRING": query,
            "CONTENT_TYPE": self.field("content-type"),
            "CONTENT_LENGTH": str(len(self.body)),
            "SERVER_NAME": host.hostname or "",
            "SERVER_PORT": str(host.port or (443 if scheme == "https" else 80)),
            "SERVER_PROTOCOL": self.version,
            "REMOTE_ADDR": self.visitor[0],
            "HTTPS": "on" if scheme == "https" else "off",
        }
        for name, value in self.fields:
            # X_Y must not pass for X-Y, which a relay may have set. The body has its own ways.
            if "_" not in name and name not in ("content-type", "content-length", "transfer-encoding"):
                key = "HTTP_" + name.upper().replace("-", "_")
                glue = "; " if name == "cookie" else ","
                environ[key] = environ[key] + glue + value if key in environ else value
        return environ


class Answer:
    """The response to one request: sent in one piece if it is short, as it comes if it is flushed or long."""

    closed = False

    def __init__(self, connection, url):
        self.connection, self.url = connection, url
        self.buffer, self.begun, self.lost = bytearray(), False, False

    def write(self, data):
        self.buffer += data
        if len(self.buffer) > WHOLE:
            self.flush()
        return len(data)

    def flush(self):
        """Sends what there is; from here on an error cannot become a response any more."""
        if not self.buffer:
            return
        try:
            if not self.begun:
                self.begun = True
                self.connection.begin(self.url)
            if not self.lost:
                self.connection.http.send(b"%x\r\n%b\r\n" % (len(self.buffer), self.buffer))
        except OSError:
            self.lost = True
        self.buffer.clear()
        if self.lost:
            raise BrokenPipeError("nobody reads the rest of this response")

    def end(self):
        """404 and 410 say that the visitor did not wait, which is no trouble of ours."""
        if self.begun:
            self.flush()
            self.connection.http.send(b"0\r\n\r\n")
            self.connection.http.getresponse().read()
            return
        headers = {"Content-Type": "message/http"}
        for tries in range(1, ANSWER_TRIES + 1):
            try:
                self.connection.ask("POST", self.url, headers, bytes(self.buffer), ANSWER_LOST)
                return
            except (OSError, http.client.HTTPException):
                self.connection.http.close()
                if tries == ANSWER_TRIES:
                    raise
            time.sleep(random.uniform(0, BACK_OFF * 2**tries))


def _runner(app):
    def wsgi(request, answer):
        _Wsgi(io.BytesIO(request.body), answer, sys.stderr, request.environ()).run(app)

    cls, known = (app.func, app.keywords) if isinstance(app, functools.partial) else (app, {})
    if not (isinstance(cls, type) and issubclass(cls, http.server.BaseHTTPRequestHandler)):
        return wsgi

    class Once(cls):
        """Such a handler reads a request and writes a response as they are on the wire: just what is needed."""

        def setup(self):
            self.connection = None
            self.rfile, self.wfile = self.request

        def finish(self):
            pass

    def run(request, answer):
        server = types.SimpleNamespace(server_name=request.url.hostname, server_port=request.url.port or 443)
        Once((io.BytesIO(request.message), answer), request.visitor, server, **known)

    return run


class _Wsgi(wsgiref.handlers.SimpleHandler):
    """PEP 3333 as the standard library has it. Errors are the caller's; bodies of known length are not hurried."""

    os_environ = {}
    http_version = "1.1"
    wsgi_run_once = False

    def run(self, application):
        self.setup_environ()
        self.result = application(self.environ, self.start_response)
        self.finish_response()

    def silent(self):
        return self.environ["REQUEST_METHOD"] == "HEAD" or self.status[:3] in ("204", "304")

    def write(self, data):
        super().write(b"" if self.status and self.silent() else data)

    def set_content_length(self):
        if not self.silent():
            super().set_content_length()

    def finish_content(self):
        if self.status and self.silent() and not self.headers_sent:
            self.send_headers()
        else:
            super().finish_content()

    def send_headers(self):
        if any(line_end in name + value for name, value in self.headers.items() for line_end in "\r\n"):
            raise ValueError("a line end in a header field")
        super().send_headers()

    def _flush(self):
        if "Content-Length" not in self.headers and not self.silent():
            self.stdout.flush()


def _links(response):
    """Links by their relation (RFC 8288, as far as relays use it)."""
    links = {}
    for url, parameters in re.findall(r"<([^>]*)>([^<]*)", ", ".join(response.headers.get_all("Link", []))):
        rel = re.search(r';\s*rel\s*=\s*(?:"([^"]*)"|([^\s;,"]+))', parameters, re.IGNORECASE)
        for name in (rel.group(1) or rel.group(2) or "").lower().split() if rel else ():
            links.setdefault(name, url)
    return links


def _detail(body):
    """What the relay says of its refusal: a problem document (RFC 9457), or a line of text."""
    try:
        text = json.loads(body)["detail"].rstrip(".")
    except (ValueError, KeyError, TypeError, AttributeError):
        text = body.decode("utf-8", "replace").strip()
    return ": " + text if text and len(text) < 300 and not text.startswith("<") else ""


def _retry_after(response):
    """In seconds; 0 without the field, or where it is a date."""
    value = response.headers["Retry-After"] or ""
    return min(int(value), RETRY_AFTER_MOST) if value.isdecimal() else 0


def _token(path):
    """From a file that nobody else can write, or from PTTH_TOKEN."""
    if path is None:
        return os.environ.pop("PTTH_TOKEN", "").strip() or None
    with open(path, encoding="ascii") as file:
        if os.name == "posix" and os.fstat(file.fileno()).st_mode & 0o022:
            raise ValueError(f"{path}: others may write this file; try chmod 600")
        return file.read().strip()


def main():
    parser = argparse.ArgumentParser(description="Serves a Python application from behind a firewall.")
    parser.add_argument("app", help="module:name of a WSGI application or of an http.server handler class")
    parser.add_argument("--relay", required=True, help="the relay's URL")
    parser.add_argument("--name", required=True, help="the name to serve")
    parser.add_argument("--token-file", help="a file with the token; PTTH_TOKEN otherwise")
    parser.add_argument("--ca", help="a file with the certificates to trust, PEM")
    parser.add_argument("--threads", type=int, default=8, help="requests in hand at once")
    options = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    try:
        sys.path.insert(0, os.getcwd())
        module, _, path = options.app.partition(":")
        app = functools.reduce(getattr, (path or "app").split("."), importlib.import_module(module))
        context = ssl.create_default_context(cafile=options.ca) if options.ca else None
        common = {"relay": options.relay, "name": options.name, "threads": options.threads}
        serve(app, token=_token(options.token_file), context=context, **common)
    except Refused as refused:
        print("ptth:", refused, file=sys.stderr)
        return 3
    except (ImportError, AttributeError, ValueError, OSError) as error:
        print("ptth:", error, file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
