package server

import "testing"

// TestProbeAddress: what listens everywhere is asked over loopback.
func TestProbeAddress(t *testing.T) {
	for _, test := range []struct{ opsAddr, want string }{
		{"127.0.0.1:9090", "127.0.0.1:9090"},
		{"10.1.2.3:9090", "10.1.2.3:9090"},
		{"ops.internal:9090", "ops.internal:9090"},
		{":9090", "127.0.0.1:9090"},
		{"0.0.0.0:9090", "127.0.0.1:9090"},
		{"[::]:9090", "[::1]:9090"},
		{"[::1]:9090", "[::1]:9090"},
		{"9090", ""},
		{"127.0.0.1:", ""},
		{"127.0.0.1:0", ""},
	} {
		got, err := probeAddress(test.opsAddr)
		if got != test.want || (err != nil) != (test.want == "") {
			t.Errorf("probeAddress(%q) = %q, %v; want %q", test.opsAddr, got, err, test.want)
		}
	}
}
