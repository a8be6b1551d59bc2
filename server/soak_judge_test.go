package server_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/manage-subscriptions/manage-subscriptions/internal/servertest"
	"github.com/manage-subscriptions/manage-subscriptions/recharge/rechargetest"
)

// The judge knows each record's history, and which webhooks about it were answered. It finds two kinds
// of fault:
//
//   - an answer that leads a shopper to a record that never named that shopper;
//   - an answer that leads a shopper to a record that has stopped naming that shopper, if a webhook
//     about the record was delivered after that and answered 200 before the click was answered.
//
// All times are taken so that no correct answer is reported. A record counts as naming a shopper from
// before one change is made until after the next. A webhook counts as delivered before it is sent, and
// as answered once its 200 is written. A click counts as answered before its first byte is written.

// existence stands for a shopper in a record's spells in which the record exists.
const existence = "existence"

const (
	forever    = stamp(math.MaxInt64) // the end of a spell that has not ended
	keptSpells = 16                   // of one record and one shopper; judging a click takes only the last few
	keptTold   = 1024                 // answered webhooks of one record
	keptEvents = 60                   // of one record, shown with a finding
)

// spell is a time in which a record names a shopper.
type spell struct{ from, to stamp }

// told is a webhook about a record that was answered 200.
type told struct {
	delivered, answered stamp
	body                string
}

// soakRecord is a customer record at Recharge with its history. The world's mutex guards it.
type soakRecord struct {
	id     int64
	hash   string
	owner  string // the shopper that it names; "" is nobody
	active bool
	exists bool

	spells map[string][]spell
	told   []told
	events []string
}

// begin and end note that the record starts or stops to name a shopper, or to exist.
func (r *soakRecord) begin(who string, from stamp) {
	spells := append(r.spells[who], spell{from, forever})
	r.spells[who] = spells[max(0, len(spells)-keptSpells):]
}

func (r *soakRecord) end(who string, to stamp) {
	if spells := r.spells[who]; len(spells) > 0 && spells[len(spells)-1].to == forever {
		spells[len(spells)-1].to = to
	}
}

// note keeps what happened, in words.
func (r *soakRecord) note(at stamp, format string, args ...any) {
	r.events = append(r.events, at.String()+" "+fmt.Sprintf(format, args...))
	r.events = r.events[max(0, len(r.events)-keptEvents):]
}

// tell keeps a webhook that was answered 200.
func (r *soakRecord) tell(t told) {
	r.told = append(r.told, t)
	r.told = r.told[max(0, len(r.told)-keptTold):]
}

// last returns the latest spell of a shopper that began before a moment.
func (r *soakRecord) last(who string, at stamp) (spell, bool) {
	spells := r.spells[who]
	for i := len(spells) - 1; i >= 0; i-- {
		if spells[i].from <= at {
			return spells[i], true
		}
	}
	// If the history was too long to keep, assume that the record named the shopper.
	return spell{to: forever}, len(spells) == keptSpells
}

// telling returns a webhook that was delivered after one moment and answered before another.
func (r *soakRecord) telling(after, before stamp) (told, bool) {
	for _, t := range r.told {
		if t.delivered >= after && t.answered < before {
			return t, true
		}
	}
	return told{}, false
}

// soakClick is one request and its answer.
type soakClick struct {
	shopper  string      // the id that Shopify or the middleware sends; "" if a record is asked for
	asked    *soakRecord // the record that was asked for
	door     string      // proxy or api
	instance int
	path     string // without what Shopify adds
	begun    stamp
	reply    soakReply
}

func (c soakClick) String() string {
	who := "shopper " + c.shopper
	if c.asked != nil {
		who = fmt.Sprintf("record %d", c.asked.id)
	}
	return fmt.Sprintf("%s of %s at instance %d, %s: begun %s, answered %s with %d, to %q",
		c.door, who, c.instance, c.path, c.begun, c.reply.begun, c.reply.status, c.to())
}

