// A function built with the last aws-lambda-go that speaks net/rpc alone.
package main

import (
	"context"
	"errors"
	"os"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambdacontext"
)

type event struct {
	Name  string `json:"name"`
	Fail  string `json:"fail"`
	Panic string `json:"panic"`
	Size  int    `json:"size"`
}

type answer struct {
	Hello      string            `json:"hello"`
	Client     string            `json:"client"`
	ARN        string            `json:"arn"`
	RequestID  string            `json:"request_id"`
	Trace      string            `json:"trace"`
	Identity   string            `json:"identity"`
	Custom     map[string]string `json:"custom,omitempty"`
	DeadlineMs int64             `json:"deadline_ms"`
	Filler     string            `json:"filler,omitempty"`
}

func handle(ctx context.Context, e event) (*answer, error) {
	if e.Fail == "exit" {
		os.Exit(7)
	}
	if e.Fail != "" {
		return nil, errors.New(e.Fail)
	}
	if e.Panic != "" {
		panic(e.Panic)
	}
	lc, _ := lambdacontext.FromContext(ctx)
	deadline, _ := ctx.Deadline()
	trace, _ := ctx.Value("x-amzn-trace-id").(string)
	filler := make([]byte, e.Size)
	for i := range filler {
		filler[i] = 'x'
	}
	return &answer{
		Hello: e.Name, Client: "go-rpc", ARN: lc.InvokedFunctionArn, RequestID: lc.AwsRequestID,
		Trace: trace, Identity: lc.Identity.CognitoIdentityID, Custom: lc.ClientContext.Custom,
		DeadlineMs: deadline.UnixNano() / 1e6, Filler: string(filler),
	}, nil
}

func main() {
	lambda.Start(handle)
}
