package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"quiva.ai/mfa/server/auth"
	"quiva.ai/mfa/server/config"
	"quiva.ai/mfa/server/mfa"
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
			(*store.Factors).Find),
		a.resetCommand(),
		a.factorCommand("unlock", "Forget the failed attempts with an account's factor", "factor_unlocked",
			changeFactor(store.Factor.Unlock)),
	)
	return cmd
}

func (a *app) resetCommand() *cobra.Command {
	var unreadable bool
	reset := changeFactor(func(f store.Factor) store.Factor { return f.Remove(a.now()) })
	cmd := a.factorCommand("reset", "Remove an account's factor, for a person who has lost phone and recovery codes", "totp_removed",
		func(factors *store.Factors, ctx context.Context, account string) (store.Factor, error) {
			if unreadable {
				return factors.Reset(ctx, account)
			}
			return reset(factors, ctx, account)
		})
	cmd.Flags().BoolVar(&unreadable, "unreadable", false, "also a factor that no sealing key opens: it is lost for good")
	return cmd
}

// factorAction reads or changes the factor of an account, and returns it.
type factorAction func(*store.Factors, context.Context, string) (store.Factor, error)

var errNoFactor = errors.New("the account never had a factor: is --account the sub of its owner's tokens?")

// changeFactor returns the action that changes a factor with change. A factor that is removed
// already is no fault: after a lost reply, the operator repeats the command.
func changeFactor(change func(store.Factor) store.Factor) factorAction {
	return func(factors *store.Factors, ctx context.Context, account string) (store.Factor, error) {
		return factors.Change(ctx, account, func(f store.Factor) (store.Factor, error) {
			if f.State == store.None {
				return f, store.ErrNotFound
			}
			return change(f), nil
		})
	}
}

// factorCommand returns a command that performs action for one account and prints the factor.
func (a *app) factorCommand(name, short, event string, action factorAction) *cobra.Command {
	var account string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   name + " --account ID",
		Short: short,
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if fault := accountFault(account); fault != "" {
				return fmt.Errorf("%w: %s", errUsage, fault)
			}
			return a.withFactors(cmd, commandTimeout, func(ctx context.Context, s *config.Settings, factors *store.Factors) error {
				factor, err := action(factors, ctx, account)
				if errors.Is(err, store.ErrNotFound) {
					return errNoFactor
				}
				if err != nil {
					return err
				}
				a.audit(ctx, s, event, slog.String("account", store.Digest(account)), slog.String("state", string(factor.State)))
				return a.printFactor(account, factor, asJSON)
			})
		},
	}
	cmd.Flags().StringVar(&account, "account", "", "the account: the sub of its owner's tokens")
	addJSONFlag(cmd, &asJSON)
	return cmd
}

// accountFault returns the fault of the flag --account, or "".
func accountFault(account string) string {
	switch {
	case account == "" || len(account) > auth.MaxAccount || !utf8.ValidString(account):
		return fmt.Sprintf("--account must be 1 to %d bytes of UTF-8", auth.MaxAccount)
	case config.HasHidden(account):
		return "--account has a line break or another character that cannot be shown"
	}
	return ""
}

// shownFactor is what the account commands print: a factor without its secrets.
type shownFactor struct {
	Account          string        `json:"account"`
	State            store.State   `json:"state"`
	Enrolled         time.Time     `json:"enrolled,omitzero"`
	Removed          time.Time     `json:"removed,omitzero"`
	RecoveryCodes    int           `json:"recovery_codes_left"`
	TOTPAttempts     shownAttempts `json:"totp_attempts"`
	RecoveryAttempts shownAttempts `json:"recovery_attempts"`
}

type shownAttempts struct {
	Failed      uint8     `json:"failed"`
	Off         bool      `json:"off,omitempty"` // until the other kind succeeds, or unlock
	LockedUntil time.Time `json:"locked_until,omitzero"`
}

// describe returns a line about the attempts with what, such as "codes".
func (s shownAttempts) describe(what string) string {
	text := fmt.Sprintf("failed attempts with %s: %d", what, s.Failed)
	if s.Off {
		return text + ", off until the other kind succeeds or mfa account unlock"
	}
	if !s.LockedUntil.IsZero() {
		text += ", locked until " + s.LockedUntil.Format(time.RFC3339)
	}
	return text
}

func (a *app) printFactor(account string, factor store.Factor, asJSON bool) error {
	shown := shownFactor{
		Account: account, State: factor.State, RecoveryCodes: len(factor.UnusedCodes()),
		TOTPAttempts:     shownAttempts{factor.TOTP.Failures, mfa.IsOff(factor.TOTP), factor.TOTP.Until.UTC()},
		RecoveryAttempts: shownAttempts{factor.Recovery.Failures, mfa.IsOff(factor.Recovery), factor.Recovery.Until.UTC()},
	}
	lines := []string{fmt.Sprintf("account: %q", account), fmt.Sprint("state: ", factor.State)}
	changed := factor.Changed.UTC()
	switch {
	case factor.Exists():
		shown.Enrolled = changed
		lines = append(lines, "enrolled: "+changed.Format(time.RFC3339), fmt.Sprint("recovery codes left: ", shown.RecoveryCodes),
			shown.TOTPAttempts.describe("codes"), shown.RecoveryAttempts.describe("recovery codes"))
	case factor.State == store.Removed:
		shown.Removed = changed
		lines = append(lines, "removed: "+changed.Format(time.RFC3339))
	}
	if asJSON {
		return a.printJSON(shown)
	}
	_, err := fmt.Fprintln(a.stdout, strings.Join(lines, "\n"))
	return err
}
