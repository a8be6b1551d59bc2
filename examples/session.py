"""Replace this with your own sessions. Two of the sandbox's shoppers are signed in here. Your
server must take the customer from a session that it created, never from a parameter."""

SESSIONS = {
    "session=of-pat": "6100200300400",  # Shopify's ID
    "session=of-kim": 70100500,  # Recharge's ID, of a customer at Recharge only
}


def customer_of(cookie):
    return SESSIONS.get(cookie)
