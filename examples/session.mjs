// In the place of your own sessions: two shoppers of the sandbox are signed in. What says who
// somebody is must be your server's own: a session that it has made, never a parameter.
const sessions = new Map([
  ["session=of-pat", "gid://shopify/Customer/6100200300400"], // as Shopify's Customer Account API has it
  ["session=of-kim", "recharge:70100500"], // a customer whom only Recharge knows
]);

export const customerOf = (cookie) => sessions.get(cookie ?? "");
