package main

import (
	"fmt"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"
)

// refuseAliases refuses an alias of YAML in the overlay. oapi-codegen does not resolve it: in
// place of a merge, an update that is an alias replaces the whole target, in silence.
func refuseAliases(node *yaml.Node) error {
	if node.Kind == yaml.AliasNode {
		return at(node, "*%s: an alias in the overlay replaces its target and does not merge into it; write out what it stands for", node.Value)
	}
	for _, child := range node.Content {
		if err := refuseAliases(child); err != nil {
			return err
		}
	}
	return nil
}

// match checks that each target of the overlay exists in the served document, and that no
// component has the name of a Go type that the overlay adds. Of a target without a match,
// oapi-codegen says only that it does nothing.
func (s *served) match(overlay *yaml.Node, file string) error {
	root := s.canonical()
	if actions := member(overlay, "actions"); actions != nil {
		for _, action := range actions.Content {
			target := member(action, "target")
			steps := parseTarget(target)
			if steps == nil {
				continue // oapi-codegen checks the other forms of a target.
			}
			found, fault := s.find(root, steps)
			if fault != "" {
				return (&document{file: file}).at(target, "%s", fault)
			}
			for _, node := range found {
				merge(node, member(action, "update")) // A later target may be in it.
			}
		}
	}
	return walk(root, func(name string, value *yaml.Node) error {
		if name != "x-go-type-name" {
			return nil
		}
		for _, kind := range typedComponents {
			for component, node := range members(member(s.components, kind)) {
				if goName(component.Value) != goName(value.Value) {
					continue
				}
				from := s.upstream
				if from.component(kind, component.Value) == nil {
					from = s.own
				}
				return from.at(node, "component %s has the x-go-type-name of another schema, %s; rename that in %s",
					component.Value, value.Value, file)
			}
		}
		return nil
	})
}

// typedComponents are the kinds of component that become a Go type of their name.
var typedComponents = []string{"schemas", "responses", "requestBodies", "parameters", "headers"}

// goName returns the same text for names that the generator makes the same Go name, and for
// some more: it drops _ and capitalizes initialisms.
func goName(name string) string { return strings.ToLower(strings.ReplaceAll(name, "_", "")) }

var step = regexp.MustCompile(`^(?:\.(\w+|\*)|\['([^']+)'\]|\[(\*)\])`)

// parseTarget splits a JSONPath of names and asterisks. It returns nil for any other.
func parseTarget(target *yaml.Node) []string {
	if target == nil {
		return nil
	}
	rest, found := strings.CutPrefix(target.Value, "$")
	var steps []string
	for found && rest != "" {
		parts := step.FindStringSubmatch(rest)
		if parts == nil {
			return nil
		}
		steps = append(steps, parts[1]+parts[2]+parts[3])
		rest = rest[len(parts[0]):]
	}
	return steps
}

// find returns the nodes at the end of steps, or says where the way ends.
func (s *served) find(root *yaml.Node, steps []string) (found []*yaml.Node, fault string) {
	found = []*yaml.Node{root}
	for i, step := range steps {
		var next []*yaml.Node
		for _, node := range found {
			for name, value := range members(node) {
				if step == "*" || step == name.Value {
					next = append(next, value)
				}
			}
			if node.Kind == yaml.SequenceNode && step == "*" {
				next = append(next, node.Content...)
			}
		}
		if len(next) == 0 {
			return nil, s.explain(steps, i, found[0])
		}
		found = next
	}
	return found, ""
}

// explain says in one sentence that node, the end of the first i steps, lacks the next step.
func (s *served) explain(steps []string, i int, node *yaml.Node) string {
	present := strings.Join(names(node), ", ")
	if present == "" {
		present = "nothing"
	}
	for _, o := range s.operations {
		if i > 2 && steps[1] == o.path && steps[2] == o.method {
			return fmt.Sprintf("operation %s has no %s, which the overlay expects; %s has %s",
				o.id, strings.Join(steps[3:i+1], "."), steps[i-1], present)
		}
	}
	var served []string
	for _, o := range s.operations {
		served = append(served, o.id+" at "+o.route())
	}
	return fmt.Sprintf("the overlay expects $.%s, and there is no %s; served is %s",
		strings.Join(steps, "."), steps[i], strings.Join(served, ", "))
}

// merge adds an update of the overlay to a node (OpenAPI Overlay 1.0.0, section 4.4.3).
func merge(node, update *yaml.Node) {
	for name, value := range members(update) {
		if present := member(node, name.Value); present != nil && present.Kind == yaml.MappingNode {
			merge(present, value)
		} else {
			set(node, name.Value, canonical(value, false, keepAll), 0)
		}
	}
}
