package main

import (
	"context"
	"fmt"
	"log/slog"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"quiva.ai/mfa/server/auth"
	"quiva.ai/mfa/server/config"
	"quiva.ai/mfa/store"
)

func (a *app) accountCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "account",
		Short: "Show, reset and unlock the factor of an account (in the Redis that MFA_REDIS_URL names)",
		Args:  cobra.ArbitraryArgs, // requireSubcommand reports them
		RunE:  requireSubcommand,
	}
	cmd.AddCommand(
		a.factorCommand("show", "Show the state of an account's factor; never a secret", "account_shown",
			func(f store.Factor) store.Factor { return f }),
		a.factorCommand("reset", "Remove an account's factor, for a person who has lost phone and recovery codes", "totp_removed",
			func(f store.Factor) store.Factor { return f.Remove(a.now()) }),
		a.factorCommand("unlock", "Forget the failed attempts with an account's factor", "factor_unlocked",
			store.Factor.Unlock),
	)
	return cmd
}

// accountFactor is what the account commands print: a factor without its secrets.
type accountFactor struct {
	Account          string      `json:"account"`
	State            store.State `json:"state"`
	Changed          time.Time   `json:"changed,omitzero"`
	RecoveryCodes    int         `json:"recovery_codes_left"`
	TOTPAttempts     attempts    `json:"totp_attempts"`
	RecoveryAttempts attempts    `json:"recovery_attempts"`
}

type attempts struct {
	Failed      int       `json:"failed"`
	LockedUntil time.Time `json:"locked_until,omitzero"`
}

// factorCommand returns a command that changes the factor of one account and prints the result.
func (a *app) factorCommand(name, short, event string, change func(store.Factor) store.Factor) *cobra.Command {
	var account string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   name + " --account ID",
		Short: short,
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if account == "" || len(account) > auth.MaxAccount || !utf8.ValidString(account) {
				return fmt.Errorf("%w: --account must be 1 to %d bytes of UTF-8", errUsage, auth.MaxAccount)
			}
			return a.withFactors(cmd, func(ctx context.Context, s *config.Settings, factors *store.Factors) error {
				before := store.None
				factor, err := factors.Change(ctx, account, func(f store.Factor) (store.Factor, error) {
					before = f.State
					return change(f), nil
				})
				if err != nil {
					return err
				}
				a.audit(ctx, s, event, slog.String("account", store.Digest(account)),
					slog.String("state_before", string(before)), slog.String("state", string(factor.State)))
				return a.printFactor(account, factor, asJSON)
			})
		},
	}
	cmd.Flags().StringVar(&account, "account", "", "the account: the sub of its owner's tokens")
	addJSONFlag(cmd, &asJSON)
	return cmd
}

func (a *app) printFactor(account string, factor store.Factor, asJSON bool) error {
	shown := accountFactor{
		Account: account, State: factor.State, Changed: factor.Changed.UTC(), RecoveryCodes: len(factor.RecoveryCodes),
		TOTPAttempts:     attempts{int(factor.TOTP.Failures), factor.TOTP.Until.UTC()},
		RecoveryAttempts: attempts{int(factor.Recovery.Failures), factor.Recovery.Until.UTC()},
	}
	if asJSON {
		return a.printJSON(shown)
	}
	_, err := fmt.Fprintf(a.stdout, "account: %q\nstate: %s\n", account, factor.State)
	if factor.State != store.None {
		_, err = fmt.Fprintf(a.stdout, "since: %s\n", shown.Changed.Format(time.RFC3339))
	}
	if factor.Exists() {
		_, err = fmt.Fprintf(a.stdout, "recovery codes left: %d\nfailed attempts: %d with codes, %d with recovery codes\n",
			shown.RecoveryCodes, shown.TOTPAttempts.Failed, shown.RecoveryAttempts.Failed)
	}
	return err
}
