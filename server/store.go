package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"quiva.ai/mfa/server/config"
	"quiva.ai/mfa/server/telemetry"
	"quiva.ai/mfa/store"
)

const (
	commandTimeout = 30 * time.Second // of one command; apikey list reads the names of all Redis entries
	storeTimeout   = time.Hour        // of the commands that read all factors: a million take about a minute
)

func (a *app) storeCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "store",
		Short: "Initialize, check and reseal the store (in the Redis that MFA_REDIS_URL names)",
		Args:  cobra.ArbitraryArgs, // requireSubcommand reports them
		RunE:  requireSubcommand,
	}
	cmd.AddCommand(a.initStoreCommand(), a.checkStoreCommand(), a.resealStoreCommand())
	return cmd
}

func (a *app) initStoreCommand() *cobra.Command {
	var acceptLoss, asJSON bool
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Give an empty store its identity, and print it: MFA_STORE_ID",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withRedis(cmd, storeTimeout, []string{"MFA_SEAL_KEYS"}, func(ctx context.Context, s *config.Settings, backend store.Backend) error {
				id, err := store.InitStore(ctx, backend, s.SealKeys, acceptLoss)
				if errors.Is(err, store.ErrConflict) {
					return fmt.Errorf("the store is initialized already: MFA_STORE_ID is %s", id)
				}
				if err != nil {
					return err
				}
				a.audit(ctx, s, "store_initialized", slog.String("store_id", id), slog.Bool("accept_loss", acceptLoss))
				if asJSON {
					return a.printJSON(map[string]string{"store_id": id})
				}
				_, err = fmt.Fprintln(a.stdout, id)
				return err
			})
		},
	}
	cmd.Flags().BoolVar(&acceptLoss, "accept-loss", false, "accept that the store, or a part of a cluster, has lost its identity and perhaps more")
	addJSONFlag(cmd, &asJSON)
	return cmd
}

func (a *app) checkStoreCommand() *cobra.Command {
	return a.censusCommand("check", "Read all factors, and fail if one cannot be opened", "store_checked", (*store.Factors).Count)
}

func (a *app) resealStoreCommand() *cobra.Command {
	return a.censusCommand("reseal", "Seal all factors with the first key of MFA_SEAL_KEYS", "store_resealed", (*store.Factors).Reseal)
}

// censusCommand returns a command that reads all factors and prints what it found. It fails if
// a factor cannot be opened.
func (a *app) censusCommand(name, short, event string, read func(*store.Factors, context.Context) (store.Census, error)) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   name,
		Short: short,
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withFactors(cmd, storeTimeout, func(ctx context.Context, s *config.Settings, factors *store.Factors) error {
				census, err := read(factors, ctx)
				if err != nil {
					return err
				}
				unreadable := len(census.Unreadable)
				a.audit(ctx, s, event, slog.Int("resealed", census.Resealed), slog.Int("unreadable", unreadable))
				if asJSON {
					err = a.printJSON(census)
				} else {
					err = a.printCensus(census)
				}
				if unreadable > 0 {
					err = errors.Join(err, fmt.Errorf("factors that cannot be opened: %d", unreadable))
				}
				return err
			})
		},
	}
	addJSONFlag(cmd, &asJSON)
	return cmd
}

func (a *app) printCensus(census store.Census) error {
	var text strings.Builder
	for _, state := range []store.State{store.Enrolled, store.Off, store.Removed} {
		fmt.Fprintf(&text, "%s: %d\n", state, census.States[state])
	}
	for _, id := range slices.Sorted(maps.Keys(census.SealKeys)) {
		fmt.Fprintf(&text, "found sealed with %s: %d\n", id, census.SealKeys[id])
	}
	fmt.Fprintf(&text, "resealed: %d\nunreadable: %d\n", census.Resealed, len(census.Unreadable))
	for _, digest := range census.Unreadable {
		fmt.Fprintf(&text, "unreadable account: %s\n", digest)
	}
	_, err := fmt.Fprint(a.stdout, text.String())
	return err
}

// withRedis calls do with the Redis of MFA_REDIS_URL, for at most limit. The settings in
// required have to be set too. A fault in any setting is reported.
func (a *app) withRedis(cmd *cobra.Command, limit time.Duration, required []string, do func(context.Context, *config.Settings, store.Backend) error) error {
	s, err := config.Load(a.environ, nil, nil)
	if err != nil {
		return err
	}
	set := map[string]bool{"MFA_REDIS_URL": s.RedisURL != nil, "MFA_SEAL_KEYS": s.SealKeys != nil, "MFA_STORE_ID": s.StoreID != ""}
	var faults config.Faults
	for _, variable := range append([]string{"MFA_REDIS_URL"}, required...) {
		if !set[variable] {
			faults = append(faults, variable+": is required")
		}
	}
	if faults != nil {
		return faults
	}
	backend := store.NewRedis(*s.RedisURL)
	backend.RequireReplicas(s.Replicas)
	defer backend.Close()
	ctx, cancel := context.WithTimeout(cmd.Context(), limit)
	defer cancel()
	return do(ctx, s, backend)
}

// withFactors calls do with the factors in the store of MFA_STORE_ID. In another store they
// return store.ErrIdentity.
func (a *app) withFactors(cmd *cobra.Command, limit time.Duration, do func(context.Context, *config.Settings, *store.Factors) error) error {
	required := []string{"MFA_SEAL_KEYS", "MFA_STORE_ID"}
	return a.withRedis(cmd, limit, required, func(ctx context.Context, s *config.Settings, backend store.Backend) error {
		return do(ctx, s, store.NewFactors(store.FactorsConfig{
			Backend:    backend,
			Keyring:    s.SealKeys,
			Identity:   store.NewIdentity(backend, s.StoreID),
			Now:        a.now,
			SwapLost:   func() {},
			Unreadable: func() {}, Written: func() {},
			Rewrite: s.Replicas > 0,
		}))
	})
}

// audit writes the audit event of a command to stderr, in the form of the service's log and
// whatever MFA_LOG_LEVEL is.
func (a *app) audit(ctx context.Context, s *config.Settings, event string, attrs ...slog.Attr) {
	logger := telemetry.NewLogger(a.stderr, slog.Level(math.MinInt), s.LogFormat)
	logger.LogAttrs(ctx, slog.LevelInfo, "command", append([]slog.Attr{slog.String("event", event)}, attrs...)...)
}
