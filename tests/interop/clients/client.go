// Asks the server of tests/interop/app.py with Go's net/http client and prints what it found, as JSON; with a second argument
// also by which protocol.
package main

import (
	"encoding/json"
	"io"
	"log"
	"net/http"
	"os"
	"strings"
	"time"
)

var client = &http.Client{
	Timeout: 20 * time.Second,
	Transport: &http.Transport{
		MaxConnsPerHost:       1,
		ExpectContinueTimeout: 15 * time.Second,
	},
}

func ask(method, url string, body io.Reader, edit func(*http.Request)) (*http.Response, string) {
	request, err := http.NewRequest(method, url, body)
	if err != nil {
		log.Fatal(err)
	}
	if edit != nil {
		edit(request)
	}
	response, err := client.Do(request)
	if err != nil {
		log.Fatal(err)
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	if err != nil {
		log.Fatal(err)
	}
	return response, string(data)
}

func main() {
	url := os.Args[1]
	found := map[string]any{}
	peers := map[string]bool{}
	note := func() {
		_, peer := ask("GET", url+"/peer", nil, nil)
		peers[peer] = true
	}
	note()
	_, found["text"] = ask("GET", url+"/text", nil, nil)
	_, text := ask("GET", url+"/json", nil, nil)
	var value struct{ Answer int }
	if err := json.Unmarshal([]byte(text), &value); err != nil {
		log.Fatal(err)
	}
	found["answer"] = value.Answer
	_, found["echo"] = ask("POST", url+"/echo", strings.NewReader("papyrus"), nil)
	// A reader whose length is not known is sent in chunks.
	_, found["chunked_echo"] = ask("POST", url+"/echo", io.MultiReader(strings.NewReader("one,"), strings.NewReader("two")), nil)
	_, found["stream"] = ask("GET", url+"/stream", nil, nil)
	head, body := ask("HEAD", url+"/text", nil, nil)
	found["head_length"], found["head_body"] = head.ContentLength, len(body)
	if len(os.Args) > 2 {
		found["protocol"] = head.Proto
	}
	_, large := ask("GET", url+"/large", nil, nil)
	found["large"] = len(large)
	missing, _ := ask("GET", url+"/none", nil, nil)
	found["missing"] = missing.StatusCode
	_, found["continued"] = ask("POST", url+"/echo", strings.NewReader("patient"), func(request *http.Request) {
		request.Header.Set("Expect", "100-continue")
	})
	note()
	found["connections"] = len(peers)
	if err := json.NewEncoder(os.Stdout).Encode(found); err != nil {
		log.Fatal(err)
	}
}
