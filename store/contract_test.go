package store_test

import (
	"net"
	"net/url"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"quiva.ai/mfa/store"
	"quiva.ai/mfa/store/storetest"
)

func TestMemory_KeepsTheContract(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(*testing.T) store.Backend { return store.NewMemory(time.Now) })
}

func TestRedis_KeepsTheContract(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Backend {
		t.Helper()
		return newRedis(t, storetest.SharedRedis(t).URL)
	})
}

// The server of these connections listens on a unix socket and with TLS, and it has the
// user of server/deploy/users.acl.
func TestRedis_KeepsTheContractOnEachConnection(t *testing.T) { //nolint:tparallel // The sub-tests share one server.
	t.Parallel()
	socket := filepath.Join(t.TempDir(), "redis.sock")
	files := storetest.NewTLSFiles(t)
	port := strconv.Itoa(storetest.FreePort(t))
	server := storetest.StartRedis(t, "--aclfile", deployedACL(t), "--unixsocket", socket, "--tls-port", port, "--tls-auth-clients", "yes",
		"--tls-ca-cert-file", files.CA, "--tls-cert-file", files.Cert, "--tls-key-file", files.Key)
	_, plain, err := net.SplitHostPort(server.Addr)
	if err != nil {
		t.Fatal(err)
	}
	sentinel := storetest.StartSentinelOf(t, "127.0.0.1", plain)
	tls := url.Values{"tls_ca_file": {files.CA}, "tls_cert_file": {files.Cert}, "tls_key_file": {files.Key}, "pool_size": {"4"}}
	for name, address := range map[string]string{
		"unix socket":                   "unix://" + socket,
		"TLS with a client certificate": "rediss://127.0.0.1:" + port + "?" + tls.Encode(),
		"user of users.acl":             "redis://mfa:pw@" + server.Addr,
		"Sentinel and user":             "redis://" + sentinel + "?master_name=mfa&username=mfa&password=pw",
	} {
		t.Run(name, func(t *testing.T) {
			storetest.Run(t, func(t *testing.T) store.Backend {
				t.Helper()
				do(t, server, "FLUSHALL")
				return newRedis(t, address)
			})
		})
	}
}
