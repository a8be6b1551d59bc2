package shopify

import (
	"strings"
	"testing"
	"time"
)

// FuzzProbe: nothing is taken for a probe but what was made with the app's secret,
// letter by letter, and an answer holds only for what it was given to.
func FuzzProbe(f *testing.F) {
	now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	clock := func() time.Time { return now }
	ours, err := NewProbes([]string{"new", "old"}, clock)
	if err != nil {
		f.Fatal(err)
	}
	theirs, err := NewProbes([]string{"other"}, clock)
	if err != nil {
		f.Fatal(err)
	}
	// One that does not change from run to run, so that the fuzzer can work on it.
	const text = "1795521660.AAAAAAAAAAAAAAAAAAAAAAAAAA"
	probe := text + "." + mac(ours.asking[1], text)
	if _, ok := ours.Answer(probe, "s.myshopify.com", "/apps/subscriptions"); !ok {
		f.Fatal("the probe to begin with is not taken")
	}
	for _, seed := range []string{
		"", ".", "..", probe, probe[:len(probe)-1], "9" + probe, strings.ToUpper(probe), probe + " ", theirs.New(), "1795521660." + mac(ours.asking[0], "1795521660"),
		"-1.a.b", "9223372036854775807.a.b", "99999999999999999999.a.b", strings.Repeat("a", 201), text + "." + mac(ours.answering[1], text),
	} {
		f.Add(seed, "s.myshopify.com", "/apps/subscriptions")
	}
	f.Fuzz(func(t *testing.T, given, shop, prefix string) {
		proof, ok := ours.Answer(given, Shop(shop), prefix)
		if ok != (proof != "") || ok && given != probe && !wellMade(ours, given) {
			t.Errorf("Answer(%q) = %q, %v; want it to take only what it has made", given, proof, ok)
		}
		if _, taken := theirs.Answer(given, Shop(shop), prefix); taken && ok {
			t.Errorf("%q is a probe of two apps", given)
		}
		if !ok {
			return
		}
		if !ours.Answered(given, proof, Shop(shop), prefix) || theirs.Answered(given, proof, Shop(shop), prefix) ||
			ours.Answered(given, proof, Shop(shop+"x"), prefix) || ours.Answered(given, proof, Shop(shop), prefix+"x") || ours.Answered(given, given, Shop(shop), prefix) {
			t.Errorf("the answer to %q for %q below %q does not hold for that alone", given, shop, prefix)
		}
	})
}

// wellMade tells a probe by its parts: the fuzzer may find a secret's own signature
// of another text only by making it.
func wellMade(p *Probes, probe string) bool {
	parts := strings.Split(probe, ".")
	signed := strings.Join(parts[:len(parts)-1], ".")
	for _, key := range p.asking {
		if parts[len(parts)-1] == mac(key, signed) {
			return true
		}
	}
	return false
}
