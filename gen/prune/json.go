package main

import (
	"bytes"
	"errors"
	"io"

	"github.com/go-json-experiment/json/jsontext"
	"go.yaml.in/yaml/v3"
)

// parseJSON reads JSON as JSON. YAML has other escapes: it knows no surrogate pairs.
func parseJSON(text []byte) (*yaml.Node, error) {
	p := jsonParser{
		text:    text,
		decoder: jsontext.NewDecoder(bytes.NewReader(text), jsontext.AllowDuplicateNames(true)),
		line:    1,
	}
	root, err := p.value()
	if err == nil {
		if _, err = p.decoder.ReadToken(); errors.Is(err, io.EOF) {
			return root, nil
		}
	}
	fault := at(&yaml.Node{Line: p.line}, "neither YAML nor JSON: the JSON value ends before the text")
	if syntax, ok := errors.AsType[*jsontext.SyntacticError](err); ok {
		fault = at(&yaml.Node{Line: lineAt(text, int(syntax.ByteOffset))}, "neither YAML nor JSON: %w", syntax.Err)
	}
	return nil, fault
}

type jsonParser struct {
	text    []byte
	decoder *jsontext.Decoder
	offset  int // of the last token's end
	line    int // of offset
}

func (p *jsonParser) value() (*yaml.Node, error) {
	token, err := p.decoder.ReadToken()
	if err != nil {
		return nil, err
	}
	end := int(p.decoder.InputOffset())
	p.line += bytes.Count(p.text[p.offset:end], []byte("\n"))
	p.offset = end
	node := &yaml.Node{Kind: yaml.ScalarNode, Value: token.String(), Line: p.line}
	switch kind := token.Kind(); kind {
	case '{', '[':
		return node, p.content(node, kind)
	case '"':
		node.Tag = "!!str"
	case '0':
		node.Tag = "!!float"
	case 't', 'f':
		node.Tag = "!!bool"
	default:
		node.Tag = "!!null"
	}
	return node, nil
}

func (p *jsonParser) content(node *yaml.Node, kind jsontext.Kind) error {
	node.Value, node.Kind = "", yaml.MappingNode
	if kind == '[' {
		node.Kind = yaml.SequenceNode
	}
	for {
		if next := p.decoder.PeekKind(); next == '}' || next == ']' {
			_, err := p.decoder.ReadToken()
			return err
		}
		child, err := p.value()
		if err != nil {
			return err
		}
		node.Content = append(node.Content, child)
	}
}
