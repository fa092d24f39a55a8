"""Uploads with Python's http.client, which sends the whole body before it reads: upload.py URL CA BYTES COUNT.

Prints the status or the error of each upload.
"""

import http.client
import ssl
import sys
from urllib.parse import urlsplit

url, ca, size, count = urlsplit(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
body = b"x" * size
for _ in range(count):
    if url.scheme == "https":
        context = ssl.create_default_context(cafile=ca)
        connection = http.client.HTTPSConnection(url.netloc, timeout=60, context=context)
    else:
        connection = http.client.HTTPConnection(url.netloc, timeout=60)
    try:
        connection.request("POST", url.path, body=body)
        answer = connection.getresponse()
        answer.read()
        print(answer.status)
    except (OSError, http.client.HTTPException) as error:
        print(repr(error))
    finally:
        connection.close()
