package handlers_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/manage-subscriptions/manage-subscriptions/internal/servertest"
)

// TestLanguageOfTheAppHome checks that a page is in the admin's language, as its query says, and otherwise in the
// browser's; that what the page requests later is, too; and that other languages fall back to English.
func TestLanguageOfTheAppHome(t *testing.T) {
	t.Parallel()
	f := servertest.Start(t, servertest.ManyStores)
	f.Connect()
	titles := map[string]string{
		"en": "Settings", "de": "Einstellungen", "es": "Configuración", "fr": "Paramètres", "ja": "設定", "pt-BR": "Configurações",
	}
	home := "/settings?embedded=1&shop=" + servertest.Shop + "&id_token=" + f.SessionToken(nil)
	for _, test := range []struct{ locale, browser, want string }{
		{"", "", "en"},
		{"de", "fr", "de"},
		{"de-AT", "", "de"},
		{"pt-BR", "", "pt-BR"},
		{"pt-PT", "", "pt-BR"},
		{"ja", "de", "ja"},
		{"fr-CA", "", "fr"},
		{"es", "", "es"},
		{"", "nl, fr-CH;q=0.9, de;q=0.8", "fr"},
		{"nl", "de", "en"},
		{"../de", "de", "en"},
	} {
		response, page := f.AppHome(home+"&locale="+url.QueryEscape(test.locale), "", nil, "Accept-Language", test.browser)
		for _, want := range []string{`<html lang="` + test.want + `">`, "<h1>" + titles[test.want] + "</h1>"} {
			if response.StatusCode != http.StatusOK || !strings.Contains(page, want) {
				t.Errorf("locale %.20q in a browser in %q = %d; want %s in it", test.locale, test.browser, response.StatusCode, want)
			}
		}
	}
	for path, want := range map[string]string{
		"/app/health": "Keine Besuche.", "/app/settings": "<b>Verbunden.</b>", "/app/keys": "Es gibt keine Schlüssel.",
	} {
		if _, part := f.AppHome(path, f.SessionToken(nil), nil, "Accept-Language", "de"); !strings.Contains(part, want) {
			t.Errorf("%s in German = %s; want %q in it", path, part, want)
		}
	}
	form := url.Values{"customer": {"x"}}
	if _, part := f.AppHome("/app/try", f.SessionToken(nil), form, "Accept-Language", "ja"); !strings.Contains(part, "お客様ID") {
		t.Errorf("an answer in Japanese = %s", part)
	}
	f.Redis.Stop()
	if _, page := f.AppHome(home+"&locale=fr", "", nil); !strings.Contains(page, `<html lang="fr">`) || !strings.Contains(page, "Ce qui fonctionne") || !strings.Contains(page, "locale=fr") {
		t.Errorf("without Redis, a page in French = %s", page)
	}
}
