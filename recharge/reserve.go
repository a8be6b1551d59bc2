package recharge

import (
	"context"
)

// reserved is what a click was granted in one go.
type reserved struct {
	asked, granted, left Ask // the click's own: it makes one call at a time
}

// Reserve returns a client whose calls are granted beforehand, all in one go, as
// far as they are to be had: what was asked for and not granted, is not asked for
// again. ledger is where to ask, instead of the client's own; nil: there. Settle
// must be called in the end.
// Errors: ErrHeld of the ledger; OverBudget, Limited and TooSlow where nothing is
// to be had.
func (c *Client) Reserve(ctx context.Context, ledger Ledger, ask Ask) (*Client, error) {
	if c.budget.ledger == nil {
		ledger = nil
	}
	turn, err := c.budget.take(ctx, ledger, ask)
	if err != nil {
		return nil, err
	}
	reserving := *c
	reserving.reserved = &reserved{ask, turn.Ask, turn.Ask}
	return &reserving, nil
}

// Settle gives back the calls that were reserved and not made, if any were.
func (c *Client) Settle() {
	if c.reserved == nil {
		return
	}
	if left := c.reserved.left; left != (Ask{}) {
		c.budget.giveBack(left.calls())
	}
	c.reserved.left = Ask{}
}

// Resting tells whether an endpoint is left alone because it is dead: it need not
// be reserved for.
func (c *Client) Resting(endpoint string) bool { return c.breakers.open(endpoint) }

// allow waits for the right to make one call. It returns the reason if there is
// none to be had.
func (c *Client) allow(ctx context.Context, of urgency) Reason {
	if r := c.reserved; r != nil {
		switch left := r.left.of(of); {
		case *left > 0:
			*left--
			return ""
		case *r.asked.of(of) > 0 && *r.granted.of(of) == 0:
			return OverBudget
		}
	}
	if of == helpful && c.budget.ledger != nil && c.budget.postpaid() {
		return ""
	}
	var ask Ask
	*ask.of(of) = 1
	_, err := c.budget.take(ctx, c.budget.ledger, ask)
	return ReasonOf(err)
}

func (a *Ask) of(of urgency) *int {
	switch of {
	case needed:
		return &a.Needed
	case helpful:
		return &a.Helpful
	}
	return &a.Spare
}
