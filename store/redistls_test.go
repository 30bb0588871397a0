package store_test

import (
	"errors"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"quiva.ai/mfa/store"
	"quiva.ai/mfa/store/storetest"
)

// The servers are reached at, and announce, an IP address that their certificate does not have.
func TestRedisURL_TLSServerNameIsCheckedInPlaceOfTheAddress(t *testing.T) { //nolint:tparallel // The sub-tests share one server.
	t.Parallel()
	files := storetest.NewNamedTLSFiles(t)
	options := []string{"tls-ca-cert-file", files.CA, "tls-cert-file", files.Cert, "tls-key-file", files.Key, "tls-auth-clients", "no", "tls-replication", "yes"}
	startTLS := func(args ...string) (server *storetest.RedisServer, port string) {
		port = strconv.Itoa(storetest.FreePort(t))
		args = append(args, "--tls-port", port)
		for i := 0; i < len(options); i += 2 {
			args = append(args, "--"+options[i], options[i+1])
		}
		return storetest.StartRedis(t, args...), port
	}
	_, single := startTLS()
	node, cluster := startTLS("--cluster-enabled", "yes", "--tls-cluster", "yes", "--cluster-port", strconv.Itoa(storetest.FreePort(t)), "--cluster-announce-ip", "127.0.0.1")
	do(t, node, "CLUSTER", "ADDSLOTSRANGE", 0, 16383)
	storetest.Eventually(t, func() bool {
		return strings.Contains(node.Client.ClusterInfo(t.Context()).Val(), "cluster_state:ok")
	})
	sentinel := strconv.Itoa(storetest.FreePort(t))
	lines := []string{"tls-port " + sentinel}
	for i := 0; i < len(options); i += 2 {
		lines = append(lines, options[i]+" "+options[i+1])
	}
	storetest.StartSentinelOf(t, "127.0.0.1", single, lines...)
	for name, url := range map[string]string{
		"one server": "rediss://127.0.0.1:" + single + "?tls_ca_file=" + files.CA,
		"cluster":    "rediss+cluster://" + net.JoinHostPort("127.0.0.1", cluster) + "?tls_ca_file=" + files.CA,
		"Sentinel":   "rediss://127.0.0.1:" + sentinel + "?master_name=mfa&tls_ca_file=" + files.CA,
	} {
		t.Run(name, func(t *testing.T) {
			for _, suffix := range []string{"", "&tls_server_name=other.internal", "&tls_server_name=127.0.0.1"} {
				if err := newRedis(t, url+suffix).Ready(t.Context()); !errors.Is(err, store.ErrUnavailable) {
					t.Errorf("with %q: %v; want ErrUnavailable", suffix, err)
				}
			}
			backend := newRedis(t, url+"&tls_server_name=mfa.internal")
			if err := backend.Ready(t.Context()); err != nil {
				t.Fatal(err)
			}
			if existing, err := backend.PutIfAbsent(t.Context(), "mfa:"+name, []byte("v"), time.Minute); existing != nil || err != nil {
				t.Errorf("PutIfAbsent = %q, %v", existing, err)
			}
		})
	}
}
