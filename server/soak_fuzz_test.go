package server_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/manage-subscriptions/manage-subscriptions/internal/servertest"
	"github.com/manage-subscriptions/manage-subscriptions/recharge/rechargetest"
)

// FuzzSoak plays a short story that the fuzzer writes, with two bytes for each event. The programs and
// their Redis keep running between stories. Each story has shoppers and records of its own.
//
//	go test ./server -run '^$' -fuzz FuzzSoak -fuzzminimizetime 1x -fuzztime 10m
//
// Clicks follow one another, except those that are begun and answered later. Webhooks are delivered by
// goroutines, and a story waits for them at most maxWaits times, because an answer can take half a
// second and would make stories slow.
func FuzzSoak(f *testing.F) {
	for _, story := range soakStories() {
		f.Add(story)
	}
	w := newSoakWorld(f, nil)
	f.Fuzz(func(t *testing.T, story []byte) {
		s := newScene(w)
		s.play(story)
		for _, text := range w.takeFindings() {
			t.Error(text)
		}
	})
}

// Events of a story. The byte after an event says whom it is about, at which instance, and how.
const (
	eventClick   = iota // a shopper's click, or a request for a record through the API
	eventBegin          // the same, but Recharge answers late, while other events follow
	eventMove           // a record moves to another shopper, or to nobody
	eventSwap           // two records exchange their shoppers
	eventActive         // a record becomes active or inactive
	eventDelete         // a record is deleted, or created again
	eventDeliver        // one of the messages so far is delivered, unchanged
	eventLose           // one is delivered, and its answer is lost
	eventWait           // all webhooks and clicks under way are answered
	eventFault          // Recharge starts or stops misbehaving
	eventRedact         // Shopify has a shopper erased
	eventLeave          // Shopify has the shop erased
	eventKinds
)

const (
	maxEvents     = 40
	maxWaits      = 3
	sceneShoppers = 3
	sceneRecords  = 4
	sceneLag      = 4 * time.Millisecond // Recharge's delay for clicks that are begun
)

// soakStories returns stories in which something could go wrong.
func soakStories() [][]byte {
	return [][]byte{
		// Click, move, webhook, click again.
		{eventClick, 0, eventMove, 4, eventDeliver, 0, eventWait, 0, eventClick, 0, eventClick, 1},
		// Move and webhook while the old owner's click is under way.
		{eventBegin, 0, eventMove, 4, eventDeliver, 0, eventWait, 0, eventClick, 0},
		// A webhook that still names the old owner.
		{eventClick, 0, eventActive, 0, eventMove, 4, eventDeliver, 0, eventWait, 0, eventClick, 0},
		// Swap, erasure, webhook.
		{
			eventClick, 0, eventClick, 1, eventSwap, 1, eventLeave, 0, eventDeliver, 0, eventDeliver, 1, eventWait, 0,
			eventClick, 0, eventClick, 1,
		},
		// Opened by its id, deletion, webhook, opened again.
		{eventClick, 0x0c, eventDelete, 0, eventDeliver, 0, eventWait, 0, eventClick, 0x0c},
		// Recharge answers with other customers, and recovers.
		{
			eventFault, 1, eventClick, 0, eventFault, 3, eventClick, 1, eventFault, 4, eventClick, 2,
			eventFault, 0, eventClick, 0,
		},
	}
}

// scene is the part of a world that one story plays in.
type scene struct {
	*soakWorld
	shoppers []string
	records  []*soakRecord
	mail     []soakMessage
	lines    [2]*soakLine
	waits    int

	underWay sync.WaitGroup
}

