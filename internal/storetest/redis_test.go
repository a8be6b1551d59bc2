package storetest_test

import (
	"net"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/manage-subscriptions/manage-subscriptions/internal/storetest"
)

func TestRedis(t *testing.T) {
	s := storetest.Redis(t)
	client := redis.NewClient(&redis.Options{Addr: s.Addr})
	defer client.Close()
	ctx := t.Context()
	pipe := client.Pipeline()
	pipe.Set(ctx, "string", "a\x00b", 0)
	pipe.RPush(ctx, "list", "a", "b")
	pipe.SAdd(ctx, "set", "c", "a", "b")
	pipe.HSet(ctx, "hash", "d", "1", "c", "2", "b", "3", "a", "4")
	pipe.ZAdd(ctx, "sorted", redis.Z{Member: "a", Score: 1.5})
	pipe.XAdd(ctx, &redis.XAddArgs{Stream: "stream", ID: "1-1", Values: []string{"field", "value"}})
	if _, err := pipe.Exec(ctx); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"string": "a\x00b", "list": "a\nb", "set": "a\nb\nc", "hash": "a\n4\nb\n3\nc\n2\nd\n1", "sorted": "a\n1.5", "stream": "1-1\nmap[field:value]",
	}
	if diff := cmp.Diff(want, s.Dump()); diff != "" {
		t.Errorf("Dump: -want +got\n%s", diff)
	}

	before := s.Addr
	s.Stop()
	s.Stop()
	if connection, err := net.Dial("tcp", s.Addr); err == nil {
		connection.Close()
		t.Error("a stopped server accepts connections")
	}
	s.Start()
	s.Start()
	if got := s.Dump(); len(got) > 0 || s.Addr != before {
		t.Errorf("started again at %s with %q; want nothing, at %s", s.Addr, got, before)
	}
}

func TestRedisTakesArguments(t *testing.T) {
	s := storetest.Redis(t, "--maxmemory", "123mb")
	client := redis.NewClient(&redis.Options{Addr: s.Addr})
	defer client.Close()
	info := client.Info(t.Context(), "memory").Val()
	if !strings.Contains(info, "maxmemory:128974848\r\n") {
		t.Errorf("maxmemory is not 123 MB:\n%s", info)
	}
}

func TestRedisKeepsItsFile(t *testing.T) {
	s := storetest.Redis(t, "--appendonly", "yes", "--appendfsync", "always")
	client := redis.NewClient(&redis.Options{Addr: s.Addr})
	defer client.Close()
	if err := client.Set(t.Context(), "key", "value", 0).Err(); err != nil {
		t.Fatal(err)
	}
	s.Stop()
	s.Start()
	if got := s.Dump(); got["key"] != "value" {
		t.Errorf("started again, it holds %q; want what was written", got)
	}
}
