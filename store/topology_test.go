package store_test

import (
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"quiva.ai/mfa/store"
	"quiva.ai/mfa/store/storetest"
)

// The ACL rules of the README: what the program does, and nothing else; and what a
// cluster's client does besides.
const (
	leastPrivilege   = "resetkeys ~mfa:* resetchannels -@all +set +get +type +eval +info +del +scan"
	clusterPrivilege = "+cluster|slots +command"
)

func TestTheREADMEHasTheLeastPrivilege(t *testing.T) {
	readme, err := os.ReadFile("../README.md")
	if err != nil || !strings.Contains(string(readme), "ACL SETUSER mfa on >PASSWORD "+leastPrivilege+"\n") ||
		!strings.Contains(string(readme), "`"+clusterPrivilege+"`") {
		t.Errorf("README.md lacks an ACL rule: %s, and %s in a cluster; %v", leastPrivilege, clusterPrivilege, err)
	}
}

// TestTheContractHoldsOnEveryTopology runs the contract on each way to run Redis.
func TestTheContractHoldsOnEveryTopology(t *testing.T) {
	for name, start := range map[string]func(t *testing.T) (servers []*storetest.RedisServer, url string){
		"single": func(t *testing.T) ([]*storetest.RedisServer, string) {
			server := storetest.StartRedis(t)
			return []*storetest.RedisServer{server}, server.URL
		},
		"unix socket": func(t *testing.T) ([]*storetest.RedisServer, string) {
			socket := filepath.Join(t.TempDir(), "redis.sock")
			server := storetest.StartRedis(t, "--unixsocket", socket)
			return []*storetest.RedisServer{server}, "unix://" + socket
		},
		"TLS with a client certificate": func(t *testing.T) ([]*storetest.RedisServer, string) {
			files := storetest.NewTLSFiles(t)
			port := storetest.FreePort(t)
			server := storetest.StartRedis(t, "--tls-port", strconv.Itoa(port), "--tls-auth-clients", "yes",
				"--tls-ca-cert-file", files.CA, "--tls-cert-file", files.Cert, "--tls-key-file", files.Key)
			query := url.Values{"tls_ca_file": {files.CA}, "tls_cert_file": {files.Cert}, "tls_key_file": {files.Key}, "pool_size": {"4"}}
			return []*storetest.RedisServer{server}, "rediss://127.0.0.1:" + strconv.Itoa(port) + "?" + query.Encode()
		},
		"ACL user with the least privilege": func(t *testing.T) ([]*storetest.RedisServer, string) {
			server := storetest.StartRedis(t)
			setUser(t, server, leastPrivilege)
			return []*storetest.RedisServer{server}, "redis://mfa:pw@" + server.Addr
		},
		"Sentinel": func(t *testing.T) ([]*storetest.RedisServer, string) {
			sentinel := storetest.StartSentinel(t)
			setUser(t, sentinel.Primary, leastPrivilege)
			return []*storetest.RedisServer{sentinel.Primary}, sentinel.URL + "&username=mfa&password=pw"
		},
		"Cluster": func(t *testing.T) ([]*storetest.RedisServer, string) {
			cluster := storetest.StartCluster(t)
			for _, p := range cluster.Primaries {
				setUser(t, p, leastPrivilege+" "+clusterPrivilege)
			}
			return cluster.Primaries, strings.Replace(cluster.URL, "://", "://mfa:pw@", 1)
		},
	} {
		t.Run(name, func(t *testing.T) {
			servers, url := start(t)
			storetest.Run(t, func(t *testing.T) store.Backend {
				for _, server := range servers {
					if err := server.Client.FlushAll(t.Context()).Err(); err != nil {
						t.Fatal(err)
					}
				}
				return newRedis(t, url)
			})
		})
	}
}
