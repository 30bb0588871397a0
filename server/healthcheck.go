package main

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// healthCheckTime is longer than /readyz may take.
const healthCheckTime = 2 * time.Second

func (p *process) healthCheckCommand() *cobra.Command {
	var ready bool
	cmd := &cobra.Command{
		Use:   "healthcheck",
		Short: "Ask the service on this machine whether it is live (at MFA_ADMIN_LISTEN)",
		Long:  "Ask the service on this machine whether it is live: exit status 0, or else 1. For images that have no curl.\nNo other setting is looked at: a service whose settings have become faulty since it was started is live.",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := loadSettings(slices.DeleteFunc(slices.Clone(p.environ), func(variable string) bool {
				return !strings.HasPrefix(variable, "MFA_ADMIN_LISTEN")
			}), nil, nil)
			if err != nil {
				return fmt.Errorf("settings are faulty: %s", err.Error()) // and not a usage error, which exits with 2
			}
			path := "/livez"
			if ready {
				path = "/readyz"
			}
			return checkHealth(cmd.Context(), localURL("http", string(s.AdminListen))+path)
		},
	}
	cmd.Flags().BoolVar(&ready, "ready", false, "ask whether it can serve requests")
	return cmd
}

// checkHealth returns nil if the answer is 200. It goes through no proxy.
func checkHealth(ctx context.Context, address string) error {
	ctx, cancel := context.WithTimeout(ctx, healthCheckTime)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, http.NoBody)
	if err != nil {
		return fmt.Errorf("%w: MFA_ADMIN_LISTEN: %w", errUsage, err)
	}
	response, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s", address, response.Status)
	}
	return nil
}
