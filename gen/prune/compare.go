package main

import (
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// prose has the members that change nothing for a program.
var prose = []string{"description", "example", "examples", "externalDocs", "summary", "tags", "title"}

// compareOperations returns the differences in facts of two operations, and of the
// components of the same names that ours refers to.
func compareOperations(theirs, ours operation) []string {
	var differences []string
	if theirs.route() != ours.route() {
		differences = append(differences, fmt.Sprintf("%s instead of %s", theirs.route(), ours.route()))
	}
	differences = append(differences, compare(theirs.node, ours.node)...)
	seen := map[string]bool{}
	var components func(*yaml.Node)
	components = func(node *yaml.Node) {
		_ = walk(node, func(name string, value *yaml.Node) error {
			if path := strings.Split(value.Value, "/"); name == "$ref" && len(path) == 4 && !seen[value.Value] {
				seen[value.Value] = true
				a, b := theirs.from.component(path[2], path[3]), ours.from.component(path[2], path[3])
				if a != nil && b != nil {
					for _, difference := range compare(a, b) {
						differences = append(differences, path[3]+": "+difference)
					}
				}
				components(b)
			}
			return nil
		})
	}
	components(ours.node)
	return differences
}

// compare returns the differences in facts of two trees, theirs first.
func compare(theirs, ours *yaml.Node) []string {
	drop := func(name string) bool { return slices.Contains(prose, name) || strings.HasPrefix(name, "x-") }
	return differences("", canonical(theirs, false, drop), canonical(ours, false, drop))
}

func differences(where string, theirs, ours *yaml.Node) []string {
	if theirs.Kind != yaml.MappingNode || ours.Kind != yaml.MappingNode {
		if a, b := inline(theirs), inline(ours); a != b {
			return []string{fmt.Sprintf("%s is %s instead of %s", where, a, b)}
		}
		return nil
	}
	var found []string
	for name, value := range members(theirs) {
		at := strings.TrimPrefix(where+"."+name.Value, ".")
		if other := member(ours, name.Value); other == nil {
			found = append(found, at+" is new")
		} else {
			found = append(found, differences(at, value, other)...)
		}
	}
	for name := range members(ours) {
		if member(theirs, name.Value) == nil {
			found = append(found, strings.TrimPrefix(where+"."+name.Value, ".")+" is absent")
		}
	}
	return found
}

// inline writes a tree in one line.
func inline(node *yaml.Node) string {
	var parts []string
	switch node.Kind {
	case yaml.SequenceNode:
		for _, item := range node.Content {
			parts = append(parts, inline(item))
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case yaml.MappingNode:
		for name, value := range members(node) {
			parts = append(parts, name.Value+": "+inline(value))
		}
		return "{" + strings.Join(parts, ", ") + "}"
	default:
		return node.Value
	}
}
