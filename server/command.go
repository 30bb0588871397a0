package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"quiva.ai/mfa/server/config"
)

// Exit statuses beside 0.
const (
	exitFault = 1 // the command failed
	exitUsage = 2 // the command line or the settings are wrong; the command did nothing
)

// errUsage marks errors of the command line.
var errUsage = errors.New("usage")

// app has the parts of the process that the commands use.
type app struct {
	environ []string
	stdout  io.Writer
	stderr  io.Writer
	now     func() time.Time
}

// run runs one command line to its end and returns the exit status.
func run(ctx context.Context, args, environ []string, stdout, stderr io.Writer) int {
	a := &app{environ: environ, stdout: stdout, stderr: stderr, now: time.Now}
	root := a.rootCommand()
	root.SetArgs(append([]string{}, args...)) // nil would mean os.Args
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	fmt.Fprintf(stderr, "mfa: %v\n", err)
	if _, faulty := errors.AsType[config.Faults](err); faulty || errors.Is(err, errUsage) {
		return exitUsage
	}
	return exitFault
}

func (a *app) rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:           "mfa",
		Short:         "The multi-factor endpoint of the quiva.ai gateway",
		Args:          cobra.ArbitraryArgs, // requireSubcommand reports them
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE:          requireSubcommand,
	}
	root.CompletionOptions.DisableDefaultCmd = true
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error {
		if unknown, ok := errors.AsType[*pflag.NotExistError](err); ok && unknown.GetSpecifiedShortnames() != "" {
			return fmt.Errorf("%w: unknown flag with one dash; write --name", errUsage) // its text has the value too
		}
		return fmt.Errorf("%w: %w", errUsage, err)
	})
	root.AddCommand(a.serveCommand(), a.healthCheckCommand(), a.smokeTestCommand(), a.apiKeyCommand(), a.serviceKeyCommand(), a.accountCommand(), a.storeCommand(), a.openAPICommand(), a.versionCommand())
	return root
}

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  noArgs,
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprintln(a.stdout, "mfa", version())
			return err
		},
	}
}

// version returns the version, the revision and the Go version that the toolchain recorded in
// the binary.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	revision := ""
	for _, setting := range info.Settings {
		if setting.Key == "vcs.revision" {
			revision = " " + setting.Value
		}
	}
	return info.Main.Version + revision + " " + info.GoVersion
}

// requireSubcommand refuses a command line that names no subcommand, or an unknown one.
func requireSubcommand(cmd *cobra.Command, args []string) error {
	if len(args) > 0 && strings.ContainsAny(args[0], ":=/") { // a setting or its value
		return fmt.Errorf("%w: unknown command; see %s --help", errUsage, cmd.CommandPath())
	}
	if len(args) > 0 {
		return fmt.Errorf("%w: unknown command %q; see %s --help", errUsage, args[0], cmd.CommandPath())
	}
	return fmt.Errorf("%w: a command is missing; see %s --help", errUsage, cmd.CommandPath())
}

// noArgs refuses arguments. cobra.NoArgs does the same, but not with errUsage.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("%w: %s takes no arguments", errUsage, cmd.CommandPath())
	}
	return nil
}

func addJSONFlag(cmd *cobra.Command, asJSON *bool) {
	cmd.Flags().BoolVar(asJSON, "json", false, "print JSON")
}

func (a *app) printJSON(value any) error { return json.NewEncoder(a.stdout).Encode(value) }
