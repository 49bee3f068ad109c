// A function built with AWS's current Go client, which speaks the Runtime API.
package main

import (
	"context"
	"errors"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambdacontext"
)

type event struct {
	Name  string `json:"name"`
	Fail  string `json:"fail"`
	Panic string `json:"panic"`
}

type answer struct {
	Hello     string `json:"hello"`
	Client    string `json:"client"`
	ARN       string `json:"arn"`
	RequestID string `json:"request_id"`
	Function  string `json:"function"`
}

func handle(ctx context.Context, e event) (*answer, error) {
	if e.Fail != "" {
		return nil, errors.New(e.Fail)
	}
	if e.Panic != "" {
		panic(e.Panic)
	}
	lc, _ := lambdacontext.FromContext(ctx)
	return &answer{
		Hello: e.Name, Client: "go", ARN: lc.InvokedFunctionArn, RequestID: lc.AwsRequestID,
		Function: lambdacontext.FunctionName,
	}, nil
}

func main() {
	lambda.Start(handle)
}
