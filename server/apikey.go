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

// keyCommands are the commands for one kind of key.
type keyCommands struct {
	*app
	use, noun string
	keys      func(store.Backend, func() time.Time) *store.APIKeys
	header    string                      // of the table that list prints
	owner     func(r store.APIKey) string // the columns of the table that only this kind has
}

func (a *app) apiKeyCommand() *cobra.Command {
	k := keyCommands{a, "apikey", "API key", store.NewAPIKeys, "ACCOUNT\tEMAIL",
		func(r store.APIKey) string { return fmt.Sprintf("%q\t%q", r.Account, r.Email) }}
	return k.command(k.createAPIKeyCommand())
}

func (a *app) serviceKeyCommand() *cobra.Command {
	k := keyCommands{a, "servicekey", "service key", store.NewServiceKeys, "NAME",
		func(r store.APIKey) string { return fmt.Sprintf("%q", r.Name) }}
	return k.command(k.createServiceKeyCommand())
}

func (a keyCommands) command(create *cobra.Command) *cobra.Command {
	cmd := &cobra.Command{
		Use:   a.use,
		Short: "Create, list and revoke " + a.noun + "s (in the Redis that MFA_REDIS_URL names)",
		Args:  cobra.ArbitraryArgs, // requireSubcommand reports them
		RunE:  requireSubcommand,
	}
	cmd.AddCommand(create, a.listCommand(), a.revokeCommand())
	return cmd
}

// createServiceKeyCommand is for the gateway's sign-in, which is no account.
func (a keyCommands) createServiceKeyCommand() *cobra.Command {
	var name string
	var lifetime time.Duration
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "create --name NAME",
		Short: "Create a service key and print it; no other command can print it",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var faults []string
			if name == "" || len(name) > auth.MaxAccount || config.HasHidden(name) {
				faults = append(faults, fmt.Sprintf("--name must be 1 to %d bytes that can be shown", auth.MaxAccount))
			}
			if err := usage(append(faults, lifetimeFaults(lifetime)...)); err != nil {
				return err
			}
			return a.withKeys(cmd, func(ctx context.Context, keys *store.APIKeys) error {
				key := auth.NewServiceKey()
				record, err := keys.CreateForService(ctx, key, name, lifetime)
				return a.printNewKey(key, record, asJSON, err)
			})
		},
	}
	cmd.Flags().StringVar(&name, "name", "", "the service that gets the key, for the audit")
	addKeyFlags(cmd, &lifetime, &asJSON)
	return cmd
}

func addKeyFlags(cmd *cobra.Command, lifetime *time.Duration, asJSON *bool) {
	cmd.Flags().DurationVar(lifetime, "expires", defaultKeyLifetime, "lifetime, "+keyLifetimes)
	addJSONFlag(cmd, asJSON)
}

func (a keyCommands) createAPIKeyCommand() *cobra.Command {
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
				return a.printNewKey(key, record, asJSON, err)
			})
		},
	}
	cmd.Flags().StringVar(&account, "account", "", "the account that the API key acts for: the sub of its owner's tokens")
	cmd.Flags().StringVar(&email, "email", "", "e-mail address that labels the account in the authenticator app")
	addKeyFlags(cmd, &lifetime, &asJSON)
	return cmd
}

// newKey is what create prints as JSON.
type newKey struct {
	Key string `json:"key"`
	store.APIKey
}

// printNewKey prints the key that a create command has made, unless that failed with err.
func (a *app) printNewKey(key string, record store.APIKey, asJSON bool, err error) error {
	if err != nil {
		return err
	}
	if asJSON {
		return a.printJSON(newKey{Key: key, APIKey: record})
	}
	_, err = fmt.Fprintln(a.stdout, key)
	return err
}

// checkNewKey returns all faults of the flags of apikey create in one error.
func checkNewKey(account, email string, lifetime time.Duration) error {
	var faults []string
	if fault := accountFault(account); fault != "" {
		faults = append(faults, fault)
	}
	if address, err := mail.ParseAddress(email); err != nil || address.Address != email || config.HasHidden(email) {
		faults = append(faults, "--email must be an e-mail address")
	}
	return usage(append(faults, lifetimeFaults(lifetime)...))
}

func lifetimeFaults(lifetime time.Duration) []string {
	if lifetime < minKeyLifetime || lifetime > maxKeyLifetime {
		return []string{"--expires must be " + keyLifetimes}
	}
	return nil
}

// usage returns the error of a command line with these faults, or nil if there is none.
func usage(faults []string) error {
	if faults == nil {
		return nil
	}
	return fmt.Errorf("%w: %s", errUsage, strings.Join(faults, "; "))
}

func (a keyCommands) listCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the " + a.noun + "s that are valid now",
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

func (a keyCommands) printKeys(records []store.APIKey) error {
	table := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "ID\t"+a.header+"\tCREATED\tEXPIRES\tLAST USED")
	for _, r := range records {
		used := "never"
		if !r.LastUsed.IsZero() {
			used = r.LastUsed.Format(time.RFC3339)
		}
		// owner quotes: control characters would reach the terminal.
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\n", r.ID, a.owner(r),
			r.Created.Format(time.RFC3339), r.Expires.Format(time.RFC3339), used)
	}
	return table.Flush()
}

func (a keyCommands) revokeCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "revoke ID",
		Short: "Revoke at once the " + a.noun + " with this id, as list shows it",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return fmt.Errorf("%w: %s takes one argument, the id of a key that list shows", errUsage, cmd.CommandPath())
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withKeys(cmd, func(ctx context.Context, keys *store.APIKeys) error {
				err := keys.Revoke(ctx, args[0])
				if errors.Is(err, store.ErrNotFound) {
					return fmt.Errorf("no %s with this id is valid; see mfa %s list", a.noun, a.use)
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

// withKeys calls do with the keys in the Redis of MFA_REDIS_URL.
func (a keyCommands) withKeys(cmd *cobra.Command, do func(context.Context, *store.APIKeys) error) error {
	return a.withRedis(cmd, commandTimeout, nil, func(ctx context.Context, _ *config.Settings, backend store.Backend) error {
		return do(ctx, a.keys(backend, a.now))
	})
}
