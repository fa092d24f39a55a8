// Opens a TLS connection of Go to a relay on this machine, as HOST: visit.go PORT HOST CA.
package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
)

func main() {
	port, host, ca := os.Args[1], os.Args[2], os.Args[3]
	pem, err := os.ReadFile(ca)
	roots := x509.NewCertPool()
	if err != nil || !roots.AppendCertsFromPEM(pem) {
		fmt.Fprintln(os.Stderr, "cannot read", ca, err)
		os.Exit(2)
	}
	connection, err := tls.Dial("tcp", "127.0.0.1:"+port, &tls.Config{ServerName: host, RootCAs: roots})
	if err != nil {
		fmt.Fprintln(os.Stderr, "refused:", err)
		os.Exit(1)
	}
	defer connection.Close()
	fmt.Println("accepted")
}
