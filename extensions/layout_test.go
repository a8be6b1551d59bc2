package extensions_test

import (
	"fmt"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/manage-subscriptions/manage-subscriptions/shopify/shopifytest"
)

// box is where a link is in its column, in px.
type box struct{ Before, After, Above, Below float64 }

// TestLayoutIsSeen checks the block's layout settings in a browser, in a theme that lays blocks out
// one below the other, in one that uses flex, and in a language that runs from right to left.
func TestLayoutIsSeen(t *testing.T) {
	t.Parallel()
	settings := []map[string]any{
		{"alignment": "start"},
		{"alignment": "center"},
		{"alignment": "end", "style": "link"},
		{"width": "full"},
		{"width": "full", "style": "link"},
		{"above": 60, "below": 0},
	}
	var blocks []shopifytest.Block
	for i, one := range settings {
		blocks = append(blocks, shopifytest.Block{ID: fmt.Sprint(i), Name: "manage-subscriptions", Page: "/", Settings: one})
	}
	s := newShopper(t, chromium(t), shopifytest.Options{Blocks: blocks})
	for _, path := range []string{"/", "/ar/"} {
		for _, flex := range []bool{false, true} {
			s.do(chromedp.Navigate(s.store.URL + path))
			got, err := chromedp.Run(s.ctx, chromedp.Evaluate[[]box](fmt.Sprintf(`(() => {
				const blocks = [...document.querySelectorAll('.shopify-app-block')], column = blocks[0].parentElement;
				if (%t) Object.assign(column.style, {display: 'flex', flexDirection: 'column', alignItems: 'flex-start'});
				const room = column.getBoundingClientRect(), {paddingLeft, paddingRight} = getComputedStyle(column);
				return blocks.map((block) => {
					const link = block.querySelector('a').getBoundingClientRect(), style = getComputedStyle(block.firstElementChild);
					const left = link.left - room.left - parseFloat(paddingLeft), right = room.right - parseFloat(paddingRight) - link.right;
					const sides = document.dir === 'rtl' ? [right, left] : [left, right];
					return {Before: sides[0], After: sides[1], Above: parseFloat(style.marginTop), Below: parseFloat(style.marginBottom)};
				});
			})()`, flex)))
			if err != nil {
				t.Fatal(err)
			}
			near := func(a, b float64) bool { return a-b < 2 && b-a < 2 }
			for i, ok := range []bool{
				near(got[0].Before, 0) && got[0].After > 40,
				near(got[1].Before, got[1].After) && got[1].After > 40,
				near(got[2].After, 0) && got[2].Before > 40,
				near(got[3].Before, 0) && near(got[3].After, 0),
				near(got[4].Before, 0) && near(got[4].After, 0),
				got[5].Above == 60 && got[5].Below == 0,
			} {
				if !ok {
					t.Errorf("%s, flex is %v: with %v the link is at %+v", path, flex, settings[i], got[i])
				}
			}
		}
	}
}
