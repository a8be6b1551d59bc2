package shopifytest

import (
	"fmt"
	"strings"

	"golang.org/x/net/html"
)

// Elements returns a page's elements in order, with the names of their attributes, and its
// comments. Text that the page fails to escape would change them.
func Elements(page string) ([]string, error) {
	root, err := html.Parse(strings.NewReader(page))
	if err != nil {
		return nil, fmt.Errorf("parse page: %w", err)
	}
	var found []string
	for node := range root.Descendants() {
		switch node.Type {
		case html.ElementNode:
			element := node.Data
			for _, attribute := range node.Attr {
				element += " " + attribute.Key
			}
			found = append(found, element)
		case html.CommentNode:
			found = append(found, "comment")
		}
	}
	return found, nil
}
