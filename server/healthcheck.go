package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"quiva.ai/mfa/server/config"
)

// healthCheckTimeout is longer than the checks of /readyz take.
const healthCheckTimeout = 2 * time.Second

func (a *app) healthCheckCommand() *cobra.Command {
	var ready bool
	cmd := &cobra.Command{
		Use:   "healthcheck",
		Short: "Check that the service on this machine is live (at MFA_ADMIN_LISTEN)",
		Long: "Check that the service on this machine is live: exit status 0 if it is, else 1. For images without curl.\n" +
			"The command reads MFA_ADMIN_LISTEN and no other setting: faulty settings do not make a running service unhealthy.",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			environ := slices.DeleteFunc(slices.Clone(a.environ), func(variable string) bool {
				name, _, _ := strings.Cut(variable, "=")
				return strings.TrimSuffix(name, "_FILE") != "MFA_ADMIN_LISTEN"
			})
			settings, err := config.Load(environ, nil, nil)
			if err != nil {
				return errors.New(err.Error()) // not config.Faults: container runtimes know only statuses 0 and 1
			}
			path := "/livez"
			if ready {
				path = "/readyz"
			}
			return checkHealth(cmd.Context(), localURL("http", string(settings.AdminListen))+path)
		},
	}
	cmd.Flags().BoolVar(&ready, "ready", false, "check that it is ready for requests")
	return cmd
}

// checkHealth returns nil if the response has status 200. It uses no proxy: the response of a
// proxy says nothing about the service.
func checkHealth(ctx context.Context, address string) error {
	ctx, cancel := context.WithTimeout(ctx, healthCheckTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, http.NoBody)
	if err != nil {
		return fmt.Errorf("MFA_ADMIN_LISTEN: %w", err)
	}
	response, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(request)
	if err != nil {
		return fmt.Errorf("get %s: %w", address, err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("get %s: status %s", address, response.Status)
	}
	return nil
}
