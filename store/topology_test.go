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

// leastPrivilege is what the service does, and nothing else; the README has it too.
const leastPrivilege = "resetkeys ~mfa:* resetchannels -@all +set +get +del +scan +type +eval +ping"

func TestTheREADMEHasTheLeastPrivilege(t *testing.T) {
	readme, err := os.ReadFile("../README.md")
	if err != nil || !strings.Contains(string(readme), "ACL SETUSER mfa on >PASSWORD "+leastPrivilege+"\n") {
		t.Errorf("README.md lacks the ACL rule %s, %v", leastPrivilege, err)
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
			rule := []any{"ACL", "SETUSER", "mfa", "on", ">hunter2"}
			for word := range strings.FieldsSeq(leastPrivilege) {
				rule = append(rule, word)
			}
			if err := server.Client.Do(t.Context(), rule...).Err(); err != nil {
				t.Fatal(err)
			}
			return []*storetest.RedisServer{server}, "redis://mfa:hunter2@" + server.Addr
		},
		"Sentinel": func(t *testing.T) ([]*storetest.RedisServer, string) {
			primary, url := storetest.StartSentinel(t)
			return []*storetest.RedisServer{primary}, url
		},
		"Cluster": func(t *testing.T) ([]*storetest.RedisServer, string) { return storetest.StartCluster(t) },
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
