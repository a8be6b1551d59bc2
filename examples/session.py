"""Replace this by your own sessions. Here two shoppers of the sandbox are signed in. Your
server must know the customer from a session that it has made, never from a parameter."""

SESSIONS = {
    "session=of-pat": "6100200300400",  # Shopify's id
    "session=of-kim": 70100500,  # Recharge's id, of a customer at Recharge only
}


def customer_of(cookie):
    return SESSIONS.get(cookie)
