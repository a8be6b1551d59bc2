package handlers

import (
	"errors"
	"net/http"

	"github.com/labstack/echo/v4"
)

// formSize is above all that the forms of the app home can hold: three tokens and
// an address, of 300 characters at most.
const formSize = 64 << 10

// readForm reads the form of a call of the app home, if it has one. It is read
// before anything is done with it, since a field of a form that is too long looks
// like one that is empty.
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
