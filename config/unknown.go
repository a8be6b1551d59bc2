package config

// This file finds settings that are misspelled.

import (
	"maps"
	"reflect"
	"slices"
	"strings"
)

// Unknown lists the variables of environ and of the dotenv file that look like a setting that is not
// set, and those that begin with RECHARGE_ and are no setting. The names of other programs, such as
// SHOPIFY_CLI_NO_ANALYTICS or REDIS_PASSWORD, are further from ours.
func Unknown(environ []string, dotenv string) (unknown Problems) {
	env, _ := environment(environ, dotenv) // Resolver reports the error
	maps.DeleteFunc(env, func(_, value string) bool { return strings.TrimSpace(value) == "" })
	var missing []string
	for field := range reflect.TypeFor[Settings]().Fields() {
		name := EnvName(field.Tag.Get("name"))
		if _, set := env[name]; !set {
			missing = append(missing, name)
		}
		delete(env, name)
	}
	for _, name := range slices.Sorted(maps.Keys(env)) {
		if strings.Trim(strings.ToUpper(name), "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") != "" {
			continue // control characters, for example, could forge a line of the log or of doctor
		}
		like := slices.DeleteFunc(slices.Clone(missing), func(setting string) bool { return !resembles(name, setting) })
		switch {
		case len(like) > 0:
			unknown.Add(name, "is not a setting", "rename it if you meant "+strings.Join(like, " or "))
		case strings.HasPrefix(name, "RECHARGE_") && name == strings.ToUpper(name): // a token has small letters
			unknown.Add(name, "is not a setting", "docs/settings.md lists the settings")
		}
	}
	return unknown
}

// resembles reports whether somebody who wrote name may have meant setting. They may have mistyped a
// letter or two, or left out or added a word. Words are left to other programs if they begin like one
// of their names.
func resembles(name, setting string) bool {
	a, b := strings.Split(strings.ToUpper(name), "_"), strings.Split(setting, "_")
	letters := changed([]rune(strings.Join(a, "")), []rune(strings.Join(b, "")))
	brand := a[0] == "RECHARGE" || a[0] == "SHOPIFY"
	switch more := len(a) - len(b); {
	case letters <= min(2, len(setting)/5):
		return true
	case len(a) == 1 || a[0] == "OTEL" || changed(a, b) > 1:
		return false
	case a[0] == b[0]:
		return more != 0 || a[0] == "RECHARGE" && len(a) > 2
	default:
		return more > 0 && brand
	}
}

// changed returns the size of the part in which a and b differ.
func changed[E comparable](a, b []E) int {
	for len(a) > 0 && len(b) > 0 && a[0] == b[0] {
		a, b = a[1:], b[1:]
	}
	for len(a) > 0 && len(b) > 0 && a[len(a)-1] == b[len(b)-1] {
		a, b = a[:len(a)-1], b[:len(b)-1]
	}
	return max(len(a), len(b))
}
