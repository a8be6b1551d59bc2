package storetest_test

import (
	"context"
	"crypto/tls"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/manage-subscriptions/manage-subscriptions/internal/storetest"
)

// survives checks that a value written before a failover is still there afterwards.
func survives(t *testing.T, client redis.UniversalClient, key string, fail func()) {
	t.Helper()
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := client.Set(ctx, key, "value", 0).Err(); err != nil {
		t.Fatal(err)
	}
	// fail waits until the replica has the value. Otherwise Redis may lose it in a failover.
	fail()
	var got string
	err := context.Canceled // until the first answer
	for err != nil && ctx.Err() == nil {
		if result, failed := client.Get(ctx, key).Result(); ctx.Err() == nil {
			got, err = result, failed
		}
		if cluster, ok := client.(*redis.ClusterClient); ok && err != nil {
			cluster.ReloadState(ctx) // otherwise it reloads only after MOVED, or later
		}
	}
	if got != "value" {
		t.Errorf("after the failover there is %q, %v; want what was written", got, err)
	}
}

func TestSentinel(t *testing.T) {
	t.Parallel()
	w := storetest.Sentinel(t)
	_, hosts, _ := strings.Cut(w.URL(), "//")
	hosts, _, _ = strings.Cut(hosts, "?")
	client := redis.NewUniversalClient(&redis.UniversalOptions{Addrs: strings.Split(hosts, ","), MasterName: "main"})
	survives(t, client, "key", func() {
		await(t, func() bool { return w.Replica.Dump()["key"] != "" })
		w.Master.Stop()
		w.Replica.AwaitMaster()
	})
}

func TestCluster(t *testing.T) {
	t.Parallel()
	n := storetest.Cluster(t)
	client := redis.NewUniversalClient(&redis.UniversalOptions{Addrs: strings.Split(strings.TrimPrefix(n.URL(), "redis://"), ",")})
	survives(t, client, "key", func() { // its slot, 12539, is on the third master
		master, replica := n.Masters[2], n.Replicas[2]
		if master.Dump()["key"] != "value" {
			t.Error("the key is not on the third master")
		}
		direct := redis.NewClient(&redis.Options{Addr: replica.Addr})
		defer direct.Close()
		await(t, func() bool { return direct.DBSize(t.Context()).Val() == 1 })
		master.Stop()
		replica.AwaitMaster()
	})
}

func TestTLS(t *testing.T) {
	t.Parallel()
	s, _ := storetest.TLS(t)
	if got := s.Dump(); len(got) > 0 {
		t.Errorf("Dump = %q; want nothing", got)
	}
	for name, config := range map[string]*tls.Config{"without TLS": nil, "who does not know the authority": {}} {
		client := redis.NewClient(&redis.Options{Addr: s.Addr, TLSConfig: config, MaxRetries: -1})
		if err := client.Ping(t.Context()).Err(); err == nil {
			t.Errorf("it answers somebody %s", name)
		}
		client.Close()
	}
}

func await(t *testing.T, done func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(10 * time.Second); !done(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatal("timed out")
		}
	}
}
