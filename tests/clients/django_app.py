"""What the tests serve from Django."""

from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse, StreamingHttpResponse
from django.urls import re_path

import app as plain

settings.configure(
    ALLOWED_HOSTS=[".ptth.localhost"],
    ROOT_URLCONF=__name__,
    LOGGING={
        "version": 1,
        "disable_existing_loggers": False,
        "handlers": {"stderr": {"class": "logging.StreamHandler"}},
        "root": {"handlers": ["stderr"]},
    },
)


def answer(request):
    path = request.path
    if path == "/fail":
        raise RuntimeError("deliberate failure")
    if path == "/none":
        return HttpResponse(status=204)
    if path == "/echo":
        return HttpResponse(request.body, headers={"X-Length": request.headers["Content-Length"]})
    if path in ("/stream", "/broken"):
        return StreamingHttpResponse(plain.twice(path == "/broken"), content_type="text/plain")
    if path == "/meet":
        plain.met.wait()
        return HttpResponse("met")
    if path == "/go":
        plain.gone.set()
        return HttpResponse("gone")
    query = request.META["QUERY_STRING"]
    response = HttpResponse(f"{request.method} {path}" + (f"?{query}" if query else ""))
    response["X-Cookie"] = request.headers.get("Cookie", "")
    response.set_cookie("a", "1", path=None)
    response.set_cookie("b", "2", path=None)
    return response


urlpatterns = [re_path("", answer)]
app = get_wsgi_application()
