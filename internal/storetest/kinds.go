// The kinds of Redis that hosts offer, each of real processes on loopback: with TLS, with
// sentinels that replace a failed master, and as a cluster, which replaces its own.

package storetest

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// promptly starts replication at once. By default, the master waits five seconds for
// other replicas.
func promptly(args []string) []string {
	return append([]string{"--repl-diskless-sync-delay", "0"}, args...)
}

// Nodes are the servers of a cluster.
type Nodes struct {
	Masters  []*Server
	Replicas []*Server // one for each master, in the same order
}

// URL returns the REDIS_URL of the cluster.
func (n *Nodes) URL() string { return "redis://" + addresses(append(n.Masters, n.Replicas...)) }

// Cluster starts three masters with one replica each. A master that is killed is
// replaced by its replica in one to two seconds.
func Cluster(t testing.TB, args ...string) *Nodes {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	args = append([]string{
		"--cluster-enabled", "yes", "--cluster-node-timeout", "1000", "--cluster-replica-validity-factor", "0",
	}, promptly(args)...)
	n := &Nodes{}
	var clients []*redis.Client
	for i := range 6 {
		s := Redis(t, args...)
		if i < 3 {
			n.Masters = append(n.Masters, s)
		} else {
			n.Replicas = append(n.Replicas, s)
		}
		client := s.client()
		defer client.Close()
		clients = append(clients, client)
	}
	for i, slots := range [][2]int{{0, 5460}, {5461, 10922}, {10923, 16383}} {
		must(t, clients[i].ClusterAddSlotsRange(ctx, slots[0], slots[1]).Err())
	}
	for i, s := range append(n.Masters[1:3:3], n.Replicas...) {
		// Otherwise, nodes of the same epoch would first have to resolve the conflict.
		must(t, clients[i+1].Do(ctx, "CLUSTER", "SET-CONFIG-EPOCH", i+2).Err())
		host, port, _ := net.SplitHostPort(s.Addr)
		must(t, clients[0].ClusterMeet(ctx, host, port).Err())
	}
	eventually(ctx, t, "all nodes know of all", func() bool {
		return !slices.ContainsFunc(clients, func(c *redis.Client) bool { return !knowsAll(ctx, c) })
	})
	for i := range n.Replicas {
		id, err := clients[i].Do(ctx, "CLUSTER", "MYID").Text()
		must(t, err)
		must(t, clients[3+i].ClusterReplicate(ctx, id).Err())
	}
	eventually(ctx, t, "the cluster is up", func() bool {
		return !slices.ContainsFunc(clients, func(c *redis.Client) bool { return !isUp(ctx, c) }) &&
			!slices.ContainsFunc(clients[3:], func(c *redis.Client) bool { return !follows(ctx, c) })
	})
	return n
}

// knowsAll reports whether a node knows all six nodes.
func knowsAll(ctx context.Context, client *redis.Client) bool {
	return strings.Contains(client.ClusterInfo(ctx).Val(), "cluster_known_nodes:6") &&
		!strings.Contains(client.ClusterNodes(ctx).Val(), "handshake")
}

// isUp reports whether a node knows three masters, each with its replica.
func isUp(ctx context.Context, client *redis.Client) bool {
	shards := client.ClusterShards(ctx).Val()
	return len(shards) == 3 && strings.Contains(client.ClusterInfo(ctx).Val(), "cluster_state:ok") &&
		!slices.ContainsFunc(shards, func(shard redis.ClusterShard) bool { return len(shard.Nodes) != 2 })
}

// Watched are a master, its replica, and the sentinels that watch both.
type Watched struct {
	Master, Replica *Server
	Sentinels       []*Server
}

const masterName = "main"

// URL returns the REDIS_URL of the sentinels.
func (w *Watched) URL() string {
	return "redis://" + addresses(w.Sentinels) + "?master_name=" + masterName
}