// to returns where a click leads; "" is nowhere.
func (c soakClick) to() string {
	if c.door != "api" {
		return c.reply.location
	}
	var link struct {
		URL string `json:"url"`
	}
	if c.reply.status != http.StatusOK || json.Unmarshal([]byte(c.reply.body), &link) != nil {
		return ""
	}
	return link.URL
}

// acceptable reports whether a click may be answered with its status.
func (c soakClick) acceptable() bool {
	switch status := c.reply.status; {
	case c.door != "api":
		return status == http.StatusOK || status == http.StatusFound && c.to() != ""
	case status == http.StatusOK:
		return c.to() != ""
	case status == http.StatusServiceUnavailable: // as documented, if nothing is cached and Recharge does not answer
		return strings.Contains(c.reply.body, "urn:manage-subscriptions:problem:unavailable")
	default:
		return status == http.StatusNotFound
	}
}

// suspect is a click that led to a record that does not name its shopper. Whether that is a fault
// depends on webhooks whose answers may still be on their way.
type suspect struct {
	click soakClick
	to    *soakRecord
	left  stamp // when the record stopped naming the shopper
}

// judge looks at a click's answer.
func (w *soakWorld) judge(c soakClick) {
	if !c.acceptable() {
		w.find("an answer that must not be", nil, "%s\n%s", c, c.reply.body)
		return
	}
	to, token := w.led(c)
	w.count(c.door + " " + kindOf(c, to, token))
	if to == nil {
		return
	}
	if owner, live := w.f.Recharge.LinkOwner(token); live && owner != to.id {
		w.find("a token of somebody else", to, "%s\nIts token opens record %d.", c, owner)
	}
	if c.asked != nil && c.asked != to {
		w.find("another record than asked for", to, "%s", c)
		return
	}
	w.suspect(c, to)
}

// kindOf returns the kind under which an answer is counted.
func kindOf(c soakClick, to *soakRecord, token string) string {
	switch {
	case to != nil && token != "":
		return "signed in"
	case to != nil:
		return "by hash"
	case c.to() != "":
		return "elsewhere"
	}
	for _, outcome := range []string{"not_a_subscriber", "unavailable", "not_connected", "sign_in_failed"} {
		page, problem := `data-outcome="`+outcome+`"`, "problem:"+outcome
		if strings.Contains(c.reply.body, page) || strings.Contains(c.reply.body, problem) {
			return outcome
		}
	}
	return "nowhere"
}

// led returns the record to whose portal a click leads, and the portal's token.
func (w *soakWorld) led(c soakClick) (*soakRecord, string) {
	at, err := url.Parse(c.to())
	if err != nil {
		w.find("no address", nil, "%s: %v", c, err)
		return nil, ""
	}
	_, rest, isPortal := strings.Cut(strings.Replace(at.Path, "/pages/", "/portal/", 1), "/portal/") // or its page for a task
	if !isPortal {
		return nil, ""
	}
	hash, _, _ := strings.Cut(rest, "/")
	w.mu.Lock()
	to := w.byHash[hash]
	w.mu.Unlock()
	if to == nil {
		w.find("a portal of nobody", nil, "%s", c)
	}
	return to, at.Query().Get("token")
}

// suspect keeps a click that needs another look.
func (w *soakWorld) suspect(c soakClick, to *soakRecord) {
	who := c.shopper
	if c.asked != nil {
		who = existence
	}
	w.mu.Lock()
	spell, named := to.last(who, c.reply.begun)
	if named && spell.to < c.reply.begun {
		w.suspects = append(w.suspects, suspect{c, to, spell.to})
	}
	w.mu.Unlock()
	if !named {
		w.find("a record that has never named the shopper", to, "%s", c)
	}
}

// convict looks again at suspects whose clicks were answered by until. All webhooks that were answered
// before them must have been noted.
func (w *soakWorld) convict(until stamp) {
	w.mu.Lock()
	var ripe []suspect
	rest := w.suspects[:0]
	for _, s := range w.suspects {
		if s.click.reply.begun <= until {
			ripe = append(ripe, s)
		} else {
			rest = append(rest, s)
		}
	}
	w.suspects = rest
	w.mu.Unlock()
	for _, s := range ripe {
		w.convictOne(s)
	}
}

