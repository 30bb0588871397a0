package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"time"

	"github.com/spf13/cobra"
)

// Exit statuses beside 0.
const (
	exitFault = 1 // it was tried and did not work
	exitUsage = 2 // the command line or the settings are wrong; nothing was tried
)

// errUsage marks what the caller has to write differently.
var errUsage = errors.New("usage")

// process is what the commands use of the process they run in.
type process struct {
	environ []string
	stdout  io.Writer
	stderr  io.Writer
	now     func() time.Time
}

// run runs one command line to its end and returns the exit status.
func run(ctx context.Context, args, environ []string, stdout, stderr io.Writer) int {
	p := &process{environ: environ, stdout: stdout, stderr: stderr, now: time.Now}
	root := p.rootCommand()
	root.SetArgs(append([]string{}, args...)) // nil would mean os.Args
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	fmt.Fprintf(stderr, "mfa: %v\n", err)
	if errors.Is(err, errUsage) {
		return exitUsage
	}
	return exitFault
}

func (p *process) rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:           "mfa",
		Short:         "The multi-factor endpoint of the quiva.ai gateway",
		Args:          cobra.ArbitraryArgs, // for noCommand to judge
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE:          noCommand,
	}
	root.CompletionOptions.DisableDefaultCmd = true
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error {
		return fmt.Errorf("%w: %w", errUsage, err)
	})
	root.AddCommand(p.serveCommand(), p.healthCheckCommand(), p.apiKeyCommand(), p.openAPICommand(), p.versionCommand())
	return root
}

func (p *process) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  noArgs,
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprintln(p.stdout, "mfa", version())
			return err
		},
	}
}

// version is what the Go toolchain recorded in the binary.
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

// noCommand is what remains to do where none of a command's own commands was called.
func noCommand(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("%w: unknown command %q; see %s --help", errUsage, args[0], cmd.CommandPath())
	}
	return fmt.Errorf("%w: a command is missing; see %s --help", errUsage, cmd.CommandPath())
}

// noArgs refuses arguments; cobra's own message for it is no usage error to us.
func noArgs(_ *cobra.Command, args []string) error { return wantArgs(args, 0, "no arguments") }

func wantArgs(args []string, n int, what string) error {
	if len(args) != n {
		return fmt.Errorf("%w: want %s", errUsage, what)
	}
	return nil
}
