// Replace this by your own sessions. Here two shoppers of the sandbox are signed in. Your
// server must know the customer from a session that it has made, never from a parameter.
const sessions = new Map([
  ["session=of-pat", "gid://shopify/Customer/6100200300400"], // as Shopify's Customer Account API has it
  ["session=of-kim", "recharge:70100500"], // a customer at Recharge only
]);

export const customerOf = (cookie) => sessions.get(cookie ?? "");
