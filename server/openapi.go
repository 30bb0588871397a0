package main

import (
	"fmt"

	"github.com/oasdiff/yaml"
	"github.com/spf13/cobra"

	"quiva.ai/mfa/gen"
)

func (a *app) openAPICommand() *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:   "openapi",
		Short: "Print the OpenAPI document of the API",
		Long:  "Print the OpenAPI document that the code was generated from: upstream's and ours, with our overlay, reduced to the served operations.",
		Args:  noArgs,
		RunE: func(*cobra.Command, []string) error {
			document, err := gen.GetSpecJSON()
			if err != nil {
				return fmt.Errorf("read the embedded OpenAPI document: %w", err)
			}
			switch format {
			case "json":
				document = append(document, '\n')
			case "yaml":
				if document, err = yaml.JSONToYAML(document); err != nil {
					return fmt.Errorf("write the OpenAPI document as YAML: %w", err)
				}
			default:
				return fmt.Errorf("%w: --format must be yaml or json", errUsage)
			}
			_, err = a.stdout.Write(document)
			return err
		},
	}
	cmd.Flags().StringVar(&format, "format", "yaml", "yaml, or json as in /openapi.json on MFA_ADMIN_LISTEN")
	return cmd
}
