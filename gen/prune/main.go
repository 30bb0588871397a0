// Prune cuts an OpenAPI document down to the operations that this service serves, and
// writes them in one canonical form.
//
// The model: there are two documents of one API. The first is upstream's, in any layout;
// the second has our own operations, and siblings that upstream's copy does not have yet.
// An operation and a component are taken by name from the first document that has them.
// Prune takes the operations that the generator's settings name, and the components that
// these and the overlay need. It refuses a document that the generator would misread.
//
//	read.go      a text, YAML or JSON (json.go), becomes a tree without aliases
//	document.go  the operations of a document, and how its tree is walked
//	serve.go     the served operations and components become one document
//	overlay.go   each target of the overlay must match
//	compare.go   the differences of two trees in words
//	write.go     the canonical form: the same facts are the same bytes
//
// oapi-codegen can leave out operations by itself. But it keeps their paths, and every
// schema that refers to itself, for which it writes types that do not compile.
package main

import (
	"fmt"
	"io"
	"os"
)

func main() {
	if len(os.Args) != 5 {
		fmt.Fprintln(os.Stderr, "usage: prune SETTINGS OUTPUT UPSTREAM OWN")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2], os.Args[3], os.Args[4], os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "prune:", err)
		os.Exit(1)
	}
}

// run writes the served document to output, and notes for the reader to notes. It writes
// nothing to output if it fails.
func run(settingsFile, output, upstreamFile, ownFile string, notes io.Writer) error {
	var settings struct {
		OutputOptions struct {
			OperationIDs []string `yaml:"include-operation-ids"`
			Overlay      struct{ Path string }
		} `yaml:"output-options"`
	}
	root, err := read(settingsFile)
	if err != nil {
		return err
	}
	if err := root.Decode(&settings); err != nil {
		return fmt.Errorf("%s: %w", settingsFile, err)
	}
	overlay, err := read(settings.OutputOptions.Overlay.Path, refuseAliases)
	if err != nil {
		return err
	}
	upstream, err := open(upstreamFile)
	if err != nil {
		return err
	}
	own, err := open(ownFile)
	if err != nil {
		return err
	}
	if err := own.compareWith(upstream, notes); err != nil {
		return err
	}
	served, err := serve(upstream, own, overlay, settings.OutputOptions.OperationIDs)
	if err != nil {
		return err
	}
	if err := served.match(overlay, shown(settings.OutputOptions.Overlay.Path)); err != nil {
		return err
	}
	text, err := served.text()
	if err != nil {
		return err
	}
	return os.WriteFile(output, text, 0o644) //nolint:gosec // Generated sources are readable by all.
}
