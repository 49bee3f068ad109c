// Starts a Go function with the net/rpc door, invokes it once for each further argument and prints each
// answer as a line of JSON.
package main

import (
	"encoding/json"
	"fmt"
	"log"
	"net"
	"net/rpc"
	"os"
	"os/exec"
	"strconv"
	"time"
)

type pingRequest struct{}

type pingResponse struct{}

type timestamp struct{ Seconds, Nanos int64 }

type invokeRequest struct {
	Payload               []byte
	RequestId             string
	XAmznTraceId          string
	Deadline              timestamp
	InvokedFunctionArn    string
	CognitoIdentityId     string
	CognitoIdentityPoolId string
	ClientContext         []byte
}

type frame struct {
	Path  string `json:"path"`
	Line  int32  `json:"line"`
	Label string `json:"label"`
}

type invokeError struct {
	Message    string
	Type       string
	StackTrace []*frame
	ShouldExit bool
}

type invokeResponse struct {
	Payload []byte
	Error   *invokeError
}

func main() {
	log.SetFlags(0)
	probe, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	address := probe.Addr().(*net.TCPAddr)
	probe.Close()

	function := exec.Command(os.Args[1])
	function.Env = []string{"_LAMBDA_SERVER_PORT=" + strconv.Itoa(address.Port)}
	function.Stdout, function.Stderr = os.Stderr, os.Stderr
	if err := function.Start(); err != nil {
		log.Fatal(err)
	}
	err = converse(address.String(), os.Args[2:])
	function.Process.Kill()
	function.Wait()
	if err != nil {
		log.Fatal(err)
	}
}

func converse(address string, payloads []string) error {
	var client *rpc.Client
	for tries := 0; client == nil; tries++ {
		var err error
		if client, err = rpc.Dial("tcp", address); err != nil {
			if tries == 200 {
				return err
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	if err := client.Call("Function.Ping", &pingRequest{}, &pingResponse{}); err != nil {
		return err
	}
	for _, payload := range payloads {
		var response invokeResponse
		err := client.Call("Function.Invoke", &invokeRequest{
			Payload:   []byte(payload),
			RequestId: "8476a536-e9f4-11e8-9739-2dfe598c3fcd",
			Deadline:  timestamp{4_000_000_000, 250_000_000},
		}, &response)
		if err != nil {
			return err
		}
		var value json.RawMessage = response.Payload
		if len(value) == 0 {
			value = json.RawMessage("null")
		}
		line, err := json.Marshal(map[string]interface{}{"Payload": value, "Error": response.Error})
		if err != nil {
			return err
		}
		fmt.Println(string(line))
	}
	return nil
}
