# Runs the blocks of a page, which are the files in the directory `blocks`, each in a shell of its own, as in terminals
# beside each other. It needs network, mount and process namespaces of its own, in which it is root. There
# relay.example.org is this machine, a relay runs for it, and the reader has logged in to it with the token in
# shop.token. A service on port 3000 answers every request.
#
#   sh run.sh PROGRAM DIRECTORY_OF_THIS_SCRIPT
set -eu
export PAGES_PROGRAM="$1" PAGES_SERVERS="$PWD/servers" PATH="$2/bin:$PATH"
mkdir servers page
ip link set lo up
echo '127.0.0.1 localhost relay.example.org shop.relay.example.org' > hosts
mount --bind hosts /etc/hosts
ptth certs new --out certs --host relay.example.org --host '*.relay.example.org' > /dev/null
export SSL_CERT_FILE="$PWD/certs/ca.pem" CURL_CA_BUNDLE="$PWD/certs/ca.pem"
cp certs/relay.pem page/fullchain.pem
cp certs/relay-key.pem page/key.pem
python3 "$2/service.py"

cd page
ptth relay --domain relay.example.org --listen 0.0.0.0:443 --cert fullchain.pem --key key.pem
(umask 077 && ptth token new --name shop > shop.token)
ptth login https://relay.example.org
for block in ../blocks/*; do
    echo "--- $block"
    sh -e "$block" || { cat "$PAGES_SERVERS"/*.err >&2; exit 1; }
done
