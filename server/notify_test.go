package server_test

import (
	"encoding/json"
	"io"
	"mime"
	"mime/quotedprintable"
	"net"
	"net/http"
	"net/http/httptest"
	"net/mail"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-smtp"

	"github.com/manage-subscriptions/manage-subscriptions/config"
	"github.com/manage-subscriptions/manage-subscriptions/internal/servertest"
	"github.com/manage-subscriptions/manage-subscriptions/recharge/rechargetest"
)

// mailbox is a mail server that keeps what it gets.
type mailbox struct {
	mu    sync.Mutex
	mails []string // the recipient, a line break and the mail
	down  bool
}

func (m *mailbox) NewSession(*smtp.Conn) (smtp.Session, error) { return &letter{box: m}, nil }

// letter is a mail that is being sent.
type letter struct {
	box *mailbox
	to  string
}

func (*letter) Reset()                               {}
func (*letter) Logout() error                        { return nil }
func (*letter) Mail(string, *smtp.MailOptions) error { return nil }

func (l *letter) Rcpt(to string, _ *smtp.RcptOptions) error {
	l.to = to
	return nil
}

func (l *letter) Data(r io.Reader) error {
	text, err := io.ReadAll(r)
	l.box.mu.Lock()
	defer l.box.mu.Unlock()
	if l.box.down {
		return &smtp.SMTPError{Code: 451, Message: "try later"}
	}
	l.box.mails = append(l.box.mails, l.to+"\r\n"+string(text))
	return err
}

func (m *mailbox) all() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.mails)
}

// openMailbox returns a mail server and its address.
func openMailbox(t *testing.T) (*mailbox, string) {
	t.Helper()
	box := &mailbox{}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := smtp.NewServer(box)
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { _ = server.Close() })
	return box, listener.Addr().String()
}

