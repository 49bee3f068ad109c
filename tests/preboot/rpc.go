// What a go1.x program is that answers net/rpc alone, as aws-lambda-go up to 1.13.3 does.
package main

import (
	"encoding/json"
	"net"
	"net/rpc"
	"os"
)

type PingRequest struct{}
type PingResponse struct{}

type Timestamp struct{ Seconds, Nanos int64 }

type InvokeRequest struct {
	Payload   []byte
	RequestId string
	Deadline  Timestamp
}

type InvokeResponse struct{ Payload []byte }

type Function struct{}

func (Function) Ping(*PingRequest, *PingResponse) error { return nil }

// The event is a list of variables' names, the result their values.
func (Function) Invoke(request *InvokeRequest, response *InvokeResponse) error {
	var names, values []string
	if err := json.Unmarshal(request.Payload, &names); err != nil {
		return err
	}
	for _, name := range names {
		values = append(values, os.Getenv(name))
	}
	var err error
	response.Payload, err = json.Marshal(values)
	return err
}

func main() {
	listener, err := net.Listen("tcp", "localhost:"+os.Getenv("_LAMBDA_SERVER_PORT"))
	if err == nil {
		err = rpc.Register(Function{})
	}
	if err != nil {
		panic(err)
	}
	rpc.Accept(listener)
}
