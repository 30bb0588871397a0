package lifecycle

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

func TestReloader_ReloadsOnHangup(t *testing.T) {
	files := newCertificateFiles(t)
	files.write(newCertificate(t, 1, time.Time{}, time.Now().Add(time.Hour)))
	log := slog.New(slog.DiscardHandler)
	certificate := files.load(time.Now, log)
	address := filepath.Join(t.TempDir(), "s")
	systemd := newSystemd(t, address)
	reloads := make(chan bool)
	reloader := &Reloader{
		Reload:      func(context.Context) { reloads <- true },
		Certificate: certificate,
		Notifier:    Notifier{address},
		Log:         log,
	}
	ctx, cancel := context.WithCancel(t.Context())
	hangup, ended := make(chan os.Signal), make(chan bool)
	go func() { reloader.Run(ctx, t.Context(), hangup); close(ended) }()
	files.write(newCertificate(t, 2, time.Time{}, time.Now().Add(time.Hour)))
	hangup <- syscall.SIGHUP
	systemd.want(`RELOADING=1\nMONOTONIC_USEC=\d+`)
	<-reloads
	systemd.want("READY=1")
	if got := certificate.serial(t); got != 2 {
		t.Errorf("serial %d at READY=1; want 2", got)
	}
	cancel()
	<-ended
}

func TestReloader_IgnoresHangupsWhenStopping(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		stop, stopNow := context.WithCancel(t.Context())
		stopNow()
		reloader := &Reloader{
			Reload: func(context.Context) { t.Error("reloaded after the stop") },
			Log:    slog.New(slog.DiscardHandler),
		}
		hangup := make(chan os.Signal)
		go reloader.Run(ctx, stop, hangup)
		hangup <- syscall.SIGHUP
		synctest.Wait()
	})
}

func TestReloader_RefreshesCertificateEveryTwoSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		files := newCertificateFiles(t)
		files.write(newCertificate(t, 1, time.Time{}, time.Now().Add(time.Hour)))
		log := slog.New(slog.DiscardHandler)
		certificate := files.load(time.Now, log)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		with, without := &Reloader{Certificate: certificate, Log: log}, &Reloader{Log: log}
		go with.Run(ctx, t.Context(), nil)
		go without.Run(ctx, t.Context(), nil)
		files.write(newCertificate(t, 2, time.Time{}, time.Now().Add(time.Hour)))
		time.Sleep(2*time.Second - time.Millisecond)
		if got := certificate.serial(t); got != 1 {
			t.Errorf("serial %d before 2s; want 1", got)
		}
		time.Sleep(time.Millisecond)
		synctest.Wait()
		if got := certificate.serial(t); got != 2 {
			t.Errorf("serial %d after 2s; want 2", got)
		}
	})
}

// This test sends SIGHUP to its own process: it must not run in parallel.
func TestHandleHangups_KeepsOneHangupUntilRelease(t *testing.T) {
	always := make(chan os.Signal, 1) // keeps the signal from ending the test
	signal.Notify(always, syscall.SIGHUP)
	defer signal.Stop(always)
	hangup, release := HandleHangups()
	defer release()
	send := func() {
		t.Helper()
		if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		<-always
	}
	send()
	if got := <-hangup; got != syscall.SIGHUP {
		t.Errorf("%v; want SIGHUP", got)
	}
	release()
	send()
	if len(hangup) != 0 {
		t.Error("a hangup after release")
	}
}
