package rechargetest

import (
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// taskPage is a page for a task.
type taskPage struct {
	shape        *regexp.Regexp // of the path after the hash
	title, about string
}

// taskPages are the pages for a task, which are beside the portal: <base>/pages/… instead of <base>/portal/….
// Recharge's SDK makes links to them.
var taskPages = []taskPage{
	{regexp.MustCompile(`^subscriptions/[0-9]+/cancel$`), "Cancel a subscription", ""},
	{regexp.MustCompile(`^gifts/[0-9]+$`), "Redeem a gift", "The gift would be shown here. This emulator keeps none."},
	{regexp.MustCompile(`^` + accountPage + `$`), "Update your payment method", "A new card would be entered here."},
}

// accountPage has the hash in its query instead of its path.
const accountPage = "account/payment-methods"

// serveTask answers for a page for a task. prefix is of the portal's links.
func (s *Server) serveTask(w http.ResponseWriter, r *http.Request, prefix string, path []string, query url.Values) {
	v := visit{prefix: prefix, query: query, task: true}
	if v.page = strings.Join(path, "/"); v.page == accountPage {
		v.hash = query.Get("hash")
	} else {
		v.hash, v.page, _ = strings.Cut(v.page, "/")
	}
	if id, cancels := strings.CutPrefix(v.page, "subscriptions/"); cancels && id != query.Get("subscription")+"/cancel" {
		s.render(w, http.StatusNotFound, missingView())
		return
	}
	if back, err := url.Parse(query.Get("redirect_to")); err == nil && s.onStore(back) {
		v.back = back.String()
	}
	if !s.openByToken(w, r, v) {
		s.renderClosed(w, v)
	}
}

// onStore reports whether an address is on the store's host, or on the host where the store shows the portal.
func (s *Server) onStore(u *url.URL) bool {
	s.mu.Lock()
	base := s.portalBase
	s.mu.Unlock()
	portal, err := url.Parse(base)
	return u.Host != "" && (u.Host == s.opts.Shop || err == nil && u.Host == portal.Host && u.Scheme == portal.Scheme)
}

// openTask completes the view of a page for a task. It reports whether there is such a page.
func (shown *view) openTask(v visit, c Customer) bool {
	i := slices.IndexFunc(taskPages, func(page taskPage) bool { return page.shape.MatchString(v.page) })
	if i < 0 {
		return false
	}
	head, rest, _ := strings.Cut(v.page, "/")
	if id, ok := subscriptionID(head, rest); ok {
		shown.choose(v, c, id, true)
	}
	shown.Title, shown.About, shown.BackURL = taskPages[i].title, taskPages[i].about, v.back
	return true
}
