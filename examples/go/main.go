// A function that turns Markdown into HTML and lists the headings it found.
package main

import (
	"bytes"
	"context"
	"errors"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/extension"
	"github.com/yuin/goldmark/parser"
	"github.com/yuin/goldmark/text"
)

type request struct {
	Markdown string `json:"markdown"`
}

type heading struct {
	Level int    `json:"level"`
	Text  string `json:"text"`
	ID    string `json:"id"`
}

type page struct {
	HTML     string    `json:"html"`
	Headings []heading `json:"headings"`
}

var errEmpty = errors.New("the event has no markdown")

// Made once, while the function initialises; it keeps no state between events.
var markdown = goldmark.New(
	goldmark.WithExtensions(extension.GFM),
	goldmark.WithParserOptions(parser.WithAutoHeadingID()),
)

func render(_ context.Context, r request) (*page, error) {
	if r.Markdown == "" {
		return nil, errEmpty
	}
	source := []byte(r.Markdown)
	document := markdown.Parser().Parse(text.NewReader(source))
	result := &page{Headings: []heading{}}
	for node := document.FirstChild(); node != nil; node = node.NextSibling() {
		if h, ok := node.(*ast.Heading); ok {
			id, _ := h.AttributeString("id")
			name, _ := id.([]byte)
			result.Headings = append(result.Headings, heading{h.Level, string(h.Lines().Value(source)), string(name)})
		}
	}
	var html bytes.Buffer
	if err := markdown.Renderer().Render(&html, source, document); err != nil {
		return nil, err
	}
	result.HTML = html.String()
	return result, nil
}

func main() {
	lambda.Start(render)
}
