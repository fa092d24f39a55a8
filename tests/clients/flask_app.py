"""What the tests serve from Flask."""

from flask import Flask, Response, request

import app as plain

app = Flask(__name__)


@app.errorhandler(RuntimeError)
def failed(error):
    app.logger.error("RuntimeError: %s", error)
    return "failed", 500


@app.post("/echo")
def echo():
    return request.get_data(), {"X-Length": request.headers["Content-Length"]}


@app.get("/none")
def none():
    return "", 204


@app.get("/fail")
def fail():
    raise RuntimeError("deliberate failure")


@app.get("/meet")
def meet():
    plain.met.wait()
    return "met"


@app.get("/go")
def go():
    plain.gone.set()
    return "gone"


@app.get("/stream")
@app.get("/broken")
def stream():
    return Response(plain.twice(request.path == "/broken"), mimetype="text/plain")


@app.get("/", defaults={"path": ""})
@app.get("/<path:path>")
def anything(path):
    query = request.query_string.decode()
    answer = Response(f"{request.method} /{path}" + (f"?{query}" if query else ""))
    answer.headers["X-Cookie"] = request.headers.get("Cookie", "")
    answer.set_cookie("a", "1", path=None)
    answer.set_cookie("b", "2", path=None)
    return answer
