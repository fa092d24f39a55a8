#!/bin/sh
# Serves HTTP from behind a firewall with curl and a shell: PTTH_TOKEN=… ./serve.sh RELAY NAME [COMMAND [ARGUMENT…]]
set -u
token=${PTTH_TOKEN-}
unset PTTH_TOKEN
case $# in 0 | 1) echo "usage: PTTH_TOKEN=... $0 RELAY NAME [COMMAND [ARGUMENT...]]" >&2 && exit 2 ;; esac
case $token in '' | *[!!-~]* | *[\"\\]*) echo "serve.sh: PTTH_TOKEN holds no token" >&2 && exit 2 ;; esac
gateway=${1%/}/reversehttp name=$2 origin=$(printf %s "$1" | sed 's|^\([a-z]*://[^/]*\).*|\1|')
shift 2 && [ $# -gt 0 ] || set -- sh -c 'cat "$REQUEST"'
dir=$(mktemp -d) && export REQUEST="$dir/body"
url='' private='' public='' child='' fails=0

call() { # Runs curl. The status is then in $code, the head in $dir/head, the body in $dir/body or where --output says.
    : >"$dir/head"
    curl --config - --silent --show-error --connect-timeout 20 --speed-limit 1 --speed-time 60 \
        --dump-header "$dir/head" --write-out '%{http_code}' "$@" >"$dir/code" 2>"$dir/error" <<CONFIG &
header = "Authorization: Bearer $token"
CONFIG
    child=$!
    if wait "$child"; then code=$(cat "$dir/code"); else code=000; fi
    child=''
}
field() { sed -n "s/^$1: *//p" "$dir/head" | tr -d '\r'; }
here() { sed -n 's|^\([a-z]*://[^/]*\)\{0,1\}/|'"$origin"'/|p'; }
link() { field '[Ll]ink' | sed -n 's/.*<\([^>]*\)>; *rel="'"$1"'".*/\1/p'; }
finish() {
    trap '' INT TERM HUP
    [ -z "$child" ] || kill "$child" 2>/dev/null
    [ -z "$private" ] || call --max-time 5 --request DELETE --output /dev/null "$private"
    rm -rf "$dir" && exit "$1"
}
trap 'finish 0' INT TERM HUP
answer() {
    read -r REQUEST_METHOD REQUEST_URI _ <"$REQUEST" && export REQUEST_METHOD REQUEST_URI
    head=$(LC_ALL=C awk '{ n += length($0) + 1 } /^\r?$/ { exit } END { print n }' "$REQUEST")
    if ! tail -c +$((head + 1)) "$REQUEST" | "$@" >"$dir/out"; then
        printf 'HTTP/1.1 500 Internal Server Error\r\n\r\nthe command failed\n' >"$dir/out"
    fi
    case $(head -c 5 "$dir/out" | tr -d '\0') in HTTP/) : >"$dir/line" ;; *) printf 'HTTP/1.1 200 OK\r\n\r\n' >"$dir/line" ;; esac
    cat "$dir/line" "$dir/out" >"$dir/answer"
    call --retry 3 --header 'Content-Type: message/http' --data-binary "@$dir/answer" --output /dev/null "$url"
}
while :; do
    if [ -z "$url" ]; then call --data-urlencode "name=$name" --data lease=150 --output /dev/null "$gateway"
    else call --header 'Accept: message/http' --output "$REQUEST" "$url"; fi
    next=$(link next | here)
    case $code:$url in
    2*:) url=$(link first | here) private=$(field '[Ll]ocation' | here)
        [ -n "$url" ] || { echo "serve.sh: $gateway does not speak ReverseHttp" >&2; sleep 5; }
        [ "$public" = "$(link related)" ] || { public=$(link related) && echo "$public"; } ;;
    200:*) answer "$@"; url=$next fails=0 ;;
    204:*) url=${next:-$url} fails=0 ;;
    401:* | 403:*) echo "serve.sh: the relay refused the name $name ($code): check PTTH_TOKEN and NAME" >&2; private='' finish 3 ;;
    *) case $code:$url in 404:?* | 410:?*) url='' ;; *) echo "serve.sh: $code $(cat "$dir/error")" >&2 ;; esac
        wait=$(field '[Rr]etry-[Aa]fter' | sed -n 's/^\([0-9]\{1,3\}\)$/\1/p') fails=$((fails < 5 ? fails + 1 : 5))
        sleep "${wait:-$(awk -v s="$$$(date +%s)" -v n="$fails" 'BEGIN { srand(s); print int(1 + rand() * 2 ^ n) }')}" &
        child=$! && wait "$child" ;;
    esac
done
