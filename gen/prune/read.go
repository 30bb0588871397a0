package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// The gateway's document has 170 KB and 10,000 nodes.
const (
	maxSize  = 4 << 20 // bytes
	maxNodes = 250_000 // after each alias is replaced by a copy of its node
)

// read returns the tree of a YAML or JSON file. The tree has no aliases, no merge keys and
// no member twice. The checks see the tree as the file has it.
func read(file string, checks ...func(*yaml.Node) error) (*yaml.Node, error) {
	f, err := os.Open(file) //nolint:gosec // The arguments name the files.
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	text, err := io.ReadAll(io.LimitReader(f, maxSize+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxSize {
		return nil, fmt.Errorf("%s: larger than %d MiB", shown(file), maxSize>>20)
	}
	text = bytes.TrimPrefix(text, []byte("\ufeff"))
	root, err := parseJSON(text)
	if jsonErr := err; err != nil {
		root, err = parseYAML(text)
		if err != nil && bytes.HasPrefix(bytes.TrimSpace(text), []byte("{")) {
			err = jsonErr
		}
	}
	for _, check := range checks {
		if err == nil {
			err = check(root)
		}
	}
	if err == nil {
		root, err = (&resolver{}).resolve(root)
	}
	if err != nil {
		return nil, fmt.Errorf("%s:%w", shown(file), err)
	}
	return root, nil
}

// at returns an error whose text continues a file's name and colon with the line of node,
// if node has one.
func at(node *yaml.Node, format string, args ...any) error {
	err := fmt.Errorf(format, args...)
	if node.Line == 0 {
		return fmt.Errorf(" %w", err)
	}
	return fmt.Errorf("%d: %w", node.Line, err)
}

var (
	// The parser knows version 1.1 alone. What the two versions read in another way does not
	// occur in an OpenAPI document.
	yamlVersion = regexp.MustCompile(`(?m)^%YAML 1\.[0-9]+`)
	yamlError   = regexp.MustCompile(`^yaml: (?:line ([0-9]+): )?`)
	tabIndented = regexp.MustCompile(`(?m)^ *\t`)
	anchorError = regexp.MustCompile(`unknown anchor '(.+)' referenced`)
	hidden      = regexp.MustCompile(`[^\t\n\r -~\x{80}-\x{10ffff}]|\x{fffd}`) // U+FFFD is also what is no UTF-8
	directive   = regexp.MustCompile(`(?m)^%`)
)

func parseYAML(text []byte) (*yaml.Node, error) {
	decoder := yaml.NewDecoder(bytes.NewReader(yamlVersion.ReplaceAll(text, []byte("%YAML 1.1"))))
	var file, second yaml.Node
	err := decoder.Decode(&file)
	switch {
	case errors.Is(err, io.EOF):
		return nil, at(&yaml.Node{}, "the file is empty")
	case err != nil:
		return nil, yamlFault(text, err)
	}
	switch err = decoder.Decode(&second); {
	case err == nil:
		return nil, at(&second, "a second YAML document begins here")
	case !errors.Is(err, io.EOF):
		return nil, yamlFault(text, err)
	}
	return file.Content[0], nil
}

func yamlFault(text []byte, err error) error {
	message := yamlError.ReplaceAllString(err.Error(), "")
	line := 0
	if found := yamlError.FindStringSubmatch(err.Error()); found != nil {
		line, _ = strconv.Atoi(found[1])
	}
	var place []int
	switch anchor := anchorError.FindStringSubmatch(message); {
	case strings.Contains(message, "cannot start any token"), strings.Contains(message, "found a tab"):
		if place = tabIndented.FindIndex(text); place != nil {
			return at(&yaml.Node{Line: lineAt(text, place[0])}, "a tab indents this line; YAML indents with spaces")
		}
	case strings.Contains(message, "<document start>"): // The parser counts the lines of this from 0.
		return at(&yaml.Node{Line: line + 1}, "the document ends before the text")
	// The parser names no line of these.
	case anchor != nil:
		place = regexp.MustCompile(`\*` + regexp.QuoteMeta(anchor[1])).FindIndex(text)
	case strings.Contains(message, "UTF-8"), strings.Contains(message, "control characters"):
		place = hidden.FindIndex(text)
	case strings.Contains(message, "directive"), strings.Contains(message, "incompatible"):
		place = directive.FindIndex(text)
	}
	if line == 0 && place != nil {
		line = lineAt(text, place[0])
	}
	return at(&yaml.Node{Line: line}, "neither YAML nor JSON: %s", message)
}

func lineAt(text []byte, offset int) int { return bytes.Count(text[:offset], []byte("\n")) + 1 }

// resolver copies a tree and counts its nodes.
type resolver struct{ nodes int }

func (r *resolver) resolve(node *yaml.Node) (*yaml.Node, error) {
	if r.nodes++; r.nodes > maxNodes {
		return nil, at(node, "with its aliases, the document has more than %d nodes", maxNodes)
	}
	switch node.Kind {
	case yaml.AliasNode:
		return r.resolve(node.Alias)
	case yaml.MappingNode:
		return r.mapping(node)
	case yaml.SequenceNode:
		list := &yaml.Node{Kind: yaml.SequenceNode, Line: node.Line}
		for _, item := range node.Content {
			resolved, err := r.resolve(item)
			if err != nil {
				return nil, err
			}
			list.Content = append(list.Content, resolved)
		}
		return list, nil
	default:
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: node.ShortTag(), Value: node.Value, Line: node.Line}, nil
	}
}

func (r *resolver) mapping(node *yaml.Node) (*yaml.Node, error) {
	mapping := &yaml.Node{Kind: yaml.MappingNode, Line: node.Line}
	var merged []*yaml.Node
	for name, value := range members(node) {
		resolved, err := r.resolve(value)
		if err != nil {
			return nil, err
		}
		if name.Kind == yaml.AliasNode {
			name = name.Alias
		}
		switch {
		case name.ShortTag() == "!!merge":
			merged = append(merged, resolved)
		case name.Kind != yaml.ScalarNode:
			return nil, at(name, "a member's name is a mapping or a sequence")
		case member(mapping, name.Value) != nil:
			return nil, at(name, "a second member %q", name.Value)
		default:
			set(mapping, name.Value, resolved, name.Line)
		}
	}
	for _, source := range merged {
		sources := []*yaml.Node{source}
		if source.Kind == yaml.SequenceNode {
			sources = source.Content
		}
		for _, source := range sources {
			if source.Kind != yaml.MappingNode {
				return nil, at(source, "<< merges a mapping, or a sequence of mappings")
			}
			for name, value := range members(source) {
				if member(mapping, name.Value) == nil {
					set(mapping, name.Value, value, name.Line)
				}
			}
		}
	}
	return mapping, nil
}
