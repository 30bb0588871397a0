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

// startProxy stands between a client and the Redis at addr. It tells before of
// everything that the client sends before it passes that on; if before returns false,
// the answer is lost, and the connection with it.
func startProxy(t *testing.T, addr string, before func(sent string) bool) (url string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			go proxy(client, addr, before)
		}
	}()
	return "redis://" + listener.Addr().String()
}

// proxy relies on a client that awaits each answer before it goes on.
func proxy(client net.Conn, addr string, before func(string) bool) {
	defer client.Close()
	server, err := net.Dial("tcp", addr)
	if err != nil {
		return
	}
	defer server.Close()
	buffer := make([]byte, 64<<10)
	for {
		n, err := client.Read(buffer)
		if err != nil {
			return
		}
		keep := before(string(buffer[:n]))
		if _, err := server.Write(buffer[:n]); err != nil {
			return
		}
		n, err = server.Read(buffer)
		if err != nil || !keep {
			return
		}
		if _, err := client.Write(buffer[:n]); err != nil {
			return
		}
	}
}

// The second SET would find the first one's value and take it for another's. A client
// of a cluster has a loop of its own for it.
func TestLostReplyIsNotFollowedByASecondCommand(t *testing.T) {
	single := storetest.StartRedis(t)
	node := storetest.StartRedis(t, "--cluster-enabled", "yes", "--cluster-port", strconv.Itoa(storetest.FreePort(t)))
	loseReplies := func(sent string) bool {
		sent = strings.ToUpper(sent)
		return !strings.Contains(sent, "\r\nSET\r\n") && !strings.Contains(sent, "\r\nDEL\r\n")
	}
	singleURL, nodeURL := startProxy(t, single.Addr, loseReplies), startProxy(t, node.Addr, loseReplies)
	// Clients find a node of a cluster where it says that it is.
	host, port, err := net.SplitHostPort(strings.TrimPrefix(nodeURL, "redis://"))
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
		singleURL: single,
		strings.Replace(nodeURL, "redis://", "redis+cluster://", 1): node,
	} {
		backend := newRedis(t, url)
		if existing, err := backend.PutIfAbsent(t.Context(), "k", []byte("v"), time.Minute); !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("%s: put whose reply is lost = %q, %v; want ErrUnavailable", url, existing, err)
		}
		// A second DEL would find nothing and call what the first one revoked unknown.
		if err := backend.Delete(t.Context(), "k"); !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("%s: delete whose reply is lost = %v; want ErrUnavailable", url, err)
		}
		if calls := server.Calls(t); calls["set"] != 1 || calls["del"] != 1 {
			t.Errorf("%s: %d SET and %d DEL were executed; want 1 of each", url, calls["set"], calls["del"])
		}
	}
}

func TestListPassesOverWhatDisappearsMeanwhile(t *testing.T) {
	server := storetest.StartRedis(t)
	backend := newRedis(t, startProxy(t, server.Addr, func(sent string) bool {
		if strings.HasSuffix(sent, "\r\nget\r\n$4\r\ngone\r\n") {
			server.Client.Del(context.Background(), "gone")
		}
		return true
	}))
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