func (w *soakWorld) convictOne(s suspect) {
	w.mu.Lock()
	by, found := s.to.telling(s.left, s.click.reply.begun)
	w.mu.Unlock()
	w.count("clicks to a record that was left a moment ago")
	if !found {
		return
	}
	w.find("a record that a webhook has told is left", s.to,
		"%s\nThe record stopped naming the shopper, or existing, at %s.\n"+
			"The webhook was delivered at %s and answered 200 at %s, %s before the click was: %s",
		s.click, s.left, by.delivered, by.answered, s.click.reply.begun-by.answered, by.body)
}

// shownFindings is how many findings of one kind are printed in full.
const shownFindings = 3

// find records a finding, with the history of the record that it is about.
func (w *soakWorld) find(kind string, about *soakRecord, format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.kinds[kind]++
	if w.kinds[kind] > shownFindings {
		return
	}
	text := kind + ": " + fmt.Sprintf(format, args...)
	if about != nil {
		text += fmt.Sprintf("\nThe history of record %d, %s:\n  %s", about.id, about.hash, strings.Join(about.events, "\n  "))
	}
	w.findings = append(w.findings, text)
}

// TestSoakJudge tests the judge on a record that names ann until 20, nobody until 30, and bob since
// then. A judge that finds nothing would let every soak pass.
func TestSoakJudge(t *testing.T) {
	recharge := rechargetest.NewServer(rechargetest.Options{})
	defer recharge.Close()
	const portal = "https://x.example/tools/recurring/portal/soak7/orders"
	about := func(delivered, answered stamp) []told { return []told{{delivered: delivered, answered: answered}} }
	for _, test := range []struct {
		name     string
		shopper  string // "" asks by the record's id
		answered stamp
		told     []told
		want     string
	}{
		{"while it names the shopper", "ann", 15, about(11, 12), ""},
		{"moved, not told", "ann", 50, nil, ""},
		{"told after it was moved, before the answer", "ann", 50, about(21, 40), "a record that a webhook has told is left"},
		{"told as it named nobody", "ann", 50, about(25, 26), "a record that a webhook has told is left"},
		{"told as it was moved", "ann", 50, about(19, 40), ""},
		{"told after the answer", "ann", 39, about(21, 40), ""},
		{"the new owner", "bob", 50, about(31, 40), ""},
		{"before it named the shopper", "bob", 25, nil, "a record that has never named the shopper"},
		{"never named", "eve", 50, nil, "a record that has never named the shopper"},
		{"named again meanwhile", "cat", 50, about(21, 24), ""},
		{"asked by id, while it exists", "", 50, about(31, 40), ""},
		{"asked by id, deleted, not told", "", 70, about(31, 40), ""},
		{"asked by id, deleted, told", "", 70, about(61, 65), "a record that a webhook has told is left"},
	} {
		r := &soakRecord{id: 7, hash: "soak7", told: test.told, spells: map[string][]spell{
			existence: {{10, 60}}, "ann": {{10, 20}}, "bob": {{30, forever}}, "cat": {{1, 5}, {27, 28}},
		}}
		w := &soakWorld{
			f: &servertest.Fixture{Recharge: recharge}, byHash: map[string]*soakRecord{r.hash: r},
			kinds: map[string]int{}, counts: map[string]int{},
		}
		c := soakClick{door: "proxy", shopper: test.shopper}
		c.reply = soakReply{status: http.StatusFound, location: portal, begun: test.answered}
		if test.shopper == "" {
			c.asked = r
		}
		w.judge(c)
		w.convict(test.answered)
		if got := strings.Join(slices.Collect(maps.Keys(w.kinds)), ", "); got != test.want {
			t.Errorf("%s: found %q; want %q", test.name, got, test.want)
		}
	}
}
