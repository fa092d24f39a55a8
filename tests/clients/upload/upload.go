// Uploads with Go's net/http: upload.go URL CA BYTES COUNT [http1] [expect]. Prints the status or the error of each
// upload. With http1, the client does not offer HTTP/2; with expect, it sends Expect: 100-continue.
package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"time"
)

func main() {
	url, ca := os.Args[1], os.Args[2]
	size, sizeError := strconv.Atoi(os.Args[3])
	count, countError := strconv.Atoi(os.Args[4])
	pem, err := os.ReadFile(ca)
	roots := x509.NewCertPool()
	if sizeError != nil || countError != nil || err != nil || !roots.AppendCertsFromPEM(pem) {
		fmt.Fprintln(os.Stderr, "usage: upload.go URL CA BYTES COUNT [http1] [expect]")
		os.Exit(2)
	}
	http1, expect := false, false
	for _, option := range os.Args[5:] {
		http1, expect = http1 || option == "http1", expect || option == "expect"
	}
	body := make([]byte, size)
	for i := 0; i < count; i++ {
		transport := &http.Transport{
			TLSClientConfig:       &tls.Config{RootCAs: roots},
			ForceAttemptHTTP2:     !http1,
			ExpectContinueTimeout: 10 * time.Second,
		}
		request, err := http.NewRequest("POST", url, bytes.NewReader(body))
		if err != nil {
			fmt.Println(err)
			continue
		}
		if expect {
			request.Header.Set("Expect", "100-continue")
		}
		answer, err := (&http.Client{Transport: transport}).Do(request)
		if err != nil {
			fmt.Println(err)
			continue
		}
		answer.Body.Close()
		version := 2
		if http1 || request.URL.Scheme == "http" {
			version = 1
		}
		if answer.ProtoMajor != version {
			fmt.Println("the answer has version", answer.Proto)
			continue
		}
		fmt.Println(answer.StatusCode)
	}
}
