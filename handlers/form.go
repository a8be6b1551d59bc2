package handlers

import (
	"errors"
	"net/http"

	"github.com/labstack/echo/v4"
)

// formSize is more than any form of the app home holds, which is three tokens or an address
// of at most 300 characters each.
const formSize = 64 << 10

// readForm reads the form of a request to the app home, if it has one. It comes first, as
// every field of a form that is too long looks empty.
func readForm(c echo.Context) error {
	r := c.Request()
	r.Body = http.MaxBytesReader(c.Response().Writer, r.Body, formSize)
	_, err := c.FormParams()
	var tooLarge *http.MaxBytesError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &tooLarge):
		return echo.NewHTTPError(http.StatusRequestEntityTooLarge)
	}
	return echo.NewHTTPError(http.StatusBadRequest)
}