// Sentinel starts a master, a replica and three sentinels. A master that is killed
// is replaced in about a second.
func Sentinel(t testing.TB, args ...string) *Watched {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	args = promptly(args)
	w := &Watched{Master: Redis(t, args...)}
	host, port, _ := net.SplitHostPort(w.Master.Addr)
	w.Replica = Redis(t, append([]string{"--replicaof", host, port}, args...)...)
	replica := w.Replica.client()
	defer replica.Close()
	eventually(ctx, t, "the replica follows", func() bool { return follows(ctx, replica) })
	for range 3 {
		// Each reads the master that it watches from a file, and saves its own state there.
		w.Sentinels = append(w.Sentinels, launch(t, &Server{sentinel: true, args: []string{host, port}}))
	}
	for _, s := range w.Sentinels {
		client := redis.NewSentinelClient(&redis.Options{Addr: s.Addr, Protocol: 2})
		defer client.Close()
		eventually(ctx, t, "a sentinel knows of all", func() bool {
			master := client.Master(ctx, masterName).Val()
			return master["num-slaves"] == "1" && master["num-other-sentinels"] == "2"
		})
	}
	return w
}

// sentinelConf writes the sentinel's file and returns its name. A restarted sentinel keeps
// the file that it has written itself.
func (s *Server) sentinelConf() string {
	name := filepath.Join(s.dir, "sentinel.conf")
	if _, err := os.Stat(name); err == nil {
		return name
	}
	conf := fmt.Sprintf(`sentinel monitor %[1]s %[2]s %[3]s 2
sentinel down-after-milliseconds %[1]s 300
sentinel failover-timeout %[1]s 2000
`, masterName, s.args[0], s.args[1])
	must(s.t, os.WriteFile(name, []byte(conf), 0o600))
	return name
}

// TLS starts a server that accepts only TLS. authority is the file with the certificate
// of its certificate authority, for SSL_CERT_FILE.
func TLS(t testing.TB, args ...string) (s *Server, authority string) {
	t.Helper()
	dir := t.TempDir()
	file := func(name, kind string, der []byte) string {
		name = filepath.Join(dir, name)
		must(t, os.WriteFile(name, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
		return name
	}
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Test authority"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	caKey, caDER := certify(t, ca, ca, nil)
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "Test Redis"},
		NotBefore: ca.NotBefore, NotAfter: ca.NotAfter, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	key, der := certify(t, leaf, ca, caKey)
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	must(t, err)
	trusted, err := x509.ParseCertificate(caDER)
	must(t, err)
	roots := x509.NewCertPool()
	roots.AddCert(trusted)
	authority = file("authority.pem", "CERTIFICATE", caDER)
	args = append([]string{
		"--tls-auth-clients", "no", "--tls-ca-cert-file", authority,
		"--tls-cert-file", file("redis.pem", "CERTIFICATE", der), "--tls-key-file", file("redis.key", "PRIVATE KEY", keyDER),
	}, args...)
	return launch(t, &Server{args: args, tls: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}}), authority
}

// certify makes a key and its certificate, signed by signer or, if that is nil, by itself.
func certify(t testing.TB, template, parent *x509.Certificate, signer *ecdsa.PrivateKey) (*ecdsa.PrivateKey, []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	if signer == nil {
		signer = key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	must(t, err)
	return key, der
}

func follows(ctx context.Context, client *redis.Client) bool {
	return strings.Contains(client.Info(ctx, "replication").Val(), "master_link_status:up")
}

// AwaitMaster waits until a server that was a replica has become a master.
func (s *Server) AwaitMaster() {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	defer cancel()
	client := s.client()
	defer client.Close()
	eventually(ctx, s.t, "the replica is promoted", func() bool {
		return strings.Contains(client.Info(ctx, "replication").Val(), "role:master")
	})
}

func addresses(servers []*Server) string {
	var addrs []string
	for _, s := range servers {
		addrs = append(addrs, s.Addr)
	}
	return strings.Join(addrs, ",")
}

func eventually(ctx context.Context, t testing.TB, what string, done func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-ctx.Done():
			t.Fatalf("timed out waiting until %s", what)
		case <-tick.C:
		}
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
