# Opens a TLS connection of OpenSSL to a relay on this machine, as HOST: visit.sh PORT HOST CA.
case $2 in
*[!0-9.]*) set -- "$1" "$3" -servername "$2" -verify_hostname "$2" ;;
*) set -- "$1" "$3" -noservername -verify_ip "$2" ;;
esac
port=$1 ca=$2
shift 2
openssl s_client -connect "127.0.0.1:$port" -CAfile "$ca" -verify_return_error "$@" </dev/null >/dev/null && echo accepted
