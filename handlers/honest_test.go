package handlers_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/manage-subscriptions/manage-subscriptions/config"
	"github.com/manage-subscriptions/manage-subscriptions/internal/servertest"
	"github.com/manage-subscriptions/manage-subscriptions/internal/suite"
	"github.com/manage-subscriptions/manage-subscriptions/shopify/shopifytest"
)

// added returns parameters as e-mail, advertising, analytics, affiliate, consent and shop tools add
// them to a link, with values of the shapes that these tools document or are seen to send.
func added() map[string][]string {
	return map[string][]string{
		"e-mail": {
			"_kx=0bQ8cZ3v1kR2mT5x.WxYz12", "_ke=eyJrbF9lbWFpbCI6ICJhQGIuYyJ9", "_klaviyo=1", "nb_klid=01HZX3M", "mc_cid=6100200300", "mc_eid=a1b2c3d4e5",
			"mc_eid=UNIQID", "goal=0_a1b2c3d4e5-6100200300-44012345", "_hsenc=p2ANqtz--x_y", "_hsmi=250000000001", "__s=xyzabc123", "__hstc=1.a.1735689600000.1",
			"__hssc=1.1.1735689600000", "__hsfp=1735689601", "hsCtaTracking=0a1b2c-3d|4e5f", "vero_id=pat%40example.com", "vero_conv=1735689601", "dm_i=1ABC,2DEF,3GHI,4JKL,1",
			"dm_t=0,0,0,0,0", "mkt_tok=MTIzLUFCQy00NTY%3D", "trk_contact=6100200300400", "trk_msg=ABC123", "trk_module=mail", "trk_sid=99", "sib_id=44012345678901", "omnisendContactID=60a1b2c3d4e5f6a7b8c9d0e1",
			"omnisendAttributionID=email_campaign_60a1", "ml_subscriber=1735689601", "ml_subscriber_hash=a1b2", "oly_enc_id=0123456789", "oly_anon_id=a-b-c", "bbeml=tp-a1b2.c3-d4", "email_id=1,2",
			"message_id=<1735689601.a@mail>", "list=1,2,3", "order=1,2", "note=tea, green", "options=a,b,c", "name=O'Neil, Pat", "ck_subscriber_id=250000000001", "sc_eid=%7B%7Bid%7D%7D", "subject=50%",
			"rec=a;b", "ss_email_id=65a1", "_bta_c=q1w2", "_bta_tid=3.a,4.b", "cm_mmc=Email-_-Promo-_-1,2-_-x", "elqTrackId=A1B2C3", "elqaid=123", "elqat=1", "s_cid=em:2025,01", "et_rid=250000000001",
		},
		"advertising": {
			"gclid=Cj0KCQiA-oqdBhDfARIsAO0TrGH_a,b", "gclsrc=aw.ds", "gbraid=0AAAAA-x_y", "wbraid=CkgKCQiA", "dclid=CNbX,1735689601", "gad_source=1", "gad_campaignid=22000000001", "srsltid=AfmBOoqZ",
			"fbclid=IwAR0x-y_z", "fb_action_ids=10150000000001,10150000000002", "fb_action_types=og.likes", "msclkid=0123456789abcdef0123456789abcdef", "msclkid=01234567890123456789012345678901", "ttclid=E.C.P.CrkB",
			"twclid=2-1a2b3c", "li_fat_id=0a1b-2c3d", "igshid=MzRlODBiNWFlZA==", "igsh=MXZ1,a", "epik=dj0yJnU9", "pp=1", "ScCid=a1b2c3", "rdt_cid=5050", "yclid=1735689601234567890", "_openstat=ZGlyZWN0OzEyMzs0NTY7",
			"wickedid=1,2", "obOrigUrl=true", "dicbo=v2-a1b2-00c3", "tblci=GiB,1#tblciGiB", "outbrainclickid=v2", "vmcid=a1", "campaignid=22000000001", "adgroupid=150000000001", "creative=700000000001",
			"matchtype=e", "network=g", "device=m", "placement=www.example.com,1", "targetid=kwd-301234567890,aud-1234567890", "loc_physical_ms=9041106", "loc_interest_ms=", "keyword=green tea,250000000001",
			"hsa_acc=1234567890", "hsa_cam=22000000001", "hsa_kw=tea,coffee", "hsa_tgt=kwd-30,aud-17", "cx=1,2;3", "campaign={{campaign.name}}", "ad=50% off", "click_timestamp=1", "click_timestamp=1735689601",
			"redirect_timestamp=1735689601", "irclickid=xyz:1,2", "irgwc=1", "cjevent=a1b2c3", "cjdata=MXxOfDB8WXww", "awc=1234_1735689601_a1b2", "ranMID=1234", "ranEAID=a,b", "ranSiteID=x.y-z", "sscid=a1k9_1735689601",
			"clickid=1735689601", "afftrack=a|b", "aff=1,2", "sa_id=1,1735689601", "zanpid=12345_1735689601_a", "tduid=a1b2", "pjID=1", "utm_shop=x", "workshop=1", "webshop=nl", "url_signature=1", "signature_id=2",
		},
		"analytics": {
			"utm_source=mail", "utm_medium=email", "utm_campaign=spring, summer", "utm_campaign=a,1735689601", "utm_content=1,2", "utm_term=green tea,250000000001", "utm_id=120210000000000001", "utm_source_platform=x",
			"utm_creative_format=y", "utm_marketing_tactic=z", "mtm_campaign=spring,summer", "mtm_kwd=1,2", "mtm_source=a", "pk_campaign=a,b", "pk_kwd=1,2", "piwik_campaign=1", "_ga=2.123456789.1735689600.1735689601",
			"_gl=1*a1b2*_ga*MTIz*_ga_X*MTczNTY4OTYwMQ..", "_gac=1.2.a", "gtm_debug=1735689601234", "matomo_ab=1,2", "ref=?shop=x", "ref=newsletter,1", "referrer=https://x.example/?a=1,2&shop", "source=a,b", "src=1",
			"sid=1,2", "session_id=1735689601", "visitor=1.1735689601", "ab=1,2", "variant=44012345678901,44012345678902", "page=1,2", "pos=1&list=2", "q=tea,+green", "query=100%",
			"pr_rec_id=a1b2c3", "pr_rec_pid=8000000000001", "pr_ref_pid=8000000000002", "pr_seq=uniform", "_pos=1", "_psq=tea", "_ss=e", "_sid=a1b2c3", "_fid=1", "_v=1.0", "syclid=c0ffee", "ls=1", "landing=/,1",
		},
		"consent and the shop": {
			"consent=1", "consented=analytics,marketing", "consentGiven=a,b", "cookieConsent=C0001:1,C0002:0", "gdpr=1", "gdpr_consent=CPx,a", "gpp_sid=7,8", "us_privacy=1YNN", "cmplz=statistics,marketing", "cc=1;2",
			"return_to=/collections/all?shop=1", "return_url=/account?timestamp=1", "next=/pages/x?path_prefix=1", "checkout_url=https://x.example/?logged_in_customer_id=x", "discount=SPRING,10%", "currency=EUR", "country=DE",
			"locale=fr", "preview_theme_id=123456789012", "_ab=0", "_fd=0", "_sc=1", "key=a1b2", "view=a,b", "section_id=1", "properties[note]=a, b", "ids[]=1&ids[]=2", "ids=1&ids=2&ids=3", "id=8,9", "product=tea;green",
			"sca_ref=1.a", "ref_id=1,2,3", "rfsn=1234567.a1b2", "rfsn_cid=9", "smile_ref=a", "sref=https://x.example", "loyalty=1,2", "yoReviewsPage=2", "swcid=1", "swcfpc=1", "tw_source=a,b", "tw_adid=1,1735689601",
			"nonce=1,a", "m=1", "n=1,2", "o=3,4", "p=5,6", "order_id=5500000000001,5500000000002", "name=1,", "note=,", "ms_returned=1", "timestamps=1,2", "shops=1,x.myshopify.com", "t=1,a.myshopify.com",
		},
	}
}