// newScene creates shoppers about whom nothing is cached, and a record for each.
func newScene(w *soakWorld) *scene {
	s := &scene{soakWorld: w, lines: [2]*soakLine{{tap: w.taps[0]}, {tap: w.taps[1]}}}
	for range sceneShoppers {
		s.shoppers = append(s.shoppers, fmt.Sprint(6400000000000+w.ids.Add(1)))
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.records, w.deleted, w.recent = nil, nil, nil
	clear(w.byHash)
	var edits []edit
	for i := range sceneRecords {
		e := edit{record: w.newRecord(), exists: true, active: i < sceneShoppers}
		if i < sceneShoppers {
			e.owner = s.shoppers[i]
		}
		s.records, edits = append(s.records, e.record), append(edits, e)
	}
	w.change(edits...)
	return s
}

// play plays a story to its end.
func (s *scene) play(story []byte) {
	defer s.lines[0].close()
	defer s.lines[1].close()
	for i := 0; i+1 < min(len(story), 2*maxEvents); i += 2 {
		s.event(int(story[i])%eventKinds, int(story[i+1]))
	}
	s.underWay.Wait()
	s.misbehave(0)
	s.convict(s.now())
}

func (s *scene) event(kind, how int) {
	switch kind {
	case eventClick:
		c := s.draw(how)
		s.click(c, s.lines[c.instance])
	case eventBegin:
		s.begin(how)
	case eventMove, eventSwap, eventActive, eventDelete:
		s.happen(kind, how)
	case eventDeliver, eventLose:
		s.send(kind, how)
	case eventWait:
		if s.waits < maxWaits {
			s.waits++
			s.underWay.Wait()
		}
	case eventFault:
		s.misbehave(how)
	case eventRedact:
		s.shopify("customers/redact", servertest.ShopperBody(s.shoppers[how%sceneShoppers]), how/sceneShoppers%2)
	case eventLeave:
		s.shopify("app/uninstalled", servertest.UninstalledBody(), how%2)
	}
}

// draw returns a click. Two bits say whose it is, the next one by which door, and the next one at
// which instance.
func (s *scene) draw(how int) soakClick {
	c := soakClick{door: "proxy", instance: how >> 4 & 1, shopper: s.shoppers[how&3%sceneShoppers]}
	switch how >> 2 & 3 {
	case 2:
		c.door, c.path = "api", apiBody(fmt.Sprintf(`"shopify_customer_id":%q`, c.shopper), "", "")
	case 3:
		c.door, c.shopper, c.asked = "api", "", s.records[how&3]
		c.path = apiBody(fmt.Sprintf(`"recharge_customer_id":%d`, c.asked.id), "", "")
	}
	return c
}

// begin begins a click that Recharge answers late and waits until its call is at Recharge, if it makes
// any.
func (s *scene) begin(how int) {
	c := s.draw(how)
	s.f.Recharge.SetFaults(func(f *rechargetest.Faults) { f.Lag = sceneLag })
	s.underWay.Go(func() {
		l := &soakLine{tap: s.taps[c.instance]}
		defer l.close()
		s.click(c, l)
	})
	time.Sleep(time.Millisecond)
}

// happen changes something at Recharge. Other events deliver its webhooks.
func (s *scene) happen(kind, how int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, other := s.records[how&3], s.records[how>>2&3]
	e := edit{r, r.owner, r.active, r.exists}
	edits := []edit{e}
	switch kind {
	case eventMove:
		edits[0].owner = append(s.shoppers, "")[how>>2&3]
	case eventSwap:
		if r == other {
			return
		}
		edits[0].owner = other.owner
		edits = append(edits, edit{other, r.owner, other.active, other.exists})
	case eventActive:
		edits[0].active = !r.active
	case eventDelete:
		edits[0].exists = !r.exists
	}
	s.mail = append(s.mail, s.change(edits...)...)
}

// send delivers one of the messages so far in a goroutine of its own.
func (s *scene) send(kind, how int) {
	if len(s.mail) == 0 {
		return
	}
	m, instance := s.mail[how>>1%len(s.mail)], how&1
	if kind == eventLose {
		s.lose(m, instance)
		return
	}
	s.underWay.Go(func() { s.deliver(m, instance) })
}

func (s *scene) shopify(topic, body string, instance int) {
	id := fmt.Sprint("scene-", s.ids.Add(1))
	s.underWay.Go(func() { s.tellShopify(topic, body, id, instance) })
}

// misbehave makes Recharge misbehave in one way, or in none.
func (s *scene) misbehave(how int) {
	var f rechargetest.Faults
	switch how % 6 {
	case 1:
		f.IgnoreFilter = true
	case 2:
		f.OtherRecord = true
	case 3:
		f.ForeignSession = true
	case 4:
		f.ForeignPortal = true
	case 5:
		f.Truncate, f.Only = true, endpoints()[how/6%4]
	}
	s.f.Recharge.SetFaults(func(now *rechargetest.Faults) { *now = f })
}

// takeFindings returns and clears the findings so far.
func (w *soakWorld) takeFindings() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	found := append(w.findings, w.error.panicked()...)
	w.findings = nil
	clear(w.kinds)
	return found
}
