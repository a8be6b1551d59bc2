// Shopify requires one file for each target.
import { hostFromToken } from "./link.ts";
import { draw } from "./ManageSubscriptions.tsx";

export default async function orderIndexBlock() {
  draw({ store: await hostFromToken(shopify.sessionToken) });
}
