"""Python: a WSGI app that requests the link when the shopper clicks. With Django or Flask,
do the same in a view. PORTAL_URL and PORTAL_API_KEY are in the environment. The Recharge
token is not needed here."""

import logging
import os

import requests

from session import customer_of  # yours: the signed-in customer, from your own session

http = requests.Session()  # keeps the connection open for the next shopper


def portal_link(customer):
    """customer is Shopify's ID as text, or Recharge's as a number. Never take it from the browser."""
    name = "recharge_customer_id" if isinstance(customer, int) else "shopify_customer_id"
    headers = {"Authorization": "Bearer " + os.environ["PORTAL_API_KEY"]}
    url = os.environ["PORTAL_URL"] + "/api/portal-links"
    return http.post(url, json={name: customer}, headers=headers, timeout=10)


def app(environ, start_response):
    customer = customer_of(environ.get("HTTP_COOKIE", ""))
    status, location, body = "302 Found", "/login", b""
    if customer:
        try:
            answer = portal_link(customer)
            answer.raise_for_status()
            location = answer.json()["url"]
        except requests.RequestException as error:
            location = "/collections/subscriptions"  # 404: there is nothing to manage
            if getattr(error.response, "status_code", None) != 404:
                logging.error("no portal link: %s", getattr(error.response, "text", "no answer"))
                status, body = "503 Service Unavailable", b"Please try again in a moment."
    start_response(status, [("Location", location)] * (not body) + [("Cache-Control", "no-store")])
    return [body]
