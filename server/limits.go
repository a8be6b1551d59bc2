package server

import "net/http"

// closeChunked ends the connection behind a request that came in chunks. If that
// has a length as well, net/http goes by the chunks and drops the length, and who
// is in front may have gone by the length: what is left over would then be taken
// for the next request, of whoever's turn it is. RFC 9112, 6.1, has such a
// connection closed. No browser sends a click in chunks, so nobody waits for it.
func closeChunked(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if len(r.TransferEncoding) > 0 {
			w.Header().Set("Connection", "close")
		}
		next.ServeHTTP(w, r)
	})
}
