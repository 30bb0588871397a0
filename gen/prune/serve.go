package main

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// served is the document of the operations that this service serves.
type served struct {
	root          *yaml.Node
	upstream, own *document
	operations    []operation
	components    *yaml.Node
	visited       map[visit]bool
}

type visit struct {
	reference string
	from      *document
}

// serve takes the operations with these ids, and the components that these and the overlay
// refer to.
func serve(upstream, own *document, overlay *yaml.Node, ids []string) (*served, error) {
	s := &served{root: mapping(), upstream: upstream, own: own, components: mapping(), visited: map[visit]bool{}}
	for name, value := range members(upstream.root) {
		if !slices.Contains([]string{"components", "paths", "tags", "webhooks"}, name.Value) {
			set(s.root, name.Value, value, name.Line)
		}
	}
	set(s.root, "paths", mapping(), 0)
	set(s.root, "components", s.components, 0)
	if err := s.requireSchemes(member(upstream.root, "security"), upstream); err != nil {
		return nil, err
	}
	for _, id := range ids {
		o, found := upstream.operations[id]
		if !found {
			o, found = own.operations[id]
		}
		if !found {
			return nil, fmt.Errorf("no operation has operationId %s, neither in %s nor in %s", id, upstream.file, own.file)
		}
		if err := s.take(o); err != nil {
			return nil, fmt.Errorf("%w (operation %s)", err, id)
		}
	}
	s.takeTags()
	return s, s.require(overlay, &document{file: "overlay"})
}

func mapping() *yaml.Node { return &yaml.Node{Kind: yaml.MappingNode} }

func (s *served) take(o operation) error {
	item := member(member(s.root, "paths"), o.path)
	if item == nil {
		item = mapping()
		set(member(s.root, "paths"), o.path, item, 0)
	}
	for _, other := range s.operations {
		if other.path == o.path && other.from != o.from && (o.sharesMembers() || other.sharesMembers()) {
			return o.from.at(o.node, "path %s has members for all its operations, and %s is in the other document; move the members into the operations", o.path, other.id)
		}
	}
	for name, value := range members(o.item) {
		if slices.Contains(methods, name.Value) {
			continue
		}
		set(item, name.Value, value, name.Line)
		if err := s.require(&yaml.Node{Kind: yaml.MappingNode, Content: []*yaml.Node{name, value}}, o.from); err != nil {
			return err
		}
	}
	set(item, o.method, o.node, o.node.Line)
	s.operations = append(s.operations, o)
	security := member(o.node, "security")
	if security == nil {
		security = member(s.upstream.root, "security")
	}
	if !protects(security) {
		return o.from.at(o.node, "%s is open to callers without a credential", o.route())
	}
	if err := s.requireSchemes(security, o.from); err != nil {
		return err
	}
	return s.require(o.node, o.from)
}

// protects says whether each alternative of a security requirement names a scheme.
func protects(security *yaml.Node) bool {
	return security != nil && len(security.Content) > 0 &&
		!slices.ContainsFunc(security.Content, func(alternative *yaml.Node) bool { return len(alternative.Content) == 0 })
}

// requireSchemes takes security schemes. A requirement names them without a reference.
func (s *served) requireSchemes(security *yaml.Node, from *document) error {
	if security == nil {
		return nil
	}
	for _, alternative := range security.Content {
		for name := range members(alternative) {
			if err := s.refer(name, "#/components/securitySchemes/"+name.Value, from); err != nil {
				return err
			}
		}
	}
	return nil
}

// require takes the components that node refers to, and the ones that these refer to.
func (s *served) require(node *yaml.Node, from *document) error {
	return walk(node, func(name string, value *yaml.Node) error {
		switch name {
		case "$ref":
			return s.refer(value, value.Value, from)
		case "mapping": // of a discriminator, which may name a schema without a reference
			for _, target := range members(value) {
				reference := target.Value
				if !strings.ContainsAny(reference, "#/") {
					reference = "#/components/schemas/" + reference
				}
				if err := s.refer(target, reference, from); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// A component becomes a Go type of its name.
var componentName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_]*$`)

// refer takes the component that node, in the document from, refers to.
func (s *served) refer(node *yaml.Node, reference string, from *document) error {
	if s.visited[visit{reference, from}] {
		return nil
	}
	s.visited[visit{reference, from}] = true
	if !strings.HasPrefix(reference, "#") {
		return from.at(node, "$ref %s leaves the document; put its target under components", reference)
	}
	path := strings.Split(reference, "/")
	if len(path) < 4 || path[0] != "#" || path[1] != "components" {
		return from.at(node, "$ref %s names no component", reference)
	}
	kind, name := path[2], unescape(path[3])
	source := s.upstream
	if source.component(kind, name) == nil {
		source = s.own
	}
	component := source.component(kind, name)
	target := component
	for _, step := range path[4:] {
		target = member(target, unescape(step))
	}
	if target == nil {
		return from.at(node, "%s does not exist", reference)
	}
	if !componentName.MatchString(name) {
		return source.at(component, "component name %q is no Go name", name)
	}
	if member(s.components, kind) == nil {
		set(s.components, kind, mapping(), 0)
	}
	set(member(s.components, kind), name, component, component.Line)
	if from == s.own && source == s.upstream {
		if err := s.agree(kind, name); err != nil {
			return err
		}
	}
	return s.require(component, source)
}

// agree demands that a component of upstream, which an operation of ours refers to, has the
// facts of our component of that name, if there is one.
func (s *served) agree(kind, name string) error {
	ours := s.own.component(kind, name)
	if ours == nil {
		return nil
	}
	if differences := compare(s.upstream.component(kind, name), ours); len(differences) > 0 {
		return s.own.at(ours, "component %s differs from that in %s: %s", name, s.upstream.file, strings.Join(differences, "; "))
	}
	return s.require(ours, s.own)
}

// unescape reads a step of a JSON pointer (RFC 6901, section 4).
func unescape(step string) string { return strings.NewReplacer("~1", "/", "~0", "~").Replace(step) }

// takeTags takes the descriptions of the tags that the operations have.
func (s *served) takeTags() {
	used := map[string]bool{}
	for _, o := range s.operations {
		if tags := member(o.node, "tags"); tags != nil {
			for _, tag := range tags.Content {
				used[tag.Value] = true
			}
		}
	}
	tags := &yaml.Node{Kind: yaml.SequenceNode}
	for _, d := range []*document{s.upstream, s.own} {
		described := member(d.root, "tags")
		if described == nil {
			continue
		}
		for _, tag := range described.Content {
			if name := member(tag, "name"); name != nil && used[name.Value] {
				tags.Content = append(tags.Content, tag)
				delete(used, name.Value)
			}
		}
	}
	if len(tags.Content) > 0 {
		set(s.root, "tags", tags, 0)
	}
}
