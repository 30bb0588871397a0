package main

import (
	"context"
	"errors"
	"fmt"
	"net/mail"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"quiva.ai/mfa/server/auth"
	"quiva.ai/mfa/server/config"
	"quiva.ai/mfa/store"
)

const (
	defaultKeyLifetime = 90 * 24 * time.Hour
	minKeyLifetime     = time.Minute
	maxKeyLifetime     = 5 * 365 * 24 * time.Hour
	keyLifetimes       = "1m to 43800h" // the range in words
)

func (a *app) apiKeyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "apikey",
		Short: "Create, list and revoke API keys (in the Redis that MFA_REDIS_URL names)",
		Args:  cobra.ArbitraryArgs, // requireSubcommand reports them
		RunE:  requireSubcommand,
	}
	cmd.AddCommand(a.createKeyCommand(), a.listKeysCommand(), a.revokeKeyCommand())
	return cmd
}

func (a *app) createKeyCommand() *cobra.Command {
	var account, email string
	var lifetime time.Duration
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "create --account ID --email ADDRESS",
		Short: "Create an API key and print it; no other command can print it",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkNewKey(account, email, lifetime); err != nil {
				return err
			}
			return a.withKeys(cmd, func(ctx context.Context, keys *store.APIKeys) error {
				key := auth.NewAPIKey()
				record, err := keys.Create(ctx, key, account, email, lifetime)
				if err != nil {
					return err
				}
				if asJSON {
					return a.printJSON(newKey{Key: key, APIKey: record})
				}
				_, err = fmt.Fprintln(a.stdout, key)
				return err
			})
		},
	}
	cmd.Flags().StringVar(&account, "account", "", "the account that the API key acts for: the sub of its owner's tokens")
	cmd.Flags().StringVar(&email, "email", "", "e-mail address that labels the account in the authenticator app")
	cmd.Flags().DurationVar(&lifetime, "expires", defaultKeyLifetime, "lifetime, "+keyLifetimes)
	addJSONFlag(cmd, &asJSON)
	return cmd
}

// newKey is what create prints as JSON.
type newKey struct {
	Key string `json:"key"`
	store.APIKey
}

// checkNewKey returns all faults of create's flags in one error.
func checkNewKey(account, email string, lifetime time.Duration) error {
	var faults []string
	if fault := accountFault(account); fault != "" {
		faults = append(faults, fault)
	}
	if address, err := mail.ParseAddress(email); err != nil || address.Address != email || config.HasHidden(email) {
		faults = append(faults, "--email must be an e-mail address")
	}
	if lifetime < minKeyLifetime || lifetime > maxKeyLifetime {
		faults = append(faults, "--expires must be "+keyLifetimes)
	}
	if faults != nil {
		return fmt.Errorf("%w: %s", errUsage, strings.Join(faults, "; "))
	}
	return nil
}

func (a *app) listKeysCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the API keys that are valid now",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withKeys(cmd, func(ctx context.Context, keys *store.APIKeys) error {
				records, err := keys.List(ctx)
				if records == nil {
					return err
				}
				// Here err is about damaged records: the others are valid, so print them.
				if asJSON {
					return errors.Join(err, a.printJSON(records))
				}
				return errors.Join(err, a.printKeys(records))
			})
		},
	}
	addJSONFlag(cmd, &asJSON)
	return cmd
}

func (a *app) printKeys(records []store.APIKey) error {
	table := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "ID\tACCOUNT\tEMAIL\tCREATED\tEXPIRES\tLAST USED")
	for _, r := range records {
		used := "never"
		if !r.LastUsed.IsZero() {
			used = r.LastUsed.Format(time.RFC3339)
		}
		// %q escapes control characters, which would reach the terminal.
		fmt.Fprintf(table, "%s\t%q\t%q\t%s\t%s\t%s\n", r.ID, r.Account, r.Email,
			r.Created.Format(time.RFC3339), r.Expires.Format(time.RFC3339), used)
	}
	return table.Flush()
}

func (a *app) revokeKeyCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "revoke ID",
		Short: "Revoke at once the API key with this id, as list shows it",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return fmt.Errorf("%w: %s takes one argument, the id of an API key", errUsage, cmd.CommandPath())
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withKeys(cmd, func(ctx context.Context, keys *store.APIKeys) error {
				err := keys.Revoke(ctx, args[0])
				if errors.Is(err, store.ErrNotFound) {
					return errors.New("no API key with this id is valid; see mfa apikey list")
				}
				if err == nil && asJSON {
					err = a.printJSON(map[string]string{"revoked": args[0]})
				}
				return err
			})
		},
	}
	addJSONFlag(cmd, &asJSON)
	return cmd
}

// withKeys calls do with the API keys in the Redis of MFA_REDIS_URL.
func (a *app) withKeys(cmd *cobra.Command, do func(context.Context, *store.APIKeys) error) error {
	return a.withRedis(cmd, commandTimeout, nil, func(ctx context.Context, _ *config.Settings, backend store.Backend) error {
		return do(ctx, store.NewAPIKeys(backend, a.now))
	})
}
