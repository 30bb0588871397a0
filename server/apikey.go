package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/mail"
	"text/tabwriter"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"quiva.ai/mfa/server/auth"
	"quiva.ai/mfa/store"
)

const (
	defaultKeyLifetime = 90 * 24 * time.Hour
	maxKeyLifetime     = 5 * 365 * 24 * time.Hour
	adminTimeout       = 30 * time.Second // for one command; listing walks the whole Redis
)

func (p *process) apiKeyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "apikey",
		Short: "Create, list and revoke API keys (in the Redis that MFA_REDIS_URL names)",
		Args:  cobra.ArbitraryArgs, // for noCommand to judge
		RunE:  noCommand,
	}
	cmd.AddCommand(p.createKeyCommand(), p.listKeysCommand(), p.revokeKeyCommand())
	return cmd
}

func (p *process) createKeyCommand() *cobra.Command {
	var account, email string
	var lifetime time.Duration
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "create --account ID --email ADDRESS",
		Short: "Create an API key and print it: the one time that it is shown",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkNewKey(account, email, lifetime); err != nil {
				return err
			}
			return p.withKeys(cmd, func(ctx context.Context, keys *store.APIKeys) error {
				key := auth.NewAPIKey()
				record, err := keys.Create(ctx, key, account, email, lifetime)
				if err != nil {
					return err
				}
				if asJSON {
					return p.printJSON(newKey{Key: key, APIKey: record})
				}
				_, err = fmt.Fprintln(p.stdout, key)
				return err
			})
		},
	}
	cmd.Flags().StringVar(&account, "account", "", "the one account that the key acts for: the sub of its owner's tokens")
	cmd.Flags().StringVar(&email, "email", "", "e-mail address that labels the account in the authenticator app")
	cmd.Flags().DurationVar(&lifetime, "expires", defaultKeyLifetime, "lifetime, 1m to 43800h")
	addJSONFlag(cmd, &asJSON)
	return cmd
}

// newKey is what create prints as JSON.
type newKey struct {
	Key string `json:"key"`
	store.APIKey
}

func addJSONFlag(cmd *cobra.Command, asJSON *bool) {
	cmd.Flags().BoolVar(asJSON, "json", false, "print JSON")
}

func (p *process) printJSON(value any) error { return json.NewEncoder(p.stdout).Encode(value) }

func checkNewKey(account, email string, lifetime time.Duration) error {
	if account == "" || len(account) > auth.MaxAccount || !utf8.ValidString(account) {
		return fmt.Errorf("%w: --account must be 1 to %d bytes of UTF-8", errUsage, auth.MaxAccount)
	}
	if address, err := mail.ParseAddress(email); err != nil || address.Address != email {
		return fmt.Errorf("%w: --email must be an e-mail address", errUsage)
	}
	if lifetime < time.Minute || lifetime > maxKeyLifetime {
		return fmt.Errorf("%w: --expires must be from 1m to %v", errUsage, maxKeyLifetime)
	}
	return nil
}

func (p *process) listKeysCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the API keys that are valid now",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return p.withKeys(cmd, func(ctx context.Context, keys *store.APIKeys) error {
				records, damaged := keys.List(ctx)
				if records == nil {
					return damaged
				}
				if asJSON {
					return errors.Join(damaged, p.printJSON(records))
				}
				return errors.Join(damaged, p.printKeys(records))
			})
		},
	}
	addJSONFlag(cmd, &asJSON)
	return cmd
}

func (p *process) printKeys(records []store.APIKey) error {
	table := tabwriter.NewWriter(p.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "ID\tACCOUNT\tEMAIL\tCREATED\tEXPIRES\tLAST USED")
	for _, r := range records {
		// %q: an account id may hold anything, an address nearly so, and this is a terminal.
		used := "never"
		if !r.LastUsed.IsZero() {
			used = r.LastUsed.Format(time.RFC3339)
		}
		fmt.Fprintf(table, "%s\t%q\t%q\t%s\t%s\t%s\n", r.ID, r.Account, r.Email,
			r.Created.Format(time.RFC3339), r.Expires.Format(time.RFC3339), used)
	}
	return table.Flush()
}

func (p *process) revokeKeyCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "revoke ID",
		Short: "Revoke the API key with this id, as list shows it, at once",
		Args: func(_ *cobra.Command, args []string) error {
			return wantArgs(args, 1, "the id of one API key")
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return p.withKeys(cmd, func(ctx context.Context, keys *store.APIKeys) error {
				err := keys.Revoke(ctx, args[0])
				if errors.Is(err, store.ErrNotFound) {
					return errors.New("no API key with this id is valid; see mfa apikey list")
				}
				if err == nil && asJSON {
					err = p.printJSON(map[string]string{"revoked": args[0]})
				}
				return err
			})
		},
	}
	addJSONFlag(cmd, &asJSON)
	return cmd
}

// withKeys calls do with the API keys in the Redis of the settings. The other settings
// are not needed, but if given they have to be sound.
func (p *process) withKeys(cmd *cobra.Command, do func(context.Context, *store.APIKeys) error) error {
	s, err := loadSettings(p.environ, nil, nil)
	if err != nil {
		return err
	}
	if s.RedisURL == nil {
		return faults{"MFA_REDIS_URL: is required"}
	}
	backend := store.NewRedis(*s.RedisURL)
	defer backend.Close()
	ctx, cancel := context.WithTimeout(cmd.Context(), adminTimeout)
	defer cancel()
	return do(ctx, store.NewAPIKeys(backend, p.now))
}
