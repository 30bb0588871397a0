package main

import (
	"encoding/json"
	"fmt"

	"github.com/oasdiff/yaml"
	"github.com/spf13/cobra"

	"quiva.ai/mfa/gen"
)

// documentJSON returns the OpenAPI document that the code was generated from:
// upstream's with the overlay applied, and without the operations that are not served.
func documentJSON() (json.RawMessage, error) {
	document, err := gen.GetSpecJSON()
	if err != nil {
		return nil, fmt.Errorf("read the embedded OpenAPI document: %w", err)
	}
	return document, nil
}

func (p *process) openAPICommand() *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:   "openapi",
		Short: "Print the OpenAPI document of what is served",
		Args:  noArgs,
		RunE: func(*cobra.Command, []string) error {
			document, err := documentJSON()
			if err != nil {
				return err
			}
			switch format {
			case "json":
				return p.printJSON(document)
			case "yaml":
				return p.printYAML(document)
			default:
				return fmt.Errorf("%w: --format must be yaml or json", errUsage)
			}
		},
	}
	cmd.Flags().StringVar(&format, "format", "yaml", "yaml, or json as /openapi.json answers on MFA_ADMIN_LISTEN")
	return cmd
}

func (p *process) printYAML(document json.RawMessage) error {
	text, err := yaml.JSONToYAML(document)
	if err != nil {
		return fmt.Errorf("write the OpenAPI document as YAML: %w", err)
	}
	_, err = p.stdout.Write(text)
	return err
}
