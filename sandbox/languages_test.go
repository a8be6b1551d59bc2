package sandbox_test

import (
	"encoding/json"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/manage-subscriptions/manage-subscriptions/internal/suite"
	"github.com/manage-subscriptions/manage-subscriptions/sandbox"
)

// listTexts lists all that the open document says, one node or attribute at a time, with everything unfolded.
const listTexts = `(() => {
  document.querySelectorAll('details').forEach(details => details.open = true);
  const texts = [];
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) if (!walk.currentNode.parentElement.closest('code, pre, script')) texts.push(walk.currentNode.data);
  for (const name of ['aria-label', 'placeholder', 'title', 'alt', 'data-busy']) {
    document.querySelectorAll('[' + name + ']').forEach(element => texts.push(element.getAttribute(name)));
  }
  return texts.map(text => text.trim().replace(/\s+/g, ' ')).filter(text => text);
})()`

// texts reads a catalogue of the app home.
func texts(t *testing.T, language string) map[string]string {
	t.Helper()
	var all map[string]string
	raw, err := os.ReadFile("../templates/admin/locales/" + language + ".json")
	if err == nil {
		err = json.Unmarshal(raw, &all)
	}
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// english returns the pieces of English that a page in a language must not have: whole texts, and parts of three words
// and more between placeholders and markup.
func english(t *testing.T, language string) (whole map[string]bool, parts []string) {
	t.Helper()
	whole, translated := map[string]bool{}, texts(t, language)
	var all strings.Builder
	for _, text := range translated {
		all.WriteString(text + "\n")
	}
	word := regexp.MustCompile(`\p{L}+`)
	for key, text := range texts(t, "en") {
		if translated[key] == "" { // templates.TestLanguagesOfTheAppHome complains
			continue
		}
		for _, part := range regexp.MustCompile(`<[^>]*>|\{[^}]*\}|[“”]`).Split(text, -1) {
			if part = strings.TrimSpace(part); !word.MatchString(part) || strings.Contains(all.String(), part) {
				continue
			}
			whole[part] = true
			if len(word.FindAllString(part, 3)) == 3 {
				parts = append(parts, part)
			}
		}
	}
	return whole, parts
}

// TestAppHomeInEachLanguage opens each page of the app home in a language, before and after a store has connected, on a
// phone and on a large screen. Nothing is left in English, and nothing is too wide.
func TestAppHomeInEachLanguage(t *testing.T) {
	t.Parallel()
	stores, err := sandbox.StartAll(t.Context(), sandbox.Options{Index: true, Log: t.Output()}, sandbox.Options{Classic: true, New: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := stores[0].Close(); err != nil {
			t.Errorf("close sandbox: %v", err)
		}
	})
	connected, fresh := stores[0], stores[1]
	clickSigned(t, connected, pat)
	clickSigned(t, connected, robin)
	in := newInspector(t)
	for _, language := range suite.Pick([]string{"de", "es", "fr", "ja", "pt-BR"}, []string{"ja"}) {
		whole, parts := english(t, language)
		check := func(page string) {
			t.Helper()
			for _, text := range read(t, in.ctx, chromedp.Evaluate[[]string](listTexts)) {
				if whole[text] || slices.ContainsFunc(parts, func(part string) bool { return strings.Contains(text, part) }) {
					t.Errorf("%s in %s says %q", page, language, text)
				}
			}
			if got := attribute(t, in.ctx, "html", "lang"); got != language {
				t.Errorf("%s: lang = %q; want %q", page, got, language)
			}
			in.resize(t, wide)
			in.check(t, page+" in "+language+", wide")
			in.resize(t, narrow)
			in.measure(t, page+" in "+language)
			name := regexp.MustCompile(`\W+`).ReplaceAllString(language+" "+page, "-")
			picture(t, in.ctx, name+"-wide", wide, 800)
			picture(t, in.ctx, name, 390, 844)
		}
		open := func(s *sandbox.Sandbox, page string) {
			t.Helper()
			token := s.Store.SessionToken(sandbox.ClientID)
			in.open(t, s.AppURL()+page+"?embedded=1&locale="+language+"&shop="+s.Shop()+"&id_token="+token)
			// App Bridge works only in the admin's frame.
			do(t, in.ctx, chromedp.Evaluate[chromedp.Void](`{
				const plain = window.fetch;
				window.fetch = (to, init) => plain(to, {...init, headers: {...init?.headers, Authorization: 'Bearer ' + `+quoted(token)+`}});
			}`))
		}
		for state, s := range map[string]*sandbox.Sandbox{"connected": connected, "new": fresh} {
			for _, page := range []string{"/", "/campaigns", "/try", "/keys", "/settings"} {
				open(s, page)
				check(state + page)
			}
		}
		starts := time.Now().Add(30 * time.Hour).Format("2006-01-02T15:04")
		for _, form := range []struct {
			s            *sandbox.Sandbox
			page         string
			types        map[css]string
			clicks, sees css
		}{
			{connected, "/try", map[css]string{"#customer": pat}, tryForm + " button", "#tried [data-result]"},
			{connected, "/keys", map[css]string{"#key-name": language}, `[data-post="/app/keys"] button`, "#new-key"},
			{connected, "/campaigns", map[css]string{"#campaign-name": language, "#campaign-starts": starts}, ".plan button:not(.other)", "#campaigns [data-campaign] progress"},
			{fresh, "/", map[css]string{"#token": "sk_" + language}, `#connect-form button`, `[data-result="not_saved"]`},
		} {
			open(form.s, form.page)
			for field, text := range form.types {
				do(t, in.ctx, chromedp.SetValue(field, text))
			}
			do(t, in.ctx, chromedp.Click(form.clicks+":enabled"), chromedp.WaitVisible(form.sees))
			check("after a form on " + form.page)
		}
		in.open(t, connected.AppURL()+"/?locale="+language)
		check("outside of the admin")
	}
}