// TestHonestClicks sends clicks with what links carry on real stores: each parameter alone, twice, with
// a percent sign and a semicolon, and with another. None is refused. One whose text is ambiguous is
// asked again, once, without the visitor's parameters. All open the shopper's own portal.
func TestHonestClicks(t *testing.T) {
	f := servertest.Start(t)
	pat := f.Shopper(servertest.Pat)
	asked := map[int]int{}
	click := func(query string) {
		t.Helper()
		query = strings.ReplaceAll(query, " ", "+")
		answer := f.Click(pat, "/apps/subscriptions/orders?"+query)
		times := 1
		if answer.Location != "" && !strings.Contains(answer.Location, "://") {
			times = 2
			if path, _, _ := strings.Cut(answer.Location, "?"); answer.Status != http.StatusFound || path != "/apps/subscriptions/orders" {
				t.Errorf("%s: asked again at %s", query, answer.Location)
				return
			}
			answer = f.Click(pat, answer.Location)
		}
		asked[times]++
		if answer.Outcome() != "redirected" || !strings.Contains(answer.Location, "/1f2e3d4c5b6a7988/") {
			t.Errorf("%s: %d %v, Location %q; want Pat's portal", query, answer.Status, answer.Line, answer.Location)
		}
	}
	for tools, parameters := range added() {
		for i, parameter := range parameters {
			name, _, _ := strings.Cut(parameter, "=")
			click(parameter)
			click(parameter + "&" + parameter)
			if i%4 == 0 || suite.Whole() {
				click(parameter + "&" + parameters[(i+7)%len(parameters)])
				click("z=50%&" + name + "=50%;a=1&" + parameter)
			}
		}
		if tools == "e-mail" {
			click(strings.Join(parameters, "&"))
		}
	}
	total := asked[1] + asked[2]
	t.Logf("%d honest clicks: %d opened the portal at once, %d after being asked again", total, asked[1], asked[2])
	if total < 300 || asked[2]*4 > total {
		t.Errorf("%d clicks, of them %d asked again; want 300, and at most a quarter asked again", total, asked[2])
	}
}

