package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"quiva.ai/mfa/gen"
)

const smokeTestHelp = `Take a test account from no factor to a factor and back, against the running service at URL: generate, confirm, verify,
remove. The exit status is 0 if each response is right, else 1. After a failed step, the command removes the factor.

The account must have no factor. Credentials come from these variables, never from flags:

  API_KEY      API key of the test account
  TOKEN        bearer token of the test account; with MFA_STEP_UP_MAX_AGE, removal needs one
  SERVICE_KEY  service key of a sign-in; without it, no code is verified

API_KEY or TOKEN is required. With SERVICE_KEY, --account is required.`

func (a *app) smokeTestCommand() *cobra.Command {
	s := &smokeTest{app: a}
	cmd := &cobra.Command{
		Use:   "smoketest URL",
		Short: "Enrol and remove a test account's factor in a running service",
		Long:  smokeTestHelp,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return fmt.Errorf("%w: %s takes one argument, the URL of a running service", errUsage, cmd.CommandPath())
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := usage(s.configure(args[0])); err != nil {
				return err
			}
			err := s.run(cmd.Context())
			if s.asJSON {
				return errors.Join(err, a.printJSON(s.report(err)))
			}
			return err
		},
	}
	cmd.Flags().StringVar(&s.account, "account", "", "the test account: the sub of its owner's tokens")
	addJSONFlag(cmd, &s.asJSON)
	return cmd
}

// smokeTest is one run of the command.
type smokeTest struct {
	*app
	asJSON  bool
	account string
	api     *caller
	person  http.Header // the credentials of the account
	service http.Header // the service key; nil: none

	key    gen.TOTPKey
	codes  []string // the recovery codes
	enrols bool     // from the first confirmation to the removal
	passed []string // steps
}

// configure reads the URL and the credentials, and returns the faults of the command line. None
// repeats a value.
func (s *smokeTest) configure(address string) (faults []string) {
	target, err := url.Parse(address)
	if err != nil || (target.Scheme != "http" && target.Scheme != "https") || target.Host == "" || target.User != nil || target.RawQuery+target.Fragment != "" {
		faults = append(faults, "the URL must be http:// or https://, a host, and at most a path")
	}
	s.api = newCaller(strings.TrimRight(address, "/"))
	credentials := map[string]string{}
	for _, variable := range s.environ {
		if name, value, _ := strings.Cut(variable, "="); value != "" {
			credentials[name] = value
		}
	}
	s.person = http.Header{}
	if key := credentials["API_KEY"]; key != "" {
		s.person.Set("X-Api-Key", key)
	}
	if token := credentials["TOKEN"]; token != "" {
		s.person.Set("Authorization", "Bearer "+token)
	}
	if len(s.person) == 0 {
		faults = append(faults, "API_KEY or TOKEN is required in the environment")
	}
	if key := credentials["SERVICE_KEY"]; key != "" {
		s.service = http.Header{"X-Service-Key": {key}}
		if fault := accountFault(s.account); fault != "" {
			faults = append(faults, fault)
		}
	}
	return faults
}

// run runs the steps up to the first that fails, and cleans up.
func (s *smokeTest) run(ctx context.Context) (err error) {
	defer func() { err = errors.Join(err, s.cleanUp(ctx)) }()
	for _, step := range s.steps() {
		if err := step.run(ctx); err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
		s.passed = append(s.passed, step.name)
		if !s.asJSON {
			fmt.Fprintf(s.stdout, "ok  %s\n", step.name)
		}
	}
	return nil
}

// cleanUp removes the factor of a run that did not get so far.
func (s *smokeTest) cleanUp(ctx context.Context) error {
	if !s.enrols {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), callTimeout)
	defer cancel()
	if err := s.remove(ctx); err != nil {
		return fmt.Errorf("clean up: the account may still have the factor of this test; mfa account reset removes it: %w", err)
	}
	return nil
}

// smokeReport is what the command prints as JSON.
type smokeReport struct {
	OK     bool     `json:"ok"`
	Passed []string `json:"passed"`
	Error  string   `json:"error,omitempty"` // begins with the step that failed
}

func (s *smokeTest) report(err error) smokeReport {
	report := smokeReport{OK: err == nil, Passed: append([]string{}, s.passed...)}
	if err != nil {
		report.Error = err.Error()
	}
	return report
}
