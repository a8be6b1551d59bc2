package handlers

import (
	"cmp"
	"encoding/json"

	"manage-subscriptions/recharge"
	"manage-subscriptions/store"
)

// overheard is an ending as another server tells it to those that wait for it.
type overheard struct {
	Visit   store.Visit
	Outcome Outcome
	Link    recharge.Link
	Hash    string `json:",omitzero"` // the shopper's, which the link must hold
	Cause   string `json:",omitzero"` // as the log has it
}

// told is why an overheard ending is not a better one. Who asked has raised the
// alarm, if there was one to raise.
type told string

func (t told) Error() string { return "another server: " + string(t) }

func answerOf(ending Ending, k *click) []byte {
	o := overheard{Visit: k.visit, Outcome: ending.Outcome, Link: ending.Link, Hash: cmp.Or(k.learned.Customer.Hash, k.known.Customer.Hash)}
	if ending.Cause != nil {
		o.Cause = ending.Cause.Error()
	}
	answer, err := json.Marshal(o)
	if err != nil || ending.Outcome == "" {
		return nil // they ask for themselves
	}
	return answer
}

// readAnswer takes what another server found out for the same shopper, if it was
// asked for the same page.
func readAnswer(answer []byte, k *click) (ending Ending, again bool) {
	var o overheard
	if json.Unmarshal(answer, &o) != nil || o.Visit != k.visit {
		return Ending{}, true
	}
	leads := o.Outcome == Redirected || o.Outcome == RedirectedByHash
	if !o.whole() || leads && !k.client.Allows(o.Link, recharge.Customer{Hash: o.Hash}) {
		return Ending{}, true // another version's, or one with other hosts: ask for ourselves
	}
	ending = Ending{Outcome: o.Outcome, Link: o.Link}
	if o.Cause != "" {
		ending.Cause = told(o.Cause)
	}
	return ending, false
}

// whole tells an ending of a signed-in shopper's click, with a link where it leads
// on and nowhere else.
func (o overheard) whole() bool {
	switch o.Outcome {
	case Redirected, RedirectedByHash:
		return o.Link.URL != ""
	case NotASubscriber, Unavailable, NotConnected:
		return o.Link.URL == ""
	}
	return false
}
