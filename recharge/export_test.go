package recharge

import (
	"context"
	"net"
	"net/http"
)

// DialBy replaces how c connects to Recharge. With in-memory connections a whole exchange of real
// HTTP runs on the clock of a synctest bubble. The wait before a retry and a timeout then take no
// real time and can be measured exactly.
func (c *Client) DialBy(dial func(ctx context.Context, network, address string) (net.Conn, error)) {
	c.http.(*http.Transport).DialContext = dial
}

// Allows reports whether the guard allows a link.
func (c *Client) Allows(link string, customer Customer) bool {
	return c.guard.refuses(link, customer.Hash) == ""
}

// AnswerBy replaces HTTP altogether, for fuzzing.
func (c *Client) AnswerBy(transport http.RoundTripper) { c.http = transport }
