package doctor_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"time"
)

// certified returns the address of the app behind a certificate that doctor trusts and that expires
// after left.
func certified(w *ward, left time.Duration) string {
	w.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		w.t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(left),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		w.t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(raw)
	if err != nil {
		w.t.Fatal(err)
	}
	w.ask.Roots.AddCert(leaf)
	s := w.before(w.shown.URL, func(h http.Handler) *httptest.Server {
		s := httptest.NewUnstartedServer(h)
		s.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{raw}, PrivateKey: key}}}
		s.StartTLS()
		return s
	}, func() http.HandlerFunc { return w.app.Config.Handler.ServeHTTP })
	return s.URL
}

// followed returns a storefront that follows a 302 itself instead of passing it on.
func followed(w *ward) http.HandlerFunc {
	return func(rw http.ResponseWriter, r *http.Request) {
		target := w.store.URL + r.URL.RequestURI()
		response, err := http.Get(target)
		if err != nil {
			w.t.Error(err)
			return
		}
		defer response.Body.Close()
		for _, name := range []string{"Content-Type", "Cache-Control"} {
			rw.Header().Set(name, response.Header.Get(name))
		}
		rw.WriteHeader(response.StatusCode)
		_, _ = io.Copy(rw, response.Body)
	}
}
