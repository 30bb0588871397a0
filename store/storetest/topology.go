package storetest

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// StartSentinel starts a primary, a replica of it, and three sentinels that watch them
// under the name mfa. It returns the primary and the URL of the whole.
func StartSentinel(t testing.TB) (primary *RedisServer, address string) {
	t.Helper()
	primary = StartRedis(t)
	host, port, err := net.SplitHostPort(primary.Addr)
	if err != nil {
		t.Fatal(err)
	}
	replica := StartRedis(t, "--replicaof", host, port, "--repl-diskless-sync-delay", "0")
	Eventually(t, func() bool {
		return strings.Contains(replica.Client.Info(context.Background(), "replication").Val(), "master_link_status:up")
	})
	var sentinels []string
	for range 3 {
		sentinels = append(sentinels, startSentinel(t, host, port))
	}
	query := url.Values{"master_name": {"mfa"}, "addr": sentinels[1:]}
	return primary, "redis://" + sentinels[0] + "?" + query.Encode()
}

func startSentinel(t testing.TB, host, port string) string {
	t.Helper()
	var address string
	process := start(t, "+monitor master mfa", func() []string {
		address = net.JoinHostPort("127.0.0.1", strconv.Itoa(FreePort(t)))
		_, own, _ := net.SplitHostPort(address)
		// A sentinel insists on a file of its own, and writes to it.
		file := filepath.Join(t.TempDir(), "sentinel.conf")
		text := fmt.Sprintf("bind 127.0.0.1\nport %s\ndir %q\nsentinel monitor mfa %s %s 2\n"+
			"sentinel down-after-milliseconds mfa 1000\nsentinel failover-timeout mfa 3000\n", own, filepath.Dir(file), host, port)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return []string{file, "--sentinel"}
	})
	t.Cleanup(func() {
		_ = process.Process.Kill()
		_ = process.Wait()
	})
	return address
}

// StartCluster starts a cluster of three primaries and returns them and its URL, which
// names only the first.
func StartCluster(t testing.TB) (primaries []*RedisServer, address string) {
	t.Helper()
	ctx := context.Background()
	for range 3 {
		bus := strconv.Itoa(FreePort(t))
		node := StartRedis(t, "--cluster-enabled", "yes", "--cluster-port", bus, "--cluster-announce-ip", "127.0.0.1",
			"--cluster-config-file", "nodes.conf", "--cluster-node-timeout", "2000")
		i := len(primaries)
		must(t, node.Client.Do(ctx, "CLUSTER", "ADDSLOTSRANGE", i*16384/3, (i+1)*16384/3-1).Err())
		must(t, node.Client.Do(ctx, "CLUSTER", "SET-CONFIG-EPOCH", i+1).Err())
		if i > 0 {
			host, port, err := net.SplitHostPort(node.Addr)
			must(t, err)
			must(t, primaries[0].Client.Do(ctx, "CLUSTER", "MEET", host, port, bus).Err())
		}
		primaries = append(primaries, node)
	}
	for _, node := range primaries {
		Eventually(t, func() bool {
			info := node.Client.ClusterInfo(ctx).Val()
			return strings.Contains(info, "cluster_state:ok") && strings.Contains(info, "cluster_known_nodes:3")
		})
	}
	return primaries, "redis+cluster://" + primaries[0].Addr
}

// TLSFiles are paths of PEM files: an authority, and a certificate of its for
// 127.0.0.1, for servers and clients alike.
type TLSFiles struct{ CA, Cert, Key string }

// NewTLSFiles makes an authority and a certificate that are good for an hour.
func NewTLSFiles(t testing.TB) TLSFiles {
	t.Helper()
	dir := t.TempDir()
	files := TLSFiles{filepath.Join(dir, "ca.pem"), filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")}
	template := func(serial int64, name string) *x509.Certificate {
		return &x509.Certificate{
			SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name},
			NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
		}
	}
	authorityKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	authority := template(1, "authority")
	authority.IsCA, authority.BasicConstraintsValid, authority.KeyUsage = true, true, x509.KeyUsageCertSign
	authorityDER, err := x509.CreateCertificate(rand.Reader, authority, authority, authorityKey.Public(), authorityKey)
	must(t, err)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	leaf := template(2, "leaf")
	leaf.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)}
	leaf.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	leafDER, err := x509.CreateCertificate(rand.Reader, leaf, authority, key.Public(), authorityKey)
	must(t, err)
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	must(t, err)
	for path, block := range map[string]*pem.Block{
		files.CA: {Type: "CERTIFICATE", Bytes: authorityDER}, files.Cert: {Type: "CERTIFICATE", Bytes: leafDER}, files.Key: {Type: "PRIVATE KEY", Bytes: keyDER},
	} {
		must(t, os.WriteFile(path, pem.EncodeToMemory(block), 0o600))
	}
	return files
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
