// Guests see this page, too. Shopify says who is signed in only to apps with access to
// protected customer data, which this app does not ask for.
import { hostOf } from "./link.ts";
import { draw } from "./ManageSubscriptions.tsx";

export default function thankYouBlock() {
  draw({
    store: hostOf(shopify.shop),
    visitor: () => ({ signedIn: false, lines: shopify.lines.value }),
    justOrdered: true,
  });
}
