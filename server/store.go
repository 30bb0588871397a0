package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"quiva.ai/mfa/server/config"
	"quiva.ai/mfa/server/telemetry"
	"quiva.ai/mfa/store"
)

// storeTimeout bounds the commands that read all factors: a million take about a minute.
const storeTimeout = time.Hour

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
			return a.withRedis(cmd, storeTimeout, requireSealKeys, func(ctx context.Context, s *config.Settings, backend store.Backend) error {
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
	cmd.Flags().BoolVar(&acceptLoss, "accept-loss", false, "in a cluster: accept that some hash slots have lost their data")
	addJSONFlag(cmd, &asJSON)
	return cmd
}

func (a *app) checkStoreCommand() *cobra.Command {
	return a.censusCommand("check", "Read all factors, and fail if one cannot be opened", "store_checked", (*store.Factors).Count)
}

func (a *app) resealStoreCommand() *cobra.Command {
	return a.censusCommand("reseal", "Seal all factors with the first key of MFA_SEAL_KEYS", "store_resealed", (*store.Factors).Reseal)
}

// censusCommand returns a command that reads all factors and prints what it found.
func (a *app) censusCommand(name, short, event string, read func(*store.Factors, context.Context) (store.Census, error)) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   name,
		Short: short,
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withFactors(cmd, func(ctx context.Context, s *config.Settings, factors *store.Factors) error {
				census, err := read(factors, ctx)
				if err != nil {
					return err
				}
				a.audit(ctx, s, event, slog.Int("resealed", census.Resealed), slog.Int("unreadable", len(census.Unreadable)))
				if asJSON {
					err = a.printJSON(census)
				} else {
					a.printCensus(census)
				}
				if len(census.Unreadable) > 0 {
					err = errors.Join(err, fmt.Errorf("%d factors cannot be opened", len(census.Unreadable)))
				}
				return err
			})
		},
	}
	addJSONFlag(cmd, &asJSON)
	return cmd
}

func (a *app) printCensus(census store.Census) {
	for _, state := range slices.Sorted(maps.Keys(census.States)) {
		fmt.Fprintf(a.stdout, "%d %s\n", census.States[state], state)
	}
	for _, id := range slices.Sorted(maps.Keys(census.SealKeys)) {
		fmt.Fprintf(a.stdout, "%d sealed with %s\n", census.SealKeys[id], id)
	}
	fmt.Fprintf(a.stdout, "%d resealed\n", census.Resealed)
	for _, digest := range census.Unreadable {
		fmt.Fprintf(a.stdout, "unreadable: %s\n", digest)
	}
}

// withRedis calls do with the Redis of MFA_REDIS_URL, for at most limit. check returns the
// faults of settings that the command needs beside it.
func (a *app) withRedis(cmd *cobra.Command, limit time.Duration, check func(*config.Settings) config.Faults, do func(context.Context, *config.Settings, store.Backend) error) error {
	s, err := config.Load(a.environ, nil, nil)
	if err != nil {
		return err
	}
	faults := check(s)
	if s.RedisURL == nil {
		faults = append(config.Faults{"MFA_REDIS_URL: is required"}, faults...)
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

// withFactors calls do with the factors in the store of MFA_STORE_ID, and with no other store.
func (a *app) withFactors(cmd *cobra.Command, do func(context.Context, *config.Settings, *store.Factors) error) error {
	check := func(s *config.Settings) config.Faults {
		faults := requireSealKeys(s)
		if s.StoreID == "" {
			faults = append(faults, "MFA_STORE_ID: is required")
		}
		return faults
	}
	return a.withRedis(cmd, storeTimeout, check, func(ctx context.Context, s *config.Settings, backend store.Backend) error {
		factors := store.NewFactors(store.FactorsConfig{
			Backend:    backend,
			Keyring:    s.SealKeys,
			Identity:   store.NewIdentity(backend, s.StoreID),
			Now:        a.now,
			SwapLost:   func() {},
			Unreadable: func() {},
			Rewrite:    s.Replicas > 0,
		})
		if err := factors.Check(ctx); err != nil {
			return err
		}
		return do(ctx, s, factors)
	})
}

func requireSealKeys(s *config.Settings) config.Faults {
	if s.SealKeys == nil {
		return config.Faults{"MFA_SEAL_KEYS: is required"}
	}
	return nil
}

// audit writes the audit event of a command to stderr, in the form of the service's log.
func (a *app) audit(ctx context.Context, s *config.Settings, event string, attrs ...slog.Attr) {
	logger := telemetry.NewLogger(a.stderr, slog.Level(math.MinInt), s.LogFormat)
	logger.LogAttrs(ctx, slog.LevelInfo, "command", append([]slog.Attr{slog.String("event", event)}, attrs...)...)
}
