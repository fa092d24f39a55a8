#!/bin/sh
# What the tests serve from a shell.
case $REQUEST_URI in
/fail) exit 1 ;;
/none) printf 'HTTP/1.1 204 No Content\r\n\r\n' ;;
/echo) printf 'HTTP/1.1 200 OK\r\nX-Length: %s\r\n\r\n' "$(sed -n 's/^content-length: *//Ip; /^.$/q' "$REQUEST" | tr -d '\r')" && cat ;;
*)
    cookie=$(sed -n 's/^cookie: *//Ip; /^.$/q' "$REQUEST" | tr -d '\r')
    printf 'HTTP/1.1 200 OK\r\nX-Cookie: %s\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n\r\n' "$cookie"
    printf '%s %s' "$REQUEST_METHOD" "$REQUEST_URI"
    ;;
esac
