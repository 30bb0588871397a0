package store_test

import (
	"context"
	"errors"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"quiva.ai/mfa/store"
	"quiva.ai/mfa/store/storetest"
)

// The second SET would find the first one's value and take it for another's. A client
// of a cluster has a loop of its own for it.
func TestLostReplyIsNotFollowedByASecondCommand(t *testing.T) {
	single := storetest.StartRedis(t)
	node := storetest.StartRedis(t, "--cluster-enabled", "yes", "--cluster-port", strconv.Itoa(storetest.FreePort(t)))
	singleProxy, nodeProxy := storetest.StartProxy(t, single.Addr), storetest.StartProxy(t, node.Addr)
	for _, p := range []*storetest.Proxy{singleProxy, nodeProxy} {
		p.Do(
			storetest.Fault{Command: "set", Action: storetest.LoseReply},
			storetest.Fault{Command: "eval", Action: storetest.LoseReply},
			storetest.Fault{Command: "del", Action: storetest.LoseReply},
		)
	}
	// Clients find a node of a cluster where it says that it is.
	host, port, err := net.SplitHostPort(nodeProxy.Addr)
	if err := errors.Join(err,
		node.Client.ConfigSet(t.Context(), "cluster-announce-ip", host).Err(),
		node.Client.ConfigSet(t.Context(), "cluster-announce-port", port).Err(),
		node.Client.Do(t.Context(), "CLUSTER", "ADDSLOTSRANGE", 0, 16383).Err(),
	); err != nil {
		t.Fatal(err)
	}
	storetest.Eventually(t, func() bool {
		return strings.Contains(node.Client.ClusterInfo(t.Context()).Val(), "cluster_state:ok")
	})
	for url, server := range map[string]*storetest.RedisServer{
		singleProxy.URL:                     single,
		"redis+cluster://" + nodeProxy.Addr: node,
	} {
		backend := newRedis(t, url)
		if existing, err := backend.PutIfAbsent(t.Context(), "k", []byte("v"), time.Minute); !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("%s: put whose reply is lost = %q, %v; want ErrUnavailable", url, existing, err)
		}
		if existing, err := backend.Replace(t.Context(), "k", []byte("v"), []byte("w"), time.Minute); !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("%s: replace whose reply is lost = %q, %v; want ErrUnavailable", url, existing, err)
		}
		if err := backend.Update(t.Context(), "k", []byte("x")); !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("%s: update whose reply is lost = %v; want ErrUnavailable", url, err)
		}
		// A second DEL would find nothing and call what the first one revoked unknown.
		if err := backend.Delete(t.Context(), "k"); !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("%s: delete whose reply is lost = %v; want ErrUnavailable", url, err)
		}
		// The script has a SET of its own.
		if calls := server.Calls(t); calls["set"] != 3 || calls["eval"] != 1 || calls["del"] != 1 {
			t.Errorf("%s: executed were %v; want SET and its like once each", url, calls)
		}
	}
}

func TestListPassesOverWhatDisappearsMeanwhile(t *testing.T) {
	server := storetest.StartRedis(t)
	proxy := storetest.StartProxy(t, server.Addr)
	proxy.Do(storetest.Fault{Command: "get", Key: "gone", Action: func(x *storetest.Exchange) bool {
		server.Client.Del(context.Background(), "gone")
		return storetest.Pass(x)
	}})
	backend := newRedis(t, proxy.URL)
	for _, key := range []string{"gone", "here"} {
		if _, err := backend.PutIfAbsent(t.Context(), key, []byte("v"), time.Minute); err != nil {
			t.Fatal(err)
		}
	}
	got, err := backend.List(t.Context(), "")
	if diff := cmp.Diff(map[string][]byte{"here": []byte("v")}, got); diff != "" || err != nil {
		t.Errorf("list: %v (-want +got):\n%s", err, diff)
	}
	if left := server.Calls(t)["del"]; left != 1 {
		t.Errorf("the key was deleted %d times during the listing; want 1", left)
	}
}
