// A function's life through the AWS SDK for Go, version 2.
package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"reflect"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
)

var (
	ctx    = context.Background()
	name   = aws.String(os.Getenv("SDK_FUNCTION"))
	client *lambda.Client
)

type result struct {
	Hello, Version, ErrorType, ErrorMessage string
	Release                                 int
}

func ok(step string) { fmt.Println("ok:", step) }

func need[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

func same(got, wanted any) {
	if !reflect.DeepEqual(got, wanted) {
		panic(fmt.Sprintf("got %#v, not %#v", got, wanted))
	}
}

func holds(text, part string) {
	if !strings.Contains(text, part) {
		panic(fmt.Sprintf("no %q in %q", part, text))
	}
}

func read(variable string) []byte { return need(os.ReadFile(os.Getenv(variable))) }

func invoke(event string, change ...func(*lambda.InvokeInput)) (*lambda.InvokeOutput, result) {
	input := &lambda.InvokeInput{FunctionName: name, Payload: []byte(event)}
	for _, c := range change {
		c(input)
	}
	answer := need(client.Invoke(ctx, input))
	var r result
	if len(answer.Payload) > 0 {
		if err := json.Unmarshal(answer.Payload, &r); err != nil {
			panic(err)
		}
	}
	return answer, r
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func main() {
	client = lambda.NewFromConfig(need(config.LoadDefaultConfig(ctx)))
	arn := "arn:aws:lambda:us-east-1:000000000000:function:" + *name

	made := need(client.CreateFunction(ctx, &lambda.CreateFunctionInput{
		FunctionName: name,
		Runtime:      types.Runtime(os.Getenv("SDK_RUNTIME")),
		Role:         aws.String(os.Getenv("SDK_ROLE")),
		Handler:      aws.String("app.handler"),
		Code:         &types.FunctionCode{ZipFile: read("SDK_ZIP_1")},
		Timeout:      aws.Int32(10),
		MemorySize:   aws.Int32(256),
		Environment:  &types.Environment{Variables: map[string]string{"COLOUR": "red"}},
	}))
	same([]any{*made.FunctionArn, *made.Version, *made.MemorySize}, []any{arn, "$LATEST", int32(256)})
	ok("create")

	active := lambda.NewFunctionActiveV2Waiter(client, func(o *lambda.FunctionActiveV2WaiterOptions) {
		o.MinDelay, o.MaxDelay = time.Second, time.Second
	})
	must(active.Wait(ctx, &lambda.GetFunctionInput{FunctionName: name}, time.Minute))
	got := need(client.GetFunction(ctx, &lambda.GetFunctionInput{FunctionName: name}))
	same(got.Configuration.State, types.StateActive)
	ok("wait-active")

	answer, r := invoke(`{"name":"Ada","id":"sync-1"}`, func(i *lambda.InvokeInput) { i.LogType = types.LogTypeTail })
	same(r, result{Hello: "Ada", Release: 1, Version: "$LATEST"})
	same([]any{answer.StatusCode, *answer.ExecutedVersion, answer.FunctionError}, []any{int32(200), "$LATEST", (*string)(nil)})
	tail := string(need(base64.StdEncoding.DecodeString(*answer.LogResult)))
	holds(tail, "seen sync-1")
	holds(tail, "REPORT RequestId:")
	ok("invoke")

	answer, r = invoke(`{"fail":"refused"}`)
	same([]any{answer.StatusCode, *answer.FunctionError}, []any{int32(200), "Unhandled"})
	same([]any{r.ErrorType, r.ErrorMessage}, []any{"ValueError", "refused"})
	ok("function-error")

	first := need(client.PublishVersion(ctx, &lambda.PublishVersionInput{FunctionName: name}))
	same([]any{*first.Version, *first.CodeSha256}, []any{"1", *made.CodeSha256})
	published := lambda.NewPublishedVersionActiveWaiter(client, func(o *lambda.PublishedVersionActiveWaiterOptions) {
		o.MinDelay, o.MaxDelay = time.Second, time.Second
	})
	version := &lambda.GetFunctionConfigurationInput{FunctionName: name, Qualifier: aws.String("1")}
	must(published.Wait(ctx, version, time.Minute))
	ok("publish")

	alias := need(client.CreateAlias(ctx, &lambda.CreateAliasInput{
		FunctionName: name, Name: aws.String("live"), FunctionVersion: aws.String("1"),
	}))
	same([]any{*alias.AliasArn, *alias.FunctionVersion}, []any{arn + ":live", "1"})
	ok("alias")

	live := func(i *lambda.InvokeInput) { i.Qualifier = aws.String("live") }
	answer, r = invoke(`{"name":"Ada"}`, live)
	same([]any{*answer.ExecutedVersion, r}, []any{"1", result{Hello: "Ada", Release: 1, Version: "1"}})
	ok("invoke-alias")

	answer, _ = invoke(`{"name":"Ada","id":"async-1"}`, func(i *lambda.InvokeInput) {
		i.InvocationType = types.InvocationTypeEvent
	})
	same([]any{answer.StatusCode, len(answer.Payload)}, []any{int32(202), 0})
	ok("event")

	updated := need(client.UpdateFunctionCode(ctx, &lambda.UpdateFunctionCodeInput{
		FunctionName: name, ZipFile: read("SDK_ZIP_2"),
	}))
	same(*updated.CodeSha256 == *made.CodeSha256, false)
	changed := lambda.NewFunctionUpdatedV2Waiter(client, func(o *lambda.FunctionUpdatedV2WaiterOptions) {
		o.MinDelay, o.MaxDelay = time.Second, time.Second
	})
	must(changed.Wait(ctx, &lambda.GetFunctionInput{FunctionName: name}, time.Minute))
	_, r = invoke(`{"name":"Ada"}`)
	same(r.Release, 2)
	ok("update-code")

	second := need(client.PublishVersion(ctx, &lambda.PublishVersionInput{
		FunctionName: name, CodeSha256: updated.CodeSha256,
	}))
	same(*second.Version, "2")
	version.Qualifier = aws.String("2")
	must(published.Wait(ctx, version, time.Minute))
	ok("publish-again")

	moved := need(client.UpdateAlias(ctx, &lambda.UpdateAliasInput{
		FunctionName: name, Name: aws.String("live"), FunctionVersion: aws.String("2"), RevisionId: alias.RevisionId,
	}))
	same(*moved.RevisionId == *alias.RevisionId, false)
	answer, r = invoke(`{"name":"Ada"}`, live)
	same([]any{*answer.ExecutedVersion, r.Release}, []any{"2", 2})
	_, err := client.UpdateAlias(ctx, &lambda.UpdateAliasInput{
		FunctionName: name, Name: aws.String("live"), FunctionVersion: aws.String("1"), RevisionId: alias.RevisionId,
	})
	var stale *types.PreconditionFailedException
	same(errors.As(err, &stale), true)
	ok("update-alias")

	var versions []string
	pages := lambda.NewListVersionsByFunctionPaginator(client, &lambda.ListVersionsByFunctionInput{
		FunctionName: name, MaxItems: aws.Int32(1),
	})
	for pages.HasMorePages() {
		for _, v := range need(pages.NextPage(ctx)).Versions {
			versions = append(versions, *v.Version)
		}
	}
	same(versions, []string{"$LATEST", "1", "2"})
	ok("list-versions")

	stream := need(client.InvokeWithResponseStream(ctx, &lambda.InvokeWithResponseStreamInput{
		FunctionName: name, Payload: []byte(`{"name":"Ada"}`),
	})).GetStream()
	var body bytes.Buffer
	var complete *types.InvokeWithResponseStreamCompleteEvent
	for event := range stream.Events() {
		switch e := event.(type) {
		case *types.InvokeWithResponseStreamResponseEventMemberPayloadChunk:
			body.Write(e.Value.Payload)
		case *types.InvokeWithResponseStreamResponseEventMemberInvokeComplete:
			complete = &e.Value
		}
	}
	must(stream.Err())
	must(stream.Close())
	holds(body.String(), `"Ada"`)
	same([]any{complete != nil, complete != nil && complete.ErrorCode == nil}, []any{true, true})
	ok("stream")

	missing := aws.String(*name + "-missing")
	_, err = client.GetFunction(ctx, &lambda.GetFunctionInput{FunctionName: missing})
	var notFound *types.ResourceNotFoundException
	same(errors.As(err, &notFound), true)
	holds(notFound.ErrorMessage(), "Function not found: "+arn+"-missing")
	ok("not-found")

	need(client.DeleteAlias(ctx, &lambda.DeleteAliasInput{FunctionName: name, Name: aws.String("live")}))
	need(client.DeleteFunction(ctx, &lambda.DeleteFunctionInput{FunctionName: name}))
	_, err = client.GetFunction(ctx, &lambda.GetFunctionInput{FunctionName: name})
	same(errors.As(err, &notFound), true)
	ok("delete")
}
