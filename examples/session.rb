# Replace this by your own sessions. Here two shoppers of the sandbox are signed in. Your
# server must know the customer from a session that it has made, never from a parameter.
SESSIONS = {
  "session=of-pat" => "6100200300400", # Shopify's id
  "session=of-kim" => "recharge:70100500" # a customer at Recharge only
}.freeze

def customer_of(cookie) = SESSIONS[cookie]
