//go:build bench

package bench

import (
	"bufio"
	"context"
	"io"
	"net"
	"strings"
	"testing"

	"quiva.ai/mfa/store"
	"quiva.ai/mfa/store/storetest"
)

// initStore empties the Redis servers at redisURL, gives them a store identity, and returns
// it as a setting.
func initStore(t testing.TB, redisURL string, servers ...*storetest.RedisServer) (setting string) {
	t.Helper()
	for _, server := range servers {
		if err := server.Client.FlushAll(context.Background()).Err(); err != nil {
			t.Fatal(err)
		}
	}
	backend := open(t, redisURL)
	defer backend.Close()
	id, err := store.InitStore(context.Background(), backend, storetest.NewKeyring(t, sealKey), false)
	if err != nil {
		t.Fatal(err)
	}
	return "MFA_STORE_ID=" + id
}

// open connects the store's own client to a Redis.
func open(t testing.TB, redisURL string) *store.Redis {
	t.Helper()
	var location store.RedisURL
	if err := location.UnmarshalText([]byte(redisURL)); err != nil {
		t.Fatal(err)
	}
	return store.NewRedis(location)
}

// sent returns how many commands the servers get from clients meanwhile. INFO would count
// the commands of scripts too.
func sent(t testing.TB, servers []*storetest.RedisServer, meanwhile func()) (commands int) {
	t.Helper()
	const end = "end of the count"
	var monitors []*bufio.Scanner
	for _, server := range servers {
		conn, err := net.Dial("tcp", server.Addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := io.WriteString(conn, "MONITOR\r\n"); err != nil {
			t.Fatal(err)
		}
		monitor := bufio.NewScanner(conn)
		monitor.Scan() // The reply comes before the first command.
		monitors = append(monitors, monitor)
	}
	meanwhile()
	for i, monitor := range monitors {
		if err := servers[i].Client.Echo(context.Background(), end).Err(); err != nil {
			t.Fatal(err)
		}
		for monitor.Scan() && !strings.Contains(monitor.Text(), end) {
			if !strings.Contains(monitor.Text(), " lua] ") {
				commands++
			}
		}
		if err := monitor.Err(); err != nil {
			t.Fatal(err)
		}
	}
	return commands
}
