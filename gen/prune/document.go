package main

import (
	"fmt"
	"io"
	"iter"
	"net/http"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// document is one of the two OpenAPI documents.
type document struct {
	file       string
	root       *yaml.Node
	operations map[string]operation // by operationId
}

type operation struct {
	id, path, method string
	node, item       *yaml.Node // item is the path item that holds node
	from             *document
}

func (o operation) route() string { return strings.ToUpper(o.method) + " " + o.path }

// sharesMembers says whether the path item has members that hold for all its operations.
func (o operation) sharesMembers() bool {
	return slices.ContainsFunc(names(o.item), func(name string) bool {
		return !slices.Contains(methods, name) && !strings.HasPrefix(name, "x-")
	})
}

// The members of a path item that are operations (OpenAPI 3.0.3, section 4.7.9.1).
var methods = []string{"get", "put", "post", "delete", "options", "head", "patch", "trace"}

// open reads an OpenAPI document of version 3.0.
func open(file string) (*document, error) {
	root, err := read(file)
	if err != nil {
		return nil, err
	}
	spellHeaders(root)
	d := &document{file: shown(file), root: root, operations: map[string]operation{}}
	if version := member(root, "swagger"); version != nil {
		return nil, d.at(version, "this is Swagger %s; want OpenAPI 3.0", version.Value)
	}
	version := member(root, "openapi")
	if version == nil {
		return nil, d.at(root, "this is no OpenAPI document: it has no member openapi")
	}
	if !strings.HasPrefix(version.Value, "3.0.") {
		return nil, d.at(version, "this is OpenAPI %s; want 3.0.x, such as 3.0.3", version.Value)
	}
	for path, item := range members(member(root, "paths")) {
		for method, node := range members(item) {
			id := member(node, "operationId")
			if !slices.Contains(methods, method.Value) || id == nil {
				continue
			}
			o := operation{id.Value, path.Value, method.Value, node, item, d}
			if other, found := d.operations[o.id]; found {
				return nil, d.at(id, "operationId %s is here and at %s", o.id, other.route())
			}
			d.operations[o.id] = o
		}
	}
	return d, nil
}

// spellHeaders writes the names of response headers in the form of Go's net/http, as the overlay
// does. They have no case, and the generator would make two members of two spellings.
func spellHeaders(root *yaml.Node) {
	_ = walk(root, func(name string, value *yaml.Node) error {
		if name == "responses" {
			for _, response := range members(value) {
				for header := range members(member(response, "headers")) {
					header.Value = http.CanonicalHeaderKey(header.Value)
				}
			}
		}
		return nil
	})
}

// shown returns a file's name as seen from the repository's root; go generate runs in gen.
func shown(file string) string { return strings.TrimPrefix(file, "../") }

func (d *document) at(node *yaml.Node, format string, args ...any) error {
	return fmt.Errorf("%s:%w", d.file, at(node, format, args...))
}

func (d *document) component(kind, name string) *yaml.Node {
	return member(member(member(d.root, "components"), kind), name)
}

// compareWith notes the operations that upstream has too, and how these differ. It refuses
// members of d that have no effect.
func (d *document) compareWith(upstream *document, notes io.Writer) error {
	for _, name := range []string{"security", "servers"} {
		if node := member(d.root, name); node != nil {
			return d.at(node, "%s of this document has no effect; %s has it", name, upstream.file)
		}
	}
	var same []string
	for _, own := range sortedOperations(d) {
		theirs, found := upstream.operations[own.id]
		if !found {
			for _, other := range upstream.operations {
				if other.route() == own.route() {
					return d.at(own.node, "%s is %s here and %s in %s", own.route(), own.id, other.id, upstream.file)
				}
			}
			continue
		}
		differences := compareOperations(theirs, own)
		if len(differences) == 0 {
			same = append(same, own.id)
		}
		for _, difference := range differences {
			_, _ = fmt.Fprintf(notes, "%s comes from %s, no longer from %s: %s\n", own.id, upstream.file, d.file, difference)
		}
	}
	if len(same) > 0 {
		_, _ = fmt.Fprintf(notes, "%s has these with the same facts, so delete them from %s: %s\n", upstream.file, d.file, strings.Join(same, ", "))
	}
	return nil
}

func sortedOperations(d *document) []operation {
	var all []operation
	for _, o := range d.operations {
		all = append(all, o)
	}
	slices.SortFunc(all, func(a, b operation) int { return strings.Compare(a.id, b.id) })
	return all
}

// members yields the names and values of a mapping. Any other node, and nil, has none.
func members(mapping *yaml.Node) iter.Seq2[*yaml.Node, *yaml.Node] {
	return func(yield func(*yaml.Node, *yaml.Node) bool) {
		if mapping == nil || mapping.Kind != yaml.MappingNode {
			return
		}
		for pair := range slices.Chunk(mapping.Content, 2) {
			if !yield(pair[0], pair[1]) {
				return
			}
		}
	}
}

// member returns a member of a mapping, or nil.
func member(mapping *yaml.Node, name string) *yaml.Node {
	for n, value := range members(mapping) {
		if n.Value == name {
			return value
		}
	}
	return nil
}

// set replaces or adds a member.
func set(mapping *yaml.Node, name string, value *yaml.Node, line int) {
	for i := 0; i < len(mapping.Content); i += 2 {
		if mapping.Content[i].Value == name {
			mapping.Content[i+1] = value
			return
		}
	}
	key := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: name, Line: line}
	mapping.Content = append(mapping.Content, key, value)
}

var (
	// The members of these have names that the document's author chose.
	namedMembers = []string{
		"callbacks", "content", "encoding", "examples", "headers", "links", "mapping", "parameters", "properties",
		"requestBodies", "responses", "schemas", "scopes", "securitySchemes", "variables",
	}
	// These hold values, not OpenAPI.
	values = []string{"default", "enum", "example", "security", "value"}
)

// walk calls visit with each member that OpenAPI defines, and leaves out examples, other
// values, and members whose names the document's author chose.
func walk(node *yaml.Node, visit func(name string, value *yaml.Node) error) error {
	if node == nil {
		return nil
	}
	if node.Kind == yaml.SequenceNode {
		for _, item := range node.Content {
			if err := walk(item, visit); err != nil {
				return err
			}
		}
	}
	for name, value := range members(node) {
		if err := visit(name.Value, value); err != nil {
			return err
		}
		if slices.Contains(values, name.Value) {
			continue
		}
		inside := []*yaml.Node{value}
		if named(name.Value, value) {
			inside = value.Content
		}
		for _, child := range inside {
			if err := walk(child, visit); err != nil {
				return err
			}
		}
	}
	return nil
}

// named says whether the author chose the names of value's members.
func named(name string, value *yaml.Node) bool {
	return value.Kind == yaml.MappingNode && slices.Contains(namedMembers, name)
}
