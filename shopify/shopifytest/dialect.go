package shopifytest

import (
	"fmt"
	"regexp"
	"strings"
)

// The Liquid library lacks some features that Shopify's themes and extensions use. inDialect
// rewrites a template into Liquid that the library supports.

var (
	token   = regexp.MustCompile(`(?s)\{\{.*?\}\}|\{%.*?%\}`)
	opening = regexp.MustCompile(`\{[{%]`)
	// tagName matches the start of a tag. "#" begins an inline comment.
	tagName = regexp.MustCompile(`^\{%-?\s*(#|\w+)`)
	// namedArgument also matches quoted text, so that its content is left alone.
	namedArgument = regexp.MustCompile(`'[^']*'|"[^"]*"|([:,]\s*)(\w+)\s*:`)
	beforeBlank   = regexp.MustCompile(`([\w.\-\[\]'"]+)\s*(==|!=)\s*blank\b`)
	emptyOutput   = regexp.MustCompile(`^\{\{-?\s*-?\}\}$`)
)

func inDialect(source string) (string, error) {
	var out strings.Builder
	for {
		at := token.FindStringIndex(source)
		if at == nil {
			at = []int{len(source), len(source)}
		}
		text, found := source[:at[0]], source[at[0]:at[1]]
		if open := opening.FindStringIndex(text); open != nil {
			return "", fmt.Errorf("syntax error: never closed: %.40q", text[open[0]:])
		}
		out.WriteString(text)
		source = source[at[1]:]
		if found == "" {
			return out.String(), nil
		}
		known, rest, err := translate(found, source)
		if err != nil {
			return "", err
		}
		out.WriteString(known)
		source = rest
	}
}

// translate returns the library's equivalent of the token found, and the rest of the template. A
// tag such as raw takes part of the rest.
func translate(found, after string) (known, rest string, err error) {
	if strings.HasPrefix(found, "{{") {
		if emptyOutput.MatchString(found) {
			return "", after, nil
		}
		// The library does not recognize an output tag that spans several lines.
		return positional(strings.ReplaceAll(found, "\n", " ")), after, nil
	}
	name := ""
	if m := tagName.FindStringSubmatch(found); m != nil {
		name = m[1]
	}
	switch name {
	case "#":
		return hidden(found, found, found), after, nil
	case "raw", "comment", "doc", "schema":
		end := regexp.MustCompile(`\{%-?\s*end` + name + `\s*-?%\}`).FindStringIndex(after)
		if end == nil {
			return "", "", fmt.Errorf("syntax error: %s is never closed", name)
		}
		whole := found + after[:end[1]]
		if name == "raw" {
			return whole, after[end[1]:], nil
		}
		return hidden(found, whole, after[end[0]:end[1]]), after[end[1]:], nil
	case "assign":
		found = positional(found)
	}
	return beforeBlank.ReplaceAllString(found, "blank $2 $1"), after, nil
}

// hidden returns a comment with as many lines as whole, and with the same white space control at both ends.
func hidden(first, whole, last string) string {
	open, end := "{%", "%}"
	if strings.HasPrefix(first, "{%-") {
		open = "{%-"
	}
	if strings.HasSuffix(last, "-%}") {
		end = "-%}"
	}
	return open + " comment %}" + strings.Repeat("\n", strings.Count(whole, "\n")) + "{% endcomment " + end
}

// positional turns the named arguments of filters, a: 1, b: 2, into pairs, "a", 1, "b", 2.
func positional(markup string) string {
	return namedArgument.ReplaceAllStringFunc(markup, func(found string) string {
		m := namedArgument.FindStringSubmatch(found)
		if m[2] == "" {
			return found
		}
		return m[1] + `"` + m[2] + `",`
	})
}

// named returns the named arguments of a filter.
func named(pairs []any) map[string]string {
	got := map[string]string{}
	for i := 0; i+1 < len(pairs); i += 2 {
		if name, ok := pairs[i].(string); ok {
			got[name] = fmt.Sprint(pairs[i+1])
		}
	}
	return got
}