// TestAmbiguousClicks covers what a visitor's parameter can do to the signed text, with the answer that
// each must get.
func TestAmbiguousClicks(t *testing.T) {
	const portal, again = "portal", "again"
	tests := []struct{ query, want string }{
		{"workshop=1", portal}, {"utm_shop=x", portal}, {"click_timestamp=1", portal}, {"url_signature=1", portal},
		{"ref=?shop=x", portal}, {"return_to=/collections/all?shop=1", portal}, {"note=tea,+green", portal},
		{"options=a,b,c", portal}, {"mtm_campaign=spring,summer", portal}, {"order=1,2", again}, {"page=1,2", again},
		{"variant=44012345678901,44012345678902", portal}, {"utm_term=green+tea,250000000001", portal},
		{"mc_cid=a1b2c3d4e5&mc_cid=a1b2c3d4e5", portal}, {"mc_cid=6100200300&mc_cid=6100200300", again},
		{"msclkid=0123456789abcdef&msclkid=0123456789abcdef", portal}, {"utm_id=120210000000000001&utm_id=120210000000000001", portal},
		{"ms_returned=1&ms_returned=1", again}, {"a=1;b=2", portal}, {"a=50%", portal}, {"50%=%zz", portal},
		{"shop=" + servertest.Shop, again}, {"shop=evil.myshopify.com", again}, {"logged_in_customer_id=" + servertest.Kim, again},
		{"timestamp=1735689600", again}, {"signature=of-the-visitor", again}, {"logged_in_customer_id=" + servertest.Kim + "&locale=fr&country=DE", again},
	}
	f := servertest.Start(t)
	pat, nobody := f.Shopper(servertest.Pat), f.Shopper("")
	for _, tt := range tests {
		returned, clean := strings.Contains(tt.query, "ms_returned"), "/apps/subscriptions"
		switch name, _, _ := strings.Cut(tt.query, "="); {
		case returned:
			clean += "?ms_returned=1"
		case strings.Contains(tt.query, "locale"):
			clean += "?country=DE&locale=fr&ms_repeated=1"
		case slices.Contains([]string{"shop", "logged_in_customer_id", "timestamp", "signature"}, name):
			clean += "?ms_repeated=1"
		}
		for _, head := range []bool{false, true} {
			answer := f.Click(pat, "/apps/subscriptions?"+tt.query)
			if head {
				response, err := pat.Head(f.Store.URL + "/apps/subscriptions?" + tt.query)
				if err != nil {
					t.Fatal(err)
				}
				_ = response.Body.Close()
				answer.Status, answer.Location = response.StatusCode, response.Header.Get("Location")
			}
			if got := answer.Status == http.StatusFound && answer.Location == clean; got != (tt.want == again) {
				t.Errorf("%s: %d, Location %q; want the %s", tt.query, answer.Status, answer.Location, tt.want)
			}
		}
		if got := f.Land(pat, "/apps/subscriptions?"+tt.query); got.Customer.ShopifyCustomerID != servertest.Pat {
			t.Errorf("%s: opened the portal of %+v; want Pat's", tt.query, got.Customer)
		}
		// A visitor who is not signed in goes to the sign-in page, but only once.
		want := "sign_in"
		if returned {
			want = "sign_in_failed"
		}
		answer := f.Click(nobody, "/apps/subscriptions?"+tt.query)
		if tt.want == again {
			answer = f.Click(nobody, answer.Location)
		}
		if answer.Outcome() != want {
			t.Errorf("%s, nobody signed in: %v; want %s", tt.query, answer.Line, want)
		}
	}
	if line := f.Log.Last("asked again without the visitor's parameters"); line["cause"] == nil || line["request_id"] == nil {
		t.Errorf("the log says %v; want the cause", line)
	}
}

