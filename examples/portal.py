"""Python: a WSGI app that requests the link when the shopper clicks. A view of Django or Flask can do the same. With
PORTAL_URL and PORTAL_API_KEY in the environment, run it: `python3 examples/portal.py`
It needs only the standard library. The Recharge token is not needed here."""

import json
import logging
import os
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from demo import customer_of, serve  # replace customer_of with your own session


def portal_link(customer):
    """customer is Shopify's id as text, or Recharge's as a number. Never take it from the browser."""
    name = "recharge_customer_id" if isinstance(customer, int) else "shopify_customer_id"
    headers = {"Authorization": "Bearer " + os.environ["PORTAL_API_KEY"], "Content-Type": "application/json"}
    url = os.environ["PORTAL_URL"] + "/api/portal-links"
    with urlopen(Request(url, json.dumps({name: customer}).encode(), headers), timeout=10) as answer:
        return json.load(answer)["url"]


def app(environ, start_response):
    customer = customer_of(environ.get("HTTP_COOKIE", ""))
    status, location, body = "302 Found", "/login", b""
    if customer:
        try:
            location = portal_link(customer)
        except OSError as error:
            location = "/collections/subscriptions"  # 404: there is nothing to manage
            if getattr(error, "code", None) != 404:
                logging.error("no portal link: %s", error.read() if isinstance(error, HTTPError) else error)
                status, body = "503 Service Unavailable", b"Please try again in a moment."
    start_response(status, [("Location", location)] * (not body) + [("Cache-Control", "no-store")])
    return [body]


if __name__ == "__main__":
    serve(app, "/manage-subscriptions", ["PORTAL_URL", "PORTAL_API_KEY"])
