// Uploads with Go's net/http: upload.go URL CA BYTES COUNT. Prints the status or the error of each upload.
package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"os"
	"strconv"
)

func main() {
	url, ca := os.Args[1], os.Args[2]
	size, sizeError := strconv.Atoi(os.Args[3])
	count, countError := strconv.Atoi(os.Args[4])
	pem, err := os.ReadFile(ca)
	roots := x509.NewCertPool()
	if sizeError != nil || countError != nil || err != nil || !roots.AppendCertsFromPEM(pem) {
		fmt.Fprintln(os.Stderr, "usage: upload.go URL CA BYTES COUNT")
		os.Exit(2)
	}
	body := make([]byte, size)
	for i := 0; i < count; i++ {
		client := &http.Client{Transport: &http.Transport{
			TLSClientConfig:   &tls.Config{RootCAs: roots},
			ForceAttemptHTTP2: true,
		}}
		answer, err := client.Post(url, "application/octet-stream", bytes.NewReader(body))
		if err != nil {
			fmt.Println(err)
			continue
		}
		answer.Body.Close()
		fmt.Println(answer.StatusCode)
	}
}