// TestRepeatedIsAskedAgainOnce checks that there is no loop, should Shopify ever send a parameter of its
// own twice.
func TestRepeatedIsAskedAgainOnce(t *testing.T) {
	f := servertest.Start(t)
	f.Store.SetFaults(func(f *shopifytest.Faults) { f.Twice = true })
	pat := f.Shopper(servertest.Pat)
	first := f.Click(pat, "/apps/subscriptions/orders?a=1")
	if first.Status != http.StatusFound || first.Location != "/apps/subscriptions/orders?ms_repeated=1" {
		t.Errorf("%d, Location %q; want it asked again", first.Status, first.Location)
	}
	if second := f.Click(pat, first.Location); second.Status != http.StatusForbidden || second.Outcome() != "forbidden" {
		t.Errorf("asked again: %d %v, Location %q; want 403", second.Status, second.Line, second.Location)
	}
}

// TestAskedAgainByAPage checks a store where a 302 is not handed to the browser. A link that was copied
// from the address bar, after the page was asked again, is no dead end either.
func TestAskedAgainByAPage(t *testing.T) {
	f := servertest.Start(t, func(s *config.Settings) { s.Redirect = "page" })
	pat := f.Shopper(servertest.Pat)
	for _, query := range []string{"order=1,2", "shop=x", "ms_repeated=1&order=1,2"} {
		answer := f.Click(pat, "/apps/subscriptions?"+query)
		if answer.Status != http.StatusOK || answer.Location != "" || !strings.HasPrefix(answer.Next(), "/apps/subscriptions") {
			t.Errorf("%s: %d, Location %q, %q; want a page that leads on", query, answer.Status, answer.Location, answer.Next())
		}
	}
}

// TestProxyURLs covers proxy URLs that a merchant or an agency may enter.
func TestProxyURLs(t *testing.T) {
	f := servertest.Start(t)
	query := f.Store.SignedQuery("", servertest.Pat, "/apps/subscriptions", servertest.AppSecret)
	for _, tt := range []struct {
		path, page string
		lacks      bool // the proxy URL lacks its path
	}{
		{"/apps/subscriptions", "overview", false}, {"//apps/subscriptions", "overview", false}, {"/apps//subscriptions//", "overview", false},
		{"//apps/subscriptions/orders", "orders", false}, {"/apps/subscriptions//orders//", "orders", false},
		{"/", "overview", true}, {"//", "overview", true}, {"/orders", "orders", true}, {"//subscriptions/123/cancel/", "cancel", true},
	} {
		before := strings.Count(f.Log.String(), "the app's proxy URL lacks")
		response, _ := f.Request(http.MethodGet, f.Public, tt.path+"?"+query)
		location := response.Header.Get("Location")
		if page := strings.ReplaceAll(tt.page, "overview", "subscriptions"); response.StatusCode != http.StatusFound || !strings.Contains(location, "/"+page) || !strings.Contains(location, "/1f2e3d4c5b6a7988/") || f.Log.Last("click")["outcome"] != "redirected" {
			t.Errorf("%s: %d, Location %q; want Pat's portal", tt.path, response.StatusCode, location)
		}
		if response.Header.Get("Strict-Transport-Security") != "" {
			t.Errorf("%s: HSTS on the store's host", tt.path)
		}
		if said := strings.Count(f.Log.String(), "the app's proxy URL lacks") > before; said != tt.lacks {
			t.Errorf("%s: the log names the cause: %t; want %t", tt.path, said, tt.lacks)
		}
	}
	for _, path := range []string{"/status", "//status/"} { // themes ask at the same proxy URL
		if response, body := f.Request(http.MethodGet, f.Public, path+"?"+query); response.StatusCode != http.StatusOK || !strings.Contains(body, `"signed_in":true`) {
			t.Errorf("%s: %d %s; want that Pat is signed in", path, response.StatusCode, body)
		}
	}
	// Without a good signature it is refused, and without one at all it is the app's home.
	for path, want := range map[string]int{"/?path_prefix=%2Fa&signature=0": 403, "/orders?path_prefix=%2Fa&signature=0": 403, "/settings?path_prefix=%2Fa&signature=0": 403, "/orders": 404, "//": 404, "/app/bounce?path_prefix=%2Fa&signature=0": 400, "/go?" + query: 404} {
		if response, _ := f.Request(http.MethodGet, f.Public, path); response.StatusCode != want {
			t.Errorf("%s: %d; want %d", path, response.StatusCode, want)
		}
	}
}
