"""In the place of your own sessions: two shoppers of the sandbox are signed in. What says
who somebody is must be your server's own: a session that it has made, never a parameter."""

SESSIONS = {
    "session=of-pat": "6100200300400",  # Shopify's id
    "session=of-kim": 70100500,  # Recharge's, of a customer whom only Recharge knows
}


def customer_of(cookie):
    return SESSIONS.get(cookie)