// TestNotices: a merchant who has entered an address gets a summary of each week, and an alert if most shoppers fail;
// the operator gets both for every store. Each is sent once, whichever server sends it.
func TestNotices(t *testing.T) {
	t.Parallel()
	box, address := openMailbox(t)
	var posts struct {
		sync.Mutex
		bodies []map[string]any
	}
	hook := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var body map[string]any
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil || r.URL.Query().Get("key") != "hook-secret" {
			t.Errorf("posted %v to %s", err, r.URL)
		}
		posts.Lock()
		defer posts.Unlock()
		posts.bodies = append(posts.bodies, body)
	}))
	t.Cleanup(hook.Close)
	posted := func() []map[string]any {
		posts.Lock()
		defer posts.Unlock()
		return slices.Clone(posts.bodies)
	}
	change := func(s *config.Settings) {
		servertest.ManyStores(s)
		s.SMTPURL, s.MailFrom, s.NotifyURL = "smtp://"+address, "reports@agency.example", hook.URL+"/?key=hook-secret"
	}
	f := servertest.Start(t, change)
	f.Connect()
	save := func(to string) string {
		_, body := f.AppHome("/app/reports", f.SessionToken(nil), url.Values{"to": {to}}, "Accept-Language", "de")
		return body
	}
	if got := save("no address"); !strings.Contains(got, `aria-invalid="true"`) || !strings.Contains(got, `value="no address"`) {
		t.Errorf("a bad address: %s; want it refused and kept in the form", got)
	}
	if got := save("merchant@store.example"); !strings.Contains(got, "merchant@store.example.") {
		t.Errorf("an address: %s; want it saved", got)
	}

	monday := f.Clock.Now().UTC().Truncate(24 * time.Hour)
	for monday = monday.AddDate(0, 0, 1); monday.Weekday() != time.Monday; monday = monday.AddDate(0, 0, 1) {
	}
	f.Clock.Add(monday.Add(-3 * time.Hour).Sub(f.Clock.Now())) // Sunday night
	for range 8 {
		f.LinkedHash(servertest.Pat)
	}
	for range 12 { // anybody can send these
		f.Request("GET", f.Public, "/apps/subscriptions?shop="+servertest.Shop+"&signature=00")
	}
	f.Recharge.SetFaults(func(f *rechargetest.Faults) { f.Status = 500 })
	for range 9 { // one fewer than an alert needs
		f.LinkedHash(servertest.Robin)
	}
	again := func() { f.Restart(func() {}, change) } // the server looks at the start
	again()
	f.LinkedHash(servertest.Pat)
	f.LinkedHash(servertest.Robin)
	again()
	f.Until("the alert is posted", func() bool { return len(posted()) == 1 })
	f.Until("the alert is mailed", func() bool { return len(box.all()) == 1 })
	alert := posted()[0]
	if alert["kind"] != "alert" || alert["shop"] != servertest.Shop || alert["visits"] != 19.0 || alert["in_portal"] != 9.0 ||
		alert["kept_out"].(map[string]any)["unavailable"] != 10.0 || !strings.Contains(alert["text"].(string), "10 were asked to try again") {
		t.Errorf("posted %v; want an alert about ten of 19 visits", alert)
	}
	again()
	f.Clock.Add(2*time.Hour + 59*time.Minute)
	again()
	f.Clock.Add(9 * time.Hour) // Monday, after eight
	again()
	f.Until("the summary is posted", func() bool { return len(posted()) == 2 })
	f.Until("the summary is mailed", func() bool { return len(box.all()) == 2 })
	if summary := posted()[1]; summary["kind"] != "summary" || summary["visits"] != 19.0 {
		t.Errorf("posted %v; want the week's summary", summary)
	}
	to, text, _ := strings.Cut(box.all()[1], "\r\n")
	read, err := mail.ReadMessage(strings.NewReader(text))
	if err != nil || to != "merchant@store.example" || read.Header.Get("From") != "<reports@agency.example>" {
		t.Fatalf("mail to %s: %v, %v; want one to the merchant", to, read, err)
	}
	subject, err := new(mime.WordDecoder).DecodeHeader(read.Header.Get("Subject"))
	if err != nil || !strings.Contains(subject, servertest.Shop) {
		t.Errorf("Subject = %q, %v; want the store in it", subject, err)
	}

	body, err := io.ReadAll(quotedprintable.NewReader(read.Body))
	if want := "19 Besuche: 9 bis ins Portal"; err != nil || !strings.Contains(string(body), want) {
		t.Errorf("the mail says %s, %v; want it in the language that the address was entered in", body, err)
	}

	box.mu.Lock()
	box.down = true
	box.mu.Unlock()
	f.Clock.Add(6 * 24 * time.Hour) // Sunday
	f.LinkedHash(servertest.Pat)
	again()
	f.Clock.Add(24 * time.Hour)
	again()
	f.Until("the failure is logged", func() bool { return strings.Contains(f.Log.String(), "send summary") })
	f.Until("the failure is shown", func() bool {
		_, settings := f.AppHome("/settings?embedded=1&shop="+servertest.Shop+"&id_token="+f.SessionToken(nil), "", nil)
		return strings.Contains(settings, "could not be sent")
	})
	box.mu.Lock()
	box.down = false
	box.mu.Unlock()
	f.Clock.Add(time.Hour)
	again()
	f.Until("the summary is mailed after all", func() bool { return len(box.all()) == 3 })
	for _, secret := range []string{"hook-secret", "merchant@store.example"} {
		if strings.Contains(f.Log.String(), secret) {
			t.Errorf("the log has %q; want it nowhere", secret)
		}
	}
	if got := save(""); !strings.Contains(got, `value=""`) {
		t.Errorf("no address: %s; want it emptied", got)
	}
}

// TestNoNotices: without a mail server, nobody is asked for an address.
func TestNoNotices(t *testing.T) {
	t.Parallel()
	f := servertest.Start(t, servertest.ManyStores)
	f.Connect()
	response, _ := f.AppHome("/app/reports", f.SessionToken(nil), url.Values{"to": {"a@b.example"}})
	_, settings := f.AppHome("/settings?embedded=1&shop="+servertest.Shop+"&id_token="+f.SessionToken(nil), "", nil)
	if response.StatusCode != http.StatusNotFound || strings.Contains(settings, "Reports by e-mail") {
		t.Errorf("%d, and settings = %s; want 404, and no field", response.StatusCode, settings)
	}
}

// TestReportsOfOneStore: the address is kept on a server that is configured for one store, too.
func TestReportsOfOneStore(t *testing.T) {
	t.Parallel()
	_, address := openMailbox(t)
	f := servertest.Start(t, func(s *config.Settings) { s.SMTPURL, s.MailFrom = "smtp://"+address, "reports@agency.example" })
	f.AppHome("/app/reports", f.SessionToken(nil), url.Values{"to": {"merchant@store.example"}})
	_, settings := f.AppHome("/settings?embedded=1&shop="+servertest.Shop+"&id_token="+f.SessionToken(nil), "", nil)
	if !strings.Contains(settings, `value="merchant@store.example"`) {
		t.Errorf("settings = %s; want the address", settings)
	}
}
