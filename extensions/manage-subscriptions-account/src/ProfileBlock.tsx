// Shopify requires one file for each target.
import { hostFromToken } from "./link.ts";
import { draw } from "./ManageSubscriptions.tsx";

export default async function profileBlock() {
  draw({ store: await hostFromToken(shopify.sessionToken) });
}
