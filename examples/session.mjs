// Replace this with your own sessions. Two of the sandbox's shoppers are signed in here. Your
// server must take the customer from a session that it created, never from a parameter.
const sessions = new Map([
  ["session=of-pat", "gid://shopify/Customer/6100200300400"], // as in Shopify's Customer Account API
  ["session=of-kim", "recharge:70100500"], // a customer at Recharge only
]);

export const customerOf = (cookie) => sessions.get(cookie ?? "");
